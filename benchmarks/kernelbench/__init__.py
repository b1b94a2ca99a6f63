"""Parts of ``benchmarks/kernels.py``: one module per kernel, and what they share (timing, exact values, peers)."""

from __future__ import annotations

import os

# One thread for every peer, set before any of them is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
