"""Where a surface is read off: times to expiry, and strikes by one of several coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.schema import check_grid
from volscen.surface._delta import delta_labels, read_deltas

__all__ = [
    "COORDINATES",
    "EXTRAPOLATED",
    "INTERPOLATED",
    "OBSERVED",
    "Columns",
    "read_columns",
    "read_grid",
    "read_product_columns",
]

FloatArray = npt.NDArray[np.float64]

OBSERVED, INTERPOLATED, EXTRAPOLATED = 0, 1, 2

#: Coordinates of strikes that may be asked for. The first two give the same strikes K/F at every time.
COORDINATES = ("moneyness", "log_moneyness", "delta", "normalised_moneyness", "standardised_moneyness")


@dataclass(frozen=True)
class Columns:
    """Strikes of a grid.

    Attributes
    ----------
    name : str
        Dimension: "moneyness", or one whose strikes differ from time to time.
    values : ndarray, shape (I,)
        In the order of increasing strikes; deltas are those of calls.
    """

    name: str
    values: FloatArray

    @property
    def product(self) -> bool:
        """Whether K/F is the same at every time."""
        return self.name == "moneyness"

    def describe(self, i: int) -> str:
        """Name of one column, for messages."""
        if self.name == "delta":
            return f"delta {delta_labels(self.values)[i]}"
        return f"{self.name} {self.values[i]:.4g}"

    def coordinates(self) -> dict[str, Any]:
        """Coordinates of the dimension, for a dataset."""
        out: dict[str, Any] = {self.name: self.values}
        if self.name == "delta":
            out["delta_label"] = ("delta", delta_labels(self.values))
        return out


def read_columns(**given: Any) -> Columns:
    """Columns of the one coordinate given that is not None.

    Raises
    ------
    InputError
        If none or several are given, or the values are no grid.
    """
    named = {name: values for name, values in given.items() if values is not None}
    if len(named) != 1:
        have = f"not {' and '.join(named)}" if named else "none is given"
        raise InputError(f"give the strikes by one of {', '.join(given)}; {have}")
    ((name, values),) = named.items()
    if name == "moneyness":
        return Columns(name, read_grid(values, name))
    if name == "delta":
        return Columns(name, read_deltas(values))
    real = _real_grid(values, name)
    return Columns("moneyness", np.exp(real)) if name == "log_moneyness" else Columns(name, real)


def read_product_columns(moneyness: Any, log_moneyness: Any, others: Mapping[str, Any]) -> FloatArray:
    """K/F of a grid that is the same at all times; ``others`` may not hold one that is not.

    Raises
    ------
    InputError
        If neither or both are given, or the values are no grid.
    """
    for name in COORDINATES[2:]:
        if name in others:
            raise InputError(
                f"{name} has other strikes at every time, and a history has one grid: build it by moneyness= or "
                f"log_moneyness=, and take volscen.surface.regrid(history, {name}=...)"
            )
    return read_columns(moneyness=moneyness, log_moneyness=log_moneyness).values


def read_grid(values: npt.ArrayLike, name: str) -> FloatArray:
    """Grid coordinate as an array, tenors as years; :func:`volscen.schema.check_grid` for what may be no numbers."""
    try:
        if np.asarray(values).dtype.kind == "b":
            raise InputError(f"{name} must hold numbers, not {values!r}")
        return check_grid(to_years(name, values) if name == "tau" else values, name)
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a list of increasing numbers, not {values!r}") from None


def _real_grid(values: npt.ArrayLike, name: str) -> FloatArray:
    """Increasing numbers of either sign that are no strikes by themselves: within 20 of 0."""
    try:
        grid = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a list of increasing numbers, not {values!r}") from None
    if grid.ndim != 1 or grid.size == 0:
        raise InputError(f"{name} must be a non-empty one-dimensional array, not shape {grid.shape}")
    if not np.all(np.abs(grid) <= 20):
        raise InputError(f"{name} must hold finite numbers within 20 of 0; it is a logarithm")
    if np.any(np.diff(grid) <= 0):
        raise InputError(f"{name} must be strictly increasing; sort it and drop duplicates")
    return grid
