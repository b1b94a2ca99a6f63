"""What a hedger sees and can trade at every close of a history, or on every path of scenarios.

A market is a Dataset over (path, time). At ``time`` the policy sees the observations, chooses, pays costs, and earns
the gains of the step to the next close. Gains and costs are shares of the underlying's price at ``time``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import black, schema
from volscen._elapsed import elapsed_days_of
from volscen._tenors import to_years
from volscen.agent._signal import RiskSignal
from volscen.errors import InputError
from volscen.portfolio._contracts import DAYS_PER_YEAR, StartingState, one_date
from volscen.surface._interpolate import interpolate_vol, is_off_grid

__all__ = ["OBSERVATIONS", "option_market", "pool_markets", "simplified_market"]

FloatArray = npt.NDArray[np.float64]

#: What a policy sees at a close, in the order a learned policy is given it.
OBSERVATIONS = ("risk", "risk_change", "log_return", "realised_vol", "atm_vol", "atm_change", "slope", "skew")

#: Decay a step of the exponentially weighted realised variance (RiskMetrics).
_DECAY = 0.94

#: Maturities of ``slope`` in years, and the K/F of ``skew``.
_SHORT, _LONG, _PUT = 30 / DAYS_PER_YEAR, 1.0, 0.9


def simplified_market(
    ds: xr.Dataset, signal: RiskSignal, *, premium: float = 0.002, payoff: float = 0.05, index_cost: float = 0.0
) -> xr.Dataset:
    """A hedge that costs a fixed premium every step and pays a fixed amount on every step that falls.

    This is the market in which the article on latent world models simulates its agent; it is kept for comparing with
    that article. Whoever hedges in it gains five per cent on any fall, however small, so that its profits say nothing
    about real hedges: see :func:`option_market`.

    Parameters
    ----------
    ds : xarray.Dataset
        A history, or scenarios of one date.
    signal : RiskSignal
        Fitted on the grid of ``ds``, on days known before it.
    premium, payoff : float
        Shares of the underlying's price, not negative.
    index_cost : float
        Cost of trading the underlying, a share of what is traded.

    Returns
    -------
    xarray.Dataset
        As that of :func:`option_market`, without costs of the hedge.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=100, horizon=5, seed=1)
    >>> signal = volscen.agent.RiskSignal.fit(volscen.datasets.sample_history())
    >>> market = volscen.agent.simplified_market(cube, signal)
    >>> sorted({round(gain, 3) for gain in market.hedge_gain.values.ravel().tolist()})
    [-0.002, 0.048]
    """
    for name, value in (("premium", premium), ("payoff", payoff), ("index_cost", index_cost)):
        _not_negative(name, value)
    paths = _Paths.of(ds)
    gain = np.where(paths.log_return < 0, payoff, 0.0) - premium
    none = np.zeros_like(gain)
    return _assemble(paths, signal, gain, none, none, np.zeros(gain.shape[1], dtype=bool), index_cost, "simplified")


def option_market(
    ds: xr.Dataset,
    signal: RiskSignal,
    *,
    moneyness: float = 0.95,
    tau: float | str = "3M",
    roll_every: int = 21,
    half_spread_vol: float = 0.0025,
    half_spread_share: float = 0.02,
    index_cost: float = 0.0001,
    elapsed_days: npt.ArrayLike | None = None,
) -> xr.Dataset:
    """Puts repriced from the surface at every close, listed anew at fixed intervals, bought at ask and sold at bid.

    Every ``roll_every`` steps a put with strike ``moneyness`` times the spot and ``tau`` years to expiry is listed;
    until the next listing it is the one traded, at the surface's volatility for its strike and remaining life.
    Whoever holds the old put when the new one is listed sells it at bid and buys the new one at ask. The half-spread
    in volatility is the larger of ``half_spread_vol`` and ``half_spread_share`` of the volatility, so that it widens in
    a crisis; in price it is that times vega.

    Parameters
    ----------
    ds : xarray.Dataset
        A history (one path, whose returns are the underlying's) or scenarios of one date (a path each, with their
        weights).
    signal : RiskSignal
        Fitted on the grid of ``ds``, on days known before it.
    moneyness : float
        Strike over spot at listing.
    tau : float or str
        Life at listing in years or as a tenor, longer than the interval between listings.
    roll_every : int
        Steps between listings.
    half_spread_vol, half_spread_share : float
        In vol as a decimal, and as a share of the vol.
    index_cost : float
        Half-spread of the underlying, a share of its price.
    elapsed_days : array_like, shape (step,), optional
        Calendar days from the date of the scenarios to each step; to the sessions of their ``calendar`` when omitted.
        Histories have dates.

    Returns
    -------
    xarray.Dataset
        Dimensions ``path`` and ``time``: ``index_gain`` and ``hedge_gain`` of one underlying and of one put over the
        step that follows, ``entry_cost`` and ``exit_cost`` of the put listed from now and of the one listed until now,
        ``listed``, the observations (see Notes), and ``weight`` of each path. Histories have ``date``, of the close at
        which is decided. The attribute ``off_grid`` is the share of prices whose volatility was extrapolated.

    Raises
    ------
    InputError
        If a number is out of range, steps are missing, the put would expire before the next listing, or the
        signal's grid is another one.

    Notes
    -----
    Interest and dividends are zero: the forward is the spot. Observed at each close: ``risk`` and its last change
    (see :class:`RiskSignal`), the last ``log_return``, ``realised_vol`` (exponentially weighted, decay 0.94, starting
    from the at-the-money volatility), ``atm_vol`` at 30 days and its last change, ``slope`` (30 days less one year) and
    ``skew`` (K/F = 0.9 less at the money, 30 days). Changes at the first close are zero, as is the last return there in
    scenarios.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> signal = volscen.agent.RiskSignal.fit(history.isel(date=slice(0, 500)))
    >>> market = volscen.agent.option_market(history.isel(date=slice(500, None)), signal, roll_every=63, tau="6M")
    >>> market.hedge_gain.dims, bool(market.hedge_gain.mean() < 0)
    (('path', 'time'), True)
    """
    for name, value in (
        ("half_spread_vol", half_spread_vol),
        ("half_spread_share", half_spread_share),
        ("index_cost", index_cost),
    ):
        _not_negative(name, value)
    if not (isinstance(moneyness, float | int) and 0.2 <= moneyness <= 5):
        raise InputError(f"moneyness must be strike over spot, between 0.2 and 5, not {moneyness!r}")
    life = float(to_years("tau", tau))
    if not (np.isfinite(life) and life > 0):
        raise InputError(f"tau must be positive and finite, not {tau!r}")
    if isinstance(roll_every, bool) or not isinstance(roll_every, int | np.integer) or roll_every < 1:
        raise InputError(f"roll_every must be a positive whole number of steps, not {roll_every!r}")
    paths = _Paths.of(ds, elapsed_days)
    n_paths, n_steps = paths.log_return.shape
    gain, entry, leave = (np.zeros((n_paths, n_steps)) for _ in range(3))
    off_grid = 0.0
    roll = np.zeros(n_steps, dtype=bool)
    for start in range(0, n_steps, int(roll_every)):
        last = min(start + int(roll_every), n_steps)
        put = _listed(paths, slice(start, last + 1), moneyness, life, (half_spread_vol, half_spread_share))
        spot = paths.spot[:, start : last + 1]
        gain[:, start:last] = np.diff(put.price, axis=1) / spot[:, :-1]
        entry[:, start:last] = (put.half_spread / spot)[:, :-1]
        leave[:, start + 1 : last + 1] = (put.half_spread / spot)[:, 1 : n_steps - start]
        off_grid += put.off_grid * (last - start) / n_steps
        roll[start] = True
    market = _assemble(paths, signal, gain, entry, leave, roll, index_cost, "option")
    market.attrs |= {"moneyness": float(moneyness), "tau": life, "off_grid": off_grid}
    return market


def pool_markets(markets: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put the paths of several markets side by side, each market with the same share of the weight.

    Parameters
    ----------
    markets : sequence of xarray.Dataset
        Of one kind, costs and number of steps, such as those of scenarios from several dates.

    Raises
    ------
    InputError
        If they differ in kind or number of steps, or there is none.
    """
    if not markets:
        raise InputError("markets holds none; give at least one")
    first = markets[0]
    for market in markets:
        check_market(market)
        if market.sizes["time"] != first.sizes["time"] or market.attrs != {**first.attrs, **_varying(market)}:
            raise InputError("markets must have the same number of steps and the same instruments and costs")
    plain = [market.drop_vars("date", errors="ignore") for market in markets]
    pooled = xr.concat(plain, dim="path", combine_attrs="override", data_vars="minimal", coords="minimal", join="exact")
    pooled["weight"] = pooled["weight"] / len(markets)
    if "off_grid" in first.attrs:
        sizes = np.array([market.sizes["path"] for market in markets])
        pooled.attrs["off_grid"] = float(np.dot([market.attrs["off_grid"] for market in markets], sizes) / sizes.sum())
    return pooled


