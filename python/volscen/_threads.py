"""Threads: how many, and one BLAS thread each, so that results never depend on their number."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from volscen._numbers import whole_number

__all__ = ["resolve_num_threads", "single_threaded_blas", "single_threaded_torch"]

_lock = Lock()
_users = 0
_limiter: Any = None
_controller: Any = None
_modules = 0


def resolve_num_threads(num_threads: int | None) -> int:
    """Number of threads to use: as asked, or the processors this process may use."""
    if num_threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return whole_number("num_threads", num_threads, most=4096)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold BLAS at one thread while any user is inside; the limit is the process's, hence the count."""
    global _users, _limiter, _controller, _modules
    from threadpoolctl import ThreadpoolController

    with _lock:
        _users += 1
        if _users == 1:
            # Looking for the libraries takes two milliseconds; new ones come with new modules only.
            if _controller is None or _modules != len(sys.modules):
                _controller, _modules = ThreadpoolController(), len(sys.modules)
            _limiter = _controller.limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limiter.restore_original_limits()
                _limiter = None


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Run torch on one thread, which small networks are fastest on and whose bits do not depend on the machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
