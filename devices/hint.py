"""What a hint says, whichever way it came."""

import json
import math
from dataclasses import dataclass
from typing import Any

LONGEST_SPREAD_S = 600.0
"""Whoever spreads its devices over more than that is not believed."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Something is new: release `version`, if it says which; devices come within `spread_s` seconds."""

    version: int | None
    spread_s: float

    @classmethod
    def read(cls, data: str | bytes) -> "Hint":
        """Read `{"version": n, "spread_s": s}`; what cannot be is as if it had not been said."""
        try:
            record: Any = json.loads(data)
        except (ValueError, RecursionError):
            record = None
        fields = record if isinstance(record, dict) else {}
        version, spread = fields.get("version"), fields.get("spread_s")
        known = isinstance(version, int) and not isinstance(version, bool)
        if isinstance(spread, bool) or not isinstance(spread, int | float) or not math.isfinite(spread):
            spread = 0.0
        return cls(version if known else None, min(max(float(spread), 0.0), LONGEST_SPREAD_S))
