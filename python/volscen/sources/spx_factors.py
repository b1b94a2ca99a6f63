"""Daily five-factor description of the S&P 500 implied-volatility surface, read as a history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from volscen._tenors import to_years
from volscen.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["DEFAULT_MONEYNESS", "DEFAULT_TAU", "factor_vol", "read_spx_factors"]

FloatArray = npt.NDArray[np.float64]

#: Grid on which the formula is positive on every day of the published sample.
DEFAULT_TAU = tuple(days / 365 for days in (30, 60, 91, 122, 152, 182, 273, 365))
DEFAULT_MONEYNESS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0, 1.025, 1.05)

_FACTORS = [f"beta_{i}" for i in range(1, 6)]
_DAY = 1 / 365


def factor_vol(beta: npt.ArrayLike, tau: npt.ArrayLike, moneyness: npt.ArrayLike) -> FloatArray:
    """Five-factor surface of Francois, Galarneau-Vincent, Gauthier and Godin (2022).

    Parameters
    ----------
    beta : array_like, shape (..., 5)
        Long-term level, slope in time, slope in moneyness, curvature, and right tail.
    tau : array_like, shape (J,)
        Time to expiry in years, or tenors such as "3M"; positive.
    moneyness : array_like, shape (I,)
        K/F, positive.

    Returns
    -------
    ndarray, shape (..., J, I)
        Decimal volatility; the formula does not keep it positive.

    Notes
    -----
    With M = ln(F/K)/sqrt(tau): b1 + b2 exp(-sqrt(4 tau)) + b3 (M if M >= 0 else tanh M)
    + b4 (1 - exp(-M^2)) ln(tau/5) + b5 (1 - exp((3M)^3)) ln(tau/5) [M < 0].

    Examples
    --------
    >>> from volscen.sources.spx_factors import factor_vol
    >>> factor_vol([0.2, 0.05, 0.0, 0.0, 0.0], [0.25], [1.0]).round(6)
    array([[0.218394]])
    """
    b = np.asarray(beta, dtype=np.float64)[..., None, None, :]
    t = np.asarray(to_years("tau", tau), dtype=np.float64)[:, None]
    m = -np.log(np.asarray(moneyness, dtype=np.float64)) / np.sqrt(t)
    scale = np.log(t / 5)
    right = np.minimum(m, 0)  # the tail term is zero at M = 0, so it may be evaluated there for M > 0
    terms = np.stack(
        [
            np.ones_like(m),
            np.broadcast_to(np.exp(-np.sqrt(4 * t)), m.shape),
            np.where(m >= 0, m, np.tanh(m)),
            (1 - np.exp(-(m**2))) * scale,
            (1 - np.exp((3 * right) ** 3)) * scale,
        ],
        axis=-1,
    )
    return np.asarray((b * terms).sum(axis=-1))


def read_spx_factors(
    source: str | Path, *, tau: npt.ArrayLike | None = None, moneyness: npt.ArrayLike | None = None
) -> xr.Dataset:
    r"""Read a file of daily surface factors and index levels as a history of surfaces.

    Parameters
    ----------
    source : str or Path
        CSV file with the columns ``date``, ``beta_1`` to ``beta_5`` and ``close`` (of the index), as
        published with the code of "Deep hedging with implied volatility surfaces" (Francois, Gauthier, Godin,
        Perez Mendoza).
    tau : array_like, shape (J,), optional
        Times to expiry in years, or tenors such as "3M", within 30 to 365 days; 30 60 91 122 152 182 273 365 days
        when omitted.
    moneyness : array_like, shape (I,), optional
        K/F within 0.6 to 1.2; ten points from 0.6 to 1.05 when omitted.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/history/1``, calendar XNYS. The file has no forwards: F = S and discount factors
        of 1 are understood, which the attribute ``carry`` says.

    Raises
    ------
    FileFormatError
        If the file is missing, unreadable, lacks a column, or holds a value that is not finite.
    InputError
        If the grid reaches where the factors are no reliable description: below 30 days, beyond a year,
        outside K/F of 0.6 to 1.2, K/F from 1.10 at 30 days or less, K/F from 1.2 at 60 days or less, or any
        cell that is not positive on some date.

    Notes
    -----
    A smooth fitted surface, not quotes: it cannot show how a method copes with noise, and it is nearly free
    of arbitrage by construction.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from volscen.sources import read_spx_factors
    >>> text = "date,beta_1,beta_2,beta_3,beta_4,beta_5,close\n2001-01-02,.2,-.02,.15,-.04,0,1283.27\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "factors.csv")
    ...     _ = file.write_text(text)
    ...     history = read_spx_factors(file)
    >>> dict(history.sizes)
    {'date': 1, 'tau': 8, 'moneyness': 10}
    """
    from volscen.history import make_history
    from volscen.schema import check_grid

    tau = check_grid(to_years("tau", DEFAULT_TAU if tau is None else tau), "tau")
    moneyness = check_grid(DEFAULT_MONEYNESS if moneyness is None else moneyness, "moneyness")
    _check_reach(tau, moneyness)
    table = _load(Path(source))
    vol = factor_vol(table[_FACTORS].to_numpy(), tau, moneyness)
    if np.any(vol <= 0):
        day, j, i = np.argwhere(vol <= 0)[0]
        raise InputError(
            f"the factors give no positive volatility in {np.count_nonzero(vol <= 0)} cells, the first at "
            f"tau {tau[j] * 365:.0f} days and moneyness {moneyness[i]:g} on {table['date'].iloc[day].date()}; "
            f"narrow the grid"
        )
    history = make_history(
        table["date"].to_numpy(),
        tau,
        moneyness,
        vol,
        spot=table["close"].to_numpy(dtype=np.float64),
        title="S&P 500 implied-volatility surfaces from five daily factors",
        source=f"{Path(source).name}: factors of Francois, Galarneau-Vincent, Gauthier and Godin (2022)",
        calendar="XNYS",
    )
    history.attrs["carry"] = "the source has no forwards: forward = spot, rates and dividends are zero"
    return history


def _check_reach(tau: FloatArray, moneyness: FloatArray) -> None:
    slack = 1e-9
    if tau[0] < 30 * _DAY - slack or tau[-1] > 365 * _DAY + slack:
        raise InputError("tau must lie within 30 to 365 days: the factors are not reliable outside")
    if moneyness[0] < 0.6 - slack or moneyness[-1] > 1.2 + slack:
        raise InputError("moneyness must lie within 0.6 to 1.2: the factors are not reliable outside")
    for days, limit in ((30, 1.1), (60, 1.2)):
        if tau[0] <= days * _DAY + slack and moneyness[-1] >= limit - slack:
            raise InputError(
                f"the factors are not reliable at tau of {days} days or less and moneyness of {limit} or "
                f"more; drop one of the two from the grid"
            )


def _load(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: not a readable CSV file ({str(error).splitlines()[0]})") from None
    missing = [name for name in ("date", *_FACTORS, "close") if name not in table]
    if missing:
        raise FileFormatError(f"{path}: lacks the column {', '.join(missing)}")
    table["date"] = pd.to_datetime(table["date"], format="ISO8601", errors="coerce")
    for name in (*_FACTORS, "close"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    bad = table["date"].isna().to_numpy() | ~np.isfinite(table[[*_FACTORS, "close"]].to_numpy()).all(axis=1)
    if bad.any():
        raise FileFormatError(f"{path}: line {int(np.flatnonzero(bad)[0]) + 2} holds a value that cannot be read")
    if not len(table):
        raise FileFormatError(f"{path}: holds no row")
    return table
