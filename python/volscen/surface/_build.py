"""From a chain to a grid: smoothing, carry, the origin of each cell, and how far a grid may reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen import arbitrage
from volscen.errors import InputError
from volscen.schema import SMILES, SURFACE, annotate, base_attributes
from volscen.surface._carry import carry_at
from volscen.surface._delta import quantile_of_call_delta, solve_rising
from volscen.surface._judge import arbitrage_figures, fit_figures
from volscen.surface._points import EXTRAPOLATED, INTERPOLATED, OBSERVED, Columns, read_columns, read_grid
from volscen.surface._reach import beyond_strikes, cells_with_quotes
from volscen.surface._smoothers import FittedSurface, check_options

if TYPE_CHECKING:
    import xarray as xr

    from volscen.chain import Chain

__all__ = [
    "EXTRAPOLATED",
    "INTERPOLATED",
    "OBSERVED",
    "Grid",
    "OutOfReachError",
    "build_surface",
    "check_limits",
    "read_grid",
    "surface_on_grid",
]

FloatArray = npt.NDArray[np.float64]

#: Points at which d1 is looked at for strikes of a delta, and strikes across the quotes that judge a search.
_SCAN, _ACROSS = 129, 17


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
    figures : dict
        The further figures of :data:`volscen.surface._judge.FIGURES`.
    moneyness : ndarray, shape (J, I), or None
        K/F where it differs from time to time.
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
    figures: dict[str, float] = field(default_factory=dict)
    moneyness: FloatArray | None = None


def build_surface(
    chain: Chain,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike | None = None,
    *,
    log_moneyness: npt.ArrayLike | None = None,
    delta: npt.ArrayLike | None = None,
    normalised_moneyness: npt.ArrayLike | None = None,
    standardised_moneyness: npt.ArrayLike | None = None,
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
        Times to expiry in years, strictly increasing, or tenors such as "1W", "3M", "1Y6M" (a day is 1/365 of a
        year, a week 7/365, a month 1/12).
    moneyness : array_like, shape (I,)
        K/F, strictly increasing. Give this or one of the next four.
    log_moneyness : array_like, shape (I,)
        k = ln(K/F), strictly increasing; the surface's coordinate is ``moneyness`` = exp(k).
    delta : sequence of str or float, length I
        Undiscounted forward deltas, in any order: labels "10P", "25P", "ATM", "25C", "10C" in per cent, or numbers,
        a call's N(d1) in (0, 1) or a put's N(d1) - 1 in (-1, 0). "ATM" is the delta-neutral strike, N(d1) = 1/2.
    normalised_moneyness : array_like, shape (I,)
        k / sqrt(tau), strictly increasing.
    standardised_moneyness : array_like, shape (I,)
        k / (s sqrt(tau)), strictly increasing, s being the surface's volatility at K = F of that time.
    method : {"svi", "essvi", "ssvi", "cubic", "kernel", "repair"}
        ``"svi"``: one raw-SVI slice per expiry without butterfly arbitrage; total variance linear in tau at
        fixed K/F and never decreasing, as slices that cross are refitted with further quotes where both can
        agree, and what crossing is left is lifted to the earlier slice; flat volatility in tau before the first
        and after the last expiry.
        ``"essvi"``, ``"ssvi"``: one surface through all expiries by :func:`volscen.ssvi.fit`, free of static
        arbitrage at every time, between and beyond the expiries as :func:`volscen.ssvi.at` says.
        ``"cubic"``: a natural cubic smoothing spline of total variance in log-moneyness per expiry; beyond the
        quotes total variance goes on straight, never falling outwards; in time as ``"svi"``, without refits.
        Nothing keeps a slice free of butterfly arbitrage: see ``durrleman_g_min``.
        ``"kernel"``: vega-weighted Nadaraya-Watson smoothing in moneyness and tau.
        ``"repair"``: :func:`volscen.repair`, a library of surfaces conditioned on the quotes, free of static
        arbitrage on the grid; for few quotes, or noisy ones.
    max_extrapolation : float
        How far beyond the quoted strikes a grid point may lie, in standard deviations (at-the-money vol times
        the root of tau).
    max_tau_ratio : float
        How far before the first or after the last expiry a grid point may lie, as a ratio of times, at least
        1.
    **options
        Of ``"svi"``: ``weights`` ("auto", "vega", "spread", "uniform"), ``robust`` (True), ``butterfly``
        (True). Of ``"essvi"`` and ``"ssvi"``: ``weights``, ``robust``. Of ``"cubic"``: ``weights``, ``robust``,
        ``smoothing`` ("auto", or a number). Of ``"kernel"``: ``bandwidth``, a pair of variances or "search" (default
        (0.002, 0.046)), ``weights`` ("vega"), ``robust`` (False). Of ``"repair"``: ``robust`` (True), ``free``
        ("density", "prices"). "auto" weighs quotes by their spread where they
        have bid and ask, and by vega otherwise.

    Returns
    -------
    xarray.Dataset
        ``implied_vol(tau, moneyness)``, ``forward(tau)``, ``discount_factor(tau)``, ``quality(tau,
        moneyness)`` (0 a quote lies in the cell, 1 between quotes, 2 beyond them), ``spot``,
        ``arbitrage_penalty``. With ``delta``, ``normalised_moneyness`` or ``standardised_moneyness`` that is the second
        dimension, in the order of increasing strikes, and ``moneyness(tau, ...)`` a coordinate; ``delta`` is then
        the call's, with the coordinate ``delta_label``, and the penalty is that of the same fit at the K/F of the
        first time, at all times.

        Attributes: ``method``; ``fit_rmse_vol_points`` and ``fit_max_vol_points`` (against all quotes used, 1 = one
        percentage point of vol); where quotes have bid and ask ``fit_share_in_spread`` (of quotes whose bid and ask
        hold the surface's price) and ``fit_rms_half_spreads`` (error over half-spread, both in vol, the half-spread
        with five basis points added in quadrature); ``durrleman_g_min``, the smallest value of Durrleman's function
        at the grid's times between its first and last strike (negative means butterfly arbitrage), with
        ``durrleman_g_min_tau`` and ``durrleman_g_min_moneyness``; ``calendar_violations``, the number of grid
        neighbours at which total variance falls at fixed K/F; ``n_quotes``, ``n_expiries``, and what the smoother
        reports.

    Raises
    ------
    InputError
        If a grid is not positive and increasing, a name or option is unknown, the grid reaches too far beyond the
        quotes, or a delta is met at no strike or at several; the message names day, place and remedy.

    Notes
    -----
    Where slices cross, they can agree on the isotonic regression of their variances over expiries; an expiry weighs
    as its number of quotes over tau, and less the farther a strike lies beyond its own quotes. Lifting keeps slices
    free of butterfly arbitrage: the larger of two convex call prices is convex.

    Forwards and discount factors are log-linear in tau between today (the spot, 1) and the expiries, with the
    last segment's carry and the last zero rate beyond. Flat volatility towards tau = 0 keeps a slice free of
    butterfly arbitrage: Durrleman's function is concave in a factor on total variance and non-negative at 0
    and 1.

    Durrleman's function is that of the smile read off, from exact derivatives (between expiries: of the total
    variance linear in tau). Where slices are lifted onto one another its slope jumps upwards, which is no arbitrage
    and left out.

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
    >>> smiles = build_surface(Chain(pd.concat(tables)), ["1M", "2M"], delta=["25P", "ATM", "25C"])
    >>> smiles.moneyness.round(4).values.tolist()
    [[0.9634, 1.0017, 1.0414], [0.9496, 1.0033, 1.0601]]
    """
    import xarray as xr

    from volscen.chain import Chain

    if not isinstance(chain, Chain):
        raise InputError(f"chain must be a volscen.Chain, not {type(chain).__name__}; make one: Chain(quotes, date)")
    tau = read_grid(tau, "tau")
    columns = read_columns(
        moneyness=moneyness,
        log_moneyness=log_moneyness,
        delta=delta,
        normalised_moneyness=normalised_moneyness,
        standardised_moneyness=standardised_moneyness,
    )
    check_limits(max_extrapolation, max_tau_ratio)
    grid = _surface_on(chain, tau, columns, method, max_extrapolation, max_tau_ratio, options)
    dims = ("tau", columns.name)
    ds = xr.Dataset(
        {
            "implied_vol": (dims, grid.implied_vol),
            "forward": (("tau",), grid.forward),
            "discount_factor": (("tau",), grid.discount_factor),
            "quality": (dims, grid.quality),
            "spot": ((), chain.spot),
            "arbitrage_penalty": ((), float(grid.penalty.sum())),
        },
        coords={"tau": tau, **columns.coordinates(), "date": chain.date.astype("datetime64[ns]")},
        attrs=base_attributes(
            SURFACE if columns.product else SMILES,
            title=f"Implied-volatility surface of {chain.date}",
            source="option quotes" if chain.underlying is None else f"option quotes on {chain.underlying}",
            calendar="unspecified",
            periods_per_year=252,
        ),
    )
    if grid.moneyness is not None:
        ds = ds.assign_coords(moneyness=(dims, grid.moneyness))
    ds.attrs.update(
        method=method,
        spot_source=chain.spot_source,
        fit_rmse_vol_points=100 * grid.fit_rmse,
        fit_max_vol_points=100 * grid.fit_max,
        n_quotes=grid.n_quotes,
        n_expiries=grid.n_expiries,
        **{name: value for name, value in grid.figures.items() if np.isfinite(value)},
        **grid.details,
    )
    return annotate(ds)


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
    columns = Columns("moneyness", moneyness)
    return _surface_on(chain, tau, columns, method, max_extrapolation, max_tau_ratio, options)


