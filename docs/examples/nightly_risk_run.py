"""A nightly risk run: history, model, scenarios, weights, the risk of a book, a hedge, files and a page of text.

    python docs/examples/nightly_risk_run.py OUT_FOLDER [QUOTES]

Without QUOTES (a table of option quotes, see docs/quotes.md) the embedded, simulated history stands in. Every step
stops the run with an error that says what to do; files appear whole or not at all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray as xr

import volscen
from volscen import Option, Portfolio, Underlying, views

SEED = 20240603
N_SCENARIOS = 10_000
HORIZON = 5
DAYS = [30, 60, 91]
MONEYNESS = [0.9, 0.95, 1.0, 1.05, 1.1]


def load_history(quotes: str | None) -> xr.Dataset:
    """Daily surfaces up to last night."""
    if quotes is None:
        return volscen.datasets.sample_history()
    table, dropped = volscen.read(quotes)
    print(f"{len(table):,} quotes, dropped: {dict(dropped)}")
    history, report = volscen.build_history(table, tau=np.array(DAYS) / 365, moneyness=MONEYNESS)
    print(f"{history.sizes['date']:,} days, {len(report) - history.sizes['date']:,} without a surface")
    return history


def load_model(history: xr.Dataset, path: Path) -> volscen.generators.Generator:
    """Last night's model brought up to date, or a new one."""
    if path.exists():
        return volscen.load(path).update(history)
    model = volscen.fit(history, "pca")
    model.save(path)
    return model


def book() -> Portfolio:
    """What the desk holds: short puts against long straddles, and some delta."""
    return Portfolio(
        [
            (Option("put", moneyness=0.9, tau=60 / 365), -200),
            (Option("call", moneyness=1.0, tau=91 / 365), 100),
            (Option("put", moneyness=1.0, tau=91 / 365), 100),
            (Underlying(), -10),
        ]
    )


def main(folder: str, quotes: str | None = None) -> None:
    """Run the night."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    history = load_history(quotes)
    model = load_model(history, out / "model.safetensors")

    # Scenarios, weighed against arbitrage as far as half of them stay in effect.
    raw = volscen.generate(model, history, n_scenarios=N_SCENARIOS, horizon=HORIZON, seed=SEED)
    cube = volscen.reweight(raw, beta="auto", ess_floor=0.5)

    # The committee's stress: front vol one point higher on average, spot and vol opposed, no more arbitrage.
    vol, ret = views.atm_vol(30 / 365), views.total_log_return()
    level = float(cube.weight.values @ vol.values(cube))
    stress = [
        views.mean(vol, equals=level + 0.01),
        views.correlation(ret, vol, at_most=-0.5),
        views.mean_penalty(at_most=float(cube.weight.values @ views.arbitrage_penalty().values(cube)) + 1e-9),
    ]
    stressed = volscen.entropy_pool(cube, stress, ess_floor=0.02)

    # A hedge of the first day's loss with three instruments.
    held = book()
    instruments = [
        Underlying(),
        Option("put", moneyness=0.95, tau=60 / 365),
        Option("call", moneyness=1.05, tau=91 / 365),
    ]
    hedge = volscen.hedge(cube, held, instruments, step=1)

    volscen.write(cube, out / "scenarios.nc")
    volscen.write(hedge, out / "hedge.nc")
    volscen.export_ore(
        volscen.resample(cube, 1000, seed=SEED),
        out / "ore_scenarios.csv",
        name="INDEX",
        market_xml=out / "ore_market.xml",
    )
    ratios = "\n".join(
        f"  {name:<28}{ratio:>12.3f}" for name, ratio in zip(hedge.instrument.values, hedge.ratio.values, strict=True)
    )
    pages = [
        volscen.report_text(cube, held),
        f"hedge of the first day, R-squared {float(hedge.r_squared):.3f}\n{ratios}\n",
        "UNDER STRESS\n" + views.compare(cube, stressed, stress).to_string(float_format="%.6g") + "\n",
        volscen.report_text(stressed, held),
    ]
    text = "\n".join(pages)
    (out / "report.txt").write_text(text)
    print(text)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
