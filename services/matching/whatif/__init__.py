"""What would have been under another policy: a stretch of the ledger lived again, with the same people asking and other services asked.

What agencies and operations said is replayed as it was said, and so is what was said of offers and acceptances that were there when the
stretch began. What else providers and other regions answered can't be: another service is asked. How they are taken to behave instead is in
:mod:`~services.matching.whatif.behaviour`, and the report says how many answers had to be assumed.
"""

from services.matching.whatif.behaviour import Recorded
from services.matching.whatif.comparison import FEW, Comparison
from services.matching.whatif.report import comparison_as_json, comparison_lines, write_referrals
from services.matching.whatif.stretch import Stretch, compare

__all__ = [
    "FEW",
    "Comparison",
    "Recorded",
    "Stretch",
    "compare",
    "comparison_as_json",
    "comparison_lines",
    "write_referrals",
]
