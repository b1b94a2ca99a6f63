"""The verb repair: every form of input, what it promises, and what it must refuse."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

import volscen
from chain_makers import make_chain
from repair_makers import TAU, K, simulated
from volscen import Chain, repair
from volscen._repair._free import project_surfaces
from volscen._repair._result import FLAGS
from volscen.errors import FileFormatError, InputError

M = np.exp(K)
SMALL_TAU, SMALL_M = [0.1, 0.25, 0.5, 1.0], [0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2]


@pytest.fixture(scope="module")
def quotes():
    """True vols, quotes and errors of forty surfaces: half dense, half sparse without one wing."""
    dense, sparse = simulated(20, 0.5, seed=11), simulated(20, 0.2, seed=12, wing=5)
    return tuple(np.concatenate(pair) for pair in zip(dense, sparse, strict=True))


@pytest.fixture(scope="module")
def whole(quotes):
    return repair(quotes[1], tau=TAU, moneyness=M)


def rmse(found, truth, quoted):
    return np.sqrt(np.nanmean(np.where(np.isnan(quoted), found - truth, np.nan) ** 2, axis=(1, 2)))


def violations(vol, tau, moneyness):
    """Largest breach of calendar order, Durrleman's g below 2e-4, and convexity of calls: from textbook formulas."""
    k, w = np.log(moneyness), vol**2 * np.asarray(tau)[:, None]
    h0, h1 = np.diff(k)[:-1], np.diff(k)[1:]
    left, right = (w[..., 1:-1] - w[..., :-2]) / h0, (w[..., 2:] - w[..., 1:-1]) / h1
    first, second = (h1 * left + h0 * right) / (h0 + h1), 2 * (right - left) / (h0 + h1)
    mid, at = w[..., 1:-1], k[1:-1]
    g = (1 - at * first / (2 * mid)) ** 2 - first**2 / 4 * (1 / mid + 0.25) + second / 2
    s = np.sqrt(w)
    # Out of the money: puts below the forward, calls above; their second differences are those of calls but at 1.
    d1 = -k / s + s / 2
    call, put = norm.cdf(d1) - moneyness * norm.cdf(d1 - s), moneyness * norm.cdf(s - d1) - norm.cdf(-d1)
    bend = np.diff(np.diff(np.where(np.asarray(moneyness) >= 1, call, put + 1 - moneyness)) / np.diff(moneyness))
    return max(0, -np.diff(w, axis=-2).min()), max(0, 2e-4 - g.min()), max(0, -bend.min())


def test_repaired_surfaces_are_close_to_the_truth(quotes, whole):
    truth, quoted, _ = quotes
    error = rmse(whole.implied_vol.values, truth, quoted)
    assert error[:20].mean() < 0.0035
    assert error[20:].mean() < 0.0095
    for method in ("linear", "svi", "essvi"):
        other = repair(quoted, tau=TAU, moneyness=M, method=method, free="none")
        assert rmse(other.implied_vol.values, truth, quoted).mean() > 1.2 * error.mean()


def test_no_violation_is_left(whole):
    calendar, g, convexity = violations(whole.implied_vol.values, TAU, M)
    assert calendar == 0
    assert g == 0
    assert convexity < 1e-12
    assert np.all(whole.durrleman_g_min >= 2e-4)
    assert set(np.unique(whole.projection_status)) <= {0, 1, 2}


def test_intervals_hold_what_they_say(quotes, whole):
    truth, quoted, _ = quotes
    missing = np.isnan(quoted)
    for level, room in ((0.8, 0.05), (0.95, 0.03)):
        ends = whole.sel(level=level)
        inside = (ends.lower.values <= truth) & (truth <= ends.upper.values)
        assert inside[missing].mean() == pytest.approx(level, abs=room)
    assert np.all(whole.lower.sel(level=0.95) < whole.lower.sel(level=0.8))
    assert np.all(whole.lower < whole.implied_vol)
    assert np.all(whole.implied_vol < whole.upper)


