"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Pictures are drawn, never shown.
os.environ.setdefault("MPLBACKEND", "agg")

# A loaded machine is no error.
settings.register_profile("volscen", deadline=None)
settings.load_profile("volscen")


@pytest.fixture(scope="session")
def market_data() -> Path:
    """Folder of real market data named by VOLSCEN_DATA; the test is skipped where it is not set."""
    folder = os.environ.get("VOLSCEN_DATA")
    if not folder:
        pytest.skip("VOLSCEN_DATA does not name a folder of market data")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"VOLSCEN_DATA={folder} is not a folder")
    return path


@pytest.fixture(autouse=True)
def close_figures():
    """Close what a test drew: matplotlib warns of many open figures, and memory fills."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
