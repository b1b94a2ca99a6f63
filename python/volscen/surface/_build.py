"""From a chain to a grid: smoothing, carry, the origin of each cell, and how far a grid may reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen import arbitrage
from volscen.errors import InputError
from volscen.schema import annotate, base_attributes, check_grid
from volscen.surface._smoothers import FittedSurface, check_options

if TYPE_CHECKING:
    import xarray as xr

    from volscen.chain import Chain

__all__ = ["EXTRAPOLATED", "INTERPOLATED", "OBSERVED", "Grid", "OutOfReachError", "build_surface", "surface_on_grid"]

FloatArray = npt.NDArray[np.float64]

OBSERVED, INTERPOLATED, EXTRAPOLATED = 0, 1, 2


class OutOfReachError(InputError):
    """The grid reaches farther beyond the quotes than allowed: beyond their expiries or beyond their strikes."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Grid:
    """A surface on a grid, as arrays.

    Attributes
    ----------
    implied_vol : ndarray, shape (J, I)
    forward, discount_factor : ndarray, shape (J,)
    quality : ndarray of int8, shape (J, I)
    penalty : ndarray, shape (3,)
        Calendar, monotonicity and convexity parts of the arbitrage penalty.
    fit_rmse, fit_max : float
        Root mean square and largest absolute error against the quotes, in decimals of volatility.
    n_quotes, n_expiries : int
        Quotes and expiries fitted.
    details : dict
        What the smoother has to say.
    """

    implied_vol: FloatArray
    forward: FloatArray
    discount_factor: FloatArray
    quality: npt.NDArray[np.int8]
    penalty: FloatArray
    fit_rmse: float
    fit_max: float
    n_quotes: int
    n_expiries: int
    details: dict[str, Any]


def build_surface(
    chain: Chain,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    *,
    method: str = "svi",
    max_extrapolation: float = 3.0,
    max_tau_ratio: float = 1.5,
    **options: Any,
) -> xr.Dataset:
    """Fit a surface to the quotes of one day and read it off on a grid.

    Parameters
    ----------
    chain : Chain
        The day.
    tau : array_like, shape (J,)
        Times to expiry in years, strictly increasing.
    moneyness : array_like, shape (I,)
        K/F, strictly increasing.
    method : {"svi", "essvi", "ssvi", "kernel"}
        ``"svi"``: one raw-SVI slice per expiry without butterfly arbitrage; total variance linear in tau at
        fixed K/F and never decreasing, as slices that cross are refitted with further quotes where both can
        agree, and what crossing is left is lifted to the earlier slice; flat volatility in tau before the first
        and after the last expiry.
        ``"essvi"``, ``"ssvi"``: one surface through all expiries by :func:`volscen.ssvi.fit`, free of static
        arbitrage at every time, between and beyond the expiries as :func:`volscen.ssvi.at` says.
        ``"kernel"``: vega-weighted Nadaraya-Watson smoothing in moneyness and tau.
    max_extrapolation : float
        How far beyond the quoted strikes a grid point may lie, in standard deviations (at-the-money vol times
        the root of tau).
    max_tau_ratio : float
        How far before the first or after the last expiry a grid point may lie, as a ratio of times, at least
        1.
    **options
        Of ``"svi"``: ``weights`` ("auto", "vega", "spread", "uniform"), ``robust`` (True), ``butterfly``
        (True). Of ``"essvi"`` and ``"ssvi"``: ``weights``, ``robust``. Of ``"kernel"``: ``bandwidth``, a pair
        of variances or "search" (default (0.002, 0.046)).

    Returns
    -------
    xarray.Dataset
        ``implied_vol(tau, moneyness)``, ``forward(tau)``, ``discount_factor(tau)``, ``quality(tau,
        moneyness)`` (0 a quote lies in the cell, 1 between quotes, 2 beyond them), ``spot``,
        ``arbitrage_penalty``. Attributes: ``method``, ``fit_rmse_vol_points`` and ``fit_max_vol_points``
        (against all quotes used, 1 = one percentage point of vol), ``n_quotes``, ``n_expiries``, and what the
        smoother reports.

    Raises
    ------
    InputError
        If a grid is not positive and increasing, a name or option is unknown, or the grid reaches too far
        beyond the quotes; the message names day, place and remedy.

    Notes
    -----
    Where slices cross, they can agree on the isotonic regression of their variances over expiries; an expiry weighs
    as its number of quotes over tau, and less the farther a strike lies beyond its own quotes. Lifting keeps slices
    free of butterfly arbitrage: the larger of two convex call prices is convex.

    Forwards and discount factors are log-linear in tau between today (the spot, 1) and the expiries, with the
    last segment's carry and the last zero rate beyond. Flat volatility towards tau = 0 keeps a slice free of
    butterfly arbitrage: Durrleman's function is concave in a factor on total variance and non-negative at 0
    and 1.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from volscen import Chain, black, build_surface
    >>> strike, is_call = np.repeat(np.arange(80.0, 125, 5), 2), np.tile([True, False], 9)
    >>> tables = [pd.DataFrame({
    ...     "date": "2024-01-02", "expiry": expiry, "strike": strike, "option_type": np.tile(["C", "P"], 9),
    ...     "price": black.price(100.0, strike, days / 365, 0.2, is_call)})
    ...     for expiry, days in (("2024-02-02", 31), ("2024-04-02", 91))]
    >>> surface = build_surface(Chain(pd.concat(tables)), [0.1, 0.2], [0.9, 1.0, 1.1])
    >>> surface.implied_vol.round(4).values.tolist()
    [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]]
    """
    import xarray as xr

    from volscen.chain import Chain

    if not isinstance(chain, Chain):
        raise InputError(f"chain must be a volscen.Chain, not {type(chain).__name__}; make one: Chain(quotes, date)")
    tau, moneyness = read_grid(tau, "tau"), read_grid(moneyness, "moneyness")
    check_limits(max_extrapolation, max_tau_ratio)
    grid = surface_on_grid(chain, tau, moneyness, method, max_extrapolation, max_tau_ratio, options)
    ds = xr.Dataset(
        {
            "implied_vol": (("tau", "moneyness"), grid.implied_vol),
            "forward": (("tau",), grid.forward),
            "discount_factor": (("tau",), grid.discount_factor),
            "quality": (("tau", "moneyness"), grid.quality),
            "spot": ((), chain.spot),
            "arbitrage_penalty": ((), float(grid.penalty.sum())),
        },
        coords={"tau": tau, "moneyness": moneyness, "date": chain.date.astype("datetime64[ns]")},
        attrs=base_attributes(
            "volscen/surface/1",
            title=f"Implied-volatility surface of {chain.date}",
            source="option quotes" if chain.underlying is None else f"option quotes on {chain.underlying}",
            calendar="unspecified",
            periods_per_year=252,
        ),
    )
    ds.attrs.update(
        method=method,
        spot_source=chain.spot_source,
        fit_rmse_vol_points=100 * grid.fit_rmse,
        fit_max_vol_points=100 * grid.fit_max,
        n_quotes=grid.n_quotes,
        n_expiries=grid.n_expiries,
        **grid.details,
    )
    return annotate(ds)


