"""Volatilities by tenor and delta, as terminals export them: against the smile that made them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

import volscen
from cli_runner import volscen_command
from volscen.errors import InputError
from volscen.sources import read_delta_surface

TENORS = {"1M": 1 / 12, "3M": 0.25, "1Y": 1.0}
POINTS = {"10DP": -0.1, "25DP": -0.25, "ATM": 0.5, "25DC": 0.25, "10DC": 0.1}
GRID = {"tau": list(TENORS), "moneyness": [0.96, 1.0, 1.04], "spot": "PX_LAST", "date": "Date"}


def smile(k: float, tau: float) -> float:
    return 0.2 - 0.15 * k / (1 + tau) + 0.2 * k * k


def vol_at(delta: float, tau: float) -> float:
    def off(k: float) -> float:
        sd = smile(k, tau) * np.sqrt(tau)
        return norm.cdf(-k / sd + sd / 2) - (delta if delta > 0 else 1 + delta)

    return smile(brentq(off, -2, 1.5), tau)


def table(form: str = "{tenor} {point}", unit: float = 100.0) -> pd.DataFrame:
    columns = {
        form.format(tenor=tenor, point=point): unit * vol_at(delta, tau)
        for tenor, tau in TENORS.items()
        for point, delta in POINTS.items()
    }
    days = pd.bdate_range("2024-01-01", periods=3)
    return pd.DataFrame({"Date": days, "PX_LAST": [4700.0, 4650.0, 4720.0], **columns}, index=range(3))


@pytest.mark.parametrize("form", ["{tenor} {point}", "{point}_{tenor}", "{tenor}{point}", "SPX {tenor} {point} IVOL"])
def test_the_smile_comes_back(form: str) -> None:
    history, dropped = read_delta_surface(table(form), **GRID, scale=0.01)
    assert dropped.sum() == 0
    true = [[smile(np.log(x), tau) for x in GRID["moneyness"]] for tau in TENORS.values()]
    np.testing.assert_allclose(history.implied_vol.values, np.broadcast_to(true, (3, 3, 3)), atol=3e-4)
    np.testing.assert_allclose(history.log_return.values[1:], np.log([4650 / 4700, 4720 / 4650]))
    np.testing.assert_allclose(history.spot, [4700, 4650, 4720])
    assert volscen.fit(history, "bootstrap").name == "bootstrap"


def test_semicolons_and_days_first(tmp_path) -> None:
    written = table().assign(Date=lambda t: t["Date"].dt.strftime("%d.%m.%Y"))
    written.to_csv(tmp_path / "v.csv", sep=";", decimal=",", index=False)
    signs = {"separator": ";", "decimal": ",", "date_format": "%d.%m.%Y"}
    read, _ = read_delta_surface(tmp_path / "v.csv", **GRID, scale=0.01, **signs)
    np.testing.assert_allclose(read.implied_vol, read_delta_surface(table(), **GRID, scale=0.01)[0].implied_vol)


def test_on_the_command_line(tmp_path) -> None:
    table().to_csv(tmp_path / "v.csv", index=False)
    options = ["--read", "spot=PX_LAST", "--read", "date=Date", "--read", "scale=0.01", "--calendar", "XNYS"]
    where = ["--days", "1M,3M,1Y", "--moneyness", "0.96,1,1.04", "--out", tmp_path / "h.nc"]
    build = ["history", "build", tmp_path / "v.csv", "--source", "deltas"]
    assert volscen_command(*build, *options, *where).returncode == 0
    history = volscen.read(tmp_path / "h.nc")
    np.testing.assert_allclose(history.implied_vol, read_delta_surface(table(), **GRID, scale=0.01)[0].implied_vol)
    assert history.attrs["calendar"] == "XNYS"
    for wrong, said in (
        (["--read", "a=1"], "has no option 'a'"),
        ([], "needs --days, --moneyness and --read spot="),
        ([*options, "--underlying", "SPX"], "--underlying goes with quotes only; leave it out for --source deltas"),
    ):
        done = volscen_command(*build, *wrong, *where)
        assert done.returncode == 1
        assert said in done.stderr


def test_holes_are_counted() -> None:
    holed = table()
    holed.loc[1, "1M 25DP"] = np.nan
    holed.loc[2, "PX_LAST"] = np.nan
    history, dropped = read_delta_surface(holed, **GRID, scale=0.01)
    assert dropped[dropped > 0].to_dict() == {"missing_value": 1, "no_price": 1}
    assert history.sizes["date"] == 2


def test_most_days_out_of_reach_is_said() -> None:
    wide = GRID | {"moneyness": [0.85, 1.0, 1.1]}
    some = table()
    some.loc[0, [c for c in some if c.startswith("1M")]] *= 3
    with pytest.warns(UserWarning, match=r"1 of 3 days are kept \(out_of_reach 2\).*max_extrapolation"):
        read_delta_surface(some, **wide, scale=0.01)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t, {"scale": 1.0}, "scale=0.01"),
        (lambda t: t.drop(columns=["Date", "PX_LAST"]).div(100).join(t[["Date", "PX_LAST"]]), {}, "leave scale out"),
        (lambda t: t, {"scale": 0}, "scale must be positive"),
        (lambda t: t, {"spot": "S"}, "spot='S' is no column"),
        (lambda t: t[["Date", "PX_LAST"]], {}, "no column is named by tenor and delta"),
        (lambda t: t[["Date", "PX_LAST"]].assign(**{"1M 25R": 1.0}), {}, "'1M 25R' seems to be a difference"),
        (lambda t: t.assign(**{"ATM 1M": 20.0}), {}, "'1M ATM' and 'ATM 1M' are the same"),
        (lambda t: pd.concat([t, t[["1M ATM"]]], axis=1), {}, "column '1M ATM' is there twice"),
        (lambda t: pd.concat([t, t.iloc[:1]]), {}, "2024-01-01 is there twice"),
        (lambda t: t.assign(Date="soon"), {}, "column date holds no readable date"),
    ],
)
def test_what_is_no_such_table(change, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_delta_surface(change(table()), **(GRID | {"scale": 0.01} | options))