def _surface_on(
    chain: Chain,
    tau: FloatArray,
    columns: Columns,
    method: str,
    max_extrapolation: float,
    max_tau_ratio: float,
    options: dict[str, Any],
) -> Grid:
    quotes = chain.quotes
    quote_tau, quote_k = quotes["tau"].to_numpy(), quotes["log_moneyness"].to_numpy()
    expiries = np.unique(quote_tau)
    _check_times(chain, tau, expiries, max_tau_ratio)
    # Smiles have no strikes of their own before the fit: what needs some is judged across the quotes.
    judged = columns.values if columns.product else np.exp(np.linspace(quote_k.min(), quote_k.max(), _ACROSS))
    fitted = check_options(method, options)(chain, tau, judged, **options)
    k = _log_moneyness(fitted, chain, tau, columns)
    beyond = beyond_strikes(fitted, tau, k, quote_tau, quote_k, expiries)
    if beyond.max() > max_extrapolation:
        j, i = np.unravel_index(int(beyond.argmax()), beyond.shape)
        place = f"moneyness {np.exp(k[j if len(k) > 1 else 0, i]):.4g}"
        if not columns.product:
            place = f"{columns.describe(int(i))}, {place},"
        raise OutOfReachError(
            f"the grid reaches too far from the quotes of {chain.date}: at tau {tau[j]:.4g} {place} lies "
            f"{beyond[j, i]:.2g} standard deviations beyond the quoted strikes; narrow "
            f"the grid or raise max_extrapolation ({max_extrapolation:g})",
            "beyond_strikes",
        )
    vol = fitted.implied_vol(tau[:, None], k)
    if not (np.all(np.isfinite(vol)) and np.all(vol > 0)):
        raise InputError(f"method {method!r} gives no positive volatility everywhere on the grid on {chain.date}")
    outside = (beyond > 0) | (tau < expiries[0])[:, None] | (tau > expiries[-1])[:, None]
    quality = np.where(outside, EXTRAPOLATED, INTERPOLATED)
    quality[cells_with_quotes(tau, k, quote_tau, quote_k)] = OBSERVED
    known = np.isfinite(chain.forwards["forward"].to_numpy())
    times, forwards, discounts = (
        chain.forwards[name].to_numpy()[known] for name in ("tau", "forward", "discount_factor")
    )
    forward, discount_factor = carry_at(tau, times, forwards, discounts, np.float64(chain.spot))
    # A product grid to judge smiles on: the strikes of the shortest, which lie within the reach of all.
    product = vol if columns.product else fitted.implied_vol(tau[:, None], k[:1])
    strikes = columns.values if columns.product else np.exp(k[0])
    rmse, largest, in_spreads = fit_figures(chain, fitted)
    ends = (np.broadcast_to(k[:, i], tau.shape) for i in (0, -1))
    return Grid(
        implied_vol=vol,
        forward=forward,
        discount_factor=discount_factor,
        quality=quality.astype(np.int8),
        penalty=np.asarray(arbitrage.penalty(product, tau, strikes, parts=True), dtype=np.float64),
        fit_rmse=rmse,
        fit_max=largest,
        n_quotes=len(quotes),
        n_expiries=len(expiries),
        details=fitted.details,
        figures={**in_spreads, **arbitrage_figures(fitted, product, tau, *ends)},
        moneyness=None if columns.product else np.exp(k),
    )


