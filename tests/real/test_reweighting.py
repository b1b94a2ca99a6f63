"""Weights and views on scenarios of S&P 500 surfaces."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen import priors, views
from volscen.errors import ScenarioWarning
from volscen.sources import read_spx_factors

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def history(market_data: Path) -> xr.Dataset:
    return read_spx_factors(market_data / "spx_factors" / "spx_factors_1996_2018.csv")


@pytest.mark.parametrize("day", ["2008-10-15", "2012-06-15", "2018-02-06"])
def test_weights_lower_the_penalty_of_bearing_days(history: xr.Dataset, day: str) -> None:
    past = history.sel(date=slice(None, day))
    model = volscen.fit(past, "fhs")
    # In the storm of 2008 unweighted paths leave all that was known.
    wild = pytest.warns(ScenarioWarning, match="above twice the highest known") if day < "2009" else nullcontext()
    with wild:
        cube = volscen.generate(model, past, n_scenarios=4000, horizon=5, seed=1, reweight=None)
    penalty = views.arbitrage_penalty().values(cube)
    assert penalty.max() > 0
    weighted = volscen.reweight(cube)
    assert weighted.weight.values @ penalty < penalty.mean()
    assert weighted.attrs["ess_fraction"] >= 0.5 - 1e-9
    level = views.atm_vol(30 / 365)
    now = float(np.interp(30 / 365, cube.tau, cube.implied_vol0.sel(moneyness=1, method="nearest")))
    belief = [
        views.mean_penalty(at_most=float(weighted.weight.values @ penalty)),
        views.mean(level, at_least=float(level.values(cube).mean()) + 0.02 * now),
        views.correlation(views.total_log_return(), level, at_most=-0.6),
    ]
    pooled = volscen.entropy_pool(cube, belief, ess_floor=0.02)
    assert views.compare(cube, pooled, belief).met.all()


def test_days_like_today_are_as_wild_as_today(history: xr.Dataset) -> None:
    spread = {}
    for day in ("2008-11-20", "2017-10-05"):
        past = history.sel(date=slice(None, day))
        cube = volscen.generate(volscen.fit(past, "bootstrap"), past, n_scenarios=4000, seed=1, reweight=None)
        weight = priors.similarity(priors.source_dates(cube, past), past, bandwidth=0.5).values
        x = cube.log_return.values[:, 0]
        spread[day] = np.sqrt(weight @ x**2) / np.sqrt(np.mean(x**2))
    assert spread["2008-11-20"] > 1.3
    assert spread["2017-10-05"] < 0.8
