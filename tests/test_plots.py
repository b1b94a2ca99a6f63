"""Pictures show the weighted figures: what is drawn is read back from the artists and compared."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import xarray as xr

import volscen
from scenario_toys import MONEYNESS, TAU, make_scenarios, skewed_surface
from volscen import agent, arbitrage, plot
from volscen._pictures._components import components
from volscen._pictures._violations import violations
from volscen.errors import InputError, MissingExtraError
from volscen.surface import interpolate_vol

matplotlib = pytest.importorskip("matplotlib")
plt = pytest.importorskip("matplotlib.pyplot")

N = 400


@pytest.fixture(scope="module")
def weight():
    """Far from equal: whoever ignores it is found out."""
    return np.random.default_rng(5).dirichlet(np.full(N, 0.2))


@pytest.fixture(scope="module")
def cube(weight):
    return make_scenarios(N, steps=4, weight=weight, seed=3)


@pytest.fixture(scope="module")
def history():
    return volscen.datasets.sample_history()


def brute_quantile(values, weight, q):
    """Sorted by hand, one column at a time."""
    flat = values.reshape(len(values), -1)
    out = []
    for column in flat.T:
        order = np.argsort(column)
        out.append(column[order][np.searchsorted(np.cumsum(weight[order]), q - 1e-12)])
    return np.array(out).reshape(values.shape[1:])


def band_of(collection):
    """Lower and upper edge of a fill_between, by x."""
    vertices = collection.get_paths()[0].vertices
    xs = np.unique(vertices[:, 0])
    return xs, np.array([[f(vertices[vertices[:, 0] == x, 1]) for x in xs] for f in (np.min, np.max)])


# ------------------------------------------------------------------------------------------------ surfaces
def test_map_is_the_weighted_mean(cube, weight):
    one = cube.isel(step=-1)
    ax = plot.surface(one, kind="heatmap")
    expected = np.einsum("n,nij->ij", weight, one.implied_vol.values)
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(expected.shape), expected, rtol=1e-12)
    assert not np.allclose(expected, one.implied_vol.values.mean(axis=0), rtol=1e-4)
    coordinates = ax.collections[0].get_coordinates()
    np.testing.assert_allclose(coordinates[0, :, 0], MONEYNESS)
    np.testing.assert_allclose(coordinates[:, 0, 1], TAU)
    assert ax.get_title() == "2024-01-10, step 4, weighted mean"


def test_map_is_the_weighted_quantile(cube, weight):
    one = cube.isel(step=1)
    ax = plot.surface(one, kind="heatmap", q=0.9, add_colorbar=False)
    expected = brute_quantile(one.implied_vol.values, weight, 0.9)
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(expected.shape), expected)
    assert len(ax.figure.axes) == 1
    assert ax.get_title().endswith("weighted 90% quantile")


def test_solid_has_the_surface_s_height(history):
    day = history.sel(date="2024-06-03")
    ax = plot.surface(day)
    low, high = ax.zz_dataLim.intervalx
    assert (low, high) == pytest.approx((float(day.implied_vol.min()), float(day.implied_vol.max())))
    assert (ax.get_zlabel(), ax.zaxis.get_major_formatter()(0.2)) == ("implied vol", "20%")
    ax.figure.canvas.draw()


def test_any_variable_over_tau_and_moneyness(cube):
    ax = plot.surface(cube, variable_name="implied_vol0", kind="heatmap")
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(4, 7), skewed_surface())


def test_surfaces_by_delta(history):
    smiles = volscen.surface.regrid(history.isel(date=[-1]), delta=[0.9, 0.75, 0.5, 0.25, 0.1])
    ax = plot.smile(smiles, tau="3M")
    np.testing.assert_allclose(ax.lines[0].get_xdata(), smiles.moneyness.values[0, 2])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), smiles.implied_vol.values[0, 2])
    assert plot.surface(smiles, kind="heatmap").get_xlabel() == "moneyness K/F"


def test_smiles_are_weighted_medians_in_their_band(cube, weight):
    one = cube.isel(step=2)
    ax = plot.smile(one, tau=["1Y", TAU[0]], x="log_moneyness", levels=(0.1, 0.8))
    for i, row in enumerate((3, 0)):
        vols = one.implied_vol.values[:, row]
        line = next(line for line in ax.lines if line.get_label() == ("1Y", "1M")[i])
        np.testing.assert_allclose(line.get_xdata(), np.log(MONEYNESS))
        np.testing.assert_allclose(line.get_ydata(), brute_quantile(vols, weight, 0.5))
        _, edges = band_of(ax.collections[i])
        np.testing.assert_allclose(edges, [brute_quantile(vols, weight, q) for q in (0.1, 0.8)])
    dashed = [line for line in ax.lines if line.get_label() == "_start"]
    np.testing.assert_allclose(dashed[0].get_ydata(), skewed_surface()[3])
    assert ax.get_title() == "2024-01-10, step 3, weighted median and 70% band"


def test_many_smiles_have_no_bands_unless_asked(cube):
    one = cube.isel(step=0)
    assert len(plot.smile(one).collections) == 0
    assert len(plot.smile(one, levels=(0.05, 0.95)).collections) == 4
    assert len(plot.smile(one, tau="1Y").collections) == 1
    assert len(plot.smile(one, tau="1Y", levels=None).collections) == 0


def test_one_scenario_is_drawn_as_it_is(cube):
    path = cube.isel(scenario=7, step=0)
    ax = plot.smile(path, tau="1Y")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), cube.implied_vol.values[7, 0, 3])


def test_one_surface_alone_and_repaired_ones(history):
    """What has no date left, and what has dimensions of its own."""
    day = history.isel(date=3)
    surface = xr.Dataset({"implied_vol": day.implied_vol.drop_vars("date")})
    np.testing.assert_allclose(plot.smile(surface, tau="1Y").lines[0].get_ydata(), day.implied_vol[-1])
    assert plot.surface(surface, kind="heatmap").get_title() == ""
    assert "mean penalty" in plot.arbitrage(surface).get_title()
    several = surface.expand_dims(surface=3)
    with pytest.raises(InputError, match=r"3 entries of surface.*ds\.isel\(surface=-1\)"):
        plot.smile(several)
    assert len(plot.smile(several.isel(surface=[1])).lines) == history.sizes["tau"]


# ------------------------------------------------------------------------------------------------ fans
def test_fan_of_a_vol(cube, weight):
    ax = plot.fan(cube, "implied_vol", tau="3M", moneyness=0.95, levels=(0.05, 0.5, 0.95))
    point = lambda vol: interpolate_vol(vol, TAU, MONEYNESS, "3M", 0.95)  # noqa: E731
    path = np.column_stack([np.full(N, point(skewed_surface())), point(cube.implied_vol.values)])
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), range(5))
    np.testing.assert_allclose(line.get_ydata(), brute_quantile(path, weight, 0.5))
    assert not np.allclose(line.get_ydata()[1:], np.median(path[:, 1:], axis=0), rtol=1e-4)
    _, edges = band_of(ax.collections[0])
    np.testing.assert_allclose(edges, [brute_quantile(path, weight, q) for q in (0.05, 0.95)])
    assert ax.get_ylabel() == "3M vol at K/F = 0.95"


def test_fans_of_returns_and_prices(cube, weight):
    total = np.log(cube.spot.values / 100)
    ax = plot.fan(cube, "total_log_return")
    expected = [0, *brute_quantile(total, weight, 0.5)]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), expected, atol=1e-12)
    assert len(ax.collections) == 3
    steps = plot.fan(cube, "log_return").lines[0]
    np.testing.assert_array_equal(steps.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(steps.get_ydata(), brute_quantile(cube.log_return.values, weight, 0.5))
    np.testing.assert_allclose(plot.fan(cube, "spot").lines[0].get_ydata(), 100 * np.exp(expected))
    assert plot.fan(cube, "arbitrage_penalty").get_ylabel() == "Cont-Vuletic static-arbitrage penalty"


def test_paths_in_a_fan_go_by_weight(cube):
    certain = np.zeros(N)
    certain[[3, 9]] = 0.75, 0.25
    ax = plot.fan(cube.assign(weight=("scenario", certain)), "spot", n_paths=4)
    drawn = [line.get_ydata()[1:] for line in ax.lines[:4]]
    np.testing.assert_allclose(drawn, cube.spot.values[[3, 3, 3, 9]])


def test_fan_of_chosen_steps(cube):
    ax = plot.fan(cube.sel(step=[2, 4]), "spot")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 2, 4])


# ------------------------------------------------------------------------------------------------ components
def test_components_are_those_of_the_weighted_covariance(cube, weight):
    one = cube.isel(step=0)
    moves = (np.log(one.implied_vol.values) - np.log(skewed_surface())).reshape(N, -1)
    value, vector = np.linalg.eigh(np.cov(moves.T, aweights=weight, bias=True))
    ax = plot.pca(one, n_components=2, tau="1Y")
    for i in range(2):
        expected = vector[:, -1 - i] * np.sqrt(value[-1 - i])
        expected = (expected * (1 if expected.sum() > 0 else -1)).reshape(4, 7)[3]
        np.testing.assert_allclose(ax.lines[1 + i].get_ydata(), expected, rtol=1e-6, atol=1e-9)
        assert ax.lines[1 + i].get_label() == f"{i + 1}: {value[-1 - i] / value.sum():.1%}"
    plain = components(moves.reshape(N, 4, 7), np.full(N, 1 / N), 2)
    assert not np.allclose(plain.move[0, 3], ax.lines[1].get_ydata(), rtol=1e-2)


def test_map_of_a_component(cube, weight):
    one = cube.isel(step=1)
    ax = plot.pca(one, component=2)
    moves = np.log(one.implied_vol.values) - np.log(skewed_surface())
    found = components(moves, weight, 2)
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(4, 7), found.move[1])
    low, high = ax.collections[0].get_clim()
    assert low == -high == -np.abs(found.move[1]).max()


def test_components_beside_a_history_s(history):
    model = volscen.fit(history, "bootstrap")
    cube = volscen.generate(model, history, n_scenarios=300, horizon=3, seed=1).isel(step=2)
    ax = plot.pca(cube, n_components=1, history=history)
    log_vol = np.log(history.implied_vol.values)
    past = components(log_vol[3:] - log_vol[:-3], np.full(len(log_vol) - 3, 1 / (len(log_vol) - 3)), 1)
    np.testing.assert_allclose(np.abs(ax.lines[2].get_ydata()), np.abs(past.move[0, 0]))
    assert np.sum(ax.lines[1].get_ydata() * ax.lines[2].get_ydata()) > 0
    assert f"history {past.share[0]:.1%}" in ax.lines[1].get_label()
    with pytest.raises(InputError, match="grid"):
        plot.pca(make_scenarios(20).isel(step=0), history=history)


def test_components_of_a_history(history):
    log_vol = np.log(history.implied_vol.values).reshape(history.sizes["date"], -1)
    value = np.linalg.eigvalsh(np.cov(np.diff(log_vol, axis=0).T, bias=True))
    ax = plot.pca(history)
    assert [line.get_label() for line in ax.lines[1:]] == [
        f"{i + 1}: {value[-1 - i] / value.sum():.1%}" for i in range(3)
    ]


# ------------------------------------------------------------------------------------------------ weights
def test_lorenz_curve_and_sorted_weights(cube, weight):
    ax = plot.weights(cube)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0, *np.cumsum(np.sort(weight))])
    ess = 1 / np.sum(weight**2)
    assert ax.lines[1].get_label() == f"ESS {ess:,.0f} of {N} ({ess / N:.0%})"
    ax = plot.weights(cube, kind="sorted")
    np.testing.assert_allclose(ax.lines[1].get_ydata(), N * np.sort(weight)[::-1])
    equal = plot.weights(make_scenarios(10))
    np.testing.assert_allclose(equal.lines[1].get_ydata(), np.arange(11) / 10)


# ------------------------------------------------------------------------------------------------ arbitrage
@pytest.mark.parametrize("seed", range(3))
def test_violations_sum_to_the_penalty(seed):
    vol = 0.2 * np.exp(0.3 * np.random.default_rng(seed).standard_normal((20, 4, 7)))
    found = violations(vol, TAU, MONEYNESS)
    parts = arbitrage.penalty(vol, TAU, MONEYNESS, parts=True)
    np.testing.assert_allclose(found.sum(axis=(2, 3)).T, parts, rtol=1e-9, atol=1e-13)
    assert (parts > 0).all(axis=0).any() or parts[:, 1].max() == 0


def test_free_wings_have_no_violations():
    far = np.exp(np.linspace(-3, 3, 9))
    assert violations(np.full((4, 9), 0.1), TAU, far).max() < 1e-15


def test_a_violation_stands_where_it_is():
    vol = np.full((4, 7), 0.2)
    vol[1, 3] = 0.3  # dearer than the next maturity there, and a kink
    calendar, _, butterfly = violations(vol, TAU, MONEYNESS)
    assert np.argwhere(calendar > 1e-9).tolist() == [[1, 3]]
    assert np.argwhere(butterfly > 1e-9).tolist() == [[1, 3]]


def test_map_of_violations_before_and_after_weights(weight, monkeypatch):
    monkeypatch.setattr("volscen._pictures._violations._BLOCK", 5000)  # several blocks, the last not full
    rng = np.random.default_rng(0)
    vol = skewed_surface() * np.exp(0.1 * rng.standard_normal((N, 2, 4, 7)))
    ds = make_scenarios(N, steps=2, implied_vol=vol, weight=weight)
    phi = arbitrage.penalty(vol, TAU, MONEYNESS).mean(axis=1)
    before, after = plot.arbitrage(ds, weighted=False), plot.arbitrage(ds)
    assert before.collections[0].get_array().sum() == pytest.approx(phi.mean(), rel=1e-9)
    assert after.collections[0].get_array().sum() == pytest.approx(weight @ phi, rel=1e-9)
    assert abs(weight @ phi / phi.mean() - 1) > 1e-3
    assert f"weighted mean penalty {weight @ phi:.3g} (before weights {phi.mean():.3g})" in after.get_title()
    part = plot.arbitrage(ds, part="calendar").collections[0].get_array()
    calendar = arbitrage.penalty(vol, TAU, MONEYNESS, parts=True)[..., 0].mean(axis=1)
    assert part.sum() == pytest.approx(weight @ calendar, rel=1e-9)
    one = plot.arbitrage(ds.isel(step=1)).collections[0].get_array()
    assert one.sum() == pytest.approx(weight @ arbitrage.penalty(vol[:, 1], TAU, MONEYNESS), rel=1e-9)
    single = plot.arbitrage(ds.isel(step=1, scenario=3)).collections[0].get_array()
    assert single.sum() == pytest.approx(arbitrage.penalty(vol[3, 1], TAU, MONEYNESS), rel=1e-9)


def test_map_of_violations_of_a_history(history):
    vol = history.implied_vol.copy(deep=True)
    vol[0, 0, 4] = 1.0
    ax = plot.arbitrage(history.assign(implied_vol=vol).isel(date=slice(0, 5)))
    expected = arbitrage.penalty(vol[:5].values, history.tau, history.moneyness).mean()
    assert ax.collections[0].get_array().sum() == pytest.approx(expected)


# ------------------------------------------------------------------------------------------------ hedges
def test_hedge_ratios(cube):
    instruments = [volscen.Underlying(), volscen.Option("call", moneyness=1.0, tau=0.5)]
    result = volscen.hedge(cube, volscen.Portfolio.straddle(moneyness=1.0, tau=0.25), instruments)
    ax = plot.hedge_ratios(result)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], result.ratio)
    ax = plot.hedge_ratios(result, kind="residuals", bins=10, density=False)
    heights = [bar.get_height() for bar in ax.patches]
    expected, _ = np.histogram(result.tracking_error, 10, weights=cube.weight)
    np.testing.assert_allclose(heights, expected)
    assert volscen.hedging.plot is plot.hedge_ratios


# ------------------------------------------------------------------------------------------------ attention
@pytest.fixture
def looks():
    rng = np.random.default_rng(2)
    days = np.arange("2024-01-01", "2024-01-07", dtype="datetime64[D]").astype("datetime64[ns]")
    return xr.DataArray(
        rng.dirichlet(np.ones(5), (6, 3)), dims=("date", "head", "lag"), coords={"date": days, "lag": np.arange(1, 6)}
    )


def test_attention_over_dates_and_heads(looks):
    ax = plot.attention_map(looks)
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(5, 6), looks.mean("head").T)
    ax = plot.attention_map(looks.transpose("lag", "date", "head"), head=1)
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(5, 6), looks[:, 1].T)
    assert ax.get_title() == "head 1"
    ax = plot.attention_map(looks.isel(date=2))
    np.testing.assert_allclose(ax.collections[0].get_array().reshape(5, 3), looks[2].T)
    assert (ax.get_xlabel(), ax.get_title()) == ("head", "2024-01-03")
    ax.figure.canvas.draw()


def test_wrong_attention(looks):
    for wrong, text in (
        (looks * 1.01, "sum to 1"),
        (looks.where(looks < 0.5), "finite"),
        (looks - 0.5, "not negative"),
        (looks.rename(lag="day"), "lag"),
        (looks.values, "DataArray"),
    ):
        with pytest.raises(InputError, match=text):
            plot.attention_map(wrong)
    with pytest.raises(InputError, match="head"):
        plot.attention_map(looks, head=3)


# ------------------------------------------------------------------------------------------------ wealth
@pytest.fixture(scope="module")
def simulated(history):
    past, now = history.isel(date=slice(0, 900)), history.isel(date=slice(900, 1100))
    signal = agent.RiskSignal.fit(past)
    velocity = agent.RiskVelocity.calibrate(signal(past.implied_vol).values)
    policies = {"hold": agent.BuyAndHold(), "velocity": velocity, "always": agent.AlwaysHedged()}
    return agent.simulate(agent.option_market(now, signal), policies)


def test_wealth_and_hedged_stretches(simulated):
    ax = plot.wealth(simulated, hedged="always")
    for line, wanted in zip(ax.lines, simulated.wealth.values[:, 0], strict=True):
        np.testing.assert_allclose(line.get_ydata(), wanted)
    left, right = (matplotlib.dates.date2num(simulated.date.values[i]) for i in (0, -1))
    xs = np.concatenate([path.vertices[:, 0] for path in ax.collections[0].get_paths()])
    assert (xs.min(), xs.max()) == (left, right)
    assert len(plot.wealth(simulated, hedged="hold").collections[0].get_paths()) == 0


def test_shaded_is_who_switches_and_only_then(simulated):
    hedge = simulated.hedge.copy(data=np.zeros(simulated.hedge.shape))
    hedge[1, 0, 50:80] = 0.8
    ax = plot.wealth(simulated.assign(hedge=hedge))
    assert ax.collections[0].get_label() == "velocity hedged"
    days = matplotlib.dates.date2num(simulated.date.values)
    (path,) = ax.collections[0].get_paths()
    assert path.vertices[:, 0].min() == days[50]
    assert path.vertices[:, 0].max() == days[79]
    assert not plot.wealth(simulated.assign(hedge=hedge), threshold=0.9).collections


def test_wealth_of_paths_is_weighted(history, cube, weight):
    signal = agent.RiskSignal.fit(_like(cube))
    result = agent.simulate(agent.simplified_market(cube, signal), {"hold": agent.BuyAndHold()})
    ax = plot.wealth(result, levels=(0.1, 0.9))
    values = result.wealth.values[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), brute_quantile(values, weight, 0.5))
    _, edges = band_of(ax.collections[0])
    np.testing.assert_allclose(edges, [brute_quantile(values, weight, q) for q in (0.1, 0.9)])
    with pytest.raises(InputError, match="isel"):
        plot.wealth(result, hedged="hold")
    with pytest.raises(InputError, match="policies"):
        plot.wealth(result.isel(path=[0]), hedged="nobody")


def _like(cube):
    """A history on the grid of the toy scenarios."""
    rng = np.random.default_rng(0)
    days = np.arange("2023-01-02", "2023-04-12", dtype="datetime64[D]").astype("datetime64[ns]")
    vol = skewed_surface() * np.exp(0.05 * rng.standard_normal((len(days), 1, 1)).cumsum(axis=0))
    spot = 100 * np.exp(0.01 * rng.standard_normal(len(days)).cumsum())
    return volscen.make_history(days, TAU, MONEYNESS, vol, spot=spot, calendar="weekdays")


# ------------------------------------------------------------------------------------------------ manners
def test_axes_given_are_drawn_on_and_no_style_changes(cube, history, simulated, looks):
    before = dict(matplotlib.rcParams)
    one = cube.isel(step=0)
    figure, axes = plt.subplots(3, 3)
    solid = plt.figure().add_subplot(projection="3d")
    calls = [
        lambda ax: plot.surface(one, kind="heatmap", ax=ax, cmap="viridis"),
        lambda ax: plot.smile(one, ax=ax, linewidth=3),
        lambda ax: plot.fan(cube, ax=ax, color="k", alpha=0.1),
        lambda ax: plot.pca(one, ax=ax, linestyle=":"),
        lambda ax: plot.weights(one, ax=ax, color="k"),
        lambda ax: plot.arbitrage(cube, ax=ax, vmax=1.0),
        lambda ax: plot.attention_map(looks, ax=ax, vmax=1),
        lambda ax: plot.wealth(simulated, ax=ax, linewidth=1),
        lambda ax: plot.pca(history, component=1, ax=ax, norm=matplotlib.colors.Normalize(-1, 1)),
    ]
    open_figures = plt.get_fignums()
    for ax, call in zip(axes.ravel(), calls, strict=True):
        assert call(ax) is ax
    assert plot.surface(one, ax=solid, color="C0") is solid
    assert plt.get_fignums() == open_figures
    figure.canvas.draw()
    assert dict(matplotlib.rcParams) == before
    assert axes[0, 0].collections[0].get_cmap().name == "viridis"
    assert axes[0, 1].lines[0].get_linewidth() == 3
    assert axes[0, 2].collections[0].get_alpha() == 0.1
    assert axes[1, 2].collections[0].get_clim() == (0, 1)


def test_lazy_cubes_draw_the_same(cube):
    pytest.importorskip("dask")
    lazy = cube.chunk(scenario=100)
    np.testing.assert_array_equal(plot.fan(lazy).lines[0].get_ydata(), plot.fan(cube).lines[0].get_ydata())


def test_order_of_dimensions_does_not_matter(cube):
    turned = cube.transpose("moneyness", "tau", "step", "scenario")
    for draw in (plot.fan, lambda ds: plot.smile(ds.isel(step=0)), lambda ds: plot.pca(ds.isel(step=0))):
        np.testing.assert_array_equal(draw(turned).lines[-1].get_ydata(), draw(cube).lines[-1].get_ydata())
    a, b = (plot.arbitrage(ds).collections[0].get_array() for ds in (turned, cube))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda c, h: plot.surface(h), r"1500 dates.*ds\.sel\(date='2024-10-01'\) or ds\.isel\(date=-1\)"),
        (lambda c, h: plot.surface(c), r"4 steps.*ds\.sel\(step=4\)"),
        (lambda c, h: plot.smile(c), "4 steps"),
        (lambda c, h: plot.pca(c), "4 steps"),
        (lambda c, h: plot.fan(xr.concat([c, c.assign_coords(as_of=c.as_of + np.timedelta64(1, "D"))], "as_of")),
         r"2 starting dates.*ds\.sel\(as_of='2024-01-11'\)"),
        (lambda c, h: plot.weights(c.drop_vars("as_of").expand_dims(as_of=2)), "2 starting dates"),
        (lambda c, h: plot.fan(c.expand_dims(asset=["A", "B"])), r"2 assets.*ds\.sel\(asset='B'\)"),
        (lambda c, h: plot.fan(h), "no dimension scenario"),
        (lambda c, h: plot.fan(c.isel(step=0)), r"ds\.isel\(step=slice"),
        (lambda c, h: plot.fan(c, "vol"), "no variable 'vol'.*implied_vol"),
        (lambda c, h: plot.fan(c, tau="10Y"), "off the grid"),
        (lambda c, h: plot.fan(c, tau=np.nan), "tau"),
        (lambda c, h: plot.fan(c, "spot", tau="1Y"), "tau"),
        (lambda c, h: plot.fan(c, levels=(0.9, 0.1)), "levels"),
        (lambda c, h: plot.fan(c, levels=(0, 1)), "levels"),
        (lambda c, h: plot.fan(c, n_paths=-1), "n_paths"),
        (lambda c, h: plot.weights(h), "no weight"),
        (lambda c, h: plot.weights(c, kind="bars"), "kind"),
        (lambda c, h: plot.weights(None), "Dataset"),
        (lambda c, h: plot.weights(c.isel(scenario=slice(0, 5))), "sum to 1"),
        (lambda c, h: plot.surface(c.isel(step=0, scenario=slice(0, 5))), "sum to 1"),
        (lambda c, h: plot.surface(c.isel(step=0).drop_vars("weight")), "no weight"),
        (lambda c, h: plot.surface(h.isel(date=0), kind="wire"), "kind"),
        (lambda c, h: plot.surface(c.isel(step=0), q=2), "q must"),
        (lambda c, h: plot.surface(h.isel(date=0), q=0.5), "leave it out"),
        (lambda c, h: plot.smile(h.isel(date=0), levels=(0.1, 0.9)), "leave them out"),
        (lambda c, h: plot.surface(c, variable_name="spot"), "no dimension tau"),
        (lambda c, h: plot.surface(h.isel(date=0, tau=[0])), "two of each"),
        (lambda c, h: plot.surface(h.isel(date=0).where(h.moneyness < 1)), r"NaN.*repair"),
        (lambda c, h: plot.smile(h.isel(date=0), tau="7Y"), "regrid"),
        (lambda c, h: plot.smile(h.isel(date=0), tau=[]), "tau"),
        (lambda c, h: plot.smile(h.isel(date=0), tau=[None]), "tau"),
        (lambda c, h: plot.smile(c.isel(step=0), levels=(0.1, 0.5, 0.9)), "levels"),
        (lambda c, h: plot.smile(h.isel(date=0), x="strike"), "x must"),
        (lambda c, h: plot.pca(h.isel(date=0)), "single surface"),
        (lambda c, h: plot.pca(h.isel(date=slice(0, 2))), "at least 3"),
        (lambda c, h: plot.pca(h, n_components=0), "n_components"),
        (lambda c, h: plot.pca(h, component=81), "component"),
        (lambda c, h: plot.pca(h.isel(date=slice(0, 5)), n_components=9), "more than"),
        (lambda c, h: plot.pca(h, component=1, tau="1Y"), "leave out"),
        (lambda c, h: plot.pca(h, tau=["1M", "1Y"]), "one maturity"),
        (lambda c, h: plot.pca(c.isel(step=0).assign(implied_vol=c.implied_vol0.expand_dims(scenario=N))), "move"),
        (lambda c, h: plot.arbitrage(c, part="all of it"), "part"),
        (lambda c, h: plot.arbitrage(c, weighted=1), "weighted"),
        (lambda c, h: plot.hedge_ratios(c), "hedge"),
        (lambda c, h: plot.wealth(h), "simulate"),
        (lambda c, h: plot.fan(c, ax="here"), "Axes"),
        (lambda c, h: plot.surface(h.isel(date=0), ax=plt.subplots()[1]), "three-dimensional"),
        (lambda c, h: plot.fan(c, ax=plt.figure().add_subplot(projection="3d")), "three-dimensional"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(cube, history, draw, message):
    with pytest.raises(InputError, match=message):
        draw(cube, history)


def test_without_matplotlib_it_says_what_to_install(cube, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'volscen\[plot\]'"):
        cube.volscen.plot_fan()
