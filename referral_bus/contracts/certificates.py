"""How a certificate is read: the order of its verdicts, what else rules a service out, and the numbers in a score that stand for words."""

from __future__ import annotations

from typing import Final

CRITERIA: Final = ("need", "area", "age", "language", "criteria", "reach", "hours", "capacity")
"""The order of the verdicts. ``need`` is always yes there: the index brings no others."""
JUDGED: Final = CRITERIA[1:-1]
"""Those that are judged of a person. ``reach`` and ``hours`` are yes where the policy sets no limit."""
SCREENED: Final = len(("area", "age", "language", "criteria"))
"""So many of them, the first ones, a provider finds out about by screening people itself."""

ALREADY_OFFERED: Final = "already_offered"
"""Ruled out because this referral was offered to the service before."""
NOT_NAMED: Final = "not_named"
"""Ruled out because the agency named another service, or because the one it named meets none of the needs."""
NOT_SCREENED: Final = "certainty"
"""Ruled out because something is unknown and the provider doesn't screen people itself."""

UNKNOWN: Final = 1_000_000
"""How far away a service is, or how long until it opens, where that is not known: after all others."""
NOT_IN_SIGHT: Final = 999_999
"""How long it is until a service opens that stays closed for as long as is looked ahead."""
