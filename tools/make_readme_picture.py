"""Draw the README's picture from the embedded, simulated default.

python tools/make_readme_picture.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import volscen
from volscen._statistics import quantile
from volscen.surface._interpolate import interpolate_vol

OUT = Path(__file__).parents[1] / "docs" / "scenarios.png"
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#444444"
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def fan(ax: plt.Axes, x: np.ndarray, values: np.ndarray, weight: np.ndarray) -> None:
    """Weighted 50, 90 and 98% bands and the median."""
    bands = 100 * quantile(values, weight, LEVELS)
    for low, alpha in ((0, 0.15), (1, 0.25), (2, 0.4)):
        ax.fill_between(x, bands[low], bands[-1 - low], color=BLUE, alpha=alpha, lw=0)
    ax.plot(x, bands[3], color=BLUE, lw=1.5, label="scenarios: median, 50, 90, 98%")


def main() -> None:
    """Draw and save."""
    cube = volscen.generate(n_scenarios=10_000, horizon=21, seed=7)
    weight = cube["weight"].values
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), constrained_layout=True)

    smile, term, joint = axes
    after = cube["implied_vol"].isel(step=-1)
    k = cube["moneyness"].values
    fan(smile, k, after.isel(tau=0).values.astype(float), weight)
    smile.plot(k, 100 * cube["implied_vol0"].isel(tau=0), color=ORANGE, lw=2, marker="o", ms=4, label="today")
    smile.set(xlabel="moneyness K/F", ylabel="implied vol, %", title="30-day smile in 21 trading days")
    smile.legend(frameon=False, fontsize=8)

    tau = cube["tau"].values
    now = float(interpolate_vol(cube["implied_vol0"].values, tau, k, tau[0], 1.0))
    atm = interpolate_vol(cube["implied_vol"].values, tau, k, tau[0], 1.0)
    path = np.column_stack([np.full(len(atm), now), atm])
    days = np.arange(path.shape[1])
    fan(term, days, path, weight)
    for i in range(4):
        term.plot(days, 100 * path[i], color=GREY, lw=0.7, alpha=0.8)
    term.set(xlabel="trading days ahead", ylabel="implied vol, %", title="30-day at-the-money vol: fan and four paths")

    returns = 100 * cube["log_return"].isel(step=0)
    joint.scatter(returns, 100 * (atm[:, 0] - now), s=3, color=BLUE, alpha=0.25, lw=0, rasterized=True)
    joint.set(
        xlabel="index return, %", ylabel="30-day vol change, points", title="One day: index and vol move together"
    )

    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle("10,000 weighted scenarios of a simulated market", fontsize=12)
    figure.savefig(OUT, dpi=110)
    print(f"{OUT.name}: {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
