from __future__ import annotations

import re

import numpy as np
import pytest

import volscen
from report_page import BOOK, Page, explored, weighted
from volscen import Option, Underlying, risk
from volscen._report._explorer import _BUDGET


@pytest.fixture(scope="module")
def cube():
    return weighted()


@pytest.fixture(scope="module")
def history():
    return volscen.datasets.sample_history()


@pytest.fixture(scope="module")
def written(cube, history, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    volscen.report(cube, history, BOOK, volscen.datasets.default_generator(), path=out)
    return out


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


# --------------------------------------------------------------------------------------------------- numbers
def test_risk_is_that_of_the_verbs(page, cube):
    profit = volscen.portfolio.pnl(cube, BOOK)
    total, w = profit["total"].values[:, -1], cube["weight"].values
    assert np.ptp(w) > 0.1 * w.max()
    for alpha in (0.05, 0.025, 0.01):
        for measure, short in (("value_at_risk", "VaR"), ("expected_shortfall", "ES")):
            estimate, low, high = risk.confidence_interval(total, w, measure=measure, alpha=alpha)
            flat = float(getattr(risk, measure)(total, alpha=alpha))
            shown = page.numbers("risk-table", f"{short} {100 * (1 - alpha):g}%")
            np.testing.assert_allclose(shown, [estimate, low, high, flat], rtol=1e-10)
    # By hand: the loss of the first scenario, in order, at which the weights reach 1%.
    order = np.argsort(total)
    var = -total[order][np.searchsorted(np.cumsum(w[order]), 0.01)]
    assert page.numbers("risk-table", "VaR 99%")[0] == pytest.approx(var, rel=1e-10)
    mean = page.cells["risk-table"]["mean P&L"]
    assert float(mean[0]) == pytest.approx(w @ total, rel=1e-10)
    assert float(mean[3]) == pytest.approx(total.mean(), rel=1e-10)


def test_tiles(written, cube):
    text = written.read_text(encoding="utf-8")
    shown = {k: float(v) for k, v in re.findall(r'<span class="what">([^<]*)</span><strong data-v="([^"]*)"', text)}
    w, growth = cube["weight"].values, (cube["spot"][:, -1] / cube["spot0"] - 1).values
    total = volscen.portfolio.pnl(cube, BOOK)["total"].values[:, -1]
    assert shown["book VaR 99%"] == pytest.approx(float(risk.value_at_risk(total, w, alpha=0.01)))
    assert shown["book ES 99%"] == pytest.approx(float(risk.expected_shortfall(total, w, alpha=0.01)))
    assert shown["index VaR 99%"] == pytest.approx(float(risk.value_at_risk(growth, w, alpha=0.01)))
    assert shown["effective scenarios"] == pytest.approx(1 / (w @ w))
    assert shown["arbitrage penalty"] == pytest.approx(w @ cube["arbitrage_penalty"].sum("step").values)
    from volscen.surface import interpolate_vol

    grid = (cube["tau"].values, cube["moneyness"].values, 30 / 365, 1.0)
    vol, now = (interpolate_vol(cube[name].values, *grid) for name in ("implied_vol", "implied_vol0"))
    order = np.argsort(vol[:, -1])
    assert shown["30-day volatility"] == pytest.approx(vol[order, -1][np.searchsorted(np.cumsum(w[order]), 0.5)])
    covariance = np.cov(np.log1p(growth), np.log(vol[:, -1] / now), aweights=w)
    rho = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert shown["return and volatility"] == pytest.approx(rho)


def test_contributions_horizon_and_explanation(page, cube):
    profit = volscen.portfolio.pnl(cube, BOOK)
    found = risk.contributions(profit, alpha=0.01, groups="group")
    rows = {name: cells for name, cells in page.cells["contributions-table"].items() if name in found["line"].values}
    assert len(rows) == 4
    for name, cells in rows.items():
        i = list(found["line"].values).index(name)
        shown = [float(v) for v in cells[:4]]
        expected = [profit["quantity"][i], profit["value0"][i], found["component_var"][i], found["component_es"][i]]
        np.testing.assert_allclose(shown, [float(v) for v in expected], rtol=1e-10)
    assert sum(float(c[3]) for c in rows.values()) == pytest.approx(float(found["expected_shortfall"]))
    for name in ("calls", "puts", "delta"):
        one = found.sel(group=name)
        assert page.numbers("groups-table", name)[:2] == pytest.approx([float(one.group_var), float(one.group_es)])
    horizon = risk.horizon(profit, alpha=0.01)
    assert page.numbers("horizon-table", "day 3") == pytest.approx(
        [float(horizon[name][0, 2]) for name in ("expected_shortfall", "expected_shortfall_sqrt", "value_at_risk",
                                                 "value_at_risk_sqrt")]
    )  # fmt: skip
    explained = volscen.portfolio.explain(cube, BOOK, alpha=0.01)
    assert page.numbers("explained-table", "vega") == pytest.approx(
        [float(explained["mean"].sel(component="vega")), float(explained["std"].sel(component="vega")),
         -float(explained["tail_mean"].sel(component="vega"))]
    )  # fmt: skip
    shares = [float(cells[2]) for cells in page.cells["explained-table"].values() if cells[0] != "mean"]
    assert sum(shares) == pytest.approx(float(found["expected_shortfall"]), rel=1e-9)


def test_hedge_is_that_of_the_verb(cube, tmp_path):
    instruments = [Underlying(), Option("call", moneyness=1.0, tau=0.5), Option("put", moneyness=0.95, tau=0.4)]
    out = volscen.report(cube, None, BOOK, instruments=instruments, method="regression", path=tmp_path / "a.html")
    found, shown = volscen.hedge(cube, BOOK, instruments, method="regression"), Page(out.read_text(encoding="utf-8"))
    for i, name in enumerate(found["instrument"].values):
        expected = [float(found[v][i]) for v in ("ratio", "value0", "delta", "vega")]
        assert [float(v) for v in shown.cells["hedge-table"][name][:4]] == pytest.approx(expected)
    left = shown.numbers("residual-table", "regression, these instruments")
    assert left[0] == pytest.approx(float(found["residual_std"]))
    assert left[2:5] == pytest.approx([float(v) for v in found["residual_es"].values])
    delta = volscen.hedge(cube, BOOK, [Underlying()], method="delta")
    assert shown.numbers("residual-table", "Black delta, underlying alone")[0] == pytest.approx(
        float(delta["residual_std"])
    )
    total, w = volscen.portfolio.pnl(cube, BOOK)["total"].values[:, -1], cube["weight"].values
    assert shown.numbers("residual-table", "no hedge")[0] == pytest.approx(np.sqrt(w @ (total - w @ total) ** 2))


def test_fans_are_weighted_quantiles(page, cube):
    growth = cube.assign(growth=cube["spot"] / cube["spot0"] - 1)
    levels = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
    expected = volscen.weighted_quantile(growth, "growth", levels)
    for day in (1, 3, 5):
        np.testing.assert_allclose(page.numbers("index-fan", f"day {day}"), expected.sel(step=day), rtol=1e-9)
    np.testing.assert_allclose(
        page.numbers("index-return", "weighted")[1:], page.numbers("index-fan", "day 5"), rtol=1e-12
    )
    assert page.numbers("index-return", "weighted")[0] == pytest.approx(
        float(volscen.weighted_mean(growth, "growth")[-1])
    )
    assert page.numbers("index-return", "equal weights") != page.numbers("index-return", "weighted")
    from volscen.surface import interpolate_vol

    vol = interpolate_vol(cube["implied_vol"].values[:, 2], cube["tau"].values, cube["moneyness"].values, 91 / 365, 1.0)
    order = np.argsort(vol)
    median = vol[order][np.searchsorted(np.cumsum(cube["weight"].values[order]), 0.5)]
    assert page.numbers("vol-fan-91", "day 3")[3] == pytest.approx(median, rel=1e-9)


def test_weights_and_penalties(page, cube):
    w, phi = cube["weight"].values, cube["arbitrage_penalty"].sum("step").values
    assert float(page.cells["weights-table"]["effective sample size"][0]) == pytest.approx(1 / (w @ w))
    assert float(page.cells["weights-table"]["largest weight over an equal one"][0]) == pytest.approx(w.size * w.max())
    before, after = page.numbers("penalty-table", "before weighting"), page.numbers("penalty-table", "after weighting")
    assert (before[0], after[0]) == pytest.approx((phi.mean(), w @ phi))
    assert after[0] < 0.8 * before[0]
    assert after[-1] == pytest.approx(w[phi > 1e-6].sum())
    order = np.argsort(phi)
    assert after[2] == pytest.approx(phi[order][np.searchsorted(np.cumsum(w[order]), 0.95)])


def test_components_are_weighted(page, cube, history):
    moves = np.log(cube["implied_vol"].values[:, 0] / cube["implied_vol0"].values).reshape(800, -1).astype(np.float64)
    w = cube["weight"].values
    centred = np.sqrt(w)[:, None] * (moves - w @ moves)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    shown = [page.numbers("components-table", f"PC{k}") for k in (1, 2, 3)]
    np.testing.assert_allclose([s[0] for s in shown], values[:3] / values.sum(), rtol=1e-6)
    past = history.sel(date=slice(None, cube["as_of"].values))["implied_vol"].values
    increments = np.diff(np.log(past).reshape(len(past), -1), axis=0)
    values = np.linalg.eigvalsh(np.cov(increments.T))[::-1]
    np.testing.assert_allclose([s[1] for s in shown], values[:3] / values.sum(), rtol=1e-6)
    assert all(0 <= s[2] <= 1 for s in shown)


def test_tail_is_the_worst(page, cube, history):
    profit = volscen.portfolio.pnl(cube, BOOK)
    worst = risk.tail(cube, profit, alpha=0.01, tau=30 / 365)
    names = [name for name in page.cells["tail-table"] if name != "scenario"]
    assert names == [str(v) for v in worst["scenario"].values[:10]]
    first = page.cells["tail-table"][names[0]]
    assert float(first[0]) == pytest.approx(float(worst["pnl"][0]))
    assert float(first[1]) == pytest.approx(np.expm1(float(worst["log_return"][0])))
    assert float(first[3]) == pytest.approx(float(worst["atm_change"][0]))
    assert float(first[5]) == pytest.approx(float(worst["skew_change"][0]))
    # The nearest stretch of five days, by brute force.
    from volscen.surface import interpolate_vol

    past = history.sel(date=slice(None, cube["as_of"].values))
    grid = (past["tau"].values, past["moneyness"].values, 30 / 365)
    vol = interpolate_vol(past["implied_vol"].values, *grid, np.array([1.0, 0.95, 1.05]))
    level = np.stack([np.log(past["spot"].values), vol[:, 0], vol[:, 1] - vol[:, 2]])
    moves = level[:, 5:] - level[:, :-5]
    target = [float(worst[name][0]) for name in ("log_return", "atm_change", "skew_change")]
    distance = sum(((move - aim) / np.std(move)) ** 2 for move, aim in zip(moves, target, strict=True)) ** 0.5
    day = past["date"].values[5:][distance.argmin()].astype("datetime64[D]")
    assert first[8] == f"{day} ({distance.min():.1f})"


def test_surface_in_the_tail_is_its_weighted_mean(page, cube):
    total = volscen.portfolio.pnl(cube, BOOK)["total"].values[:, -1]
    share = risk.tail_weight(total, cube["weight"].values, alpha=0.01)
    change = 100 * (cube["implied_vol"].values[:, -1] - cube["implied_vol0"].values)
    mean = (share[:, None, None] * change).sum(axis=0)
    labels = [a["aria-label"] for tag, a in page.tags if tag == "svg" and "aria-label" in a]
    assert f"Mean change of volatility in the tail, points, from {mean.min():.2f} to {mean.max():.2f}." in labels


def test_most_like_finds_the_day_itself(history, tmp_path):
    # Scenarios that are past days: each day is most like itself.
    date = history["date"].values
    cube = volscen.generate(volscen.datasets.default_generator(), history, as_of=date[-1], n_scenarios=300, seed=2)
    now, before = history["implied_vol"].values[-1], history["implied_vol"].values
    rows = np.arange(100, 400)
    surfaces = now + before[rows] - before[rows - 1]
    moves = history["log_return"].values[rows]
    cube["implied_vol"].values[:, 0] = surfaces
    cube["log_return"].values[:, 0] = moves
    cube["spot"].values[:, 0] = float(cube["spot0"]) * np.exp(moves)
    out = volscen.report(volscen.reweight(cube, beta=0.0), history, path=tmp_path / "a.html")
    cells = Page(out.read_text(encoding="utf-8")).cells["tail-table"]
    worst = np.argsort(moves, kind="stable")[:3]
    for row in worst:
        assert cells[str(row)][-2].startswith(f"{date[rows[row]].astype('datetime64[D]')} (0.0)")


# -------------------------------------------------------------------------------------------------- explorer
def test_explorer_holds_quantiles_and_the_tail(written, cube):
    data = explored(written)
    growth = (cube["spot"][:, -1] / cube["spot0"] - 1).values
    shown = growth[data["row"]]
    assert np.all(np.diff(shown) >= 0)
    w = cube["weight"].values
    np.testing.assert_allclose(data["share"], [w[growth <= g].sum() for g in shown], atol=1e-4)
    total = volscen.portfolio.pnl(cube, BOOK, lines=False)["total"].values[:, -1]
    assert set(np.argsort(total)[:10]) <= set(data["row"])
    assert 41 <= len(data["row"]) <= 51
    # One for each quantile by the weights, counted off by hand, and the tail; no other.
    order = np.argsort(growth)
    mass = np.cumsum(w[order])
    wanted = {order[np.searchsorted(mass, (i + 0.5) / 41)] for i in range(41)}
    assert set(data["row"]) == wanted | set(np.argsort(total)[:10])
    k = 7
    np.testing.assert_allclose(np.array(data["vol"][k]) / 1e4, cube["implied_vol"].values[data["row"][k]], atol=5.1e-5)
    low = volscen.weighted_quantile(cube, "implied_vol", [0.05]).values[0]
    np.testing.assert_allclose(np.array([b[0] for b in data["band"]]) / 1e4, low, atol=5.1e-5)


def test_explorer_thins_large_cubes(tmp_path):
    cube = volscen.generate(n_scenarios=60, seed=1, horizon=30)
    big = volscen.surface.regrid(cube, tau=np.linspace(30, 365, 20) / 365, moneyness=np.linspace(0.6, 1.4, 40))
    out = volscen.report(big, path=tmp_path / "a.html", n_shown=200)
    data = explored(out)
    assert np.size(data["vol"]) <= _BUDGET
    assert data["day"][-1] == "day 30"
    assert out.stat().st_size < 5_000_000
    assert f"{len(data['row'])} of 60 scenarios" in out.read_text(encoding="utf-8")
