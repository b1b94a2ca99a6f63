from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from volscen import Chain, black, build_history, schema
from volscen.sources import read_table

pytestmark = pytest.mark.real

TAU = np.array([30, 60, 91, 122, 152]) / 365
MONEYNESS = np.exp(np.linspace(-0.1, 0.1, 9))
COLUMNS = {"option_type": "type", "price": "close", "adjusted": "adjusted_contract"}


@pytest.fixture(scope="module")
def raw(market_data: Path) -> pd.DataFrame:
    return pd.read_parquet(market_data / "sse50etf" / "sse50etf_options_2015_2022.parquet")


@pytest.fixture(scope="module")
def quotes(raw: pd.DataFrame) -> pd.DataFrame:
    clean, dropped = read_table(raw, columns=COLUMNS)
    # The file is clean already, but for the options that expire on the day.
    assert dropped[dropped > 0].to_dict() == {"expired": 3318}
    assert len(clean) == 239_515 - 3318
    return clean


@pytest.fixture(scope="module")
def built(quotes: pd.DataFrame) -> tuple[xr.Dataset, pd.DataFrame]:
    return build_history(quotes, tau=TAU, moneyness=MONEYNESS, calendar="XSHG", source="SSE 50 ETF options")


def test_volatilities_equal_the_files_where_the_forward_is_the_files(raw: pd.DataFrame) -> None:
    usable = raw[raw["use_for_surface"]]
    vol, status = black.implied_vol(
        usable["close"], usable["forward"], usable["strike"], usable["tau_years"], usable["type"] == "C",
        usable["discount_factor"],
    )  # fmt: skip
    assert np.all(status == 0)
    np.testing.assert_allclose(vol, usable["iv"], atol=1e-6)


def test_forwards_and_volatilities_agree_with_the_file(quotes: pd.DataFrame) -> None:
    """The file's forwards, discount factors and volatilities were computed elsewhere, with another parity fit."""
    forwards, vols = [], []
    for date in np.unique(quotes["date"])[::40]:
        rows = quotes[quotes["date"] == date]
        chain = Chain(rows)
        theirs = rows.groupby("expiry")[["forward", "discount_factor"]].first().add_suffix("_file")
        forwards.append(chain.forwards.set_index("expiry").join(theirs))
        key = ["expiry", "strike", "option_type"]
        vols.append(chain.quotes.merge(rows[[*key, "iv"]], on=key))
    table, used = pd.concat(forwards), pd.concat(vols)
    table = table[table["tau"] >= 5 / 365]
    gap = np.log(table["forward"] / table["forward_file"]).abs()
    assert gap.median() < 2e-4
    assert gap.quantile(0.95) < 15e-4
    assert (np.log(table["discount_factor"] / table["discount_factor_file"]).abs()).median() < 2e-3
    difference = (used["implied_vol"] - used["iv"]).abs()
    assert difference.median() < 5e-4
    assert difference.quantile(0.9) < 25e-4


def test_days_kept_and_dropped(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, report = built
    schema.validate(history, schema=schema.HISTORY)
    assert len(report) == 1922
    assert (report["status"] == "kept").sum() >= 1915
    dropped = report[report["status"] == "dropped"]
    assert set(dropped["reason"]) <= {"beyond_strikes", "beyond_expiries"}
    assert (report["n_used"] + report.filter(like="dropped_").sum(axis=1) == report["n_rows"]).all()
    assert report["n_rows"].sum() == 239_515 - 3318


def test_surfaces_fit_the_quotes(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    _, report = built
    kept = report[report["status"] == "kept"]
    assert kept["fit_rmse"].median() < 0.003
    assert kept["fit_rmse"].quantile(0.95) < 0.0125


def test_surfaces_are_free_of_arbitrage(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    _, report = built
    kept = report[report["status"] == "kept"]
    assert kept["calendar_free"].all()
    assert kept["butterfly_free"].mean() >= 0.999
    assert kept["penalty"].mean() < 1e-6


def test_surfaces_move_like_volatilities(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, _ = built
    vol = history["implied_vol"].values
    assert 0.06 < vol.min() < vol.max() < 0.9
    changes = np.diff(np.log(vol), axis=0)
    assert np.all(changes.std(axis=0) < 0.08)
    at_the_money = changes[:, 1, 4]
    assert 0.02 < at_the_money.std() < 0.07
    # Two expiries next to each other tell nearly the same story: noise is small against the common move.
    assert np.corrcoef(at_the_money, changes[:, 2, 4])[0, 1] > 0.8
    returns = history["log_return"].values[1:]
    assert 0.17 < returns.std() * np.sqrt(252) < 0.28
