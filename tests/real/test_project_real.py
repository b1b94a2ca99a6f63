"""Projection of real surfaces and of scenarios from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volscen
from volscen.sources import read_table

pytestmark = pytest.mark.real

TAU = np.array([30, 60, 91, 122, 152]) / 365
MONEYNESS = np.exp(np.linspace(-0.1, 0.1, 9))
COUNTS = ["calendar_violations", "call_spread_violations", "butterfly_violations", "durrleman_violations"]


@pytest.fixture(scope="module")
def quotes(market_data: Path) -> pd.DataFrame:
    raw = pd.read_parquet(market_data / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    columns = {"option_type": "type", "price": "close", "adjusted": "adjusted_contract"}
    return read_table(raw, columns=columns)[0]


def test_histories(quotes: pd.DataFrame) -> None:
    """Slices without butterfly arbitrage stay bit for bit; a kernel smoother's surfaces need small changes."""
    for method, changed in (("svi", range(1)), ("kernel", range(1, 9))):
        days = quotes[quotes["date"] < "2018-01-01"]
        history, _ = volscen.build_history(days, tau=TAU, moneyness=MONEYNESS, method=method)
        out = volscen.project_arbitrage(history, durrleman=True)
        assert int((out.projection_status > 0).sum()) in changed
        assert float(out.projection_change_max.max()) < 0.1
        assert float(out.durrleman_g_min.min()) >= 2e-4
        found = volscen.surface.diagnose(out, cells=False)
        assert sum(int(found[name].sum()) for name in COUNTS) == 0


def test_scenarios(quotes: pd.DataFrame) -> None:
    days = quotes[quotes["date"] >= "2019-01-01"]
    history, _ = volscen.build_history(days, tau=TAU, moneyness=MONEYNESS)
    model = volscen.fit(history.sel(date=slice(None, "2020-12-31")), "fhs")
    cube = volscen.generate(model, history, as_of=["2022-03-15", "2022-10-31"], n_scenarios=500, seed=1)
    before = volscen.surface.diagnose(cube, cells=False)
    out = volscen.project_arbitrage(cube, durrleman=True)
    after = volscen.surface.diagnose(out, cells=False)
    assert all(int(before[name].sum()) > 20 for name in COUNTS)
    assert sum(int(after[name].sum()) for name in COUNTS) == 0
    changed = out.projection_status.values > 0
    np.testing.assert_array_equal(out.implied_vol.values[~changed], cube.implied_vol.values[~changed])
    assert np.median(out.projection_change_max.values[changed]) < 2
    volscen.validate(out)
