"""The report in a browser: Debian's Chromium, driven by playwright (extra ``browser``)."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest

import volscen
from volscen import Option, Portfolio, Underlying

pytestmark = pytest.mark.browser

NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)"><svg onload=alert(3)>'


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install --no-install-recommends chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install volscen[browser]"
    )
    with playwright.sync_playwright() as running:
        # Root has no sandbox of its own in a container; the page under test is ours.
        found = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    history = volscen.datasets.sample_history()
    model = volscen.datasets.default_generator()
    cube = volscen.generate(model, history, as_of="2024-06-03", n_scenarios=600, horizon=4, seed=5)
    book = Portfolio([(Option("put", moneyness=0.95, tau=0.25), -10), (Underlying(), 3)], groups=["puts", "delta"])
    return volscen.report(cube, history, book, model, path=tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def show(browser):
    """Open a page; whatever it says on its console, or asks for, is an error at the end."""
    contexts, complaints = [], []

    def opened(path, *, width=1280, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: request.url == path.as_uri() or complaints.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def picture(page, selector):
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB"), dtype=np.int16)


def differing(a, b):
    """Share of pixels that differ by more than what smoothing of edges explains."""
    assert a.shape == b.shape
    return float((np.abs(a - b).max(axis=-1) > 24).mean())


def test_opens_without_complaint(show, report):
    page = show(report)
    assert page.title().startswith("SIMULATED")
    assert page.locator("#x-surface path.quad").count() == 7 * 9
    assert "Scenario" in page.locator("#x-say").inner_text()
    print("load, ms:", page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))


def test_sliders_by_keyboard(show, report):
    page = show(report)
    said = page.locator("#x-say")
    for slider, drawing in (("x-scenario", "#x-surface"), ("x-step", "#x-smile"), ("x-tenor", "#x-smile"),
                            ("x-turn", "#x-surface")):  # fmt: skip
        before, words = page.locator(drawing).inner_html(), said.inner_text()
        page.focus(f"#{slider}")
        page.keyboard.press("ArrowLeft" if slider in ("x-step", "x-turn") else "ArrowRight")
        assert page.locator(drawing).inner_html() != before
        assert (said.inner_text() != words) == (slider in ("x-scenario", "x-step"))
        text = page.locator(f"#{slider}").get_attribute("aria-valuetext")
        assert text == page.locator(f"#{slider}-out").inner_text()
    page.keyboard.press("Home")
    page.focus("#x-scenario")
    page.keyboard.press("Home")
    lowest = page.evaluate("JSON.parse(document.getElementById('explorer-data').textContent).growth[0]")
    assert f"{100 * lowest[-2]:.2f}%".replace("-", "−") in said.inner_text()  # the day slider stands one left


def test_buttons_lead_to_scenarios(show, report):
    page = show(report)
    first = page.locator("#tail-table button").first
    name = page.locator("#tail-table tbody th").first.inner_text()
    first.click()
    assert f"Scenario {name}," in page.locator("#x-say").inner_text()
    assert page.evaluate("document.activeElement.id") == "x-scenario"
    page.get_by_role("button", name="best return").click()
    assert page.locator("#x-scenario").input_value() == page.locator("#x-scenario").get_attribute("max")


def test_every_control_is_reached_by_tab_and_seen(show, report):
    page = show(report)
    wanted = page.evaluate(
        "(() => { const all = [...document.querySelectorAll('a[href], button, input, summary')];"
        "all.forEach((e, i) => { e.dataset.n = i; }); return all.length; })()"
    )
    reached = set()
    for _ in range(wanted + 60):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.dataset.n || null, s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
        )
        if found[0] is not None:
            assert found[1] == "solid", found
            assert found[2] >= 2
            reached.add(int(found[0]))
    assert reached == set(range(wanted))


@pytest.mark.parametrize("width", [320, 360, 768])
def test_nothing_hangs_over_on_a_phone(show, report, width):
    page = show(report, width=width, height=700, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Numbers of the charts stay readable: their height on the screen, in pixels.
    sizes = page.evaluate(
        "[...document.querySelectorAll('.cards svg.chart')].map((s) => s.getBoundingClientRect().width /"
        "s.viewBox.baseVal.width * parseFloat(getComputedStyle(s.querySelector('text')).fontSize))"
    )
    assert len(sizes) > 8
    assert min(sizes) > 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(show, report, scheme):
    page = show(report, color_scheme=scheme)
    worst = page.evaluate(
        """(() => {
          const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
          const light = (c) => rgb(c).slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (e) => {
            for (; e; e = e.parentElement) {
              const c = rgb(getComputedStyle(e).backgroundColor);
              if (c.length < 4 || c[3] > 0) return getComputedStyle(e).backgroundColor;
            }
            return "rgb(255,255,255)";
          };
          const tags = "h1,h2,h3,h4,p,th,td,a,button,summary,li,label,output,strong,svg text";
          const found = [...document.querySelectorAll(tags)]
            .filter((e) => e.textContent.trim() && e.getClientRects().length)
            .map((e) => {
              const s = getComputedStyle(e), b = light(behind(e));
              const a = light(e instanceof SVGElement ? s.fill : s.color);
              return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 40)];
            });
          return [found.length, found.reduce((x, y) => (x[0] < y[0] ? x : y))];
        })()"""
    )
    assert worst[0] > 300
    assert worst[1][0] >= 4.5, worst[1]


def test_prints(show, report):
    page = show(report)
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 4
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#x-scenario").is_visible()
    assert page.locator("#x-surface").is_visible()
    assert page.locator("#index-fan").is_visible()  # folded away on the screen
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.locator("#index-fan").is_visible()


def test_pictures(show, report):
    one, other = show(report), show(report)
    for selector in ("#surfaces", "#paths", "#tail"):
        assert differing(picture(one, selector), picture(other, selector)) < 1e-3
    before = picture(one, "#surfaces")
    one.get_by_role("button", name="worst return").click()
    one.mouse.move(0, 0)
    assert differing(before, picture(one, "#surfaces")) > 0.01


def test_hints_follow_the_pointer(show, report):
    page = show(report, reduced_motion="reduce")
    mark = page.locator("#paths .hit").nth(1)
    mark.scroll_into_view_if_needed()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # scrolled
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(".hint").wait_for(state="visible")
    assert page.locator(".hint").inner_text().startswith("day 2: median")


def test_figures_do_without_script(show, report):
    page = show(report, java_script_enabled=False)
    assert page.get_by_text("The sliders need JavaScript").is_visible()
    assert page.locator("#paths svg.chart").first.is_visible()
    assert page.locator("#risk-table").is_visible()


def test_text_from_files_runs_nothing(show, browser, tmp_path):
    cube = volscen.generate(n_scenarios=60, seed=1).assign_attrs(title=NASTY, source=NASTY, generator=NASTY)
    cube = cube.assign_coords(name=("scenario", [f"{NASTY}{i}" for i in range(60)]))
    out = volscen.report(cube, path=tmp_path / "a.html")
    page = show(out)
    assert page.locator("h1").inner_text() == NASTY
    assert NASTY in page.locator("#x-say").inner_text()
    # And were there markup, the policy would not run it.
    other = browser.new_page()
    other.goto(out.as_uri())
    other.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')")
    other.evaluate("(() => { const s = document.createElement('script'); s.textContent = 'window.hit = 2';"
                   "document.body.append(s); })()")  # fmt: skip
    other.wait_for_timeout(200)
    assert other.evaluate("window.hit === undefined")
    other.close()
