"""Paths beside data: figures against independent sums, and the true law inside its band."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import volscen
from volscen.errors import InputError, ScenarioWarning
from volscen.evaluation import Oracle, path_structure, path_table
from volscen.evaluation._path_figures import Figures, Paths, paths_of, windows_of
from volscen.sources.simulate import simulate_market

H = 21


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 640, seed=21)


@pytest.fixture(scope="module")
def dates(history):
    return history.date.values[20:600:H]


@pytest.fixture(scope="module")
def cubes(history, dates):
    """Of the true law, one for each date."""
    oracle = Oracle("A").fit(history)
    with warnings.catch_warnings():  # the true law goes beyond what 640 days show
        warnings.simplefilter("ignore", ScenarioWarning)
        return [
            volscen.generate(oracle, history, as_of=d, n_scenarios=120, horizon=H, seed=1, reweight=None) for d in dates
        ]


def made_up(n=40, seed=0):
    rng = np.random.default_rng(seed)
    r = 0.01 * rng.standard_t(5, (n, H))
    names = ("atm30", "atm91", "atm365", "slope", "skew")
    levels = {k: np.cumsum(0.05 * rng.standard_normal((n, H + 1)), axis=1) - 1.5 for k in names}
    return Paths(r, levels, 252.0)


def figures_of(paths, weight):
    figures = Figures(paths.log_return.shape[1])
    moments, features = figures.moments(paths)
    values = np.hstack([figures.values(weight[None] @ moments), figures.quantiles(features, weight[None])])[0]
    return dict(zip(figures.names[:-15], values, strict=False)), dict(
        zip(figures.names[-15:], values[-15:], strict=True)
    )


def test_figures_against_sums_over_repeated_paths():
    """Integer weights are repetitions, and NumPy knows correlations of repeated pairs."""
    paths = made_up()
    times = np.random.default_rng(1).integers(0, 4, 40)
    found, quantiles = figures_of(paths, times / times.sum())
    rep = np.repeat(np.arange(40), times)
    r, vol = paths.log_return[rep], np.diff(paths.levels["atm30"], axis=1)[rep]

    def corr(x, y):
        return np.corrcoef(x.ravel(), y.ravel())[0, 1]

    assert found["return autocorrelation", 2.0] == pytest.approx(corr(r[:, :-2], r[:, 2:]), abs=1e-12)
    assert found["clustering, absolute", 10.0] == pytest.approx(corr(abs(r[:, :-10]), abs(r[:, 10:])), abs=1e-12)
    assert found["clustering, squared", 1.0] == pytest.approx(corr(r[:, :-1] ** 2, r[:, 1:] ** 2), abs=1e-12)
    assert found["leverage on absolute return", 3.0] == pytest.approx(corr(r[:, :-3], abs(r[:, 3:])), abs=1e-12)
    assert found["leverage on volatility", 0.0] == pytest.approx(corr(r, vol), abs=1e-12)
    assert found["leverage on volatility", 5.0] == pytest.approx(corr(r[:, :-5], vol[:, 5:]), abs=1e-12)
    assert found["volatility autocorrelation", 1.0] == pytest.approx(corr(vol[:, :-1], vol[:, 1:]), abs=1e-12)
    skew = paths.levels["skew"][rep]
    assert found["persistence of skew", 5.0] == pytest.approx(
        np.polyfit(skew[:, :-5].ravel(), skew[:, 5:].ravel(), 1)[0], abs=1e-9
    )
    sums = np.lib.stride_tricks.sliding_window_view(r, 10, axis=1).sum(-1)
    assert found["variance ratio, return", 10.0] == pytest.approx(sums.var() / (10 * r.var()), rel=1e-9)
    wide = np.lib.stride_tricks.sliding_window_view(vol, 21, axis=1).sum(-1)
    assert found["variance ratio, volatility", 21.0] == pytest.approx(wide.var() / (21 * vol.var()), rel=1e-9)
    by_name = {name: value for (name, _), value in found.items()}
    assert by_name["daily return, std"] == pytest.approx(r.std(), rel=1e-9)
    assert by_name["volatility drift over the path"] == pytest.approx(vol.sum(1).mean(), abs=1e-12)
    assert by_name["volatility move over the path, std"] == pytest.approx(vol.sum(1).std(), rel=1e-9)
    premium = np.log(np.sqrt(252 * (r**2).mean(1))) - paths.levels["atm30"][rep, 0]
    assert by_name["log of realised over implied, mean"] == pytest.approx(premium.mean(), abs=1e-12)
    assert by_name["log of realised over implied, std"] == pytest.approx(premium.std(), rel=1e-9)
    value = np.exp(np.cumsum(np.column_stack([np.zeros(len(r)), r]), axis=1))
    drawdown = np.array([max(1 - b / max(v[: j + 1]) for j, b in enumerate(v)) for v in value])
    assert by_name["maximum drawdown, mean"] == pytest.approx(drawdown.mean(), rel=1e-12)
    exact = np.sort(r.sum(1))[int(np.ceil(0.05 * len(r))) - 1]
    assert quantiles["quantile of return over the path", 0.05] == pytest.approx(exact, abs=1e-15)
    worst = np.sort(drawdown)[int(np.ceil(0.95 * len(r))) - 1]
    assert quantiles["quantile of maximum drawdown", 0.95] == pytest.approx(worst, rel=1e-12)


def test_panels_know_the_same_quantiles():
    paths = made_up(13)
    figures = Figures(H)
    _, features = figures.moments(paths)
    one = figures.quantiles(features, np.full((1, 13), 1 / 13))
    np.testing.assert_array_equal(figures.panel_quantiles(features[None]), one)


def test_known_processes():
    """AR(1) returns of 0.3 and levels of half-life 10 days, in closed form."""
    rng = np.random.default_rng(2)
    n = 20_000
    b = 0.5 ** (1 / 10)
    r, level = np.zeros((n, H)), np.zeros((n, H + 1))
    last = rng.standard_normal(n) / np.sqrt(1 - 0.09)
    level[:, 0] = rng.standard_normal(n) / np.sqrt(1 - b * b)
    for t in range(H):
        last = r[:, t] = 0.3 * last + rng.standard_normal(n)
        level[:, t + 1] = b * level[:, t] + rng.standard_normal(n)
    paths = Paths(0.01 * r, dict.fromkeys(("atm30", "atm91", "atm365", "slope", "skew"), 0.01 * level), 252.0)
    found, _ = figures_of(paths, np.full(n, 1 / n))
    assert found["return autocorrelation", 1.0] == pytest.approx(0.3, abs=0.01)
    assert found["return autocorrelation", 3.0] == pytest.approx(0.027, abs=0.01)
    assert 5 * np.log(0.5) / np.log(found["persistence of atm30", 5.0]) == pytest.approx(10, rel=0.03)
    lags = np.arange(1, 5)
    assert found["variance ratio, return", 5.0] == pytest.approx(1 + 2 * np.sum((1 - lags / 5) * 0.3**lags), rel=0.02)
    # the variance of a sum of q changes is 2 (1 - b^q) times the level's
    assert found["variance ratio, volatility", 10.0] == pytest.approx((1 - b**10) / (10 * (1 - b)), rel=0.02)


def test_the_true_law_is_inside_and_a_wrong_one_is_not(history, cubes):
    """The oracle's p-values are uniform: on 12 other histories 94.4% of figures lay in the 95% band."""

    def wrong(cubes):
        for cube in cubes:  # vols three times as nimble, returns that trend
            moved = cube.copy(deep=True)
            start = np.log(cube.implied_vol0)
            moved["implied_vol"] = np.exp(start + 3 * (np.log(cube.implied_vol) - start)).transpose(
                *cube.implied_vol.dims
            )
            r = cube.log_return.values.copy()
            r[:, 1:] += 0.5 * cube.log_return.values[:, :-1]
            moved["log_return"] = (cube.log_return.dims, r)
            moved["spot"] = cube.spot0 * np.exp(moved.log_return.cumsum("step"))
            yield moved

    found = path_structure(
        history,
        {"oracle": iter(cubes), "wrong": wrong(cubes)},
        resamples=400,
    )
    assert found.attrs["paths"] == len(cubes)
    p = found.p_value.sel(generator="oracle").values
    assert float(found.share_inside.sel(generator="oracle")) > 0.8
    assert 0.25 < np.mean(p < 0.5) < 0.8
    bad = found.sel(generator="wrong").set_index(figure="figure")
    for figure in ("return autocorrelation 1", "variance ratio, return 5", "volatility move over the path, std"):
        assert not bad.inside.sel(figure=figure), figure
    assert np.all(found.low <= found.high)
    table = path_table(found)
    assert {"model oracle", "p_value wrong"} <= set(table.columns)
    np.testing.assert_array_equal(table["inside oracle"], p > 0.05)


