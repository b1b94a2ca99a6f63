from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import volscen
from volscen import Option, Portfolio, Underlying, risk
from volscen._report._card import markdown
from volscen._report._explorer import _BUDGET
from volscen._report._html import escape, number, table
from volscen._report._svg import Chart, bounds, ticks
from volscen._reweight import weight_dataset
from volscen.cli import app
from volscen.errors import FileFormatError, InputError

VOID = {"meta", "input", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.cells: dict[str, dict[str, list[str]]] = {}
        self._table: str | None = None
        self._row: list[str] | None = None
        self._value: str | None = None
        self._buffer: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = found.get("id")
            self.cells[self._table] = {}
        elif tag == "tr":
            self._row = []
        elif tag in ("td", "th"):
            self._value, self._buffer = found.get("data-v"), []

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th") and self._row is not None:
            self._row.append(self._value or "".join(self._buffer))
        elif tag == "tr" and self._row:
            self.cells[self._table][self._row[0]] = self._row[1:]
            self._row = None

    def handle_data(self, data):
        self.text.append(data)
        self._buffer.append(data)

    def numbers(self, id: str, row: str) -> list[float]:
        return [float(value) for value in self.cells[id][row]]


def weighted(n: int = 800, horizon: int = 5, **options) -> xr.Dataset:
    """Scenarios with unequal weights: a penalty that grows with the scenario's number, small enough for float64."""
    cube = volscen.generate(n_scenarios=n, horizon=horizon, seed=3, **options)
    rng = np.random.default_rng(0)
    penalty = rng.gamma(0.3, 1e-3, size=(n, horizon)) * (rng.random((n, 1)) > 0.3)
    cube["arbitrage_penalty"] = (("scenario", "step"), penalty, cube["arbitrage_penalty"].attrs)
    return weight_dataset(cube, 300.0)


BOOK = Portfolio(
    [
        (Option("call", moneyness=1.0, tau=0.25), -10),
        (Option("put", moneyness=0.9, tau=0.25), -25),
        (Option("put", moneyness=0.95, tau=60 / 365), 12),
        (Underlying(), 5),
    ],
    groups=["calls", "puts", "puts", "delta"],
)


@pytest.fixture(scope="module")
def cube():
    return weighted()


@pytest.fixture(scope="module")
def history():
    return volscen.datasets.sample_history()


@pytest.fixture(scope="module")
def written(cube, history, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    volscen.report(cube, history, BOOK, volscen.datasets.default_generator(), out=out)
    return out


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------- structure
def test_sections_and_links(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    assert links == ["main", "overview", "surfaces", "paths", "tail", "risk", "hedge", "weights", "components", "model",
                     "source"]  # fmt: skip
    assert set(links) <= set(ids)
    labelled = [a for tag, a in page.tags if tag == "section"]
    assert all(a["aria-labelledby"] in ids for a in labelled)


def test_page_is_for_everyone(page):
    html = next(a for tag, a in page.tags if tag == "html")
    assert html["lang"] == "en"
    metas = {a.get("name"): a.get("content") for tag, a in page.tags if tag == "meta"}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    drawings = [a for tag, a in page.tags if tag == "svg" and a.get("aria-hidden") != "true"]
    assert len(drawings) > 10
    assert all(a["role"] == "img" and len(a["aria-label"]) > 10 for a in drawings)
    inputs = {a["id"] for tag, a in page.tags if tag == "input"}
    assert inputs == {"x-scenario", "x-step", "x-tenor", "x-turn"}
    assert inputs <= {a.get("for") for tag, a in page.tags if tag == "label"}
    assert not any("tabindex" in a and a["tabindex"] not in ("0", "-1") for _, a in page.tags)
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(headings))


def test_page_loads_nothing(written, page):
    assert not any(name in a for _, a in page.tags for name in ("src", "srcset", "data", "action", "style"))
    assert not any(tag in ("link", "iframe", "img", "object", "form") for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    text = written.read_text(encoding="utf-8")
    assert "//" not in re.sub(r"^ *// .*$", "", text, flags=re.M).replace("&#x2F;", "")
    assert "@import" not in text
    assert "url(" not in text


def test_policy_allows_the_script_and_no_other(written):
    import base64
    import hashlib

    text = written.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", text, flags=re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#x27;", "'")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_small_and_the_same_bytes_again(written, cube, history, tmp_path):
    assert written.stat().st_size < 1_000_000
    again = volscen.report(
        cube.copy(deep=True), history, BOOK, volscen.datasets.default_generator(), out=tmp_path / "again.html"
    )
    assert again.read_bytes() == written.read_bytes()


def test_least_page(tmp_path):
    cube = volscen.generate(n_scenarios=200, seed=1)
    found = Page(volscen.report(cube, out=tmp_path / "a.html").read_text(encoding="utf-8"))
    assert {a.get("id") for tag, a in found.tags if tag == "section"} == {
        "overview", "surfaces", "paths", "tail", "weights", "components", "source"}  # fmt: skip
    assert "x-step" not in {a["id"] for tag, a in found.tags if tag == "input"}
    assert "simulated" in " ".join(found.text)


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
    out = volscen.report(cube, None, BOOK, instruments=instruments, method="regression", out=tmp_path / "a.html")
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
    worst = risk.tail(cube, profit, alpha=0.01, tenor=30 / 365)
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
    out = volscen.report(volscen.reweight(cube, beta=0.0), history, out=tmp_path / "a.html")
    cells = Page(out.read_text(encoding="utf-8")).cells["tail-table"]
    worst = np.argsort(moves, kind="stable")[:3]
    for row in worst:
        assert cells[str(row)][-2].startswith(f"{date[rows[row]].astype('datetime64[D]')} (0.0)")


# -------------------------------------------------------------------------------------------------- explorer
def explored(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', text, flags=re.S)[1])


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
    out = volscen.report(big, out=tmp_path / "a.html", n_shown=200)
    data = explored(out)
    assert np.size(data["vol"]) <= _BUDGET
    assert data["day"][-1] == "day 30"
    assert out.stat().st_size < 5_000_000
    assert f"{len(data['row'])} of 60 scenarios" in out.read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------------- escaping
NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&{{data}}\x00|`'


def test_text_from_files_is_escaped(cube, tmp_path):
    ds = cube.isel(step=slice(0, 1)).assign_attrs(title=NASTY, source=NASTY, generator=NASTY, calendar=NASTY)
    ds = ds.assign_coords(name=("scenario", [f"{NASTY}{i}" for i in range(ds.sizes["scenario"])]))
    book = Portfolio(BOOK.positions, groups=[NASTY, "a", "b", "c"])
    out = volscen.report(ds, None, book, out=tmp_path / "a.html", title=NASTY)
    text = out.read_text(encoding="utf-8")
    found = Page(text)
    assert [tag for tag, _ in found.tags].count("script") == 2
    assert not any(tag == "img" for tag, _ in found.tags)
    assert "<script>alert" not in text
    assert "\x00" not in text
    heading = "".join(found.text)
    assert "{{data}}" in heading
    assert explored(out)["name"][0].startswith("</script>")


def test_escape_and_markdown():
    assert escape("<a href='x'>&\x07") == "&lt;a href=&#x27;x&#x27;&gt;&amp;�"
    card = markdown("# A <b>\n\n| a | b |\n| --- | --- |\n| x\\|y &lt;i> | `q<r` |\n\ntext `c`")
    assert card == (
        "<h3>A &lt;b&gt;</h3>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of the model card"><table><thead><tr>'
        '<th scope="col">a</th><th scope="col">b</th></tr></thead><tbody><tr><th scope="row">x|y &lt;i&gt;</th>'
        "<td><code>q&lt;r</code></td></tr></tbody></table></div><p>text <code>c</code></p>"
    )


# ------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda ds: ds.drop_vars("weight"), FileFormatError, "weight is missing"),
        (lambda ds: ds.drop_vars("arbitrage_penalty"), FileFormatError, "arbitrage_penalty is missing"),
        (lambda ds: ds.assign(weight=ds["weight"] * 2), FileFormatError, "sum to 1"),
        (lambda ds: ds.assign_attrs(schema="other"), FileFormatError, "attribute schema is 'other'"),
        (lambda ds: ds.drop_vars("as_of"), InputError, "as_of"),
        (lambda ds: {"weight": 1}, InputError, "scenarios must be"),
        (lambda ds: "nowhere.nc", FileFormatError, "no such file"),
    ],
)
def test_bad_scenarios(cube, tmp_path, change, error, says):
    with pytest.raises(error, match=says):
        volscen.report(change(cube), out=tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_several_dates_assets_and_lazy_cubes(history, tmp_path):
    out = tmp_path / "a.html"
    several = volscen.generate(
        volscen.datasets.default_generator(), history, as_of=["2024-06-03", "2024-06-04"], n_scenarios=50, seed=1
    )
    with pytest.raises(InputError, match="2 dates; pass one"):
        volscen.report(several, out=out)
    assert volscen.report(several.isel(as_of=1).assign_attrs(beta=several.attrs["beta"][1]), out=out).exists()
    with pytest.raises(InputError, match=r"2 assets.*choose"):
        volscen.report(several.isel(as_of=0).expand_dims(asset=["a", "b"]), out=out)
    lazy = volscen.generate(n_scenarios=50, seed=1, chunks={"scenario": 25})
    with pytest.raises(InputError, match="lazy"):
        volscen.report(lazy, out=out)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"out": "a.pdf"}, "must end in .html"),
        ({"out": "nowhere/a.html"}, "cannot write"),
        ({"n_shown": 2}, "n_shown"),
        ({"n_shown": True}, "n_shown"),
        ({"alpha": [0.05, 1.0]}, "alpha"),
        ({"alpha": "much"}, "alpha"),
        ({"alpha": np.nan}, "alpha"),
        ({"title": " "}, "title"),
        ({"instruments": [Underlying()]}, "give portfolio too"),
        ({"evaluation": "found.nc"}, "give model too"),
        ({"portfolio": pd.DataFrame({"type": ["call"], "tau": [0.25], "moneyness": [1.0]})}, "quantity"),
        ({"portfolio": pd.DataFrame({"type": ["call"], "tau": [0.25], "quantity": [1.0]})}, "strike"),
        ({"portfolio": BOOK, "method": "wizardry"}, "method"),
        ({"model": 3}, "model must be"),
    ],
)
def test_bad_arguments(cube, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        volscen.report(cube, **{"out": "a.html", **options})
    assert list(tmp_path.iterdir()) == []


def test_history_must_fit(cube, history, tmp_path):
    with pytest.raises(InputError, match="differs from"):
        volscen.report(cube, history.isel(tau=slice(0, 5)), out=tmp_path / "a.html")
    with pytest.raises(InputError, match="begins after"):
        volscen.report(cube, history.isel(date=slice(-1, None)), out=tmp_path / "a.html")
    short = volscen.report(cube, history.isel(date=slice(None, -40)), out=tmp_path / "a.html")
    assert "The history ends on" in short.read_text(encoding="utf-8")


def test_hardly_any_scenarios_and_a_book_that_never_moves(tmp_path):
    few = volscen.generate(n_scenarios=5, seed=1, reweight=None)
    still = Portfolio([(volscen.Cash(), 100.0)])
    text = volscen.report(few, None, still, out=tmp_path / "a.html").read_text(encoding="utf-8")
    Page(text)
    assert "no hedge:" in text
    assert "too few" in text
    one = few.isel(scenario=slice(0, 1)).assign(weight=("scenario", np.ones(1)))
    Page(volscen.report(one, out=tmp_path / "b.html").read_text(encoding="utf-8"))


def test_steps_that_are_no_days_are_not_called_so(cube, tmp_path):
    text = volscen.report(cube.assign_attrs(periods_per_year=3276.0), out=tmp_path / "a.html").read_text(
        encoding="utf-8"
    )
    assert "5 steps from 2024" in text
    assert "steps from the start" in text
    assert "trading day" not in re.sub(r"<table.*?</table>", "", text, flags=re.S)


def test_of_equal_returns_the_one_with_weight_is_shown(cube, tmp_path):
    ds = cube.copy(deep=True)
    for name in ("spot", "log_return"):
        ds[name].values[0::2] = ds[name].values[1::2]
    w = np.where(np.arange(800) % 2, 1 / 400, 0.0)
    ds["weight"] = ("scenario", w, cube["weight"].attrs)
    assert all(row % 2 for row in explored(volscen.report(ds, out=tmp_path / "a.html"))["row"])


def test_without_weight_never_shown(cube, tmp_path):
    w = cube["weight"].values.copy()
    growth = cube["spot"].values[:, -1]
    w[np.argsort(growth)[:50]] = 0
    ds = cube.assign(weight=("scenario", w / w.sum(), cube["weight"].attrs))
    data = explored(volscen.report(ds, out=tmp_path / "a.html"))
    assert not set(np.argsort(growth)[:50]) & set(data["row"])


# ---------------------------------------------------------------------------------------------------- pieces
def test_ticks_are_round_and_inside():
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-3.2, 7.9) == [-2.5, 0.0, 2.5, 5.0, 7.5]
    assert ticks(1.0, 1.0) == [1.0]


def test_numbers_as_shown():
    shown = [number(v).text for v in (0, 12345.678, -0.000123456, 1e-9, 1234567, 0.5, np.inf, np.nan)]
    assert shown == ["0", "12,346", "−0.000123", "1.00e−09", "1,234,567", "0.5000", "∞", "–"]


def test_chart_maps_values_to_places():
    chart = Chart((0.0, 10.0), (0.0, 4.0), x_label="x", y_label="", left=50)
    assert chart.px([0.0, 5.0, 10.0]).tolist() == [50.0, 219.0, 388.0]
    assert chart.py([0.0, 4.0]).tolist() == [222.0, 10.0]
    chart.band([0, 10], [1, 1], [2, 3], "c1")
    drawn = ElementTree.fromstring(chart.svg("A band & more <"))
    assert drawn.get("aria-label") == "A band & more <"
    assert drawn.find("path[@class='band c1']").get("d") == "M50.0 169.0L388.0 169.0L388.0 63.0L50.0 116.0Z"
    low, high = bounds([1.0, 1.0])
    assert low < 1 < high


def test_table_keeps_the_full_number():
    text = table(("", "a"), [("row", number(1 / 3))], caption="c", id="i")
    assert 'data-v="0.333333333333">0.3333<' in text


# -------------------------------------------------------------------------------------------------- commands
def test_command(tmp_path, history):
    cube = volscen.generate(n_scenarios=200, seed=1)
    files = {"scenarios": volscen.write(cube, tmp_path / "s.nc"), "history": volscen.write(history, tmp_path / "h.nc")}
    volscen.datasets.default_generator().save(tmp_path / "m.safetensors")
    table = {"type": ["call", "underlying"], "moneyness": [1.0, None], "tau": [0.25, None], "quantity": [-1, 1]}
    pd.DataFrame(table).to_csv(tmp_path / "p.csv", index=False)
    out = tmp_path / "r.html"
    result = CliRunner().invoke(
        app, ["report", str(files["scenarios"]), "--history", str(files["history"]), "--portfolio",
              str(tmp_path / "p.csv"), "--model", str(tmp_path / "m.safetensors"), "-o", str(out), "--alpha", "0.02"]
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"wrote {out}" in result.output
    text = out.read_text(encoding="utf-8")
    assert "VaR 98%" in text
    assert "Model card: har" in text
    expected = volscen.report(
        cube, history, tmp_path / "p.csv", tmp_path / "m.safetensors", alpha=0.02, out=tmp_path / "again.html"
    )
    assert expected.read_bytes() == out.read_bytes()
