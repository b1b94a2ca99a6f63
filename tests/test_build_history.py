from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from chain_makers import DATE, make_chain, svi_vol
from volscen import schema
from volscen.errors import InputError
from volscen.history._build import DAY_REASONS, build_history

TAU = np.array([30, 60, 91]) / 365
MONEYNESS = np.array([0.9, 0.95, 1.0, 1.05])
N_DAYS = 6


def quotes_of(n: int = N_DAYS, **options: object) -> pd.DataFrame:
    """Chains of n weekdays: level of variance and forward move a little every day; expiries roll along."""
    tables = []
    for i, date in enumerate(pd.bdate_range(DATE, periods=n)):
        forward = 100 + i

        def vol(k, tau, level=0.02 + 0.002 * i):
            return svi_vol(k, tau, a=level)

        tables.append(
            make_chain(forward=(forward, forward, forward), rate=(0.0, 0.0, 0.0), date=date, vol=vol, **options)
        )
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def built() -> tuple[xr.Dataset, pd.DataFrame]:
    return build_history(quotes_of(), tau=TAU, moneyness=MONEYNESS, calendar="XETR", progress=False)


def test_history_holds_the_surfaces_that_made_the_prices(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, report = built
    schema.validate(history, schema=schema.HISTORY)
    for i in range(N_DAYS):
        expected = svi_vol(np.log(MONEYNESS)[None, :], TAU[:, None], a=0.02 + 0.002 * i)
        np.testing.assert_allclose(history["implied_vol"][i], expected, atol=2e-6)
    np.testing.assert_allclose(history["spot"], 100 + np.arange(N_DAYS), rtol=1e-10)
    np.testing.assert_allclose(history["log_return"][1:], np.diff(np.log(100 + np.arange(N_DAYS))), rtol=1e-8)
    np.testing.assert_allclose(history["forward"], np.repeat(100.0 + np.arange(N_DAYS), 3).reshape(-1, 3), rtol=1e-9)
    np.testing.assert_allclose(history["discount_factor"], 1.0, rtol=1e-9)
    assert history.attrs["calendar"] == "XETR"
    assert history.attrs["spot_source"] == "parity"
    assert history.attrs["days_dropped"] == 0
    assert report["status"].tolist() == ["kept"] * N_DAYS
    assert report["n_used"].tolist() == [63] * N_DAYS
    assert report["n_expiries"].tolist() == [3] * N_DAYS
    assert report["calendar_free"].all()
    assert report["butterfly_free"].all()
    assert (report["penalty"] == 0).all()
    assert report["rate"].abs().max() < 1e-8


def test_counts_of_every_day_add_up(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    quotes = quotes_of()
    quotes.loc[::7, "price"] = np.nan
    quotes.loc[3::50, "option_type"] = "?"
    quotes.loc[4, "date"] = pd.NaT
    _, report = build_history(quotes, tau=TAU, moneyness=MONEYNESS, progress=False)
    dropped = report.filter(like="dropped_").sum(axis=1)
    assert (report["n_used"] + dropped == report["n_rows"]).all()
    assert report["n_rows"].sum() + report.attrs["rows_without_date"] == len(quotes)
    assert report.attrs["rows_without_date"] == 1
    sound = ~(quotes.index % 50 == 3) & quotes["date"].notna()
    assert report["dropped_missing_price"].sum() == (quotes["price"].isna() & sound).sum()


def test_a_day_depends_on_its_own_rows_only(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    quotes = quotes_of()
    dates = np.unique(quotes["date"])
    first, _ = build_history(quotes[quotes["date"] <= dates[2]], tau=TAU, moneyness=MONEYNESS, progress=False)
    xr.testing.assert_equal(first, built[0].isel(date=slice(3)))
    changed = quotes.copy()
    changed.loc[changed["date"] > dates[2], "price"] *= 1.1
    second, _ = build_history(changed, tau=TAU, moneyness=MONEYNESS, progress=False)
    np.testing.assert_array_equal(second["implied_vol"][:3], built[0]["implied_vol"][:3])


@pytest.mark.parametrize("options", [{}, {"method": "kernel", "bandwidth": "search"}], ids=["svi", "kernel"])
def test_order_of_rows_and_number_of_workers_mean_nothing(options: dict) -> None:
    quotes = quotes_of(40)
    contradictory = quotes.sample(frac=0.2, random_state=1)  # more rows of the same contracts at other prices
    quotes = pd.concat([quotes, contradictory.assign(price=1.01 * contradictory["price"])])
    built = [
        build_history(table, tau=TAU, moneyness=MONEYNESS, num_workers=n, progress=False, **options)
        for table, n in ((quotes, 1), (quotes[::-1], 1), (quotes.sample(frac=1, random_state=0), 2))
    ]
    for history, report in built[1:]:
        xr.testing.assert_equal(history, built[0][0])
        pd.testing.assert_frame_equal(report, built[0][1])


def test_days_that_cannot_be_used_are_reported() -> None:
    quotes = quotes_of()
    dates = np.unique(quotes["date"])
    day = [quotes["date"] == date for date in dates]
    quotes = quotes[
        ~(day[1] & (quotes["option_type"] == "P"))  # one-sided
        & ~(day[2] & (quotes["expiry"] != quotes.loc[day[2], "expiry"].min()))  # one month only: 91 days is too far
        & ~(day[3] & (abs(quotes["strike"] / 103 - 1.06) > 0.08))  # strikes far from .9
    ].copy()
    quotes.loc[quotes["date"] == dates[4], "price"] = 0.0
    history, report = build_history(quotes, tau=TAU, moneyness=MONEYNESS, max_extrapolation=1, progress=False)
    assert report["status"].tolist() == ["kept", "dropped", "dropped", "dropped", "dropped", "kept"]
    for row, reason, words in [
        (1, "unusable_chain", "calls only"),
        (2, "beyond_expiries", "usable expiries"),
        (3, "beyond_strikes", "standard deviations beyond"),
        (4, "unusable_chain", "is empty"),
    ]:
        assert report["reason"].iloc[row] == reason
        assert reason in DAY_REASONS
        assert words in report["detail"].iloc[row]
        assert str(dates[row])[:10] in report["detail"].iloc[row]
    assert report["n_used"].tolist()[4] == 0
    assert report["dropped_zero_price"].iloc[4] == 126
    assert history.sizes["date"] == 2
    assert history.attrs["days_dropped"] == 4
    assert float(history["log_return"][1]) == pytest.approx(np.log(105 / 100), rel=1e-6)


def test_spot_of_the_table_goes_before_parity() -> None:
    quotes = quotes_of().assign(spot=104.0)
    late = quotes["date"] == quotes["date"].max()
    quotes.loc[late, "spot"] = np.nan
    history, report = build_history(quotes, tau=TAU, moneyness=MONEYNESS, progress=False)
    assert (history["spot"] == 104.0).all()
    assert history.attrs["spot_source"] == "quotes"
    assert "column spot holds no positive number" in report["detail"].iloc[-1]


def test_options_reach_chain_and_smoother() -> None:
    quotes = quotes_of(2)
    history, _ = build_history(
        quotes, tau=TAU, moneyness=MONEYNESS, method="kernel", bandwidth=(0.01, 0.01), min_tau=31 / 365, max_tau_ratio=4
    )
    surface = volscen.build_surface(
        volscen.Chain(quotes, quotes["date"].iloc[0], min_tau=31 / 365),
        TAU,
        MONEYNESS,
        method="kernel",
        bandwidth=(0.01, 0.01),
        max_tau_ratio=4,
    )
    np.testing.assert_array_equal(history["implied_vol"][0], surface["implied_vol"])
    np.testing.assert_array_equal(history["quality"][0], surface["quality"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": [0.2, 0.1]}, "tau must be strictly increasing"),
        ({"moneyness": [1.0, 1.0]}, "moneyness must be strictly increasing"),
        ({"method": "x"}, "unknown method"),
        ({"colour": 1}, "unknown option 'colour'; method 'svi' knows .*'min_tau'"),
        ({"min_tau": -1}, "min_tau"),
        ({"max_tau_ratio": 0}, "max_tau_ratio"),
        ({"num_workers": 0}, "num_workers must be a whole number of at least 1"),
        ({"num_workers": "x"}, "num_workers must be a whole number"),
        ({"num_workers": 1.5}, "num_workers must be a whole number"),
        ({"periods_per_year": "x"}, "periods_per_year must be a number"),
        ({"tau": "x"}, "tau must be"),
        ({"method": ["svi"]}, "unknown method"),
        ({"progress": "often"}, "progress must be"),
        ({"tau": [2.0, 3.0]}, "not one of 2 days gives a surface; most often beyond_expiries, such as: the grid"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    arguments = {"tau": TAU, "moneyness": MONEYNESS, **options}
    with pytest.raises(InputError, match=message):
        build_history(quotes_of(2), **arguments)


def test_tables_that_are_no_history() -> None:
    with pytest.raises(InputError, match="lack the column strike"):
        build_history(quotes_of(1).drop(columns="strike"), tau=TAU, moneyness=MONEYNESS)
    with pytest.raises(InputError, match="no row with a date"):
        build_history(quotes_of(1).head(0), tau=TAU, moneyness=MONEYNESS)
    mixed = quotes_of(2)
    mixed["underlying"] = np.where(mixed["date"] == mixed["date"].min(), "A", "B")
    with pytest.raises(InputError, match="hold 2 underlyings"):
        build_history(mixed, tau=TAU, moneyness=MONEYNESS)


def test_progress_is_shown_when_asked_only(capsys: pytest.CaptureFixture[str]) -> None:
    build_history(quotes_of(2), tau=TAU, moneyness=MONEYNESS)
    assert capsys.readouterr().err == ""  # no terminal here
    build_history(quotes_of(2), tau=TAU, moneyness=MONEYNESS, progress=True)
    assert "2/2" in capsys.readouterr().err


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from test_build_history import MONEYNESS, TAU, quotes_of
from volscen import build_history
quotes = quotes_of(40)
print("ready", flush=True)
while True:  # a script without the "if __name__ == '__main__'" guard, on purpose
    build_history(quotes, tau=TAU, moneyness=MONEYNESS, num_workers=2, progress=False)
    print("built", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT as a terminal does")
def test_ctrl_c_ends_the_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(Path(__file__).parent)))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline() == "built\n"
        os.killpg(process.pid, signal.SIGINT)  # a terminal signals the whole group
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert process.returncode in (-signal.SIGINT, 1, 130)
    for _ in range(50):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("worker processes outlived the interrupted script")


def test_spots_that_parity_contradicts_are_doubted() -> None:
    """Such as closes that a vendor lowered by all later dividends."""
    true = quotes_of(3).assign(spot=lambda t: 100.0 + (t["date"] - t["date"].min()).dt.days)
    grid: dict[str, Any] = {"tau": TAU, "moneyness": MONEYNESS, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_history(true, **grid)
        build_history(true.assign(spot=true["spot"] * 1.01), **grid)
    for factor, words in ((0.95, "5.0% below"), (1.05, "5.0% above")):
        with pytest.warns(UserWarning, match=f"column spot is {words} put-call parity's on the median day"):
            build_history(true.assign(spot=true["spot"] * factor), **grid)


def test_the_report_says_where_exercise_was_assumed() -> None:
    said = "taken for European, as there is no column exercise"
    for quotes, assumed in ((quotes_of(2), True), (quotes_of(2).assign(exercise="European"), False)):
        _, report = build_history(quotes, tau=TAU, moneyness=MONEYNESS, progress=False)
        assert (said in volscen.summarise_report(report)) is assumed
