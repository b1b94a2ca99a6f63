"""The report: seconds to write, size, and time to open in Chromium.

    python benchmarks/report.py [--quick]

Opening needs Chromium and the extra ``browser``; without them only writing is measured. Times are the least of several
runs: of processor seconds for writing, and from the start of the navigation to the end of the load event for opening,
the sliders drawn, each time in a fresh context.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import volscen
from volscen import Option, Portfolio, Underlying

LIMIT_BYTES = 5_000_000


def cases(quick: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    history, model = volscen.datasets.sample_history(), volscen.datasets.default_generator()
    n = 500 if quick else 10_000
    day = volscen.generate(model, history, n_scenarios=n, seed=1)
    yield f"{n:,} one-day scenarios alone", {"scenarios": day}
    book = Portfolio(
        [(Option("put", moneyness=m, tau=t), -1.0) for m in (0.9, 1.0) for t in (0.2, 0.4)] + [(Underlying(), 1.0)]
    )
    path = volscen.generate(model, history, n_scenarios=n, horizon=10, seed=1)
    whole = {"scenarios": path, "history": history, "portfolio": book, "model": model}
    yield f"{n:,} paths of 10 days, history, book, model", whole
    rng = np.random.default_rng(0)
    lines = [
        (
            Option(
                "call" if rng.random() < 0.5 else "put", moneyness=rng.uniform(0.8, 1.2), tau=rng.uniform(0.15, 0.9)
            ),
            q,
        )
        for q in rng.normal(size=50 if quick else 1000)
    ]
    yield f"the same with a book of {len(lines):,} lines", whole | {"portfolio": Portfolio(lines)}
    grid = {"tau": np.linspace(30, 365, 24) / 365, "moneyness": np.linspace(0.6, 1.4, 41)}
    fine = volscen.surface.regrid(path.isel(scenario=slice(0, n // 5)).pipe(volscen.reweight), **grid)
    yield f"{n // 5:,} of them on a grid of 24 x 41", {"scenarios": fine}


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, or None."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        print("no Chromium or no playwright: opening is not measured")
        yield None
        return
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_ms(browser: Any, page: Path, repeats: int) -> float:
    """Least milliseconds to the end of the load event."""
    found = []
    for _ in range(repeats):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        tab = context.new_page()
        tab.goto(page.as_uri())
        assert tab.locator("#x-surface path.quad").count() > 0
        found.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        context.close()
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small scenario sets, one run each")
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else 5
    print(f"{'':<48}{'write, s':>10}{'kB':>8}{'open, ms':>10}")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for name, case in cases(arguments.quick):
            page, seconds = Path(folder) / "report.html", []
            for _ in range(min(repeats, 3)):
                start = time.process_time()
                volscen.report(**case, path=page)
                seconds.append(time.process_time() - start)
            size = page.stat().st_size
            assert size < LIMIT_BYTES
            opened = f"{open_ms(browser, page, repeats):>10.0f}" if browser is not None else f"{'-':>10}"
            print(f"{name:<48}{min(seconds):>10.2f}{size / 1e3:>8.0f}{opened}")


if __name__ == "__main__":
    main()