def test_the_dataset_follows_its_schema(whole, tmp_path):
    assert volscen.validate(whole) is whole
    np.testing.assert_allclose(whole.total_variance, whole.implied_vol**2 * whole.tau, rtol=1e-14)
    assert all(whole[name].dtype == np.float64 for name in ("implied_vol", "total_variance", "lower"))
    back = volscen.read(volscen.write(whole, tmp_path / "whole.nc"))
    xr.testing.assert_equal(back, whole)
    assert whole.attrs["method"] == "default"
    assert whole.attrs["method_version"] == 1
    with pytest.raises(FileFormatError, match="misfit is missing"):
        volscen.validate(whole.drop_vars("misfit"))
    with pytest.raises(FileFormatError, match="lower has dimensions"):
        volscen.validate(whole.assign(lower=whole.lower.isel(level=0)))


def test_stale_quotes_stand_out(quotes):
    quoted = quotes[1]
    rng = np.random.default_rng(5)
    stale = ~np.isnan(quoted) & (rng.random(quoted.shape) < 0.08)
    wrong = quoted + stale * rng.choice([-1, 1], quoted.shape) * rng.uniform(0.005, 0.011, quoted.shape)
    score = repair(wrong, tau=TAU, moneyness=M, free="none").stale_score.values
    seen = ~np.isnan(quoted)
    assert np.isnan(score[~seen]).all()
    assert roc_auc_score(stale[seen], score[seen]) > 0.76


def test_a_wild_quote_is_found_and_bends_little(quotes):
    _, quoted, _ = quotes
    wild = quoted[:1].copy()
    row, column = np.argwhere(~np.isnan(wild[0]))[20]
    wild[0, row, column] *= 1.5
    found, trusting = (repair(wild, tau=TAU, moneyness=M, robust=r, free="none") for r in (True, False))
    clean = repair(quoted[:1], tau=TAU, moneyness=M, free="none")
    assert int(np.nanargmax(found.stale_score.values[0])) == row * K.size + column
    assert int(found.surface_flag[0]) & FLAGS["mistaken_quotes"]
    assert not int(clean.surface_flag[0]) & FLAGS["mistaken_quotes"]
    moved = [np.abs(x.implied_vol - clean.implied_vol).max() for x in (found, trusting)]
    assert moved[0] < 0.2 * moved[1]


