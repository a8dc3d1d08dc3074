"""What an exception is told as, in the same words each time that a seed is run."""

from __future__ import annotations

import re
from pathlib import Path
from traceback import extract_tb
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_OURS: Final = tuple(str(_ROOT / package) for package in ("referral_bus", "services", "tests"))
_MOST_FRAMES: Final = 5
_MOST_CHARACTERS: Final = 200


def told_of(error: BaseException) -> str:
    """Its type, the beginning of what it says, and where it was raised: the innermost places that are the project's own, the last of them
    first. An address in memory is another in each process, and left out."""
    lines = re.sub(r"0x[0-9a-f]+", "0x...", str(error)).splitlines() or [""]
    kind, said = type(error).__name__, lines[0][:_MOST_CHARACTERS]
    frames = [frame for frame in extract_tb(error.__traceback__) if frame.filename.startswith(_OURS)]
    places = [
        f"{Path(frame.filename).relative_to(_ROOT)}:{frame.lineno} {frame.name}"
        for frame in reversed(frames[-_MOST_FRAMES:])
    ]
    return (f"{kind}: {said}" if said else kind) + (f" at {', from '.join(places)}" if places else "")
