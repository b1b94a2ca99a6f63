"""What a newcomer types wrongly: per cent, days, confidence levels, files for datasets. None may give a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from volscen import Option, Portfolio, Underlying, VarianceSwap
from volscen._summary import hedge_summary, scenario_summary
from volscen.errors import FileFormatError, InputError


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return volscen.generate(n_scenarios=500, horizon=2, seed=1)


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return volscen.datasets.sample_history()


@pytest.mark.parametrize("measure", [volscen.risk.value_at_risk, volscen.risk.expected_shortfall])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99, [0.05, 0.975]])
def test_a_confidence_level_is_no_tail_probability(measure: Any, level: Any) -> None:
    with pytest.raises(InputError, match=r"looks like a confidence: give 0\.") as error:
        measure([-3.0, 1.0, 2.0], alpha=level)
    assert f"give {1 - float(np.max(level)):.6g} for" in str(error.value)


def test_the_mean_and_the_middle_may_still_be_asked_for() -> None:
    assert volscen.risk.expected_shortfall([-3.0, 1.0, 2.0], alpha=1.0) == pytest.approx(0.0)
    assert volscen.risk.value_at_risk([-3.0, 1.0, 2.0], alpha=0.5) == -1.0


def test_contributions_refuse_a_confidence_level(cube: xr.Dataset) -> None:
    profit = volscen.portfolio.pnl(cube, Portfolio.straddle(moneyness=1.0, tau=0.25))
    with pytest.raises(InputError, match=r"give 0\.01"):
        volscen.risk.contributions(profit, alpha=0.99)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Option("call", strike=100, tau=0.25, implied_vol=21.5),
        lambda: VarianceSwap(tau=0.25, strike_vol=21.5),
    ],
)
def test_volatilities_in_per_cent(make: Any) -> None:
    with pytest.raises(InputError, match=r"is a decimal, and 21.5 is 2150%: give 0.215"):
        make()


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"log_return": -10}, r"log_return .* takes the spot to 4.54e-05 times what it is; was -0.1 meant"),
        ({"level": 8}, r"level .* 8 is 800 vol points; was 0.08 meant"),
        ({"skew": [0.01, 4]}, r"skew .* 400 vol points"),
        ({"level": {"1M": 5, "1Y": 0.01}}, "500 vol points|vol points"),
        ({"level": 20, "relative": True}, r"2000%; was 0.2 meant"),
    ],
)
def test_shocks_in_per_cent(cube: xr.Dataset, sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        volscen.stress.shock(cube, **sizes)


def test_large_shocks_are_still_shocks(cube: xr.Dataset) -> None:
    assert volscen.stress.shock(cube, log_return=np.log(0.06), level=2.9).sizes["scenario"] == 1
    assert volscen.stress.shock(cube, level=9, relative=True).sizes["scenario"] == 1


def _quotes() -> pd.DataFrame:
    strike, call = np.repeat(np.arange(80.0, 125, 5), 2), np.tile([True, False], 9)
    return pd.DataFrame({
        "date": "2024-01-02", "expiry": "2024-06-21", "strike": strike, "option_type": np.where(call, "C", "P"),
        "price": volscen.black.price(100.0, strike, 171 / 365, 0.2, call)})  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"tau": [30, 60, 91], "moneyness": [0.9, 1]}, r"91 looks like days: divide by 365, or give .* '91D'"),
        ({"tau": [0.4], "moneyness": [90, 100, 110]}, "divide per cent by 100, strikes by the forward"),
        (
            {"tau": [0.4], "moneyness": [0.9, 1], "min_pric": 0.1},
            "unknown option 'min_pric'; .*knows .*was 'min_price' meant",
        ),
    ],
)
def test_units_and_options_of_a_history(grid: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        volscen.build_history(_quotes(), **grid)


def test_volatilities_for_prices() -> None:
    vols = _quotes().assign(price=0.2)
    with pytest.raises(InputError, match=r"volscen.black.price, .* volscen.make_history"):
        volscen.build_history(vols, tau=[0.4], moneyness=[0.9, 1])


def test_files_and_names_for_datasets_and_models(history: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"volscen.generate\(model, history\)"):
        volscen.generate(history)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"volscen.read\(path\) reads one"):
        volscen.fit("history.nc", "pca")  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match=r"name of a generator: fit it first, volscen.fit\(history, 'pca'\)"):
        volscen.generate("pca", history)
    with pytest.raises(InputError, match="to_long_table"):
        volscen.write(history, tmp_path / "history.csv")
    with pytest.raises(InputError, match=r"volscen.fit\(history, 'pca'\), on the command line --generator pca"):
        volscen.fit(history.isel(date=slice(0, 300)))
    with pytest.raises(InputError, match=r"'bootstrap'\), on the command line --generator bootstrap$"):
        volscen.fit(history.isel(date=slice(0, 60)))


def test_models_and_portfolios_say_what_they_are(history: xr.Dataset) -> None:
    model = volscen.fit(history, "bootstrap")
    assert repr(model) == (
        "<generator 'bootstrap' fitted on 2019-01-02 to 2024-10-01, 8 maturities x 10 moneyness points>"
    )
    assert repr(type(model)()) == "<generator 'bootstrap', not fitted>"
    book = Portfolio([(Option("put", strike=95, expiry="2025-06-20"), -200), (Underlying(), 2.5)], groups=["a", ""])
    assert repr(book).splitlines() == [
        "<Portfolio of 2 positions>",
        "          -200  put K=95 2025-06-20  [a]",
        "           2.5  underlying",
    ]
    assert repr(Portfolio([Underlying()] * 30)).endswith("...  10 more")


def test_a_hedge_says_what_to_trade_and_for_when(cube: xr.Dataset) -> None:
    book = Portfolio([(Option("call", moneyness=1.0, tau=0.25), 10)])
    text = hedge_summary(volscen.hedge(cube, book, [Underlying()], step=1))
    assert "as of 2024-10-01, over 1 step (1 calendar day)" in text
    assert [line.split()[2] for line in text.splitlines() if line.startswith("  underlying")] == ["sell"]
    short = Portfolio([(Option("call", moneyness=1.0, tau=0.25), -10)])
    text = hedge_summary(volscen.hedge(cube, short, [Underlying()]))
    assert "over 2 steps" in text
    assert [line.split()[2] for line in text.splitlines() if line.startswith("  underlying")] == ["buy"]


def test_a_month_at_the_edge_of_the_grid_is_shown(history: xr.Dataset) -> None:
    """1M is 30.4 days, so that 30 lie just outside."""
    months = volscen.surface.regrid(history.isel(date=slice(-60, None)), ["1M", "3M", "6M"])
    text = scenario_summary(volscen.generate(volscen.fit(months, "bootstrap"), months, n_scenarios=50, seed=1))
    assert [line.split()[:2] for line in text.splitlines() if " days " in line] == [["30", "days"], ["91", "days"]]


def test_evaluation_ends_with_the_history(history: xr.Dataset) -> None:
    first = history.date.values[-24]
    found = volscen.evaluate(["bootstrap"], history, first=first, n_scenarios=50)
    assert found.attrs["last"] == str(history.date.values[-1].astype("datetime64[D]"))
    assert found.attrs["days"] == 24


@pytest.mark.parametrize(
    ("tau", "moneyness", "words"),
    [
        ([30, 91], [0.9, 1.0], "91 looks like days"),
        ([0.1, 0.2], [90, 100], "the grid begins at 90: divide per cent by 100"),
    ],
)
def test_units_of_a_history_from_arrays(tau: list[float], moneyness: list[float], words: str) -> None:
    dates = ["2024-01-02", "2024-01-03"]
    with pytest.raises((InputError, FileFormatError), match=words):
        volscen.make_history(dates, tau, moneyness, np.full((2, 2, 2), 0.2), spot=[100.0, 101.0])
    years = volscen.make_history(dates, [5.0, 30.0], [0.5, 20.0], np.full((2, 2, 2), 0.2), spot=[100.0, 101.0])
    assert years.sizes["tau"] == 2


@pytest.mark.parametrize("strike", [1.0, 1e5])
def test_a_strike_in_another_unit_is_doubted(cube: xr.Dataset, strike: float) -> None:
    with pytest.warns(UserWarning, match=r"its strike is .* times the forward .* are both in one unit"):
        volscen.portfolio.pnl(cube, Portfolio([(Option("call", strike=strike, tau=0.25), 1)]))


def test_days_in_a_column_of_years() -> None:
    with pytest.raises(InputError, match="25 look like days"):
        Portfolio.from_table(pd.DataFrame({"type": ["call"], "quantity": [1], "strike": [100.0], "tau": [25]}))