def test_all_forms_of_input_agree(quotes):
    quoted = quotes[1][25]
    noise = 0.002
    array = xr.DataArray(quoted, dims=("tau", "moneyness"), coords={"tau": TAU, "moneyness": M})
    row, column = np.nonzero(~np.isnan(quoted))
    table = pd.DataFrame({"tau": TAU[row], "moneyness": M[column], "implied_vol": quoted[row, column], "noise": noise})
    one = repair(quoted, tau=TAU, moneyness=M, noise=noise)
    for other in (
        repair(array, noise=noise),
        repair(array.to_dataset(name="implied_vol").transpose("moneyness", "tau"), noise=noise),
        repair(quoted[None], tau=TAU, moneyness=M, noise=np.full((1, 1, 1), noise)).isel(surface=0),
        repair(table, tau=TAU, moneyness=M, noise=table["noise"]),
        repair(table.sample(frac=1, random_state=1), tau=TAU, moneyness=M, noise=noise),
        repair(table.assign(log_moneyness=np.log(table.moneyness)), tau=TAU, moneyness=M, noise=noise),
        repair(table.assign(date="2024-01-02"), tau=TAU, moneyness=M, noise=noise).isel(date=0),
    ):
        np.testing.assert_allclose(other.implied_vol, one.implied_vol, rtol=1e-6)
        np.testing.assert_allclose(other.upper, one.upper, rtol=1e-5)
        assert int(other.n_quotes) == row.size
    at = repair(table, tau=TAU, moneyness=M, noise=noise)
    np.testing.assert_allclose(at.stale_score, one.stale_score.values[row, column], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(at.quote_tau, TAU[row])
    other_grid = repair(array, tau=SMALL_TAU, moneyness=SMALL_M, noise=noise)
    np.testing.assert_allclose(other_grid.stale_score, one.stale_score, rtol=1e-4, atol=1e-4)
    assert other_grid.stale_score.dims == ("quote_tau", "quote_moneyness")


def test_surfaces_do_not_depend_on_each_other_or_on_workers(quotes, whole):
    quoted = quotes[1]
    again = repair(quoted, tau=TAU, moneyness=M, num_workers=2)
    xr.testing.assert_equal(again, whole)
    few = repair(quoted[30:34], tau=TAU, moneyness=M)
    xr.testing.assert_equal(few, whole.isel(surface=slice(30, 34)))


def test_a_history_keeps_its_dates(quotes):
    dates = pd.date_range("2024-01-02", periods=3)
    ds = xr.Dataset(
        {"implied_vol": (("date", "tau", "moneyness"), quotes[1][:3]), "half_spread_vol": ((), 0.002)},
        coords={"date": dates, "tau": TAU, "moneyness": M},
    )
    found = repair(ds)
    assert found.implied_vol.dims == ("date", "tau", "moneyness")
    np.testing.assert_array_equal(found.date, dates)
    volscen.validate(found)
    # An error anywhere within the spread, and five basis points that no spread excludes.
    stated = repair(ds.implied_vol, noise=np.hypot(0.002 / np.sqrt(3), 5e-4))
    np.testing.assert_allclose(stated.implied_vol, found.implied_vol, rtol=1e-12)
    wide = repair(ds.assign(half_spread_vol=0.02))
    assert float(wide.implied_vol_sd.mean()) > 1.5 * float(found.implied_vol_sd.mean())
    bid_ask = ds.drop_vars("half_spread_vol").assign(bid_vol=ds.implied_vol - 0.002, ask_vol=ds.implied_vol + 0.002)
    np.testing.assert_allclose(repair(bid_ask).implied_vol, found.implied_vol, rtol=1e-6)


def test_a_chain_and_its_smoother():
    chain = Chain(make_chain(spread=0.02))
    grid = {"tau": [30 / 365, 0.2, 0.4], "moneyness": [0.85, 0.95, 1.0, 1.05, 1.15]}
    found = repair(chain, **grid)
    k, tau = np.log(grid["moneyness"]), np.array(grid["tau"])[:, None]
    truth = np.sqrt(0.02 + 0.1 * (-0.5 * (k - 0.05) + np.hypot(k - 0.05, 0.2))) + 0 * tau
    assert np.abs(found.implied_vol - truth).max() < 0.003
    assert found.sizes["quote"] == len(chain.quotes)
    surface = volscen.build_surface(chain, **grid, method="repair")
    assert np.abs(surface.implied_vol.values - truth).max() < 0.003
    assert surface.attrs["durrleman_g_min"] > -1e-3
    assert surface.attrs["calendar_violations"] == 0
    assert 0 < surface.attrs["repair_misfit"] < 2
    with pytest.raises(InputError, match="unknown option 'weights'"):
        volscen.build_surface(chain, **grid, method="repair", weights="vega")


def test_a_history_by_the_smoother():
    quotes = pd.concat([make_chain(date=pd.Timestamp(day)) for day in ("2024-01-02", "2024-01-03")])
    history, report = volscen.build_history(
        quotes, tau=[0.1, 0.25, 0.45], moneyness=[0.9, 1.0, 1.1], method="repair", max_tau_ratio=2
    )
    assert (report.status == "kept").all()
    assert {"repair_misfit", "repair_flag"} <= set(report)
    assert np.all(history.arbitrage_penalty == 0)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 25), spread=st.floats(0.0, 1.0), level=st.floats(0.02, 2.0))
def test_whatever_the_quotes_the_answer_is_a_surface(seed, n, spread, level):
    rng = np.random.default_rng(seed)
    vol = np.full(28, np.nan)
    vol[rng.choice(28, n, replace=False)] = np.clip(level * np.exp(spread * rng.standard_normal(n)), 0.001, 5)
    found = repair(vol.reshape(4, 7), tau=SMALL_TAU, moneyness=SMALL_M)
    volscen.validate(found)
    calendar, g, convexity = violations(found.implied_vol.values, SMALL_TAU, np.array(SMALL_M))
    assert (calendar, g) == (0, 0)
    assert convexity < 1e-12
    assert np.all((found.lower < found.implied_vol) & (found.implied_vol < found.upper))
    assert bool(int(found.surface_flag) & FLAGS["few_quotes"]) >= (n < 5)


