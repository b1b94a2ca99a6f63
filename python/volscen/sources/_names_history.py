"""Histories simulated from a market of names: what is seen of each, and all that happened."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from volscen._numbers import whole_number
from volscen.errors import InputError
from volscen.history import make_history
from volscen.history._align import align_histories
from volscen.schema import check_grid
from volscen.sources._market import DAYS_A_YEAR
from volscen.sources._market_names import NamesMarket, names_market

__all__ = ["SimulatedNames", "simulate_names"]

_FEWEST_SEEN = 60


class SimulatedNames(NamedTuple):
    """A simulated market of names."""

    histories: dict[str, xr.Dataset]
    """What is seen of each name: sparse ones begin late, or lack days."""
    aligned: xr.Dataset
    """All days of all names, with dimension ``asset``: what a forecast is judged against."""
    law: NamesMarket
    """The market they came from."""

    @property
    def sparse(self) -> list[str]:
        """Names that lack days."""
        return [name.label for name in self.law.names if name.is_sparse]


def simulate_names(
    n_days: int = 1000,
    *,
    law: NamesMarket | None = None,
    seed: int | np.random.Generator | None = None,
    start: str = "2000-01-03",
) -> SimulatedNames:
    """Simulate histories of many names under common factors, some of them short or full of gaps.

    Parameters
    ----------
    n_days : int
        Number of dates, at least 2 and enough for 60 days of every name.
    law : NamesMarket, optional
        Of thirty names, the last ten sparse, when omitted: :func:`names_market`.
    seed : int, numpy.random.Generator or None
        Source of randomness; the same seed gives the same bits.
    start : str
        First date; the dates are weekdays, without holidays.

    Returns
    -------
    SimulatedNames
        ``histories`` by label and ``aligned``, following ``volscen/history/1``, with the true state in
        ``state(date, factor)``; log returns of ``histories`` span the gaps before them. F = S and rates are zero.

    Raises
    ------
    InputError
        If the market is none, or there are too few days.

    Examples
    --------
    >>> from volscen.sources.simulate import names_market, simulate_names
    >>> names = simulate_names(400, law=names_market(4, 1), seed=1)
    >>> names.aligned.implied_vol.dims, names.sparse
    (('asset', 'date', 'tau', 'moneyness'), ['N04'])
    >>> names.histories["N01"].sizes["date"], names.histories["N04"].sizes["date"]
    (400, 80)
    """
    known = names_market() if law is None else law
    if not isinstance(known, NamesMarket):
        raise InputError(f"law must be a NamesMarket, as names_market makes it, not {known!r}")
    n_days = whole_number("n_days", n_days, least=2)
    tau, moneyness = check_grid(known.tau, "tau"), check_grid(known.moneyness, "moneyness")
    moves, noises, gaps = np.random.default_rng(seed).spawn(3)
    states = np.empty((n_days, len(known.names), len(known.factors)))
    states[0] = known.initial_state
    log_return = np.zeros((n_days, len(known.names)))
    for t in range(1, n_days):
        r, after = known.step(states[t - 1 : t], moves)
        log_return[t], states[t] = r[0], after[0]
    first = np.busday_offset(np.datetime64(start, "D"), 0, roll="forward")
    dates = np.busday_offset(first, np.arange(n_days))
    seen: dict[str, xr.Dataset] = {}
    whole: dict[str, xr.Dataset] = {}
    for i, (name, noise, gap) in enumerate(
        zip(known.names, noises.spawn(len(known.names)), gaps.spawn(len(known.names)), strict=True)
    ):
        vol = known.one(name.label).observe(states[:, i], noise)
        spot = 100 * np.exp(np.cumsum(log_return[:, i]))
        kept = np.flatnonzero((np.arange(n_days) >= int(name.listed * n_days)) & (gap.random(n_days) < name.kept))
        if name.is_sparse and kept.size < _FEWEST_SEEN:
            raise InputError(f"n_days: {n_days} leave name {name.label} {kept.size}; {_FEWEST_SEEN} are needed")
        for into, rows in ((whole, np.arange(n_days)), (seen, kept)):
            history = make_history(
                dates[rows],
                tau,
                moneyness,
                vol[rows],
                spot=spot[rows],
                title=f"SIMULATED history of implied-volatility surfaces of {name.label}",
                source=f"simulated: name {name.label} of {len(known.names)} under common factors, seed {seed}; F = S "
                "and rates are zero",
                calendar="weekdays",
                periods_per_year=DAYS_A_YEAR,
            )
            history["state"] = (
                ("date", "factor"),
                states[rows, i],
                {"long_name": "true state of the simulation", "units": "1"},
            )
            into[name.label] = history.assign_coords(factor=list(known.factors))
    if len(whole) < 2:
        raise InputError("law holds one name; simulate_market takes law.one(label)")
    aligned = align_histories(whole, join="exact")
    aligned.attrs["title"] = "SIMULATED histories of implied-volatility surfaces"
    return SimulatedNames(seen, aligned.assign_coords(factor=list(known.factors)), known)
