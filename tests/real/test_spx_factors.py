from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from volscen import arbitrage, schema
from volscen.sources import read_spx_factors

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def history(market_data: Path) -> xr.Dataset:
    return read_spx_factors(market_data / "spx_factors" / "spx_factors_1996_2018.csv")


def test_every_day_becomes_a_surface(history: xr.Dataset) -> None:
    schema.validate(history, schema=schema.HISTORY)
    assert dict(history.sizes) == {"date": 5786, "tau": 8, "moneyness": 10}
    assert str(history["date"].values[0])[:10] == "1996-01-05"
    assert str(history["date"].values[-1])[:10] == "2018-12-31"
    assert 0.03 < float(history["implied_vol"].min()) < float(history["implied_vol"].max()) < 2.5


def test_monthly_volatility_moves_with_the_vix(history: xr.Dataset, market_data: Path) -> None:
    """The VIX is computed by Cboe from other quotes and another formula."""
    file = market_data / "vix" / "vix_daily_1990_2026.csv"
    vix = pd.read_csv(file, parse_dates=["DATE"]).set_index("DATE")["CLOSE"] / 100
    at_the_money = history["implied_vol"].sel(moneyness=1.0).isel(tau=0).to_series()
    both = pd.concat([at_the_money.rename("atm"), vix.rename("vix")], axis=1, join="inner")
    assert len(both) > 5750
    assert both["atm"].corr(both["vix"]) > 0.99
    changes = np.log(both).diff().dropna()
    assert changes["atm"].corr(changes["vix"]) > 0.95
    assert both["vix"].mean() - both["atm"].mean() == pytest.approx(0.015, abs=0.01)  # the VIX weighs the put wing


def test_returns_are_the_index_s(history: xr.Dataset) -> None:
    returns = history["log_return"].values[1:]
    assert np.std(returns) * np.sqrt(252) == pytest.approx(0.19, abs=0.015)
    day = history.sel(date="2008-10-15")
    assert float(day["log_return"]) == pytest.approx(np.log(907.84 / 998.01), abs=1e-6)
    changes = np.diff(np.log(history["implied_vol"].sel(moneyness=1.0).isel(tau=0).values))
    assert np.corrcoef(returns, changes)[0, 1] < -0.7


def test_surfaces_are_nearly_free_of_arbitrage(history: xr.Dataset) -> None:
    penalty = arbitrage.penalty(history["implied_vol"].values, history["tau"].values, history["moneyness"].values)
    assert np.mean(penalty > 0) < 0.002
    assert penalty.max() < 1e-3
