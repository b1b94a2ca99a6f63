"""Days until the monitor finds a model out, where one of the six quantities that it watches is off.

    python benchmarks/monitor.py [--runs 2000]

The quantity's normal scores have another mean or standard deviation from the first day on, or after a year in which
nothing was wrong; the other five are right. The median, and the day by which nine in ten runs have the alarm.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import logsumexp, ndtr

import pagetables
from volscen.evaluation import calibration_evidence

QUANTITIES, CALM, DAYS, ALPHA = 6, 250, 500, 0.01
HEADER = ["outcomes, in standard deviations of the law", "from the first day", "after a calm year"]
#: What the outcomes are, with the mean and standard deviation of the normal scores.
WRONG = {
    "shifted by 0.5": (0.5, 1.0),
    "1.25 times as wide": (0.0, 1.25),
    "1.6 times as wide": (0.0, 1.6),
    "0.7 times as wide": (0.0, 0.7),
}


def delays(mean: float, sd: float, calm: int, runs: int) -> np.ndarray:
    """Days from the change to the alarm; infinity where there was none, NaN where it was false."""
    rng = np.random.default_rng(8)
    found = []
    for start in range(0, runs, 100):  # few at a time: memory
        z = rng.standard_normal((calm + DAYS, min(100, runs - start), QUANTITIES))
        z[calm:, :, 0] = mean + sd * z[calm:, :, 0]
        capital = calibration_evidence(np.clip(ndtr(z), 1e-12, 1 - 1e-12)).log_capital
        over = logsumexp(capital, axis=2) - np.log(QUANTITIES) >= -np.log(ALPHA)
        day = np.where(over.any(axis=0), over.argmax(axis=0) + 1.0, np.inf) - calm
        found.append(np.where(day > 0, day, np.nan))
    return np.concatenate(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    pagetables.add_options(parser)
    given = parser.parse_args()
    pages = pagetables.Pages(given, {"power": [HEADER]}, kind="scores", minutes=0.2)
    rows = []
    for label, (mean, sd) in WRONG.items():
        cells = [
            np.nanquantile(delays(mean, sd, calm, given.runs), [0.5, 0.9], method="inverted_cdf") for calm in (0, CALM)
        ]
        rows.append([label, *(f"{middle:.0f}, {most:.0f}" for middle, most in cells)])
    text = pagetables.table(HEADER, rows)
    print(text)
    pages.add("power", text)
    pages.write()


if __name__ == "__main__":
    main()
