"""Energy-score skill of VolGAN by training seed and by the epoch at which training stops.

    VOLSCEN_DATA=/path/to/data python benchmarks/volgan_stability.py --mode improved
    VOLSCEN_DATA=/path/to/data python benchmarks/volgan_stability.py --mode paper --market sse50etf

One model a seed, trained on all days before the period, never refitted, its parameters taken at the end of each epoch
of the grid (nothing is chosen by validation); scored on every day of the period against historical simulation on all
days known. Printed: skill in percent, then for each seed how much higher than at its best epoch the energy score is
at its worst one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from generators import REAL, load_real
from volscen.evaluation import walk_forward
from volscen.generators._volgan import VolGAN


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", default="improved", choices=["paper", "reference", "improved"])
    parser.add_argument("--market", default="spx_factors", choices=list(REAL))
    parser.add_argument("--period", default="validation", choices=["validation", "test"])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", default=",".join(str(n) for n in range(1000, 10001, 1000)))
    parser.add_argument("-n", "--n-scenarios", type=int, default=1000)
    parser.add_argument("--num-workers", type=int, default=1)
    arguments = parser.parse_args()
    folder = os.environ.get("VOLSCEN_DATA")
    if not folder:
        sys.exit("set VOLSCEN_DATA to the folder that holds sse50etf/ and spx_factors/")
    history = load_real(arguments.market, Path(folder))
    first, last = REAL[arguments.market][arguments.period]
    past = history.sel(date=slice(None, np.datetime64(first) - np.timedelta64(1, "D")))
    grid = [int(n) for n in arguments.epochs.split(",")]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]

    def score(generator: VolGAN | str, update_every: int | None) -> float:
        days = walk_forward(
            generator, history, first=first, last=last, refit_every=None, update_every=update_every, measures=(),
            n_scenarios=arguments.n_scenarios, num_workers=arguments.num_workers,
        )  # fmt: skip
        return float(days["energy_score"].sel(arm="raw").mean())

    baseline = score("bootstrap", 1)
    print(f"{arguments.market} {arguments.period}, mode {arguments.mode}: historical simulation {baseline:.4f}")
    print("epochs " + "".join(f"{'seed ' + str(seed):>10}" for seed in seeds), flush=True)
    scores = np.empty((len(grid), len(seeds)))
    seconds = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for row, epochs in enumerate(grid):
            for column, seed in enumerate(seeds):
                started = time.perf_counter()
                model = VolGAN(
                    arguments.mode, epochs=epochs, seed=seed, validation_days=0, progress=False,
                    checkpoint=Path(scratch) / f"{seed}.safetensors",
                ).fit(past)  # fmt: skip
                seconds += time.perf_counter() - started
                scores[row, column] = score(model, None)
            print(f"{epochs:<7}" + "".join(f"{100 * (1 - s / baseline):>9.2f}%" for s in scores[row]), flush=True)
    excess = 100 * (scores.max(axis=0) / scores.min(axis=0) - 1)
    print("worst epoch over best: " + ", ".join(f"{e:.2f}%" for e in excess))
    print(f"training {seconds / len(seeds):.0f} s a seed for {grid[-1]} epochs")


if __name__ == "__main__":
    main()