@dataclass(frozen=True)
class _Put:
    """A put from its listing to the next, arrays (path, time) in units of the first spot."""

    price: FloatArray
    half_spread: FloatArray
    off_grid: float


def _listed(paths: _Paths, times: slice, moneyness: float, life: float, spreads: tuple[float, float]) -> _Put:
    spot, years = paths.spot[:, times], paths.years[times]
    remaining = life - (years - years[0])
    if remaining[-1] <= 0:
        raise InputError(
            f"tau of {life:.4g} years ends before the next listing, {years[-1] - years[0]:.4g} years on; give a longer "
            "tau or a smaller roll_every"
        )
    strike = moneyness * spot[:, :1]
    vol = np.column_stack(
        [
            interpolate_vol(surface, paths.tau, paths.moneyness, left, ratio[:, None])[:, 0]
            for surface, left, ratio in zip(
                np.moveaxis(paths.implied_vol[:, times], 1, 0), remaining, (strike / spot).T, strict=True
            )
        ]
    )
    half_vol = np.maximum(spreads[0], spreads[1] * vol)
    return _Put(
        price=black.price(spot, strike, remaining, vol, False),
        half_spread=half_vol * black.vega(spot, strike, remaining, vol),
        off_grid=float(is_off_grid(paths.tau, paths.moneyness, remaining, strike / spot).mean()),
    )


