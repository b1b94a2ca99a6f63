"""Pictures, one kind per file, behind :mod:`volscen.plot` and the accessor ``ds.volscen``."""

from __future__ import annotations
