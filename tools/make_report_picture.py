"""Make docs/report.png: the report of the embedded sample data, as Chromium shows it (extra ``browser``).

python tools/make_report_picture.py
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import volscen
from volscen import Option, Portfolio, Underlying

OUT = Path(__file__).parents[1] / "docs" / "report.png"


def main() -> None:
    """Write the page, lead the sliders to the worst scenario, and keep the top of it."""
    history, model = volscen.datasets.sample_history(), volscen.datasets.default_generator()
    cube = volscen.generate(model, history, as_of="2024-06-03", n_scenarios=10_000, horizon=10, seed=7)
    short = [("call", 1.0, 0.25, -10), ("put", 0.9, 0.25, -25), ("put", 0.95, 60 / 365, 12), ("call", 1.1, 0.5, -8)]
    book = Portfolio([*((Option(kind, moneyness=m, tau=t), q) for kind, m, t, q in short), (Underlying(), 5)])
    program = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        page = volscen.report(
            cube, history, book, model, title="Simulated market, 3 June 2024", path=f"{folder}/a.html"
        )
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1180, "height": 1570})
        tab.goto(page.as_uri())
        tab.locator("#tail-table button").first.click()
        tab.evaluate("(document.activeElement.blur(), scrollTo(0, 0))")
        shot = tab.screenshot(clip={"x": 0, "y": 0, "width": 1180, "height": 1570}, full_page=True)
        browser.close()
    picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    picture.save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
