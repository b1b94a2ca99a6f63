"""The volatility index that a chain or a surface implies, by the method of Cboe's VIX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen._threads import resolve_num_threads
from volscen.errors import InputError
from volscen.surface._strip import smile_variance
from volscen.surface._surfaces import map_surfaces, surfaces_of

if TYPE_CHECKING:
    import xarray as xr

    from volscen.chain import Chain

__all__ = ["vix"]

FloatArray = npt.NDArray[np.float64]

#: Maturities this close to the wanted one, relatively, are it.
_SAME = 1e-6

_LONG_NAME = "volatility index of {days:g} days"
_UNITS = "vol point"


def vix(
    source: xr.Dataset | xr.DataArray | Chain,
    *,
    days: float = 30,
    rules: Literal["cboe", "chain"] = "cboe",
    max_tau_ratio: float = 1.5,
    details: bool = False,
    num_threads: int | None = None,
) -> Any:
    """Volatility index of a chain, a surface, a history or a scenario cube, by the method of Cboe's VIX.

    Parameters
    ----------
    source : Chain, xarray.Dataset or xarray.DataArray
        A :class:`volscen.Chain`; or anything with ``implied_vol(..., tau, moneyness)``: a surface, a history, a
        scenario cube (also lazy), or one such variable, as ``cube["implied_vol0"]``.
    days : float
        Calendar days that the index looks ahead: 9, 30, 93 and 184 are those of VIX9D, VIX, VIX3M and VIX6M.
    rules : {"cboe", "chain"}
        Of a chain, which quotes count and what the forward is: "cboe" as published (see Notes), "chain" the quotes
        that the chain uses and its forwards.
    max_tau_ratio : float
        How far before the first or after the last maturity the index may look, as a ratio of times, at least 1.
    details : bool
        Return a dataset that shows the parts too.
    num_threads : int, optional
        Threads; all available processors when omitted. The result is the same for any number.

    Returns
    -------
    xarray.DataArray
        In vol points: 20.0 is a volatility of 20%. It has the leading dimensions of the surfaces, none for a chain or
        a single surface.
    xarray.Dataset
        With ``details``: ``vix``, and by ``term`` (one or two maturities) ``term_tau`` in years, ``term_variance``
        per year and ``term_weight`` (of the total variances ``term_tau * term_variance``). Of surfaces
        ``beyond_grid(..., term)``, the share of a term's variance that stems from strikes beyond the grid; of
        chains ``expiry``, ``forward``, ``first_strike`` K0, ``discount_factor``, ``n_puts`` and ``n_calls``.

    Raises
    ------
    InputError
        If there is no implied_vol, a volatility is not positive, ``days`` lies too far from the maturities, or a
        chain's expiry has no strikes on one side of the forward.

    Notes
    -----
    Each of the two maturities T around ``days`` gives a variance

        sigma^2 = (2/T) sum_i dK_i/K_i^2 e^(rT) Q(K_i) - (1/T) (F/K0 - 1)^2,

    with Q the price of the put below K0, of the call above, and their mean at K0; total variance sigma^2 T is linear
    between the two, and the index is 100 times the root of its value over time. A maturity within a
    millionth of ``days`` is used alone.

    *Surfaces* have prices at all strikes: the sum is taken to its limit of dense strikes, an integral over the smile of
    each grid maturity, with K0 = F. Volatility is linear in ln(K/F) between grid points and flat beyond them, out to
    five standard deviations of the volatility there. As prices and strikes enter per unit of the discounted forward,
    the index does not depend on ``forward`` and ``discount_factor``. Where ``days`` lies outside the maturities, the
    nearest is used alone (flat volatility).

    *Chains*, rules "cboe" (Cboe Volatility Index Methodology): prices are the middle of bid and ask (or ``price``). The
    forward is read from the strike where call and put differ least, F = K + (C - P)/D with D the chain's discount
    factor; K0 is the nearest strike at or below it. Going outwards from K0, options without a bid are left out, and
    after two of them in a row all that follow. dK is half the distance between the strikes on either side of those
    used, at the ends the distance to the next. Maturities are to the minute where the quotes have instants. The
    chain's own filters do not matter here, but for contracts of corporate actions, which are left out; American quotes
    are taken as they are. With rules "chain" the out-of-the-money quotes of ``chain.quotes``, its robust forwards and
    its (European) prices are used; the option missing at K0 follows from parity. Either way expiries of less than
    seven days (in proportion where ``days`` is below 30) are not used, and where all lie on one side of ``days``, the
    line is extended through the two nearest.

    Cboe (2019), "White Paper: Cboe Volatility Index"; K. Demeterfi, E. Derman, M. Kamal and J. Zou (1999), "More than
    you ever wanted to know about volatility swaps", Goldman Sachs.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> day = np.array(["2024-01-02", "2024-01-03"], "datetime64[D]")
    >>> flat = np.full((2, 2, 3), 0.2)
    >>> history = volscen.make_history(day, [20 / 365, 50 / 365], [0.8, 1.0, 1.2], flat, spot=[100.0, 101.0])
    >>> index = volscen.vix(history)
    >>> index.dims, index.round(4).values.tolist(), index.attrs["units"]
    (('date',), [20.0, 20.0], 'vol point')
    """
    from volscen.chain import Chain

    horizon = _positive(days, "days", 0.0) / 365
    ratio = _positive(max_tau_ratio, "max_tau_ratio", 1.0)
    if rules not in ("cboe", "chain"):
        raise InputError(f"rules must be 'cboe' or 'chain', not {rules!r}")
    if not isinstance(details, (bool, np.bool_)):
        raise InputError(f"details must be True or False, not {details!r}")
    threads = resolve_num_threads(num_threads)
    if isinstance(source, Chain):
        from volscen.surface._vix_chain import chain_index

        found = chain_index(source, horizon, rules, ratio)
    else:
        found = _surface_index(surfaces_of(source, "source"), horizon, ratio, threads)
    index = found["vix"]
    index.attrs = {"long_name": _LONG_NAME.format(days=days), "units": _UNITS, "days": float(days)}
    found["term_tau"].attrs = {"long_name": "time to expiry of a term", "units": "year"}
    found["term_variance"].attrs = {"long_name": "annual variance of a term", "units": "1"}
    found["term_weight"].attrs = {"long_name": "weight of a term's total variance", "units": "1"}
    return found if details else index


def _positive(value: Any, name: str, low: float) -> float:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not (value > 0 and low <= value < np.inf):
        raise InputError(
            f"{name} must be a {f'number of at least {low:g}' if low else 'positive number'}, not {value!r}"
        )
    return float(value)


def blend(tau: FloatArray, horizon: float) -> FloatArray:
    """Weights of the total variances of one or two maturities that put them on a line to the horizon."""
    if tau.size == 1:
        return np.array([horizon / tau[0]])
    return np.asarray(np.array([tau[1] - horizon, horizon - tau[0]]) / (tau[1] - tau[0]))


def check_reach(nearest: float, horizon: float, ratio: float, what: str) -> None:
    """Refuse a maturity that is too far from the one wanted."""
    if max(nearest / horizon, horizon / nearest) > ratio * (1 + 1e-9):
        raise InputError(
            f"days={horizon * 365:g} lies too far from the nearest maturity of {what}, {nearest * 365:.4g} days; "
            f"choose other days, or raise max_tau_ratio ({ratio:g})"
        )


def _surface_index(surfaces: xr.DataArray, horizon: float, ratio: float, threads: int) -> xr.Dataset:
    import xarray as xr

    tau = np.asarray(surfaces["tau"].values, dtype=np.float64)
    k = np.log(np.asarray(surfaces["moneyness"].values, dtype=np.float64))
    rows = _terms(tau, horizon)
    if len(rows) == 1:
        check_reach(float(tau[rows[0]]), horizon, ratio, "the surface")
    weight = blend(tau[rows], horizon)

    def index(vol: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
        smiles = [
            smile_variance(vol[:, row].astype(np.float64), k, float(tau[row]), num_threads=threads) for row in rows
        ]
        variance, beyond = (np.stack(part, axis=1) for part in zip(*smiles, strict=True))
        total = (variance * tau[rows] * weight).sum(axis=1)
        return 100 * np.sqrt(total / horizon), variance, beyond

    real = np.dtype(np.float64)
    value, variance, beyond = map_surfaces(index, surfaces, [(), ("term",), ("term",)], [real] * 3, {"term": len(rows)})
    beyond.attrs = {"long_name": "share of a term's variance from strikes beyond the grid", "units": "1"}
    return xr.Dataset(
        {
            "vix": value,
            "term_tau": ("term", tau[rows]),
            "term_variance": variance,
            "term_weight": ("term", weight),
            "beyond_grid": beyond,
        }
    )


def _terms(tau: FloatArray, horizon: float) -> list[int]:
    """Positions of the one or two maturities of a surface that give the index."""
    same = np.flatnonzero(np.abs(tau / horizon - 1) <= _SAME)
    if same.size:
        return [int(same[0])]
    after = int(np.searchsorted(tau, horizon))
    if after in (0, tau.size):
        return [min(after, tau.size - 1)]
    return [after - 1, after]
