"""The index of real surfaces and chains beside Cboe's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volscen
from volscen.sources import read_lean, read_spx_factors, read_table

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def close(market_data: Path) -> pd.Series:
    table = pd.read_csv(market_data / "vix" / "vix_daily_1990_2026.csv", parse_dates=["DATE"])
    return table.set_index("DATE")["CLOSE"].rename("cboe")


def test_index_of_fitted_surfaces_is_the_vix(market_data: Path, close: pd.Series) -> None:
    history = read_spx_factors(market_data / "spx_factors" / "spx_factors_1996_2018.csv")
    index = volscen.vix(history, details=True)
    both = pd.concat([index.vix.to_series().rename("ours"), close], axis=1, join="inner")
    assert len(both) > 5750
    assert both["ours"].corr(both["cboe"]) > 0.997
    moves = np.log(both).diff().dropna()
    assert moves["ours"].corr(moves["cboe"]) > 0.955
    gap = both["ours"] - both["cboe"]
    assert abs(gap.mean()) < 0.4
    assert gap.std() < 0.7
    assert float(index.beyond_grid.median()) < 0.03


def test_index_of_a_thin_chain_by_way_of_a_surface(market_data: Path, close: pd.Series) -> None:
    """A sample of the listed strikes: too few for Cboe's sum, enough for a surface."""
    for date in ("2015-12-22", "2015-12-23"):
        file = f"indexoption__usa__universes__spx__{date.replace('-', '')}.csv"
        chain = volscen.Chain(read_lean(market_data / "lean" / file)[0])
        moneyness = np.exp(np.linspace(-0.3, 0.12, 15))
        surface = volscen.build_surface(chain, np.array([24, 59]) / 365, moneyness)
        assert float(volscen.vix(surface)) == pytest.approx(close[date], abs=0.5)
        with pytest.raises(volscen.errors.InputError, match="rules='chain'"):
            volscen.vix(chain)


def test_rules_agree_on_closing_prices(market_data: Path) -> None:
    raw = pd.read_parquet(market_data / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    columns = {"option_type": "type", "price": "close", "adjusted": "adjusted_contract"}
    quotes, _ = read_table(raw[raw["date"] >= "2021-01-01"], columns=columns)
    found = []
    for date in np.unique(quotes["date"])[::10]:
        chain = volscen.Chain(quotes[quotes["date"] == date])
        found.append([float(volscen.vix(chain, rules=rules)) for rules in ("cboe", "chain")])
    cboe, own = np.array(found).T
    assert np.corrcoef(cboe, own)[0, 1] > 0.998
    assert np.abs(cboe - own).max() < 1
    assert 10 < cboe.min() < cboe.max() < 45
