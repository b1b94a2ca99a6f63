"""Option quotes as an exchange might have listed them, of a history of surfaces: made up, and saying so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["simulate_quotes"]

#: Expiries are Fridays four weeks apart; this one is of them.
_A_FRIDAY = np.datetime64("2000-01-21", "D")


def simulate_quotes(
    history: xr.Dataset,
    *,
    moneyness: tuple[float, float] = (0.8, 1.2),
    days: tuple[int, int] = (10, 140),
    n_strikes: int = 9,
    half_spread_vol: float = 0.003,
    noise_vol: float = 0.001,
    seed: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Quotes of calls and puts that a market with a history's surfaces might show.

    Parameters
    ----------
    history : xarray.Dataset
        Surfaces of some days (``volscen/history/1``), without carry: forwards are the spot, rates zero.
    moneyness : (float, float)
        Lowest and highest strike over spot, between which ``n_strikes`` round strikes lie.
    days : (int, int)
        Least and most calendar days to the expiries that are listed: Fridays four weeks apart.
    n_strikes : int
        Strikes of an expiry, at least 2.
    half_spread_vol : float
        Half of ask less bid, as a volatility (0.003 is 0.3 points); at least a hundredth of the currency.
    noise_vol : float
        Standard deviation of the error of each option's volatility.
    seed : int, numpy.random.Generator or None
        Source of randomness.

    Returns
    -------
    pandas.DataFrame
        The tidy table of quotes: date, expiry, strike, option_type, bid, ask, spot; and ``source``, "simulated".

    Raises
    ------
    InputError
        If a number is out of range, or no expiry lies within ``days``.

    Examples
    --------
    >>> import volscen
    >>> from volscen.sources.simulate import simulate_quotes
    >>> quotes = simulate_quotes(volscen.datasets.sample_history().isel(date=[-2, -1]), seed=1)
    >>> surfaces, report = volscen.build_history(quotes, tau=["1M", "2M"], moneyness=[0.9, 1.0, 1.1])
    >>> surfaces.sizes["date"], bool(report.fit_rmse.max() < 0.01)
    (2, True)
    """
    import pandas as pd

    from volscen import black, schema
    from volscen.surface._interpolate import interpolate_vol

    schema.validate(history, schema=schema.HISTORY)
    low, high = moneyness
    if not 0 < low < high or n_strikes < 2:
        raise InputError("moneyness must be two numbers with 0 < low < high, and n_strikes at least 2")
    if not 0 <= noise_vol < 1 or not 0 <= half_spread_vol < 1:
        raise InputError("half_spread_vol and noise_vol must lie in [0, 1), in decimals: 0.003 for 0.3 points")
    rng = np.random.default_rng(seed)
    tau, grid = history["tau"].values, history["moneyness"].values
    surfaces = history["implied_vol"].transpose("date", "tau", "moneyness").values
    parts = []
    for row, date in enumerate(history["date"].values.astype("datetime64[D]")):
        spot = float(history["spot"].values[row])
        left = _listed(date, days)
        strikes = _round_strikes(spot, low, high, n_strikes)
        expiry, strike, is_call = (a.ravel() for a in np.meshgrid(left, strikes, [True, False], indexing="ij"))
        years = expiry / 365.0
        vol = np.concatenate(
            [interpolate_vol(surfaces[row], tau, grid, d / 365.0, strikes / spot).repeat(2) for d in left]
        )
        vol = np.maximum(vol + noise_vol * rng.standard_normal(vol.size), 0.01)
        middle = black.price(spot, strike, years, vol, is_call)
        half = np.maximum(half_spread_vol * black.vega(spot, strike, years, vol), 0.01)
        parts.append(
            pd.DataFrame(
                {
                    "date": pd.Timestamp(date),
                    "expiry": pd.to_datetime(date + expiry.astype("timedelta64[D]")),
                    "strike": strike,
                    "option_type": np.where(is_call, "C", "P"),
                    "bid": np.maximum(np.round(middle - half, 2), 0.0),
                    "ask": np.round(middle + half, 2),
                    "spot": round(spot, 4),
                    "source": "simulated",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _listed(date: np.datetime64, days: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Calendar days to the expiries listed on a date."""
    since = int((date - _A_FRIDAY).astype(int))
    first = -since % 28
    left = np.arange(first, days[1] + 1, 28)
    left = left[left >= max(days[0], 1)]
    if not left.size:
        raise InputError(f"no expiry lies within {days} days; expiries are four weeks apart")
    return left


def _round_strikes(spot: float, low: float, high: float, n: int) -> npt.NDArray[np.float64]:
    """About n round strikes."""
    wanted = (high - low) * spot / (n - 1)
    unit = 10.0 ** np.floor(np.log10(wanted))
    step = unit * min((1, 2, 2.5, 5, 10), key=lambda size: abs(size * unit - wanted))
    return np.asarray(step * np.arange(np.ceil(low * spot / step), np.floor(high * spot / step) + 1))