def check_market(market: xr.Dataset) -> None:
    """Refuse what no function of this module made."""
    needed = {"index_gain", "hedge_gain", "entry_cost", "exit_cost", "listed", "weight", *OBSERVATIONS}
    missing = sorted(needed - set(market.data_vars))
    if missing:
        raise InputError(
            f"market lacks {', '.join(missing)}; make it with agent.option_market or agent.simplified_market"
        )


def _varying(market: xr.Dataset) -> dict[str, Any]:
    return {"off_grid": market.attrs["off_grid"]} if "off_grid" in market.attrs else {}


@dataclass(frozen=True)
class _Paths:
    """Surfaces at every close and returns between them; a history is one path."""

    log_return: FloatArray  # (path, time)
    implied_vol: npt.NDArray[np.floating]  # (path, time + 1, tau, moneyness)
    years: FloatArray  # (time + 1,)
    tau: FloatArray
    moneyness: FloatArray
    weight: FloatArray
    periods_per_year: float
    first_return: float
    date: npt.NDArray[np.datetime64] | None

    @property
    def spot(self) -> FloatArray:
        """Relative to the first close, shape (path, time + 1)."""
        moved = np.cumsum(self.log_return, axis=1)
        return np.asarray(np.exp(np.concatenate([np.zeros((len(moved), 1)), moved], axis=1)))

    @classmethod
    def of(cls, ds: xr.Dataset, elapsed_days: npt.ArrayLike | None = None) -> _Paths:
        schema.validate(ds)
        kind = ds.attrs["schema"]
        grid = (ds["tau"].values.astype(np.float64), ds["moneyness"].values.astype(np.float64))
        per_year = float(ds.attrs["periods_per_year"])
        if kind == schema.HISTORY:
            if "asset" in ds.dims:
                raise InputError("ds holds several assets; choose one with ds.sel(asset=...)")
            if elapsed_days is not None:
                raise InputError("elapsed_days is for scenarios; a history has dates")
            if ds.sizes["date"] < 2:
                raise InputError("ds must hold at least two dates")
            date = ds["date"].values
            vol = ds["implied_vol"].transpose("date", "tau", "moneyness").values
            returns = ds["log_return"].values.astype(np.float64)
            years = (date - date[0]) / np.timedelta64(1, "D") / DAYS_PER_YEAR
            first = returns[0] if np.isfinite(returns[0]) else 0.0
            return cls(returns[None, 1:], vol[None], years, *grid, np.ones(1), per_year, float(first), date[:-1])
        if kind != schema.SCENARIOS:
            raise InputError(f"ds must be a history or scenarios, not {kind}")
        ds = one_date(ds)
        steps = ds["step"].values
        if not np.array_equal(steps, np.arange(1, steps.size + 1)):
            raise InputError("ds must hold every step from the first; pass the scenarios with all their steps")
        days = elapsed_days_of(ds, StartingState.of(ds).as_of, elapsed_days)
        later = ds["implied_vol"].transpose("scenario", "step", "tau", "moneyness").values
        start = ds["implied_vol0"].transpose("tau", "moneyness").values.astype(later.dtype)
        vol = np.concatenate([np.broadcast_to(start, (len(later), 1, *start.shape)), later], axis=1)
        returns = ds["log_return"].transpose("scenario", "step").values.astype(np.float64)
        weight = schema.check_weights(ds["weight"].values, len(later))
        years = np.concatenate([[0.0], days]) / DAYS_PER_YEAR
        return cls(returns, vol, years, *grid, weight, per_year, 0.0, None)


