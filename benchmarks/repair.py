"""Repair of incomplete and noisy surfaces: every predictor beside its peers, on smiles that none of them knows.

python benchmarks/repair.py                        fresh draws of a published 2 x 2 test, and smiles of regimes
VOLSCEN_DATA=folder python benchmarks/repair.py    the arrays of that test as published, and real quotes, too
python benchmarks/repair.py --quick                few surfaces, networks that have hardly learnt: within seconds

Parts, to be chosen by --only: ``library`` (surfaces of the library's families, by each method of the package as a user
calls it), ``cells`` (each method on each cell: RMSE in vol where nothing is observed, violations of no-arbitrage in per
cent, coverage of 80 and 95% intervals, correlation of error and standard deviation, area under the curve of the score
of stale quotes, RMSE after SVI slices are fitted to the repaired surface, processor time a surface), ``families`` (each
of the library's families left out of the library, and repaired with the others) and ``quotes`` (closing prices of
options on the SSE 50 ETF, some hidden). Networks are trained on the library, under masks of both kinds, and kept in the
folder --nets.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import pagetables
from repairbench import pages, real, scores
from repairbench.cells import MASKS, TAU, Cell, draw_cell
from repairbench.peers import PEERS
from volscen._repair._analogue import Analogues
from volscen._repair._base import REGISTRY, Predictor, load_predictor
from volscen._repair._gated import Gated
from volscen._repair._global import GaussianProcess
from volscen._repair._prior import compress
from volscen.sources._smile_families import FAMILIES
from volscen.sources.simulate import simulate_smiles

PARTS = ("library", "cells", "families", "quotes")
#: Of the library surfaces that are repaired; no library is drawn from it.
TEST_SEED = 990_001
#: Surfaces that are learnt from where a family is left out.
LIBRARY = 4000


def published(folder: Path) -> list[Cell]:
    """The test's arrays."""
    cells = []
    with np.load(folder / "repair" / "repair_cells.npz") as file:
        for smiles, name in (("shifted_ssvi", "ssvi"), ("sabr_event", "event")):
            for kind in MASKS:
                truth, observed = (
                    np.sqrt(file[f"{smiles}_{kind}__{what}_w"].astype(np.float64) / TAU[:, None])
                    for what in ("true", "obs")
                )
                mask = file[f"{smiles}_{kind}__mask"] > 0
                cells.append(Cell(f"{name} {kind}", truth, mask, np.where(mask, observed, np.nan)))
    return cells


#: The package's methods, in the order of the pages.
METHODS = ("default", "analogues", "global", "essvi", "svi", "linear")


def score_all(cells: list[Cell], predictors: dict[str, Predictor], verb: bool) -> dict[tuple[str, str], scores.Score]:
    """Figures of all methods on all cells, with a row for the verb as a user calls it."""
    rows = {}
    for cell in cells:
        for name, predictor in predictors.items():
            repaired, _ = scores.predict(predictor, cell)
            rows[cell.name, name] = scores.score(repaired, cell, scores.auc(predictor, cell))
        if verb:
            found = rows[cell.name, "volscen.repair"] = scores.by_verb(cell)
            assert found.calendar == found.durrleman == found.butterfly == 0, (cell.name, found)
    return rows


def own_predictors() -> dict[str, Predictor]:
    """Those that come with the package."""
    assert set(METHODS) == set(REGISTRY)
    return {name: load_predictor(name) for name in METHODS}


def networks(folder: Path, quick: bool, left_out: str | None = None) -> dict[str, Predictor]:
    """Networks trained on the library, or on all its families but one."""
    import torch

    from repairbench import nets

    torch.set_num_threads(1)
    families = None if left_out is None else {n: f.share for n, f in FAMILIES.items() if n != left_out}
    size, epochs = (512, 2) if quick else (20_000, 30) if left_out is None else (LIBRARY, 15)
    return {kind: nets.fitted(kind, families, size, epochs, folder, say=print) for kind in nets.NETS}


def leave_one_out(n: int, folder: Path, quick: bool) -> tuple[str, str]:
    """RMSE (standard error) of each method on each family, which its library or training does not have."""
    page = []
    lines: list[str] = []
    every: list[list[float]] = []
    for left_out in list(FAMILIES)[: 1 if quick else None]:
        smiles = simulate_smiles(n, families={left_out: 1}, seed=TEST_SEED)
        vol = np.sqrt(smiles["total_variance"] / smiles["tau"]).values
        methods = without_family(left_out, 600 if quick else LIBRARY) | PEERS | networks(folder, quick, left_out)
        if not lines:
            lines = [f"| left out | mask | {' | '.join(methods)} |", "|" + "---|" * (len(methods) + 2)]
        for kind in MASKS:
            cell = draw_cell(vol, kind, n, TEST_SEED, f"{left_out} {kind}")
            errors = [scores.rmse(scores.predict(predictor, cell)[0].vol, cell) for predictor in methods.values()]
            every.append([float(one.mean()) for one in errors])
            known = dict(zip(methods, every[-1], strict=True))
            shown = [f"{100 * known[name]:.2f}" for name in pages.FAMILY_LABELS]
            page.append([left_out, pages.MASKS[kind], *shown])
            figures = " | ".join(f"{one.mean():.4f} ({one.std(ddof=1) / np.sqrt(n):.4f})" for one in errors)
            lines.append(f"| {left_out} | {kind} | {figures} |")
    total = dict(zip(methods, np.mean(every, axis=0), strict=True))
    page.append(["mean", "", *(f"{100 * total[name]:.2f}" for name in pages.FAMILY_LABELS)])
    means = " | ".join(f"{mean:.4f}" for mean in np.mean(every, axis=0))
    return "\n".join([*lines, f"| mean | | {means} |"]), pagetables.table(pages.family_header(), page)