def _log_moneyness(fitted: FittedSurface, chain: Chain, tau: FloatArray, columns: Columns) -> FloatArray:
    """Log-moneyness of the grid: shape (1, I) where it is the same at all times, else (J, I)."""
    root = np.sqrt(tau)[:, None]
    if columns.product:
        return np.log(columns.values)[None, :]
    if columns.name == "normalised_moneyness":
        return np.asarray(columns.values * root)
    if columns.name == "standardised_moneyness":
        return np.asarray(columns.values * fitted.implied_vol(tau[:, None], np.zeros((1, 1))) * root)
    k = chain.quotes["log_moneyness"]
    scan = np.linspace(min(float(k.min()), -0.1), max(float(k.max()), 0.1), _SCAN)
    roots = solve_rising(
        lambda at: fitted.implied_vol(tau[:, None], at) * root, quantile_of_call_delta(columns.values), scan
    )
    if np.any(roots.count != 1):
        j, i = (int(x) for x in np.argwhere(roots.count != 1)[0])
        where = f"{columns.describe(i)} at tau {tau[j]:.4g} on {chain.date}"
        if roots.count[j, i]:
            raise InputError(
                f"{where} is met at {roots.count[j, i]} strikes: the smile has butterfly arbitrage; use a method free "
                "of it ('svi', 'essvi'), or moneyness= in place of delta="
            )
        raise InputError(f"{where} is met at no strike: volatility rises too fast in the wing; use a delta nearer 0.5")
    return roots.k


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