def _assemble(
    paths: _Paths,
    signal: RiskSignal,
    hedge_gain: FloatArray,
    entry_cost: FloatArray,
    exit_cost: FloatArray,
    roll: npt.NDArray[np.bool_],
    index_cost: float,
    kind: str,
) -> xr.Dataset:
    """The market's Dataset, with what is observed at each close but the last."""
    if not isinstance(signal, RiskSignal):
        raise InputError(f"signal must be an agent.RiskSignal, not {type(signal).__name__}; see agent.RiskSignal.fit")
    n_paths, n_steps = paths.log_return.shape
    dims = ("path", "time")
    seen = xr.DataArray(
        paths.implied_vol[:, :-1],
        dims=(*dims, "tau", "moneyness"),
        coords={"tau": paths.tau, "moneyness": paths.moneyness},
    )
    risk = signal(seen).values
    surfaces = paths.implied_vol[:, :-1]
    points = interpolate_vol(
        surfaces, paths.tau, paths.moneyness, np.array([_SHORT, _LONG, _SHORT]), np.array([1.0, 1.0, _PUT])
    )
    atm, far, put = np.moveaxis(points, -1, 0)
    last_return = np.concatenate([np.full((n_paths, 1), paths.first_return), paths.log_return[:, :-1]], axis=1)
    observed = (
        risk, _change(risk), last_return, _realised_vol(last_return, atm[:, 0], paths.periods_per_year),
        atm, _change(atm), atm - far, put - atm,
    )  # fmt: skip
    variables: dict[str, Any] = {
        "index_gain": (dims, np.expm1(paths.log_return)),
        "hedge_gain": (dims, hedge_gain),
        "entry_cost": (dims, entry_cost),
        "exit_cost": (dims, exit_cost),
        "listed": ("time", roll),
        "weight": ("path", paths.weight),
    } | {name: (dims, values) for name, values in zip(OBSERVATIONS, observed, strict=True)}
    for name, (_, values) in variables.items():
        if not np.all(np.isfinite(values)):
            raise InputError(f"ds: {name} is not finite; validate the returns and surfaces")
    market = xr.Dataset(variables, coords={"time": np.arange(n_steps)})
    if paths.date is not None:
        market = market.assign_coords(date=("time", paths.date))
    market.attrs = {"market": kind, "index_cost": float(index_cost), "periods_per_year": paths.periods_per_year}
    return market


def _change(values: FloatArray) -> FloatArray:
    return np.diff(values, axis=1, prepend=values[:, :1])


def _realised_vol(log_return: FloatArray, start: FloatArray, periods_per_year: float) -> FloatArray:
    """Exponentially weighted, known at each close; before the first return the at-the-money volatility stands in."""
    from scipy.signal import lfilter

    squared = np.square(log_return[:, 1:]) * periods_per_year
    variance = lfilter([1 - _DECAY], [1, -_DECAY], squared, axis=1, zi=_DECAY * np.square(start)[:, None])[0]
    return np.asarray(np.sqrt(np.concatenate([np.square(start)[:, None], variance], axis=1)))


def _not_negative(name: str, value: float) -> None:
    if not (np.isfinite(value) and value >= 0):
        raise InputError(f"{name} must be finite and not negative, not {value!r}")
