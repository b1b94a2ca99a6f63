"""Parts of ``benchmarks/repair.py``: surfaces to repair, peers, scores."""

from __future__ import annotations
