"""Surfaces: from the quotes of one day to a grid of (time to expiry, moneyness).

Each smoother is one file; adding one means adding a file here and a line to the registry of
``_smoothers.py``.
"""

from __future__ import annotations

from volscen.surface._bandwidth import search_bandwidth
from volscen.surface._build import build_surface
from volscen.surface._diagnostics import diagnose
from volscen.surface._interpolate import interpolate_vol
from volscen.surface._project import project_arbitrage
from volscen.surface._raster import raster, raster_grid
from volscen.surface._regrid import regrid
from volscen.surface._smoothers import REGISTRY
from volscen.surface._vix import vix

__all__ = [
    "REGISTRY",
    "build_surface",
    "diagnose",
    "interpolate_vol",
    "project_arbitrage",
    "raster",
    "raster_grid",
    "regrid",
    "search_bandwidth",
    "vix",
]
