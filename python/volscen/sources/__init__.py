"""Sources: what turns data as users hold it into the tidy quotes table, or into a history.

Each is one file; adding one means adding a file and a line to ``__init__.pyi``. Names load on first use.
"""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