def test_data_are_the_paths_after_each_date(history, cubes):
    rows = 20 + H * np.arange(len(cubes))
    paths = windows_of(history, rows, H)
    np.testing.assert_array_equal(paths.log_return[3], history.log_return.values[rows[3] + 1 : rows[3] + H + 1])
    cube = cubes[3]
    scenario = paths_of(cube)
    for name, level in paths.levels.items():
        assert level.shape == (len(cubes), H + 1)
        np.testing.assert_allclose(scenario.levels[name][:, 0], level[3, 0], rtol=1e-12)
    # the grid begins at 30 days and at the money lies between two of its points
    from volscen.surface._interpolate import interpolate_vol

    at = interpolate_vol(cube.implied_vol.values[:, 4], cube.tau.values, cube.moneyness.values, 30 / 365, 1.0)
    np.testing.assert_allclose(scenario.levels["atm30"][:, 5], np.log(at), rtol=1e-12)


def test_weights_count(history, cubes):
    first = [c.isel(scenario=slice(0, 1)).assign(weight=("scenario", [1.0])) for c in cubes]
    heavy = [c.assign(weight=("scenario", np.eye(120)[0])) for c in cubes]
    a, b = (path_structure(history, cubes, resamples=50) for cubes in (first, heavy))
    np.testing.assert_allclose(a.model, b.model, rtol=1e-12)
    for found in (a, b):  # one path a date: panels are all the same
        np.testing.assert_allclose(found.model_low, found.model, rtol=1e-9)


