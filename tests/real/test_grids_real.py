"""Smoothers and grids on real quotes: AAPL with bid and ask, closing prices of SSE 50 ETF options."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from volscen import Chain, build_history, build_surface
from volscen.sources import read_lean, read_table
from volscen.surface import raster, regrid, search_bandwidth

pytestmark = pytest.mark.real

WINGS = ["10P", "25P", "ATM", "25C", "10C"]


@pytest.fixture(scope="module")
def apple(market_data) -> Chain:
    quotes, _ = read_lean(market_data / "lean" / "option__usa__daily__aapl_2014_quote_american.zip")
    return Chain(quotes[quotes["date"] == quotes["date"].min()])


def test_fits_in_spreads(apple: Chain) -> None:
    tenors = ["3W", "1M", "3M", "6M", "1Y"]
    found = {
        method: build_surface(apple, tenors, delta=WINGS, method=method, max_extrapolation=6)
        for method in ("svi", "cubic", "kernel")
    }
    inside = {method: surface.attrs["fit_share_in_spread"] for method, surface in found.items()}
    assert inside["cubic"] > 0.97
    assert inside["cubic"] > inside["svi"] > 0.6
    assert inside["kernel"] < 0.5  # one smile for all expiries
    assert found["cubic"].attrs["fit_rms_half_spreads"] < 0.4
    for surface in found.values():
        s = surface["implied_vol"].values * np.sqrt(surface["tau"].values)[:, None]
        delta = norm.cdf(-np.log(surface["moneyness"].values) / s + s / 2)
        np.testing.assert_allclose(delta, np.broadcast_to([0.9, 0.75, 0.5, 0.25, 0.1], delta.shape), atol=1e-12)
        assert surface.attrs["durrleman_g_min"] > 0
        assert surface.attrs["calendar_violations"] == 0


@pytest.fixture(scope="module")
def quotes(market_data) -> pd.DataFrame:
    raw = pd.read_parquet(market_data / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    raw = raw[(raw["date"] >= "2019-03-01") & (raw["date"] < "2019-05-01")]
    return read_table(raw, columns={"option_type": "type", "price": "close", "adjusted": "adjusted_contract"})[0]


def test_splines_follow_closing_prices_without_breaking_butterflies(quotes: pd.DataFrame) -> None:
    grid = {"tau": np.array([30, 60, 91, 122, 152]) / 365, "log_moneyness": np.linspace(-0.1, 0.1, 9)}
    reports = {}
    for method, options in (("svi", {}), ("cubic", {}), ("cubic", {"smoothing": 0})):
        history, report = build_history(quotes, method=method, num_workers=1, **grid, **options)
        reports[method if not options else "through every quote"] = report[report["status"] == "kept"]
    assert reports["cubic"]["fit_rmse"].median() < 0.6 * reports["svi"]["fit_rmse"].median()
    assert (reports["cubic"]["durrleman_g_min"] > 0).mean() > 0.9
    assert (reports["through every quote"]["durrleman_g_min"] < 0).mean() > 0.5
    for report in reports.values():
        assert report["calendar_violations"].max() == 0
        assert report["fit_share_in_spread"].isna().all()
    smiles = regrid(history, ["1M", "3M"], delta=WINGS, several="nearest")
    assert smiles.sizes["date"] == history.sizes["date"]
    assert np.isfinite(smiles["moneyness"]).all()
    picture = raster(history)
    assert picture["implied_vol"].shape == (history.sizes["date"], 64, 64)


def test_bandwidths_of_training_days(quotes: pd.DataFrame) -> None:
    days = [Chain(of_day) for _, of_day in list(quotes.groupby("date"))[:10]]
    tau, moneyness = np.array([30, 60, 91, 122, 152]) / 365, np.exp(np.linspace(-0.1, 0.1, 9))
    found = search_bandwidth(days, tau, moneyness)
    assert found.attrs["n_days"] == 10
    assert found.attrs["smallest_penalty"] <= float(found["penalty"].sel(bandwidth_tau=0.046, method="nearest")[0])
