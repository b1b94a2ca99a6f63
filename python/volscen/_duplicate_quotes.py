"""Rows of one contract: which stays, and a warning where the others say something else."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen.errors import QuotesWarning

__all__ = ["repeated_rows"]

#: Contradictions that are taken for slips of single rows: so many, and this share of the repeated rows.
_FEW, _SHARE = 5, 0.05

#: Columns that are no names of a class or of a time.
_NUMBERS = ("bid", "ask", "price", "volume", "spot", "age")


def repeated_rows(clean: pd.DataFrame, keys: list[str], two_sided: bool) -> npt.NDArray[np.bool_]:
    """Rows beside the one that stays of each contract, chosen by value, so that the order of rows does not matter.

    Of bids and asks the narrowest stays, of prices the (lower) median.
    """
    repeated = np.array(clean.duplicated(keys, keep=False))
    if not repeated.any():
        return repeated
    rows = clean[repeated]
    contract = rows.groupby(keys, dropna=False, observed=True, sort=False).ngroup().to_numpy()
    values = [rows[name].to_numpy() for name in ("volume", "spot", "price") if name in rows]  # the last counts most
    if two_sided:
        values.append((rows["ask"] - rows["bid"]).to_numpy())
    order = np.lexsort((*values, contract))
    first = np.searchsorted(contract[order], np.unique(contract))
    size = np.bincount(contract)
    kept = order[first if two_sided else first + (size - 1) // 2]
    doubt = _contradiction(rows, contract, kept, keys, two_sided)
    if doubt:
        warnings.warn(doubt, QuotesWarning, stacklevel=4)
    repeated[np.flatnonzero(repeated)[kept]] = False
    return repeated


def _contradiction(
    rows: pd.DataFrame,
    contract: npt.NDArray[np.integer],
    kept: npt.NDArray[np.integer],
    keys: list[str],
    two_sided: bool,
) -> str:
    """What to say where repeated rows quote other prices than the row that stays; nothing where they agree.

    Bids and asks contradict where the middle of one market lies outside the other, prices where they differ by over 1%.
    """
    stays = np.empty(contract.max() + 1, dtype=np.int64)
    stays[contract[kept]] = kept
    beside = stays[contract]
    price = rows["price"].to_numpy()
    low, high = (rows[name].to_numpy() for name in ("bid", "ask")) if two_sided else (0.99 * price, 1.01 * price)
    apart = (price > high[beside]) | (price < low[beside])
    more = len(rows) - len(kept)
    if apart.sum() < max(_FEW, _SHARE * more):
        return ""
    at = int(np.flatnonzero(apart)[0])
    other = int(beside[at])
    names = ("bid", "ask") if two_sided else ("price",)
    here, there = (" to ".join(f"{rows[name].iloc[row]:g}" for name in names) for row in (other, at))
    row = rows.iloc[at]
    contracted = f"{row['option_type']} {row['strike']:g} {row['expiry']:%Y-%m-%d} on {row['date']:%Y-%m-%d}"
    hint = "they may be of several roots, several times of day or a day delivered twice: keep one of them"
    size = np.bincount(contract)
    for name in rows.columns:
        values = rows[name]
        if name in keys or name in _NUMBERS or pd.api.types.is_float_dtype(values.dtype):
            continue
        codes, labels = pd.factorize(values.astype(str))
        if len(labels) > 1 and np.mean(pd.Series(codes).groupby(contract).nunique().to_numpy() == size) > 0.9:
            shown = ", ".join(map(str, labels[:3])) + (", ..." if len(labels) > 3 else "")
            hint = f"column {name} ({shown}) tells them apart: keep one of its values before"
            break
    n_days = rows["date"][apart].nunique()
    return (
        f"{int(apart.sum()):,} of {more:,} repeated rows contradict the row of their contract that is kept "
        f"({contracted}: {here} and {there}), on {n_days:,} day{'s' * (n_days > 1)}; {hint}"
    )