def test_past_paths_of_one_date(history):
    model = volscen.fit(history, "pca")
    cube = volscen.generate(model, history, n_scenarios=300, horizon=H, seed=1)
    found = path_structure(history, cube, data="past", resamples=100)
    assert found.attrs["paths"] == 639 // H
    assert found.generator.values.tolist() == ["pca"]
    many = volscen.generate(model, history, as_of=history.date.values[[-2, -1]], n_scenarios=30, horizon=H, seed=1)
    with pytest.raises(InputError, match="one date"):
        path_structure(history, many, data="past")


def test_what_cannot_be_compared_is_refused(history, cubes):
    some = [cube.isel(scenario=slice(0, 10)).assign(weight=("scenario", np.full(10, 0.1))) for cube in cubes[:12]]
    near = [c.assign_coords(as_of=d) for c, d in zip(some, history.date.values[20:300:20], strict=False)]
    with pytest.raises(InputError, match="rows of the history apart"):
        path_structure(history, near)
    with pytest.raises(InputError, match="10 are needed"):
        path_structure(history, some[:5])
    with pytest.raises(InputError, match="steps and 10 are needed"):
        path_structure(history, [c.isel(step=slice(0, 5)) for c in some])
    with pytest.raises(InputError, match="history ends"):
        path_structure(history.isel(date=slice(0, 20 + 11 * H + 5)), some)
    with pytest.raises(InputError, match="increasing dates"):
        path_structure(history, some[::-1])
    with pytest.raises(InputError, match="other dates"):
        path_structure(history, {"a": some, "b": some[1:]})
    with pytest.raises(InputError, match="empty"):
        path_structure(history, [])
    with pytest.raises(InputError, match="empty"):
        path_structure(history, {})
    with pytest.raises(InputError, match="scenario datasets"):
        path_structure(history, [1])
    with pytest.raises(InputError, match="level"):
        path_structure(history, some, level=1.5)
    with pytest.raises(InputError, match="block"):
        path_structure(history, some, block=0)
    with pytest.raises(InputError, match="data must be"):
        path_structure(history, some, data="future")
    still = [c.assign(implied_vol=c.implied_vol * 0 + 0.2, implied_vol0=c.implied_vol0 * 0 + 0.2) for c in some]
    with pytest.raises(InputError, match="never moves"):
        path_structure(history, still)
    with pytest.raises(InputError, match="path_structure returns"):
        path_table(history)
