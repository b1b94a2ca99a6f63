"""Views on scenario cubes: quantities, priors, confidence, floors, dates, files."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import volscen
from scenario_toys import MONEYNESS, TAU, make_scenarios, skewed_surface
from volscen import arbitrage, views
from volscen.errors import InputError


@pytest.fixture(scope="module")
def cube():
    return make_scenarios(4000, steps=3, seed=1)


def dates(cube, n=2):
    """The same kind of scenarios on several dates."""
    days = [np.datetime64(f"2024-01-{10 + i}", "ns") for i in range(n)]
    parts = [make_scenarios(cube.sizes["scenario"], steps=3, seed=i).drop_vars("as_of") for i in range(n)]
    many = xr.concat(parts, dim=xr.DataArray(days, dims="as_of", name="as_of"), coords="minimal", data_vars="all")
    many.attrs |= {"beta": np.zeros(n), "ess_fraction": np.ones(n)}
    return volscen.validate(many)


# ---------------------------------------------------------------------------------------------- quantities
def test_quantities_are_what_their_names_say(cube):
    j, i = 1, 3  # 91 days, at the money
    assert MONEYNESS[i] == 1
    iv = cube.implied_vol.values
    np.testing.assert_array_equal(views.log_return(2).values(cube), cube.log_return[:, 1])
    total = cube.log_return.values.sum(axis=1)
    np.testing.assert_allclose(views.total_log_return().values(cube), total, atol=1e-14)
    np.testing.assert_allclose(views.atm_vol(TAU[j]).values(cube), iv[:, -1, j, i], rtol=1e-14)
    np.testing.assert_allclose(views.implied_vol(TAU[2], 0.8, step=1).values(cube), iv[:, 0, 2, 1], rtol=1e-14)
    np.testing.assert_allclose(views.skew(TAU[j]).values(cube), iv[:, -1, j, 2] - iv[:, -1, j, 4], atol=1e-15)
    np.testing.assert_allclose(
        views.term_slope(TAU[0], TAU[3]).values(cube), iv[:, -1, 3, i] - iv[:, -1, 0, i], atol=1e-15
    )


def test_profit_is_the_change_in_value_of_the_book(cube):
    book = volscen.Portfolio([(volscen.Option("put", moneyness=0.9, tau=0.5), -3), (volscen.Underlying(), 2)])
    value = volscen.portfolio.revalue(cube, book.instruments)
    quantity = np.array(book.quantities)
    expected = value.value.values[:, 1] @ quantity - value.value0.values @ quantity
    np.testing.assert_allclose(views.profit(book, step=2).values(cube), expected, atol=1e-12)


def test_the_volatility_index_is_cboes(cube):
    flat = cube.copy()
    flat["implied_vol"] = xr.full_like(cube.implied_vol, 0.2)
    unit = float(volscen.surface.vix(flat.isel(scenario=0, step=0).implied_vol))
    assert unit == pytest.approx(20, rel=2e-3)  # vol points
    np.testing.assert_allclose(views.vix().values(flat), unit, rtol=1e-12)
    direct = volscen.surface.vix(cube.implied_vol.isel(step=1), days=60).values
    np.testing.assert_array_equal(views.vix(60, step=2).values(cube), direct)


def test_a_portfolio_is_its_profit(cube):
    book = volscen.Portfolio.straddle(moneyness=1.0, tau=0.25)
    a = volscen.entropy_pool(cube, views.expected_shortfall(book, 0.05, at_least=0.8))
    b = volscen.entropy_pool(cube, views.expected_shortfall(views.profit(book), 0.05, at_least=0.8))
    np.testing.assert_array_equal(a.weight, b.weight)


def test_the_penalty_is_the_paths_and_that_before_projection(cube):
    ds = cube.copy()
    rng = np.random.default_rng(0)
    for name in ("arbitrage_penalty", "arbitrage_penalty_raw"):
        ds[name] = (("scenario", "step"), rng.exponential(1, (4000, 3)))
        np.testing.assert_allclose(views.arbitrage_penalty().values(ds), ds[name].values.sum(axis=1))


def test_arrays_functions_and_names_are_quantities(cube):
    x = cube.log_return.values[:, -1]
    value = float(x.mean() + 0.001)

    def last(ds):
        return ds.log_return[:, -1]

    sources = [
        views.array(x, "mine"),
        "log_return",
        x,
        list(x),
        cube.log_return[:, -1],
        last,
        lambda ds: ds.log_return.values[:, -1],
    ]
    reference = volscen.entropy_pool(cube, views.mean(views.log_return(3), equals=value)).weight.values
    for source in sources:
        pooled = volscen.entropy_pool(cube, [views.mean(source, equals=value)])
        np.testing.assert_array_equal(pooled.weight, reference)


# ------------------------------------------------------------------------------------------- entropy_pool
def test_all_kinds_of_views_hold_on_a_cube(cube):
    ret, vol = views.total_log_return(), views.atm_vol(0.25)
    book = volscen.Portfolio.straddle(moneyness=1.0, tau=0.25)
    wanted = [
        views.mean(vol, equals=0.205),
        views.std(ret, equals=0.025),
        views.std(vol, at_most=0.01),
        views.correlation(ret, vol, equals=-0.5),
        views.quantile(ret, 0.1, at_most=-0.03),
        views.expected_shortfall(views.profit(book), 0.05, at_least=0.9),
        views.probability(lambda ds: ds.spot[:, -1] < 97, at_least=0.1),
        views.mean(views.skew(0.25), at_least=0.0225, at_most=0.023),
    ]
    before = cube.weight.values.copy()
    pooled = volscen.entropy_pool(cube, wanted)
    np.testing.assert_array_equal(cube.weight, before)
    w = pooled.weight.values
    r, v = ret.values(cube), vol.values(cube)
    assert w @ v == pytest.approx(0.205, abs=1e-8)
    assert np.cov(r, aweights=w, ddof=0) == pytest.approx(0.025**2, rel=1e-5)
    pair = np.cov(r, v, aweights=w, ddof=0)
    assert pair[0, 1] / np.sqrt(pair[0, 0] * pair[1, 1]) == pytest.approx(-0.5, abs=1e-6)
    assert volscen.risk.value_at_risk(r, w, alpha=0.1) >= 0.03
    assert volscen.risk.expected_shortfall(views.profit(book).values(cube), w, alpha=0.05) >= 0.9 - 1e-6
    assert w[pooled.spot.values[:, -1] < 97].sum() >= 0.1 - 1e-9
    table = views.compare(cube, pooled, wanted)
    assert table.met.all()
    assert not views.compare(cube, cube, wanted).met.all()
    volscen.validate(pooled)
    assert pooled.attrs["ess_fraction"] == pytest.approx(1 / (4000 * np.sum(w * w)))
    assert pooled.attrs["kl_divergence"] == pytest.approx(np.sum(w * np.log(w * 4000)), rel=1e-9)
    assert "std(total_log_return()) = 0.025" in pooled.attrs["views"]


def test_a_quantity_is_computed_once(cube):
    calls = []

    def slow(ds, row):
        calls.append(row)
        return ds.log_return.values[:, -1]

    x = views.Quantity("slow", slow)
    volscen.entropy_pool(
        cube, [views.mean(x, equals=0.0), views.std(x, at_least=0.01), views.quantile(x, 0.5, at_most=1)]
    )
    assert calls == [0]


def test_the_penalty_is_kept_at_todays(cube):
    ds = cube.copy()
    surface = skewed_surface() * np.array([2.0, 1.0, 0.6, 0.4])[:, None]  # total variance falls
    ds["implied_vol0"] = (("tau", "moneyness"), surface)
    today = float(arbitrage.penalty(surface, TAU, MONEYNESS))
    assert today > 0
    rng = np.random.default_rng(0)
    ds["arbitrage_penalty"] = (("scenario", "step"), rng.exponential(2 * today, (4000, 3)))
    pooled = volscen.entropy_pool(ds, [views.mean_penalty()])
    assert views.arbitrage_penalty().values(ds) @ pooled.weight.values == pytest.approx(3 * today, rel=1e-6)
    # The same family as exp(-beta Phi).
    path = ds.arbitrage_penalty.values.sum(axis=1)
    beta = np.polyfit(path, -np.log(pooled.weight.values), 1)[0]
    again = volscen.reweight(ds, beta=beta)
    np.testing.assert_allclose(again.weight, pooled.weight, rtol=1e-6)
    with pytest.raises(InputError, match=r"mean_penalty.*between"):
        volscen.entropy_pool(cube.assign(arbitrage_penalty=ds.arbitrage_penalty + 1), [views.mean_penalty()])


def test_the_prior_matters_and_composes(cube):
    rng = np.random.default_rng(0)
    weight = rng.dirichlet(np.ones(4000))
    weight[:100] = 0
    weight /= weight.sum()
    ds = cube.assign(weight=("scenario", weight))
    view = views.mean("log_return", equals=0.002)
    current = volscen.entropy_pool(ds, view)
    assert np.all(current.weight.values[:100] == 0)
    given = volscen.entropy_pool(cube, view, prior=weight)
    np.testing.assert_array_equal(given.weight, current.weight)
    np.testing.assert_array_equal(
        volscen.entropy_pool(cube, view, prior=xr.DataArray(weight, dims="scenario")).weight, current.weight
    )
    equal = volscen.entropy_pool(ds, view, prior="equal")
    np.testing.assert_allclose(equal.weight, volscen.entropy_pool(cube, view).weight, rtol=1e-12)
    # Relative entropy to the prior, not to equal weights.
    w = current.weight.values
    some = w > 0
    log_ratio = np.log(w[some] / weight[some])
    x = cube.log_return.values[some, -1]
    assert np.ptp(log_ratio - np.polyfit(x, log_ratio, 1)[0] * x) < 1e-8


def test_confidence_mixes_with_the_prior(cube):
    sure, unsure = views.mean("log_return", equals=0.004), views.std("log_return", equals=0.015, confidence=0.25)
    p = cube.weight.values
    both = volscen.entropy_pool(cube, [sure, views.std("log_return", equals=0.015)]).weight.values
    one = volscen.entropy_pool(cube, sure).weight.values
    np.testing.assert_allclose(
        volscen.entropy_pool(cube, [sure, unsure]).weight, 0.25 * both + 0.75 * one, rtol=1e-9, atol=1e-15
    )
    half = volscen.entropy_pool(cube, sure, confidence=0.5)
    np.testing.assert_allclose(half.weight, 0.5 * p + 0.5 * one, rtol=1e-9)
    assert half.attrs["view_confidence"] == 0.5


def test_the_floor_refuses_with_figures_or_blends(cube):
    view = views.mean("log_return", equals=0.03)
    with pytest.raises(InputError, match=r"effective sample size of 0\.\d+ of the 4000.*ess_floor 0.3.*blend=True"):
        volscen.entropy_pool(cube, view, ess_floor=0.3)
    blended = volscen.entropy_pool(cube, view, ess_floor=0.3, blend=True)
    assert blended.attrs["ess_fraction"] == pytest.approx(0.3, rel=1e-9)
    share = blended.attrs["view_confidence"]
    assert 0 < share < 1
    full = volscen.entropy_pool(cube, view, ess_floor=0.0).weight.values
    np.testing.assert_allclose(blended.weight, (1 - share) * cube.weight + share * full, rtol=1e-9)
    narrow = np.zeros(4000)
    narrow[:40] = 1 / 40
    with pytest.raises(InputError, match="prior's own"):
        volscen.entropy_pool(cube, views.mean("log_return", at_least=-1), prior=narrow)


def test_each_date_keeps_its_own(cube):
    many = dates(cube)
    view = [views.mean("log_return", equals=0.002), views.std(views.atm_vol(0.25), at_least=0.012)]
    pooled = volscen.entropy_pool(many, view)
    assert pooled.weight.dims == ("as_of", "scenario")
    assert pooled.attrs["ess_fraction"].shape == pooled.attrs["kl_divergence"].shape == (2,)
    for row in range(2):
        one = many.isel(as_of=row)
        one.attrs |= {"beta": 0.0, "ess_fraction": 1.0}
        np.testing.assert_array_equal(volscen.entropy_pool(one, view).weight, pooled.weight[row])
    array = np.stack([many.log_return.values[row, :, -1] for row in range(2)])
    named = xr.DataArray(array, dims=("as_of", "scenario"), coords={"as_of": many.as_of})
    for source in (array, named, named[::-1]):
        again = volscen.entropy_pool(many, [views.mean(source, equals=0.002), view[1]])
        np.testing.assert_array_equal(again.weight, pooled.weight)
    with pytest.raises(InputError, match="as_of 2024-01-10: view"):
        volscen.entropy_pool(many, views.mean("log_return", equals=9))


def test_pooled_cubes_are_written_and_read(cube, tmp_path):
    many = volscen.entropy_pool(dates(cube), views.mean("log_return", equals=0.002))
    for ds in (many, volscen.entropy_pool(cube, views.mean("log_return", equals=0.002, confidence=0.5))):
        again = volscen.read(volscen.write(ds, tmp_path / "pooled.nc"))
        np.testing.assert_array_equal(again.weight, ds.weight)
        np.testing.assert_allclose(again.attrs["kl_divergence"], ds.attrs["kl_divergence"])
        assert again.attrs["views"] == ds.attrs["views"]


def test_a_lazy_cube_is_pooled_like_one_in_memory():
    history = volscen.datasets.sample_history()
    model = volscen.fit(history, "bootstrap")
    plain = volscen.generate(model, history, n_scenarios=1500, seed=1)
    lazy = volscen.generate(model, history, n_scenarios=1500, seed=1, chunks=512)
    view = views.mean(views.atm_vol(0.25), at_least=float(views.atm_vol(0.25).values(plain).mean()) + 0.002)
    a, b = (volscen.entropy_pool(ds, view) for ds in (plain, lazy))
    np.testing.assert_array_equal(a.weight, b.weight)
    assert b.attrs["beta"] == a.attrs["beta"]
    volscen.validate(b)


@pytest.mark.parametrize(
    ("wanted", "options", "message"),
    [
        ([], {}, "at least one view"),
        (["mean"], {}, "at least one view"),
        (views.mean("nothing", equals=1), {}, "no variable 'nothing'.*log_return"),
        (views.mean("implied_vol", equals=1), {}, "further dimensions"),
        (views.mean("tau", equals=1), {}, "no variable 'tau'"),
        (views.mean(np.full(4000, np.nan), equals=1), {}, "NaN or infinite on 4000"),
        (views.mean(np.ones(7), equals=1), {}, "shape"),
        (views.mean(np.ones((3, 7)), equals=1), {}, "shape"),
        (views.mean(lambda ds: "text", equals=1), {}, "one number per scenario"),
        (views.mean(xr.DataArray(np.ones(7), dims="scenario"), equals=1), {}, "7 scenarios"),
        (views.mean(xr.DataArray(np.ones((4000, 2)), dims=("scenario", "step")), equals=1), {}, "scenario alone"),
        (views.mean(views.array(np.full(4000, 1e200), "big"), equals=1), {}, "big is of the order 1e\\+200"),
        (views.mean(views.log_return(9), equals=1), {}, "step 9 is not one"),
        (views.mean(views.atm_vol(5.0), equals=1), {}, "tau 5 of a view lies off the grid"),
        (views.mean(views.implied_vol(0.25, 2.0), equals=1), {}, "moneyness 2 of a view lies off the grid"),
        (views.probability("log_return", equals=0.5), {}, "0 or 1"),
        (views.mean("log_return", equals=0), {"prior": "none"}, "prior must be"),
        (views.mean("log_return", equals=0), {"prior": np.ones(4000)}, "prior: weight must sum to 1"),
        (views.mean("log_return", equals=0), {"prior": np.ones(3) / 3}, "prior: weight must have 4000"),
        (views.mean("log_return", equals=0), {"prior": xr.DataArray([1.0], dims="x")}, "dimensions"),
        (views.mean("log_return", equals=0), {"confidence": 2}, "confidence"),
        (views.mean("log_return", equals=0), {"ess_floor": 1.0}, "ess_floor"),
        (views.mean("log_return", equals=0), {"ess_floor": np.nan}, "ess_floor"),
        (views.mean("log_return", equals=0), {"blend": "yes"}, "blend"),
    ],
)
def test_what_makes_no_sense_is_refused(cube, wanted, options, message):
    with pytest.raises(InputError, match=message):
        volscen.entropy_pool(cube, wanted, **options)


def test_ten_views_on_ten_thousand_scenarios_take_milliseconds():
    import time

    from volscen.views._linear import tilt

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10, 10_000))
    p = np.full(10_000, 1e-4)
    bound = rows @ p + 0.1
    seconds = []
    for _ in range(5):
        started = time.process_time()
        found = tilt(p, rows, bound, bound)
        seconds.append(time.process_time() - started)
    np.testing.assert_allclose(rows @ found.weight, bound, atol=1e-9)
    assert min(seconds) < 0.25  # a few ms on an idle machine
