"""Spread of ratios over seeds, and pictures of a hedge."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import volscen
from scenario_toys import make_scenarios
from volscen import Option, Portfolio, Underlying, hedge
from volscen.errors import InputError, MissingExtraError
from volscen.hedging import plot, stability

STRADDLE = Portfolio.straddle(moneyness=1.0, tau=91 / 365)
PAIR = [Underlying(), Option("call", moneyness=1.0, tau=61 / 365)]


def test_spread_over_sets_of_scenarios():
    cubes = [make_scenarios(200, seed=seed) for seed in range(5)]
    out = stability(cubes, STRADDLE, PAIR, method="regression")
    each = np.array([hedge(cube, STRADDLE, PAIR, method="regression").ratio.values for cube in cubes])
    np.testing.assert_array_equal(out.ratio, each)
    np.testing.assert_allclose(out.ratio_mean, each.sum(axis=0) / 5, rtol=1e-14)
    np.testing.assert_allclose(out.ratio_sd, np.sqrt(np.square(each - each.mean(axis=0)).sum(axis=0) / 4), rtol=1e-12)
    np.testing.assert_array_equal(out.ratio_min, each.min(axis=0))
    np.testing.assert_array_equal(out.ratio_max, each.max(axis=0))
    assert out.r_squared.dims == ("seed",)
    assert out.residual_es.dims == ("seed", "tail")
    assert out.attrs["method"] == "regression"
    assert list(out.seed.values) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(out.selected_share, [1, 1])


def test_spread_over_seeds_of_a_generator():
    history = volscen.datasets.sample_history()
    model = volscen.fit(history, "bootstrap")
    options = {"seeds": [3, 9], "history": history}
    out = stability(model, STRADDLE, PAIR, generate={"n_scenarios": 500, "as_of": "2024-06-03"}, **options)
    cube = volscen.generate(model, history, as_of="2024-06-03", n_scenarios=500, seed=9)
    np.testing.assert_array_equal(out.ratio.sel(seed=9), hedge(cube, STRADDLE, PAIR).ratio)
    assert np.all(out.ratio_sd > 0)


def test_lasso_says_how_often_it_selects():
    cubes = [make_scenarios(200, seed=seed) for seed in range(6)]
    several = [Underlying(), *(Option("call", moneyness=m, tau=t / 365) for m in (0.95, 1.05) for t in (61, 122))]
    out = stability(cubes, STRADDLE, several, method="lasso", alpha=0.05)
    share = np.mean(out.ratio.values != 0, axis=0)
    np.testing.assert_allclose(out.selected_share, share)
    assert share.min() < 1


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (lambda: make_scenarios(50), {}, "not one set"),
        (lambda: [make_scenarios(50)], {}, "at least two sets of scenarios, not 1"),
        (lambda: [make_scenarios(50)] * 2, {"seeds": [1, 2]}, "seeds apply to a generator"),
        (lambda: None, {"seeds": [1, 1]}, "seeds must differ"),
        (lambda: None, {"seeds": [1], "generate": {"n_scenarios": 50}}, "at least two sets"),
        (lambda: None, {"generate": {"seed": 1}}, "generate holds seed; give seeds"),
    ],
)
def test_bad_sources(source, options, message):
    with pytest.raises(InputError, match=message):
        stability(source(), STRADDLE, PAIR, **options)


@pytest.fixture
def axes():
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot.subplots()[1]
    pyplot.close("all")


def test_picture_of_ratios(axes):
    result = hedge(make_scenarios(200, seed=1), STRADDLE, PAIR, current=[0.1, 0.2], half_spread=0.1)
    assert plot(result, ax=axes, color="red") is axes
    assert [bar.get_width() for bar in axes.patches] == result.ratio.values.tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == result.instrument.values.tolist()
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0.1, 0.2], atol=1e-15)
    assert "regression" in axes.get_title()


def test_picture_of_residuals_is_weighted(axes):
    weight = np.random.default_rng(0).dirichlet(np.full(300, 0.3))
    result = hedge(make_scenarios(300, seed=1, weight=weight), STRADDLE, PAIR)
    assert plot(result, kind="residuals", ax=axes, bins=20) is axes
    expected = np.histogram(result.tracking_error.values, bins=20, weights=weight, density=True)[0]
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], expected, rtol=1e-12)
    assert axes.lines[0].get_xdata()[0] == -float(result.residual_var[0])
    assert axes.lines[1].get_xdata()[0] == -float(result.residual_es[0])


def test_a_new_figure_by_default(axes):
    assert plot(hedge(make_scenarios(50, seed=1), STRADDLE, PAIR, method="delta")).figure is not axes.figure


def test_bad_pictures(axes):
    result = hedge(make_scenarios(50, seed=1), STRADDLE, PAIR, method="delta")
    with pytest.raises(InputError, match="kind must be"):
        plot(result, kind="pie", ax=axes)
    with pytest.raises(InputError, match=r"volscen\.hedge returned"):
        plot(make_scenarios(10))


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match="plot"):
        plot(hedge(make_scenarios(50, seed=1), STRADDLE, PAIR, method="delta"))


def test_hedging_imports_no_matplotlib():
    code = "import sys, volscen; volscen.hedging.hedge; assert 'matplotlib' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