def test_one_quote_gives_a_wide_and_flagged_answer():
    vol = np.full((4, 7), np.nan)
    vol[1, 3] = 0.25
    found = repair(vol, tau=SMALL_TAU, moneyness=SMALL_M)
    assert int(found.surface_flag) & FLAGS["few_quotes"]
    assert float(found.implied_vol[1, 3]) == pytest.approx(0.25, abs=0.01)
    width = (found.upper - found.lower).sel(level=0.95)
    assert float(width[1, 3]) < 0.03
    assert float(width[3, 0]) > 0.08
    assert found.quality.values[1, 3] == 0
    assert np.count_nonzero(found.quality == 2) == 27


def test_one_maturity_tells_little_of_the_others():
    vol = np.full((4, 7), np.nan)
    vol[1] = 0.2
    found = repair(vol, tau=SMALL_TAU, moneyness=SMALL_M)
    assert int(found.surface_flag) & FLAGS["few_quotes"]
    sd = found.implied_vol_sd.values
    assert sd[1].max() < 0.004
    assert sd[3].min() > 3 * sd[1].max()


def test_quotes_that_contradict_each_other_are_flagged():
    table = pd.DataFrame({"tau": 0.5, "moneyness": [0.9, 1.0, 1.0, 1.1], "implied_vol": [0.25, 0.2, 0.6, 0.19]})
    found = repair(table, tau=SMALL_TAU, moneyness=SMALL_M)
    flag = int(found.surface_flag)
    assert flag & (FLAGS["mistaken_quotes"] | FLAGS["out_of_distribution"])
    assert float(found.stale_score.max()) > 6
    same = repair(pd.concat([table.drop(index=2)] * 4), tau=SMALL_TAU, moneyness=SMALL_M)
    once = repair(table.drop(index=2), tau=SMALL_TAU, moneyness=SMALL_M)
    assert np.all(same.implied_vol_sd.values[2] < once.implied_vol_sd.values[2])


def test_beyond_the_library_answers_are_flagged_and_wide():
    vol = np.full((3, 5), np.nan)
    vol[1] = [0.3, 0.25, 0.2, 0.18, 0.17]
    found = repair(vol, tau=[2 / 365, 0.5, 12.0], moneyness=[0.6, 0.9, 1.0, 1.1, 1.4])
    assert int(found.surface_flag) & FLAGS["out_of_range"]
    assert found.out_of_range.values[2].all()
    assert not found.out_of_range.values[1].any()
    relative = (found.implied_vol_sd / found.implied_vol).values
    assert relative[2].min() > 0.5
    assert relative[1].max() < 0.05


def test_levels_beyond_the_library_are_scaled():
    truth, quoted, _ = simulated(4, 0.5, seed=21)
    factor = 2.0**2.5
    noise = 0.002
    low = repair(quoted, tau=TAU, moneyness=M, noise=noise)
    # Strikes scale with the vols: the library sees the very same surface where the power of two is undone exactly.
    level = np.exp(np.nanmedian(np.log(quoted[:, :, 8]), axis=1))
    high = repair(quoted * factor, tau=TAU, moneyness=M**factor, noise=noise * factor, free="none")
    flagged = (high.surface_flag.values & FLAGS["rescaled"]) > 0
    np.testing.assert_array_equal(flagged, level * factor > 0.8)
    assert flagged.any()
    assert np.abs(high.implied_vol.values / factor - low.implied_vol.values)[flagged].max() < 0.02
    calm = repair(quoted[:1] / 8, tau=TAU, moneyness=M ** (1 / 8), noise=noise / 8)
    assert int(calm.surface_flag[0]) & FLAGS["rescaled"]
    assert rmse(8 * calm.implied_vol.values, truth[:1], quoted[:1])[0] < 0.02


BAD = np.full((4, 7), np.nan)
BAD[0, :3] = 0.2


def with_value(value):
    vol = BAD.copy()
    vol[2, 4] = value
    return vol


def quote(**columns):
    return pd.DataFrame({"tau": [0.1], "moneyness": [1.0], "implied_vol": [0.2]}).assign(**columns)


def on_grid(vol):
    return xr.DataArray(vol, dims=("tau", "moneyness"), coords={"tau": SMALL_TAU, "moneyness": SMALL_M})


def test_a_mask_is_no_quote():
    holes = np.where(np.arange(28).reshape(4, 7) % 3 == 0, np.nan, BAD)
    masked = np.ma.masked_array(np.nan_to_num(holes, nan=0.9), mask=np.isnan(holes))
    found, expected = (repair(vol, tau=SMALL_TAU, moneyness=SMALL_M) for vol in (masked, holes))
    assert found.equals(expected)


