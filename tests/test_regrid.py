"""Surfaces moved between grids: the rule written with scalars, roots by scipy, flags by hand."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

import volscen
from chain_makers import make_chain
from volscen import Chain, arbitrage, build_surface
from volscen.errors import FileFormatError, InputError
from volscen.surface import interpolate_vol, raster, raster_grid, regrid

TAU = np.array([30, 91, 182, 365]) / 365
MONEYNESS = np.array([0.7, 0.8, 0.9, 1.0, 1.1, 1.25])
CALLS = np.array([0.9, 0.75, 0.5, 0.25, 0.1])
WINGS = ["10P", "25P", "ATM", "25C", "10C"]


def smile(level: float, tau: np.ndarray, moneyness: np.ndarray) -> np.ndarray:
    k = np.log(moneyness) / np.sqrt(tau)[:, None]
    return level * np.sqrt(1 - 0.3 * k + 0.5 * k**2 + 0.1 * tau[:, None])


def make_history(quality: np.ndarray | None = None, n: int = 3) -> xr.Dataset:
    rates = np.array([0.01, 0.02, 0.03])[:n, None] * TAU
    spot = np.array([100.0, 101.0, 99.0])[:n]
    return volscen.make_history(
        np.arange("2024-01-02", f"2024-01-0{2 + n}", dtype="datetime64[D]"),
        TAU,
        MONEYNESS,
        np.stack([smile(level, TAU, MONEYNESS) for level in (0.2, 0.25, 0.3)[:n]]),
        spot=spot,
        forward=spot[:, None] * np.exp(rates),
        discount_factor=np.exp(-rates),
        quality=quality,
    )


def vol_at(surface: np.ndarray, tau: float, k: float) -> float:
    """The rule with scalars: total variance linear in tau, then volatility linear in k, flat outside."""
    j = np.clip(np.searchsorted(TAU, tau), 1, TAU.size - 1)
    share = np.clip((tau - TAU[j - 1]) / (TAU[j] - TAU[j - 1]), 0, 1)
    w = (1 - share) * surface[j - 1] ** 2 * TAU[j - 1] + share * surface[j] ** 2 * TAU[j]
    at = (1 - share) * TAU[j - 1] + share * TAU[j]
    return float(np.interp(k, np.log(MONEYNESS), np.sqrt(w / at)))


def test_strikes_of_a_delta_are_roots() -> None:
    history = make_history()
    tau = np.array([0.05, 0.15, 182 / 365, 0.7])
    out = regrid(history, tau, delta=WINGS)
    assert out["implied_vol"].dims == out["moneyness"].dims == ("date", "tau", "delta")
    for t in range(3):
        surface = history["implied_vol"].values[t]
        for j, years in enumerate(tau):
            for i, call in enumerate(CALLS):

                def miss(k: float, years: float = years, call: float = call, surface: np.ndarray = surface) -> float:
                    s = vol_at(surface, years, k) * np.sqrt(years)
                    return norm.cdf(-k / s + s / 2) - call

                k = brentq(miss, -3, 3, xtol=1e-14)
                assert np.log(out["moneyness"].values[t, j, i]) == pytest.approx(k, abs=1e-10)
                assert out["implied_vol"].values[t, j, i] == pytest.approx(vol_at(surface, years, k), rel=1e-9)


def test_scaled_log_moneyness() -> None:
    history, x, tau = make_history(), np.array([-0.4, 0.0, 0.3]), np.array([0.15, 0.7])
    normalised = regrid(history, tau, normalised_moneyness=x)
    standardised = regrid(history, tau, standardised_moneyness=x)
    for t in range(3):
        surface = history["implied_vol"].values[t]
        for j, years in enumerate(tau):
            at_the_money = vol_at(surface, years, 0.0)
            for out, k in ((normalised, x * np.sqrt(years)), (standardised, x * at_the_money * np.sqrt(years))):
                np.testing.assert_allclose(np.log(out["moneyness"].values[t, j]), k, atol=1e-13)
                expected = [vol_at(surface, years, one) for one in k]
                np.testing.assert_allclose(out["implied_vol"].values[t, j], expected, rtol=1e-12)


@pytest.mark.parametrize("rule", ["flat_vol", "flat_total_variance", "linear"])
def test_smiles_and_products_agree(rule: str) -> None:
    """What is read off by delta is what interpolation gives at its strikes, on and off the grid."""
    history = make_history()
    tau = np.array([0.04, 0.3, 1.4])
    out = regrid(history, tau, delta=["1P", *WINGS, "1C"], extrapolation=rule)
    for t in range(3):
        for j, years in enumerate(tau):
            vol = interpolate_vol(
                history["implied_vol"].values[t],
                TAU,
                MONEYNESS,
                years,
                out["moneyness"].values[t, j],
                extrapolation=rule,
            )
            np.testing.assert_allclose(out["implied_vol"].values[t, j], vol, rtol=1e-12)
            s = vol * np.sqrt(years)
            found = norm.cdf(-np.log(out["moneyness"].values[t, j]) / s + s / 2)
            np.testing.assert_allclose(found, [0.99, *CALLS, 0.01], atol=1e-12)
    assert (out["quality"] == 2).any()


def test_product_grids_keep_the_schema_and_the_numbers() -> None:
    history = make_history()
    same = regrid(history)
    np.testing.assert_allclose(same["implied_vol"], history["implied_vol"], rtol=1e-14)
    assert same["forward"].identical(history["forward"])
    out = regrid(history, ["1M", "2M", "18M"], log_moneyness=[-0.1, 0.0, 0.5])
    volscen.validate(out, schema="volscen/history/1")
    assert out["quality"].dims == ("date", "tau", "moneyness")
    assert out["quality"].values[0].tolist() == [[1, 1, 2], [1, 1, 2], [2, 2, 2]]
    expected = [
        [vol_at(history["implied_vol"].values[1], t, k) for k in (-0.1, 0.0, 0.5)] for t in (1 / 12, 1 / 6, 1.5)
    ]
    np.testing.assert_allclose(out["implied_vol"].values[1], expected, rtol=1e-12)
    np.testing.assert_allclose(out["discount_factor"][1], np.exp(-0.02 * np.array([1 / 12, 1 / 6, 1.5])), rtol=1e-12)
    np.testing.assert_allclose(out["forward"][2], 99 * np.exp(0.03 * np.array([1 / 12, 1 / 6, 1.5])), rtol=1e-12)
    assert out.attrs["regridded_from"] == "4 tau x 6 moneyness"
    assert "regridded by volscen" in out.attrs["history"]
    assert out["spot"].identical(history["spot"])


def test_flags_by_hand() -> None:
    quality = np.ones((1, 4, 6), dtype=np.int8)
    quality[0, 1, 2], quality[0, 1, 3], quality[0, 2, 5] = 0, 0, 2  # (91 days: .9 and 1.0), (182 days: 1.25)
    history = make_history(quality, n=1)
    out = regrid(history, np.array([91, 120, 182, 400]) / 365, [0.65, 0.9, 0.95, 1.0, 1.2, 1.25])
    assert out["quality"].values[0].tolist() == [
        [2, 0, 1, 0, 1, 1],  # on the row of 91 days: its own flags on its points, interpolated between them
        [2, 1, 1, 1, 2, 2],  # between two rows, one of them extrapolated at 1.25
        [2, 1, 1, 1, 2, 2],
        [2, 2, 2, 2, 2, 2],  # beyond the last time
    ]
    assert out["quality"].dtype == np.int8
    assert out["quality"].attrs["flag_values"].dtype == np.int8
    assert out["quality"].attrs["flag_values"].tolist() == [0, 1, 2]
    by_delta = regrid(history, [182 / 365], delta=["10P", "ATM", "1C"])
    strikes = by_delta["moneyness"].values[0, 0]
    assert strikes[0] > 0.7
    assert 1.0 < strikes[1] < 1.1
    assert strikes[2] > 1.25
    assert by_delta["quality"].values[0, 0].tolist() == [1, 1, 2]


def test_quotes_to_deltas_by_way_of_a_history() -> None:
    """A history moved to deltas is near the surface built by delta, and its flags say where quotes end."""
    quotes = make_chain()
    moneyness = np.exp(np.linspace(-0.4, 0.3, 71))
    history, _ = volscen.build_history(quotes, tau=["1M", "3M"], moneyness=moneyness, max_extrapolation=9)
    moved = regrid(history, delta=["10P", "25P", "ATM", "25C", "5C"])
    built = build_surface(Chain(quotes), ["1M", "3M"], delta=["10P", "25P", "ATM", "25C", "5C"])
    np.testing.assert_allclose(moved["implied_vol"][0], built["implied_vol"], atol=2e-5)
    np.testing.assert_allclose(moved["moneyness"][0], built["moneyness"], atol=2e-5)
    assert "extrapolated_share" in history
    assert float(moved["extrapolated_share"][0]) == float((moved["quality"][0] == 2).mean())


def test_penalty_of_a_history_is_that_of_its_new_grid() -> None:
    broken = make_history()
    broken["implied_vol"][1, 0] *= 2.5
    broken["arbitrage_penalty"] = ("date", arbitrage.penalty(broken["implied_vol"].values, TAU, MONEYNESS))
    tau, moneyness = np.array([0.1, 0.3, 0.8]), np.array([0.85, 1.0, 1.1])
    out = regrid(broken, tau, moneyness)
    np.testing.assert_array_equal(
        out["arbitrage_penalty"], arbitrage.penalty(out["implied_vol"].values, tau, moneyness)
    )
    assert float(out["arbitrage_penalty"][1]) > 0.01
    by_delta = regrid(broken, delta=WINGS, several="nearest")
    np.testing.assert_array_equal(by_delta["arbitrage_penalty"], broken["arbitrage_penalty"])
    assert by_delta["arbitrage_penalty"].attrs["long_name"].endswith("on the grid before, 4 tau x 6 moneyness")


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return volscen.generate(n_scenarios=64, horizon=2, seed=3)


def test_cubes(cube: xr.Dataset) -> None:
    tau, moneyness = np.array([0.1, 0.4]), np.array([0.9, 1.0, 1.3])
    out = regrid(cube, tau, moneyness)
    volscen.validate(out, schema="volscen/scenarios/1")
    assert out["implied_vol"].dtype == np.float32
    assert out["quality"].dims == ("tau", "moneyness")
    assert out["weight"].identical(cube["weight"])
    grid = (cube["tau"].values, cube["moneyness"].values)
    for s, h in ((0, 0), (63, 1)):
        expected = [interpolate_vol(cube["implied_vol"].values[s, h], *grid, t, moneyness) for t in tau]
        np.testing.assert_allclose(out["implied_vol"].values[s, h], expected, rtol=1e-6)
    expected = [interpolate_vol(cube["implied_vol0"].values, *grid, t, moneyness) for t in tau]
    np.testing.assert_allclose(out["implied_vol0"], expected, rtol=1e-12)
    smiles = regrid(cube, tau, delta=WINGS)
    volscen.validate(smiles, schema="volscen/smiles/1")
    assert smiles["implied_vol"].dims == smiles["moneyness"].dims == ("scenario", "step", "tau", "delta")
    assert smiles["moneyness0"].dims == smiles["implied_vol0"].dims == ("tau", "delta")
    s = smiles["implied_vol"].astype(np.float64) * np.sqrt(smiles["tau"])
    found = norm.cdf(-np.log(smiles["moneyness"]) / s + s / 2)
    np.testing.assert_allclose(found, np.broadcast_to(CALLS, found.shape), atol=1e-6)
    mean = volscen.weighted_mean(smiles, "implied_vol")
    assert mean.sizes["delta"] == 5


def test_several_dates(tmp_path) -> None:
    several = volscen.generate(n_scenarios=8, as_of=["2024-05-02", "2024-05-03"], seed=1)
    out = regrid(several, ["1M", "3M"], delta=WINGS)
    assert out["implied_vol"].dims == ("as_of", "scenario", "step", "tau", "delta")
    assert out["moneyness0"].dims == ("as_of", "tau", "delta")
    assert volscen.read(volscen.write(out, tmp_path / "smiles.nc")).equals(out)
    product = regrid(several, ["1M", "3M"])
    assert product["forward0"].dims == ("as_of", "tau")
    volscen.validate(product, schema="volscen/scenarios/1")


@pytest.mark.parametrize("grid", [{"delta": WINGS}, {"moneyness": [0.9, 1.0]}, {"standardised_moneyness": [-1.0, 1.0]}])
def test_lazy_cubes_stay_lazy(cube: xr.Dataset, grid: dict) -> None:
    lazy = regrid(cube.chunk(scenario=16), ["1M", "3M"], **grid)
    assert isinstance(lazy["implied_vol"].data, dask.array.Array)
    eager = regrid(cube, ["1M", "3M"], **grid)
    for name in ("implied_vol", "quality", "arbitrage_penalty"):
        np.testing.assert_array_equal(lazy[name].values, eager[name].values)


def test_back_from_deltas() -> None:
    history = make_history(np.zeros((3, 4, 6), dtype=np.int8))
    dense = np.linspace(0.01, 0.99, 99)
    smiles = regrid(history, delta=dense)
    moneyness = [0.75, 0.95, 1.05, 1.2]
    back = regrid(smiles, moneyness=moneyness)
    volscen.validate(back, schema="volscen/history/1")
    plain = regrid(history, moneyness=moneyness)
    inside = back["quality"].values != 2
    assert inside.sum() > 30
    np.testing.assert_allclose(back["implied_vol"].values[inside], plain["implied_vol"].values[inside], rtol=2e-3)
    # By hand: between two smile points volatility is linear in log-moneyness, and flat outside.
    few = regrid(history, delta=["25P", "ATM", "25C"])
    back = regrid(few, moneyness=moneyness)
    for t, j in ((0, 1), (2, 1)):
        k, vol = np.log(few["moneyness"].values[t, j]), few["implied_vol"].values[t, j]
        np.testing.assert_allclose(back["implied_vol"].values[t, j], np.interp(np.log(moneyness), k, vol), rtol=1e-12)
        outside = (np.log(moneyness) < k[0]) | (np.log(moneyness) > k[-1])
        np.testing.assert_array_equal(back["quality"].values[t, j] == 2, outside)
    assert back.attrs["regridded_from"] == "4 tau x 3 delta"
    later = regrid(few, [0.2], moneyness=moneyness)
    rows = back["implied_vol"].values[0, :2] ** 2 * TAU[:2, None]
    share = (0.2 - TAU[0]) / (TAU[1] - TAU[0])
    np.testing.assert_allclose(
        later["implied_vol"][0, 0] ** 2 * 0.2, (1 - share) * rows[0] + share * rows[1], rtol=1e-12
    )
    single = regrid(regrid(history, delta=["ATM"]), moneyness=[1.0])
    assert single["implied_vol"].shape == (3, 4, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98))
def test_any_surface_and_delta(seed: int, call: float) -> None:
    """Also surfaces full of arbitrage have a strike of every delta, the nearest to the money of several."""
    rng = np.random.default_rng(seed)
    history = make_history(n=2)
    history["implied_vol"][:] = rng.uniform(0.1, 0.6, (2, 4, 6))
    out = regrid(history, [0.1, 0.6], delta=[call], several="nearest")
    s = out["implied_vol"].values[..., 0] * np.sqrt([0.1, 0.6])
    np.testing.assert_allclose(norm.cdf(-np.log(out["moneyness"].values[..., 0]) / s + s / 2), call, atol=1e-10)


def test_a_delta_met_several_times_names_the_surface() -> None:
    history = make_history()
    history["implied_vol"][1, 0] = [0.2, 0.2, 0.2, 0.1, 0.9, 0.9]  # at 30 days d1 rises from 1.0 to 1.1
    with pytest.raises(InputError, match=r"delta \d+C at tau 0.08219 of date 2024-01-03 is met at \d strikes"):
        regrid(history, delta=["25C", "20C", "30C", "40C"])
    out = regrid(history, delta=["25C", "20C", "30C", "40C"], several="nearest")
    assert np.isfinite(out["moneyness"]).all()
    assert out.attrs["regrid_several_strikes"] > 0
    assert "regrid_several_strikes" not in regrid(make_history(), delta=WINGS, several="nearest").attrs
    with pytest.raises(InputError, match="of a chunk is met at"):
        regrid(history.chunk(date=1), delta=["25C", "20C", "30C", "40C"]).compute()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"moneyness": [1.0], "delta": ["ATM"]}, "not moneyness and delta"),
        ({"tau": [0.2, 0.1]}, "tau must be strictly increasing"),
        ({"tau": ["3X"]}, "tau must be numbers of years, or tenors"),
        ({"delta": ["30"]}, "'30' is no label"),
        ({"extrapolation": "cubic"}, "extrapolation must be one of"),
        ({"several": "all", "delta": ["ATM"]}, "several must be 'raise' or 'nearest'"),
        ({"num_threads": 0}, "num_threads must be"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        regrid(make_history(), **arguments)


def test_what_is_given_stays_as_it_was(cube: xr.Dataset) -> None:
    for ds in (make_history(np.zeros((3, 4, 6), dtype=np.int8)), cube, regrid(make_history(), delta=WINGS)):
        before = ds.copy(deep=True)
        regrid(ds, ["2M"], moneyness=[0.9, 1.0])
        if "delta" not in ds.dims:
            regrid(ds, ["2M"], delta=WINGS)
        assert ds.identical(before)


def test_bad_datasets() -> None:
    history = make_history()
    with pytest.raises(InputError, match="ds must be a dataset"):
        regrid(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"to_dataset\(name='implied_vol'\)"):
        regrid(history["implied_vol"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="holds no variable implied_vol"):
        regrid(history.drop_vars("implied_vol"))
    broken = history.copy(deep=True)
    broken["implied_vol"][1, 2, 3] = np.nan
    with pytest.raises(InputError, match="implied_vol must hold positive finite numbers"):
        regrid(broken, [0.2])
    with pytest.raises(InputError, match="ds holds forward and no spot"):
        regrid(history.drop_vars("spot"), [0.2])
    with pytest.raises(InputError, match=r"needs the volatility at K = F, and ds holds K/F from 0\.7 to 0\.9"):
        regrid(history.isel(moneyness=slice(0, 3)), standardised_moneyness=[0.0])
    smiles = regrid(history, delta=WINGS)
    with pytest.raises(InputError, match="ds is by delta: regrid it to moneyness="):
        regrid(smiles, normalised_moneyness=[0.0])
    with pytest.raises(InputError, match="leave extrapolation='flat_vol'"):
        regrid(smiles, moneyness=[1.0], extrapolation="linear")
    with pytest.raises(InputError, match="lacks the coordinate moneyness"):
        regrid(smiles.drop_vars("moneyness"), moneyness=[1.0])
    with pytest.raises(InputError, match="strictly increasing within each smile"):
        regrid(smiles.assign_coords(moneyness=smiles["moneyness"] * 0 + 1), moneyness=[1.0])
    extra = history.assign(cell=(("tau", "moneyness"), np.ones((4, 6))))
    assert regrid(extra, [0.2]).attrs["regrid_left_out"] == "cell"


def test_axes_of_a_raster() -> None:
    tau, moneyness = raster_grid(["1M", "1Y"], [0.8, 1.25])
    assert tau.shape == moneyness.shape == (64,)
    assert (tau[0], tau[-1], moneyness[0], moneyness[-1]) == (1 / 12, 1.0, 0.8, 1.25)
    np.testing.assert_allclose(np.diff(np.sqrt(tau)), (1 - np.sqrt(1 / 12)) / 63, rtol=1e-10)
    np.testing.assert_allclose(np.diff(np.log(moneyness)), np.log(1.25 / 0.8) / 63, rtol=1e-10)
    tau, moneyness = raster_grid([0.1, 0.9], [0.5, 1.5], (3, 5), tau_spacing="log", moneyness_spacing="linear")
    np.testing.assert_allclose(tau, [0.1, 0.3, 0.9], rtol=1e-14)
    np.testing.assert_allclose(moneyness, [0.5, 0.75, 1.0, 1.25, 1.5], rtol=1e-14)


def test_raster() -> None:
    history = make_history()
    picture = raster(history)
    assert picture["implied_vol"].shape == (3, 64, 64)
    assert int(picture["quality"].max()) == 1
    np.testing.assert_allclose(
        picture["implied_vol"][:, [0, -1]][:, :, [0, -1]], history["implied_vol"][:, [0, -1]][:, :, [0, -1]]
    )
    surface = history["implied_vol"].values[2]
    for j, i in ((5, 60), (33, 17)):
        expected = vol_at(surface, float(picture["tau"][j]), float(np.log(picture["moneyness"][i])))
        assert float(picture["implied_vol"][2, j, i]) == pytest.approx(expected, rel=1e-12)
    volscen.validate(picture)
    wide = raster(history, (8, 16), tau_range=["1W", "2Y"], moneyness_range=[0.5, 1.5])
    assert wide["implied_vol"].shape == (3, 8, 16)
    outside = (wide["tau"] < TAU[0]) | (wide["tau"] > 1) | (wide["moneyness"] < 0.7) | (wide["moneyness"] > 1.25)
    np.testing.assert_array_equal(wide["quality"][0] == 2, outside)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 1}, "n must be a whole number of points from 2"),
        ({"n": (64, 2.5)}, "n must be"),
        ({"n": (64, 64, 3)}, "n must be"),
        ({"n": True}, "n must be"),
        ({"n": "x"}, "n must be"),
        ({"tau_range": [0.1]}, "tau_range must be two numbers"),
        ({"tau_range": [1.0, 0.1]}, "tau_range must be strictly increasing"),
        ({"tau_range": ["1M", "x"]}, "tau_range must be numbers of years, or tenors"),
        ({"moneyness_range": [0.0, 1.0]}, "moneyness_range must hold positive"),
        ({"tau_spacing": "cubic"}, "tau_spacing must be one of linear, log, sqrt"),
    ],
)
def test_bad_rasters(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        raster(make_history(), **arguments)


def test_rasters_of_what_has_no_range() -> None:
    with pytest.raises(InputError, match="several points of tau; or give tau_range"):
        raster(make_history().isel(tau=[0]))
    smiles = regrid(make_history(), delta=WINGS)
    with pytest.raises(InputError, match="several points of moneyness; or give moneyness_range"):
        raster(smiles)
    assert raster(smiles, 4, moneyness_range=[0.9, 1.1])["implied_vol"].shape == (3, 4, 4)


def test_generators_want_histories() -> None:
    with pytest.raises(FileFormatError, match="not a dataset of schema 'volscen/history/1'"):
        volscen.fit(regrid(make_history(), delta=WINGS), "pca")


def test_flags_of_smiles_go_back() -> None:
    smiles = regrid(make_history(n=1), [91 / 365], delta=WINGS)
    smiles["quality"][0, 0] = [2, 0, 0, 1, 1]
    m = smiles["moneyness"].values[0, 0]
    wanted = np.array([0.99 * m[0], m[0], (m[0] + m[1]) / 2, m[1], (m[1] + m[2]) / 2, m[3], m[4], 1.01 * m[4]])
    assert regrid(smiles, moneyness=wanted)["quality"].values[0, 0].tolist() == [2, 2, 2, 0, 1, 1, 1, 2]
