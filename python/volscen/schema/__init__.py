"""The dataset contracts: names, dimensions, attributes, and the checks that enforce them.

The contracts themselves are described in ``docs/schema.md``.
"""

from __future__ import annotations

from volscen.schema._calendars import calendar_coordinate, calendar_of, split_assets
from volscen.schema._checks import GRID_RTOL, check_grid, check_same_grid, check_weights
from volscen.schema._contract import (
    HEDGE,
    HISTORY,
    REPAIR,
    SCENARIOS,
    SMILE_DIMS,
    SMILES,
    SURFACE,
    VARIABLES,
    annotate,
    arrange,
    base_attributes,
    fingerprint,
)
from volscen.schema._validate import validate

__all__ = [
    "GRID_RTOL",
    "HEDGE",
    "HISTORY",
    "REPAIR",
    "SCENARIOS",
    "SMILES",
    "SMILE_DIMS",
    "SURFACE",
    "VARIABLES",
    "annotate",
    "arrange",
    "base_attributes",
    "calendar_coordinate",
    "calendar_of",
    "check_grid",
    "check_same_grid",
    "check_weights",
    "fingerprint",
    "split_assets",
    "validate",
]