def read_grid(values: npt.ArrayLike, name: str) -> FloatArray:
    """Grid coordinate as an array; :func:`volscen.schema.check_grid` for what may be no numbers at all."""
    try:
        return check_grid(values, name)
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a list of increasing numbers, not {values!r}") from None


def check_limits(max_extrapolation: float, max_tau_ratio: float) -> None:
    """Refuse limits that mean nothing."""
    for name, value in (("max_extrapolation", max_extrapolation), ("max_tau_ratio", max_tau_ratio)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise InputError(f"{name} must be a number, not {value!r}")
    if not max_extrapolation >= 0:
        raise InputError(f"max_extrapolation must be a non-negative number, not {max_extrapolation!r}")
    if not max_tau_ratio >= 1:
        raise InputError(f"max_tau_ratio must be at least 1, not {max_tau_ratio!r}")


def surface_on_grid(
    chain: Chain,
    tau: FloatArray,
    moneyness: FloatArray,
    method: str,
    max_extrapolation: float,
    max_tau_ratio: float,
    options: dict[str, Any],
) -> Grid:
    """Do the work of :func:`build_surface` on arrays checked already."""
    quotes = chain.quotes
    quote_tau, quote_k = quotes["tau"].to_numpy(), quotes["log_moneyness"].to_numpy()
    expiries = np.unique(quote_tau)
    k = np.log(moneyness)
    _check_times(chain, tau, expiries, max_tau_ratio)
    fitted = check_options(method, options)(chain, tau, moneyness, **options)
    beyond = _beyond_strikes(fitted, tau, k, quote_tau, quote_k, expiries)
    if beyond.max() > max_extrapolation:
        j, i = np.unravel_index(int(beyond.argmax()), beyond.shape)
        raise OutOfReachError(
            f"the grid reaches too far from the quotes of {chain.date}: at tau {tau[j]:.4g} moneyness "
            f"{moneyness[i]:.4g} lies {beyond[j, i]:.2g} standard deviations beyond the quoted strikes; narrow "
            f"the grid or raise max_extrapolation ({max_extrapolation:g})",
            "beyond_strikes",
        )
    vol = fitted.implied_vol(tau[:, None], k[None, :])
    error = fitted.implied_vol(quote_tau, quote_k) - quotes["implied_vol"].to_numpy()
    if not (np.all(np.isfinite(vol)) and np.all(vol > 0)):
        raise InputError(f"method {method!r} gives no positive volatility everywhere on the grid on {chain.date}")
    outside = (beyond > 0) | (tau < expiries[0])[:, None] | (tau > expiries[-1])[:, None]
    quality = np.where(outside, EXTRAPOLATED, INTERPOLATED)
    quality[_cells_with_quotes(tau, k, quote_tau, quote_k)] = OBSERVED
    forward, discount_factor = _carry(chain, tau)
    return Grid(
        implied_vol=vol,
        forward=forward,
        discount_factor=discount_factor,
        quality=quality.astype(np.int8),
        penalty=np.asarray(arbitrage.penalty(vol, tau, moneyness, parts=True), dtype=np.float64),
        fit_rmse=float(np.sqrt(np.mean(error**2))),
        fit_max=float(np.abs(error).max()),
        n_quotes=len(quotes),
        n_expiries=len(expiries),
        details=fitted.details,
    )


def _check_times(chain: Chain, tau: FloatArray, expiries: FloatArray, max_ratio: float) -> None:
    low, high = expiries[0] / max_ratio, expiries[-1] * max_ratio
    bad = (tau < low * (1 - 1e-12)) | (tau > high * (1 + 1e-12))
    if bad.any():
        raise OutOfReachError(
            f"the grid reaches too far from the quotes of {chain.date}: tau {tau[bad][0]:.4g} lies beyond the "
            f"usable expiries, {expiries[0]:.4g} to {expiries[-1]:.4g} years; change tau or raise max_tau_ratio "
            f"({max_ratio:g})",
            "beyond_expiries",
        )


def _beyond_strikes(
    fitted: FittedSurface,
    tau: FloatArray,
    k: FloatArray,
    quote_tau: FloatArray,
    quote_k: FloatArray,
    expiries: FloatArray,
) -> FloatArray:
    """How far each grid point lies beyond the strikes of the expiries around it, in standard deviations."""
    starts = np.searchsorted(quote_tau, expiries)  # quotes are sorted by expiry
    low, high = np.minimum.reduceat(quote_k, starts), np.maximum.reduceat(quote_k, starts)
    deviation = fitted.implied_vol(expiries, np.zeros(1)) * np.sqrt(expiries)
    excess = np.maximum(np.maximum(low[:, None] - k, k - high[:, None]), 0) / deviation[:, None]
    right = np.clip(np.searchsorted(expiries, tau), 0, len(expiries) - 1)
    left = np.where((tau < expiries[right]) & (right > 0), right - 1, right)
    # A point is between strikes only if both expiries around it bracket it; how far beyond is a weighted
    # mean.
    gap = expiries[right] - expiries[left]
    share = np.divide(tau - expiries[left], gap, out=np.zeros(tau.shape), where=gap > 0)[:, None]
    return np.asarray((1 - share) * excess[left] + share * excess[right])


def _cells_with_quotes(
    tau: FloatArray, k: FloatArray, quote_tau: FloatArray, quote_k: FloatArray
) -> npt.NDArray[np.bool_]:
    """Cells, bounded half-way to the neighbouring grid points, that hold a quote."""
    found = np.zeros((tau.size, k.size), dtype=bool)
    rows = np.searchsorted(_edges(tau), quote_tau, side="right") - 1
    columns = np.searchsorted(_edges(k), quote_k, side="right") - 1
    inside = (rows >= 0) & (rows < tau.size) & (columns >= 0) & (columns < k.size)
    found[rows[inside], columns[inside]] = True
    return found


def _edges(points: FloatArray) -> FloatArray:
    middle = (points[1:] + points[:-1]) / 2
    if not middle.size:  # a single point has no neighbours: a cell of 5% either way
        width = 0.05 * max(abs(points[0]), 1.0)
        return np.array([points[0] - width, points[0] + width])
    first, last = 2 * points[0] - middle[0], 2 * points[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])


def _carry(chain: Chain, tau: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Forward and discount factor at times: log-linear between today and the expiries that have them."""
    table = chain.forwards
    known = np.isfinite(table["forward"].to_numpy())
    times = np.concatenate([[0.0], table["tau"].to_numpy()[known]])
    log_forward = np.log(np.concatenate([[chain.spot], table["forward"].to_numpy()[known]]))
    log_discount = np.log(np.concatenate([[1.0], table["discount_factor"].to_numpy()[known]]))
    last_carry = (log_forward[-1] - log_forward[-2]) / (times[-1] - times[-2])
    last_rate = log_discount[-1] / times[-1]
    after = tau > times[-1]
    forward = np.interp(tau, times, log_forward) + np.where(after, last_carry * (tau - times[-1]), 0.0)
    discount = np.where(after, last_rate * tau, np.interp(tau, times, log_discount))
    return np.exp(forward), np.exp(discount)