def without_family(left_out: str, n: int) -> dict[str, Predictor]:
    """The package's predictors that know a library, one of n surfaces that lacks a family."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
    import make_repair_prior as maker

    shares = {name: share for name, share in maker.SHARES.items() if name != left_out}
    total = sum(shares.values())
    surfaces = maker.draw_surfaces(n, seed=1, shares={name: share / total for name, share in shares.items()})
    prior = compress(surfaces, np.sqrt(maker.TAU), maker.U, maker.COMPONENTS, maker.core())
    return {"default": Gated(prior), "analogues": Analogues(prior), "global": GaussianProcess(prior)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few surfaces, and networks that have hardly learnt")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--nets", type=Path, help="folder of trained networks; a temporary one by default")
    parser.add_argument("--surfaces", type=int, help="number of surfaces a cell: 200, or 12 with --quick")
    pagetables.add_options(parser)
    options = parser.parse_args()
    pieces = {
        "library": {"library": [pages.HEADERS["library"]]},
        "cells": {name: [pages.HEADERS[name]] for name in ("verb", "peers")},
        "families": {"families": [pages.family_header()]},
        "quotes": {"quotes": [pages.HEADERS["quotes"]]},
    }
    market = bool({"cells", "quotes"} & set(options.only))
    minutes = {"library": 0.3, "cells": 20, "families": 40, "quotes": 0.3}
    out = pagetables.Pages(
        options, {name: head for part in options.only for name, head in pieces[part].items()},
        kind="timing" if "cells" in options.only else "scores", minutes=sum(minutes[part] for part in options.only),
        needs=[pagetables.MARKET_DATA] if market else [],
    )  # fmt: skip
    data = os.environ.get("VOLSCEN_DATA")
    n = options.surfaces or (12 if options.quick else 200)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.nets or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        parts: dict[str, Callable[[], dict[str, str]]] = {
            "library": lambda: show_library(max(n // 2, 6)),
            "cells": lambda: show_cells(n, data, folder, options.quick),
            "families": lambda: show_families(n // 2, folder, options.quick),
            "quotes": lambda: show_quotes(data, options.quick),
        }
        for part in options.only:
            start = time.perf_counter()
            for name, text in parts[part]().items():
                out.add(name, text)
            print(f"({part}: {time.perf_counter() - start:.0f} s)\n", flush=True)
    out.write()


def show_library(n: int) -> dict[str, str]:
    smiles = simulate_smiles(n, seed=TEST_SEED)
    vol = np.sqrt(smiles["total_variance"] / smiles["tau"]).values
    rows = {
        (kind, method): scores.by_verb(draw_cell(vol, kind, n, TEST_SEED, kind), method, stale_quotes=False)
        for kind in MASKS
        for method in METHODS
    }
    print(f"The library's families, {n} surfaces, projected\n\n{scores.table(rows)}\n")
    return {"library": pages.simulated_table(rows, METHODS)}


def show_cells(n: int, data: str | None, folder: Path, quick: bool) -> dict[str, str]:
    """The published cells where they are, else fresh draws of them; and the regimes on half as many surfaces."""
    predictors = own_predictors() | PEERS | networks(folder, quick)
    regimes = [draw_cell("regimes", kind, max(n // 2, 6), 31) for kind in MASKS]
    if data:
        title, cells = "The test as published", published(Path(data))
        cells = [cell.head(n) for cell in cells]
    else:
        title, cells = "Fresh draws", [draw_cell(smiles, kind, n, 31) for smiles in ("ssvi", "event") for kind in MASKS]
    rows = score_all([*cells, *regimes], predictors, verb=True)
    print(f"{title}, {n} surfaces a cell, and regimes\n\n{scores.table(rows)}\n")
    return {"verb": pages.verb_table(rows), "peers": pages.peers_table(rows)}


def show_families(n: int, folder: Path, quick: bool) -> dict[str, str]:
    text, page = leave_one_out(max(n, 6), folder, quick)
    print(f"Families left out\n\n{text}\n")
    return {"families": page}


def show_quotes(data: str | None, quick: bool) -> dict[str, str]:
    if not data:
        print("Real quotes: left out, VOLSCEN_DATA names no folder")
        return {}
    found = real.days(Path(data), every=200 if quick else 8)
    text, page = real.table(found, own_predictors())
    print(f"SSE 50 ETF, {len(found)} dates\n\n{text}\n")
    return {"quotes": page}


if __name__ == "__main__":
    main()
