from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import volscen
from report_page import BOOK, Page, explored, weighted
from volscen import Portfolio, Underlying
from volscen._report._card import markdown
from volscen._report._html import escape, number, table
from volscen._report._svg import Chart, bounds, ticks
from volscen.cli import app
from volscen.errors import FileFormatError, InputError


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
        cube.copy(deep=True), history, BOOK, volscen.datasets.default_generator(), path=tmp_path / "again.html"
    )
    assert again.read_bytes() == written.read_bytes()


def test_least_page(tmp_path):
    cube = volscen.generate(n_scenarios=200, seed=1)
    found = Page(volscen.report(cube, path=tmp_path / "a.html").read_text(encoding="utf-8"))
    assert {a.get("id") for tag, a in found.tags if tag == "section"} == {
        "overview", "surfaces", "paths", "tail", "weights", "components", "source"}  # fmt: skip
    assert "x-step" not in {a["id"] for tag, a in found.tags if tag == "input"}
    assert "simulated" in " ".join(found.text)


# -------------------------------------------------------------------------------------------------- escaping
NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&{{data}}\x00|`'


def test_text_from_files_is_escaped(cube, tmp_path):
    ds = cube.isel(step=slice(0, 1)).assign_attrs(title=NASTY, source=NASTY, generator=NASTY, calendar=NASTY)
    ds = ds.assign_coords(name=("scenario", [f"{NASTY}{i}" for i in range(ds.sizes["scenario"])]))
    book = Portfolio(BOOK.positions, groups=[NASTY, "a", "b", "c"])
    out = volscen.report(ds, None, book, path=tmp_path / "a.html", title=NASTY, elapsed_days=1)
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
        volscen.report(change(cube), path=tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_several_dates_assets_and_lazy_cubes(history, tmp_path):
    out = tmp_path / "a.html"
    several = volscen.generate(
        volscen.datasets.default_generator(), history, as_of=["2024-06-03", "2024-06-04"], n_scenarios=50, seed=1
    )
    with pytest.raises(InputError, match="2 dates; pass one"):
        volscen.report(several, path=out)
    assert volscen.report(several.isel(as_of=1).assign_attrs(beta=several.attrs["beta"][1]), path=out).exists()
    with pytest.raises(InputError, match=r"2 assets.*choose"):
        volscen.report(several.isel(as_of=0).expand_dims(asset=["a", "b"]), path=out)
    lazy = volscen.generate(n_scenarios=50, seed=1, chunks={"scenario": 25})
    with pytest.raises(InputError, match="lazy"):
        volscen.report(lazy, path=out)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "a.pdf"}, "must end in .html"),
        ({"path": "nowhere/a.html"}, "cannot write"),
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
        volscen.report(cube, **{"path": "a.html", **options})
    assert list(tmp_path.iterdir()) == []


def test_history_must_fit(cube, history, tmp_path):
    with pytest.raises(InputError, match="differs from"):
        volscen.report(cube, history.isel(tau=slice(0, 5)), path=tmp_path / "a.html")
    with pytest.raises(InputError, match="begins after"):
        volscen.report(cube, history.isel(date=slice(-1, None)), path=tmp_path / "a.html")
    short = volscen.report(cube, history.isel(date=slice(None, -40)), path=tmp_path / "a.html")
    assert "The history ends on" in short.read_text(encoding="utf-8")


def test_a_history_of_another_underlying_is_told(written, cube, history, tmp_path):
    told = "the history holds another surface than the one that the scenarios start from"
    assert told not in written.read_text(encoding="utf-8")
    other = history.assign(implied_vol=history["implied_vol"] * 1.01)
    out = volscen.report(cube, other, path=tmp_path / "other.html")
    assert told in out.read_text(encoding="utf-8")


def test_hardly_any_scenarios_and_a_book_that_never_moves(tmp_path):
    few = volscen.generate(n_scenarios=5, seed=1, reweight=None)
    still = Portfolio([(volscen.Cash(), 100.0)])
    text = volscen.report(few, None, still, path=tmp_path / "a.html").read_text(encoding="utf-8")
    Page(text)
    assert "no hedge:" in text
    assert "too few" in text
    one = few.isel(scenario=slice(0, 1)).assign(weight=("scenario", np.ones(1)))
    Page(volscen.report(one, path=tmp_path / "b.html").read_text(encoding="utf-8"))


def test_steps_that_are_no_days_are_not_called_so(cube, tmp_path):
    text = volscen.report(cube.assign_attrs(periods_per_year=3276.0), path=tmp_path / "a.html").read_text(
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
    assert all(row % 2 for row in explored(volscen.report(ds, path=tmp_path / "a.html"))["row"])


def test_without_weight_never_shown(cube, tmp_path):
    w = cube["weight"].values.copy()
    growth = cube["spot"].values[:, -1]
    w[np.argsort(growth)[:50]] = 0
    ds = cube.assign(weight=("scenario", w / w.sum(), cube["weight"].attrs))
    data = explored(volscen.report(ds, path=tmp_path / "a.html"))
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
        cube, history, tmp_path / "p.csv", tmp_path / "m.safetensors", alpha=0.02, path=tmp_path / "again.html"
    )
    assert expected.read_bytes() == out.read_bytes()