@pytest.mark.parametrize(
    "dates",
    [
        [20240102, 20240103],
        ["20240102", "20240103"],
        np.array([20240102, 20240103], dtype=object),
        pd.to_datetime(["2024-01-02", "2024-01-03"]).tz_localize("Asia/Tokyo"),
    ],
)
def test_dates_as_numbers_and_in_time_zones(dates):
    table = pd.concat([quote(), quote()], ignore_index=True).assign(date=dates)
    found = repair(table, tau=SMALL_TAU, moneyness=SMALL_M, free="none")
    assert found.date.values.astype("datetime64[m]").tolist() == [
        pd.Timestamp("2024-01-02").to_pydatetime(),
        pd.Timestamp("2024-01-03").to_pydatetime(),
    ]


def test_times_to_expiry_as_tenors():
    by_name = repair(quote(tau="3M"), tau=["1M", "6M", "1Y"], moneyness=SMALL_M, free="none")
    assert by_name.equals(repair(quote(tau=0.25), tau=[1 / 12, 0.5, 1.0], moneyness=SMALL_M, free="none"))


def test_a_repaired_history_is_fitted_once_put_into_its_history():
    history = volscen.datasets.sample_history().isel(date=slice(0, 60))
    holes = history["implied_vol"].copy()
    holes[3, 0, 0] = np.nan
    whole = repair(history.assign(implied_vol=holes), free="none")
    with pytest.raises(FileFormatError, match=r"history\.assign\(implied_vol=whole\.implied_vol\)"):
        volscen.fit(whole, "bootstrap")
    assert volscen.validate(history.assign(implied_vol=whole.implied_vol)).sizes["date"] == 60


@pytest.mark.parametrize(
    ("observed", "options", "message"),
    [
        (np.full((4, 7), np.nan), {}, "no quote at all"),
        (np.stack([BAD, np.full((4, 7), np.nan)]), {}, "1 of 2 surfaces, the first number 1"),
        (with_value(-0.2), {}, "the first -0.2 \\(surface 0, point 18"),
        (with_value(0.0), {}, "decimals of 0.001 to 5"),
        (with_value(20.0), {}, "0.2 is 20%"),
        (with_value(np.inf), {}, "decimals"),
        (BAD[:3], {}, "must end in axes"),
        (BAD, {"tau": [1, 0.5, 2, 3]}, "strictly increasing"),
        (BAD, {"tau": [30, 60, 90, 120]}, "120 looks like days"),
        (BAD, {"moneyness": None}, "needs tau and moneyness"),
        (BAD, {"noise": -0.1}, "noise must be positive"),
        (BAD, {"noise": np.ones(3)}, "does not fit"),
        (BAD, {"levels": 0.999}, "probabilities from 0.5 to 0.99"),
        (BAD, {"levels": [0.95, 0.8]}, "must increase"),
        (BAD, {"levels": "most"}, "levels must be probabilities"),
        (BAD, {"method": "magic"}, "unknown method 'magic'; there are analogues"),
        (BAD, {"free": "lunch"}, "free must be one of"),
        (BAD, {"robust": "yes"}, "robust must be True or False"),
        (BAD, {"num_workers": 0}, "num_workers must be a whole number"),
        (BAD[:, :2], {"moneyness": [0.9, 1.0]}, "at least 3"),
        (pd.DataFrame({"tau": [0.1], "implied_vol": [0.2]}), {}, "lacks moneyness or log_moneyness"),
        (pd.DataFrame({"tau": [], "moneyness": [], "implied_vol": []}), {}, "holds no quote"),
        (pd.DataFrame({"tau": [0.1], "moneyness": [1.0], "implied_vol": [np.nan]}), {}, "NaN or infinite"),
        (pd.DataFrame({"tau": [-0.1], "moneyness": [1.0], "implied_vol": [0.2]}), {}, "tau of the table"),
        (pd.DataFrame({"tau": [0.1], "moneyness": [-1.0], "implied_vol": [0.2]}), {}, "positive numbers"),
        (pd.DataFrame({"tau": [0.1], "moneyness": ["x"], "implied_vol": [0.2]}), {}, "must hold numbers"),
        (
            pd.DataFrame({"tau": [0.1], "moneyness": [1.0], "implied_vol": [0.2], "bid_vol": [0.3], "ask_vol": [0.1]}),
            {},
            "bid lies above its ask",
        ),
        (xr.Dataset({"vol": 1.0}), {}, "no variable implied_vol"),
        (quote(date=[17]), {}, "column date must hold dates"),
        (quote(date=[20241340]), {}, "column date must hold dates"),
        (quote(date=[True]), {}, "column date must hold dates"),
        (quote(tau="soon"), {}, "column tau must be numbers of years, or tenors"),
        (quote(bid_vol=[0.19]), {}, "one of bid_vol and ask_vol"),
        (quote(half_spread_vol=[np.nan]), {}, "half_spread_vol holds NaN"),
        (quote(log_moneyness=[0.1]), {}, "contradict each other"),
        (quote(moneyness=100.0), {}, "not 100; are these strikes or per cent"),
        (quote(moneyness=[0.01]), {}, "not 0.01; are these strikes or per cent"),
        (BAD, {"moneyness": 100 * np.array(SMALL_M)}, "divide per cent by 100"),
        (BAD, {"noise": 7.0}, "less than 5"),
        (BAD, {"noise": np.ma.masked_greater([[0.1]], 0.01)}, "noise is a masked array"),
        (on_grid(BAD), {"noise": xr.DataArray([0.1], dims="expiry")}, "noise has the dimension expiry"),
        (on_grid(BAD), {"noise": on_grid(BAD).assign_coords(tau=[1, 2, 3, 4])}, "noise and the volatilities lie at"),
        (on_grid(BAD).to_dataset(name="implied_vol").assign(ask_vol=0.3), {}, "one of bid_vol and ask_vol"),
        (on_grid(BAD).to_dataset(name="implied_vol").assign(half_spread_vol=np.nan), {}, "half_spread_vol holds NaN"),
        (xr.DataArray(BAD, dims=("tau", "strike")), {}, "lacks the dimension and coordinate"),
    ],
)
def test_bad_input_is_refused(observed, options, message):
    with pytest.raises(InputError, match=message):
        repair(observed, **{"tau": SMALL_TAU, "moneyness": SMALL_M, **options})


