"""Repair of incomplete and noisy surfaces.

Each predictor is one file; adding one means adding a file here and a line to the registry of ``_base.py``.
"""

from __future__ import annotations
