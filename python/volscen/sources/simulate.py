"""Simulated markets with a known law, and libraries of smiles: everything here is invented, and says so.

Because the law is known, so is the best forecast (:class:`volscen.evaluation.Oracle`), against which generators can
be measured.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._numbers import whole_number
from volscen.errors import InputError
from volscen.history import make_history
from volscen.schema import check_grid
from volscen.sources._market import DAYS_A_YEAR, Market
from volscen.sources._market_models import BatesMarket, MertonMarket, SABRMarket
from volscen.sources._market_names import Name, NameMarket, NamesMarket, names_market
from volscen.sources._market_ssvi import SSVIMarket
from volscen.sources._names_history import SimulatedNames, simulate_names
from volscen.sources._simulated_quotes import simulate_quotes
from volscen.sources._smiles import simulate_smiles

__all__ = [
    "MARKETS",
    "BatesMarket",
    "Market",
    "MertonMarket",
    "Name",
    "NameMarket",
    "NamesMarket",
    "SABRMarket",
    "SSVIMarket",
    "SimulatedNames",
    "market",
    "names_market",
    "simulate_market",
    "simulate_names",
    "simulate_quotes",
    "simulate_smiles",
]

FloatArray = npt.NDArray[np.float64]


def _days(*days: int) -> tuple[float, ...]:
    return tuple(d / 365 for d in days)


_GRID_M = tuple(np.linspace(0.6, 1.4, 10).tolist())
_MONTH_TO_YEAR = _days(30, 60, 91, 122, 152, 182, 273, 365)
_NEAR_M = tuple(np.linspace(0.88, 1.08, 11).tolist())
_DAY_TO_YEAR = (1 / 252, 1 / 52, 2 / 52, 1 / 12, 1 / 6, 1 / 4, 1 / 2, 1.0)

#: A: 30 days to a year, little noise. B: one day to a year, noisy. C: B on a fine strike grid with noise large
#: enough that static arbitrage binds. The textbook models, with one factor or two, lie nearer the money.
MARKETS: dict[str, Market] = {
    "A": SSVIMarket(_MONTH_TO_YEAR, _GRID_M, 0.001, "A"),
    "B": SSVIMarket(_DAY_TO_YEAR, _GRID_M, 0.01, "B"),
    "C": SSVIMarket(_DAY_TO_YEAR, tuple(np.linspace(0.6, 1.4, 25).tolist()), 0.03, "C"),
    "heston": BatesMarket(_MONTH_TO_YEAR, _NEAR_M, 0.002, "heston"),
    "bates": BatesMarket(_MONTH_TO_YEAR, _NEAR_M, 0.002, "bates", intensity=0.8, jump_mean=-0.07, jump_deviation=0.07),
    "merton": MertonMarket(_MONTH_TO_YEAR, _NEAR_M, 0.002, "merton"),
    "sabr": SABRMarket(_MONTH_TO_YEAR, _NEAR_M, 0.002, "sabr"),
}


def market(law: str | Market) -> Market:
    """Market of a name, or the one given.

    Raises
    ------
    InputError
        If there is none of that name.

    Examples
    --------
    >>> from volscen.sources import simulate
    >>> simulate.market("B").noise
    0.01
    """
    if isinstance(law, Market):
        return law
    if not isinstance(law, str) or law not in MARKETS:
        raise InputError(f"market must be one of {', '.join(sorted(MARKETS))} or a Market, not {law!r}")
    return MARKETS[law]


def simulate_market(
    law: str | Market = "A",
    n_days: int = 1000,
    *,
    seed: int | np.random.Generator | None = None,
    start: str = "2000-01-03",
) -> xr.Dataset:
    """Simulate a history from a market with a known law.

    Parameters
    ----------
    law : str or Market
        Name of a market in :data:`MARKETS`, or a market.
    n_days : int
        Number of dates, at least 2; the first has no return.
    seed : int, numpy.random.Generator or None
        Source of randomness; the same seed gives the same bits.
    start : str
        First date; the dates are weekdays, without holidays.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/history/1``, with the true state in ``state(date, factor)``; F = S and rates
        are zero.

    Raises
    ------
    InputError
        If the market is unknown or ``n_days`` is too small.

    Examples
    --------
    >>> from volscen.sources import simulate
    >>> history = simulate.simulate_market("A", 50, seed=1)
    >>> dict(history.sizes)
    {'date': 50, 'tau': 8, 'moneyness': 10, 'factor': 3}
    """
    known = market(law)
    n_days = whole_number("n_days", n_days, least=2)
    tau, moneyness = check_grid(known.tau, "tau"), check_grid(known.moneyness, "moneyness")
    rng = np.random.default_rng(seed)
    states = np.empty((n_days, len(known.factors)))
    states[0] = known.initial_state
    log_return = np.zeros(n_days)
    for t in range(1, n_days):
        r, after = known.step(states[t - 1 : t], rng)
        log_return[t], states[t] = r[0], after[0]
    first = np.busday_offset(np.datetime64(start, "D"), 0, roll="forward")
    history = make_history(
        np.busday_offset(first, np.arange(n_days)),
        tau,
        moneyness,
        known.observe(states, rng),
        spot=100 * np.exp(np.cumsum(log_return)),
        title="SIMULATED history of implied-volatility surfaces",
        source=f"simulated: {known.description} market {known.name}, seed {seed}; F = S and rates are zero",
        calendar="weekdays",
        periods_per_year=DAYS_A_YEAR,
    )
    history["state"] = (
        ("date", "factor"),
        states,
        {"long_name": "true state of the simulation", "units": "1"},
    )
    return history.assign_coords(factor=list(known.factors))
