"""What networks take of a draw: a block of 1,024 scenarios on 10 x 8, by NumPy and by torch, on one core.

    python benchmarks/networks.py

Generators are trained for one epoch, which does not change what sampling costs; their networks are of default sizes.
Of each the first step, and each of five further ones: processor time, what share of it the networks take, and the time
of the same through torch on the same core, which is how a GPU would be reached. Least of several runs.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import numpy as np
import torch

import pagetables
import volscen
from generate import NETWORKS
from volscen._threads import single_threaded_blas
from volscen.history import state_at

N, FURTHER, REPEATS = 1024, 5, 4
HEADER = ["generator", "first step", "of which networks", "by torch", "each further step", "of which networks",
          "by torch"]  # fmt: skip


class Timed:
    """A network, and the processor seconds of all calls of it and of its methods."""

    def __init__(self, network: Any, spent: list[float]) -> None:
        self._network, self._spent = network, spent

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Evaluate the network."""
        return self._run(self._network, *given, **named)

    def __getattr__(self, name: str) -> Any:
        part = getattr(self._network, name)
        return (lambda *given, **named: self._run(part, *given, **named)) if callable(part) else part

    def _run(self, function: Any, *given: Any, **named: Any) -> Any:
        started = time.thread_time()
        found = function(*given, **named)
        self._spent[0] += time.thread_time() - started
        return found


def least(model: Any, names: list[str], state: Any, horizon: int) -> tuple[float, float]:
    """Processor seconds of a block, and of its networks."""
    found = []
    for _ in range(REPEATS):
        spent, watched = [0.0], copy.copy(model)
        for name in names:
            watched.__dict__[name] = Timed(watched.__dict__[name], spent)
        started = time.thread_time()
        watched.sample(state, N, horizon, np.random.default_rng(1))
        found.append((time.thread_time() - started, spent[0]))
    return min(found)


def milliseconds(seconds: float) -> str:
    """Milliseconds, with tenths where there are few."""
    value = 1e3 * seconds
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def row(name: str, history: Any) -> list[str]:
    """Row of the page."""
    model = volscen.fit(history, name, progress=False, **NETWORKS[name][0])
    if name == "residual_net":
        model.share_ = 1.0  # however little it has learnt, all scenarios go through it
    state = state_at(history, history["date"].values[-1], n_returns=model.n_returns, n_surfaces=model.n_surfaces)
    names = list(model._twins("cpu"))
    (one, nets_one), (all_, nets_all) = (least(model, names, state, 1 + more) for more in (0, FURTHER))
    (torch_one, _), (torch_all, _) = (least(model._on("cpu"), names, state, 1 + more) for more in (0, FURTHER))
    each, nets, by_torch = ((x - y) / FURTHER for x, y in ((all_, one), (nets_all, nets_one), (torch_all, torch_one)))
    cells = [milliseconds(one), f"{nets_one / one:.0%}", milliseconds(torch_one)]
    return [f"`{name}`", *cells, milliseconds(each), f"{nets / each:.0%}", milliseconds(by_torch)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pagetables.add_options(parser)
    pages = pagetables.Pages(parser.parse_args(), {"shares": [HEADER]}, kind="timing", minutes=2)
    torch.set_num_threads(1)
    history = volscen.datasets.sample_history()
    with single_threaded_blas():
        rows = [row(name, history) for name in ("world", "vae_lstm", "ddpm", "volgan", "residual_net")]
    text = pagetables.table(HEADER, rows)
    print(text)
    pages.add("shares", text)
    pages.write()


if __name__ == "__main__":
    main()