def test_without_projection_and_with_prices_alone(quotes):
    quoted = quotes[1][:2]
    raw = repair(quoted, tau=TAU, moneyness=M, free="none")
    assert "projection_status" not in raw
    assert raw.attrs["projected"] == 0
    prices = repair(quoted, tau=TAU, moneyness=M, free="prices")
    calendar, _, convexity = violations(prices.implied_vol.values, TAU, M)
    assert calendar == 0
    assert convexity < 1e-12
    volscen.validate(raw)


def test_many_quotes_are_merged_and_each_is_scored():
    rng = np.random.default_rng(4)
    n = 2000
    tau, k = rng.choice([0.1, 0.3, 0.7, 1.5], n), rng.uniform(-0.3, 0.3, n)
    vol = 0.2 - 0.1 * k + 0.1 * k**2 + 0.002 * rng.standard_normal(n)
    vol[7] += 0.03
    table = pd.DataFrame({"tau": tau, "log_moneyness": k, "implied_vol": vol})
    found = repair(table, tau=SMALL_TAU, moneyness=SMALL_M, noise=0.002)
    assert found.sizes["quote"] == n
    assert int(np.nanargmax(found.stale_score.values)) == 7
    grid = np.log(SMALL_M)
    assert np.abs(found.implied_vol - (0.2 - 0.1 * grid + 0.1 * grid**2)).max() < 0.003
    ordinary = np.delete(found.stale_score.values, 7)
    assert np.sqrt(np.mean(ordinary**2)) == pytest.approx(1, abs=0.1)


