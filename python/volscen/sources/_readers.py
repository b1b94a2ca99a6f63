"""The readers of quotes by name: adding one means adding a file and a line here."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from volscen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["READERS", "read_quotes"]

#: Name -> module in this folder and function in it; each returns the tidy table and what was dropped.
READERS: dict[str, tuple[str, str]] = {
    "table": ("table", "read_table"),
    "databento": ("databento", "read_databento"),
    "optionmetrics": ("optionmetrics", "read_optionmetrics"),
    "lean": ("lean", "read_lean"),
    "deribit": ("deribit", "read_deribit"),
}


def read_quotes(source: Any, kind: str, **options: Any) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Read quotes with the reader of a name.

    Parameters
    ----------
    source : path
        What the reader takes.
    kind : str
        A key of :data:`READERS`.
    **options
        Of the reader.

    Raises
    ------
    InputError
        If the name or an option is unknown, and as the reader says.
    """
    if kind not in READERS:
        raise InputError(f"the kind of source must be one of {', '.join(READERS)}, not {kind!r}")
    module, name = READERS[kind]
    reader = getattr(importlib.import_module(f"volscen.sources.{module}"), name)
    known = list(inspect.signature(reader).parameters)[1:]
    for option in options:
        if option not in known:
            raise InputError(f"{name} has no option {option!r}; it has {', '.join(known) or 'none'}")
    quotes, dropped = reader(source, **options)
    return quotes, dropped