def test_the_command(tmp_path, quotes):
    from typer.testing import CliRunner

    from volscen.cli import app

    holes = xr.Dataset({"implied_vol": (("tau", "moneyness"), quotes[1][0])}, coords={"tau": TAU, "moneyness": M})
    holes.to_netcdf(tmp_path / "holes.nc")
    out = tmp_path / "whole.nc"
    result = CliRunner().invoke(app, ["repair", str(tmp_path / "holes.nc"), "--out", str(out), "--levels", "0.9"])
    assert result.exit_code == 0, result.output
    assert "1 surface, median misfit" in result.output
    assert volscen.read(out).level.values.tolist() == [0.9]
    pd.DataFrame({"tau": [0.1, 0.5], "moneyness": [1.0, 1.0], "implied_vol": [0.2, 0.2]}).to_csv(tmp_path / "q.csv")
    arguments = ["repair", str(tmp_path / "q.csv"), "--days", "30,91", "--moneyness", "0.9,1,1.1", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "few_quotes: 1" in result.output


def test_the_packaged_prior_is_what_the_tool_makes():
    import importlib.util
    from importlib.resources import files
    from pathlib import Path

    from safetensors import safe_open

    from volscen._repair._prior import packaged_prior

    path = Path(__file__).parents[1] / "tools" / "make_repair_prior.py"
    spec = importlib.util.spec_from_file_location("make_repair_prior", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    file = files("volscen") / "data" / "repair_prior.safetensors"
    with safe_open(str(file), framework="numpy") as packed:
        about = json.loads(packed.metadata()["volscen"])
    assert about["shares"] == tool.SHARES
    prior = packaged_prior()
    np.testing.assert_allclose(prior.root_tau, np.sqrt(tool.TAU))
    np.testing.assert_allclose(prior.u, tool.U)
    start = 0
    for i, (name, share) in enumerate(tool.SHARES.items()):
        if name not in ("ssvi", "sabr"):  # the others take their time
            break
        first = tool._family(name, 2, 1 + i).reshape(2, -1)
        packed_surfaces = prior.mean + prior.scores[start : start + 2] @ prior.basis
        error = (packed_surfaces - first)[:, tool.core().ravel() == 1]
        assert np.sqrt(np.mean(error**2)) < 0.006, name
        start += round(about["surfaces"] * share)


def test_surfaces_with_very_many_quotes_are_repaired_one_by_one():
    tau, k = np.linspace(0.1, 2.0, 20), np.linspace(-0.4, 0.4, 40)
    truth = 0.2 - 0.1 * k + 0.1 * k**2 + 0 * tau[:, None]
    vol = truth + 0.002 * np.random.default_rng(1).standard_normal((2, 20, 40))
    found = repair(vol, tau=tau, moneyness=np.exp(k), noise=0.002, free="none")
    assert np.abs(found.implied_vol.values - truth).max() < 0.002
    assert found.stale_score.shape == vol.shape
    assert np.sqrt(np.mean(found.stale_score.values**2)) == pytest.approx(1, abs=0.1)
    alone = repair(vol[1], tau=tau, moneyness=np.exp(k), noise=0.002, free="none")
    np.testing.assert_array_equal(alone.implied_vol, found.implied_vol[1])


def test_tables_are_scaled_as_grids_are():
    _, quoted, _ = simulated(1, 0.3, seed=22)
    row, column = np.nonzero(~np.isnan(quoted[0]))
    low = M ** (1 / 8)
    table = pd.DataFrame({"tau": TAU[row], "moneyness": low[column], "implied_vol": quoted[0, row, column] / 8})
    one = repair(quoted[0] / 8, tau=TAU, moneyness=low, noise=0.0003)
    other = repair(table, tau=TAU, moneyness=low, noise=0.0003)
    assert int(one.surface_flag) & int(other.surface_flag) & FLAGS["rescaled"]
    np.testing.assert_allclose(other.implied_vol, one.implied_vol, rtol=1e-6)
    assert np.abs(other.repaired_at_quote - other.quoted_vol).max() < 0.003


def test_densities_are_positive_where_prices_are_free_already():
    _, quoted, _ = simulated(12, 0.3, seed=30, wing=4)
    prices = repair(quoted, tau=TAU, moneyness=M, method="linear", free="prices")
    lacking = prices.durrleman_g_min.values < 2e-4
    assert lacking.any()
    vol = prices.implied_vol.values[lacking][:2]
    found = project_surfaces(vol, np.full(vol.shape, 0.01), TAU, M, "density")
    assert found.least_g.min() >= 2e-4
    assert np.all(found.status > 0)
    assert violations(found.implied_vol, TAU, M)[:2] == (0, 0)
