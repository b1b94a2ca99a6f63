"""What a network of many names knows of those with little history that a network of each name alone does not.

    python benchmarks/sharing.py [--seeds 0,1,2] [--bases none,har] [--epochs 12]
    python benchmarks/sharing.py --quick

On the simulated market of thirty names under common factors, whose law is known. Ten names are sparse in the days
trained on (five listed when 70% are over, five seen on three days of ten); in the days judged all are seen daily, so
that what differs is what was learnt. The VAE-LSTM is fitted on all names together and on each alone, on one calendar
with the same options, and forecasts the surfaces of the next day: mean absolute error in vol points, against no change,
a HAR regression of each name, one of all names together, and the mean of the true law. "shared, own only" is the
shared network shown the name's own history alone. Then energy scores of scenarios, with the oracle's. Tests are Diebold
and Mariano's of daily losses, pooled over the simulated histories; each seed is another history and another start of
the networks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

import pagetables
import volscen
from pagetables import plain
from volscen.evaluation import Oracle, energy_score, forecast, pooled_diebold_mariano
from volscen.generators import generator_class
from volscen.sources.simulate import SimulatedNames, names_market, simulate_names

MODELS = ("no_change", "har", "har pooled", "alone", "shared", "shared, own only", "true mean")
#: Columns and rows of the page's table.
HEADER = ["", "ten sparse names", "listed late", "with gaps", "twenty full names"]
LABELS = {
    "no_change": "no change",
    "har": "HAR of each name",
    "har pooled": "HAR, one regression of all names",
    "alone": "VAE-LSTM of each name alone",
    "shared": "VAE-LSTM of all names",
    "shared, own only": "the same, shown the name's own history only",
    "true mean": "mean of the true law",
}
#: Share of the days trained on that are over when late names are listed.
LISTED = 0.7


def simulated(
    n_train: int, n_test: int, n_names: int, n_sparse: int, seed: int
) -> tuple[SimulatedNames, dict[str, Any]]:
    """All that happened, and what is seen: gaps in the days trained on only."""
    law = names_market(n_names, n_sparse)
    listed = LISTED * n_train / (n_train + n_test)
    law = dataclasses.replace(
        law,
        names=tuple(dataclasses.replace(name, listed=listed) if name.listed else name for name in law.names),
    )
    names = simulate_names(n_train + n_test, law=law, seed=seed)
    late = names.aligned.date.values[n_train:]
    seen = {}
    for name, history in names.histories.items():
        days = np.union1d(history.date.values, late)
        seen[name] = volscen.select_dates(names.aligned.sel(asset=name, drop=True), days)
    return names, seen


def until(histories: dict[str, xr.Dataset], date: np.datetime64) -> dict[str, xr.Dataset]:
    return {name: history.sel(date=slice(None, date)) for name, history in histories.items()}


def pooled_har(histories: dict[str, xr.Dataset]) -> forecast.Har:
    """One regression of all names together: coefficients by cell, on deviations from each name's mean."""
    inputs, changes = [], []
    model = forecast.Har()
    for history in histories.values():
        logs = np.log(history.implied_vol.values.reshape(history.sizes["date"], -1))
        rows = np.arange(model.n_past - 1, len(logs))
        model.fit(history, (1,))
        x = model._inputs(logs, rows, np.empty((len(logs), 0)))
        inputs.append(np.concatenate([x[:-1, :, :1], x[:-1, :, 1:] - logs.mean(axis=0)[:, None]], axis=-1))
        changes.append(np.diff(logs[rows], axis=0))
    x, y = np.concatenate(inputs), np.concatenate(changes)
    model.coefficients_ = np.stack([np.linalg.lstsq(x[:, c], y[:, c])[0] for c in range(x.shape[1])])[None]
    return model


def regressions(
    seen: dict[str, xr.Dataset], known: dict[str, xr.Dataset], first: np.datetime64, last: np.datetime64
) -> dict[str, dict[str, np.ndarray]]:
    """No change and HAR, of each name and pooled, as arrays (dates, tau, moneyness) by name."""
    shared = pooled_har(known)
    found: dict[str, dict[str, np.ndarray]] = {"no_change": {}, "har": {}, "har pooled": {}}
    for name, history in seen.items():
        days = history.date.values
        rows = np.flatnonzero((days >= first) & (days <= last))
        found["no_change"][name] = history.implied_vol.values[rows]
        alone = forecast.Har().fit(known[name], (1,))
        found["har"][name] = alone.forecast(history, rows)[:, 0]
        # The pooled regression speaks of deviations from the name's own mean, and of its own range.
        mean = np.log(known[name].implied_vol.values).mean(axis=0).reshape(-1)
        logs = np.log(history.implied_vol.values.reshape(len(days), -1))
        x = shared._inputs(logs, rows, np.empty((len(logs), 0)))
        x = np.concatenate([x[..., :1], x[..., 1:] - mean[:, None]], axis=-1)
        moved = np.einsum("nck,ck->nc", x, shared.coefficients_[0])
        ahead = np.clip(logs[rows] + moved, alone.low_, alone.high_)
        found["har pooled"][name] = np.exp(ahead).reshape(found["har"][name].shape)
    return found


def true_means(names: SimulatedNames, rows: np.ndarray, n: int = 200) -> dict[str, np.ndarray]:
    """Mean log surface of the next day under the true law, by n draws a date."""
    out = {}
    for i, name in enumerate(names.law.labels):
        market = names.law.one(name)
        state = names.aligned.state.values[i][rows]
        _, after = market.step(np.repeat(state, n, axis=0), np.random.default_rng([7, i]))
        log_vol = np.log(market.surface(after))
        out[name] = np.exp(log_vol.reshape(len(rows), n, *log_vol.shape[1:]).mean(axis=1))
    return out


def one_history(arguments: argparse.Namespace, seed: int, base: str) -> dict[str, Any]:
    """Daily losses of all models on one simulated history."""
    n_train, n_test = arguments.days
    names, seen = simulated(n_train, n_test, arguments.names, arguments.sparse, seed)
    calendar = names.aligned.date.values
    cut, first, last = calendar[n_train - 1], calendar[n_train], calendar[-2]
    known = until(seen, cut)
    made: dict[str, dict[str, np.ndarray]] = dict(regressions(seen, known, first, last))
    network = generator_class("vae_lstm")
    options = arguments.options | {"base": base, "seed": seed}
    start = time.process_time()
    shared = network.fit_assets(known, **options)
    took = {"shared": time.process_time() - start}
    ahead = shared.forecast(seen, horizons=(1,), first=first, last=last, dates=calendar)
    made["shared"] = {name: one.values[:, 0] for name, one in ahead.items()}
    start = time.process_time()
    alone = {
        name: network.fit_assets({name: history}, dates=calendar[:n_train], **options)
        for name, history in known.items()
    }
    took["alone"] = time.process_time() - start
    period: dict[str, Any] = {"horizons": (1,), "first": first, "last": last, "dates": calendar}
    made["alone"] = {n: one.forecast({n: seen[n]}, **period)[n].values[:, 0] for n, one in alone.items()}
    days = calendar[n_train:-1]
    made["shared, own only"] = {
        name: model.forecast(seen[name], horizons=(1,), dates=days).values[:, 0]
        for name, model in shared.models.items()
    }
    trust = [float(shared.models[names.law.labels[0]].trust_[0])]
    trust.append(float(np.mean([one.models[name].trust_[0] for name, one in alone.items()])))
    scores = energy_scores(arguments, names, seen, shared, alone, n_train)
    rows = np.arange(n_train, len(calendar) - 1)
    made["true mean"] = true_means(names, rows)
    actual = names.aligned.implied_vol.values[:, rows + 1]
    error = {
        model: [
            (100 * np.abs(of_name[name] - actual[i])).mean(axis=(1, 2)).tolist()
            for i, name in enumerate(names.law.labels)
        ]
        for model, of_name in made.items()
    }
    assert all(np.isfinite(one).all() for one in error.values()), "a model left a date without a forecast"
    return {
        "seed": seed, "base": base, "error": error, "score": scores, "took": took, "trust": trust,
        "sparse": names.sparse, "labels": list(names.law.labels),
    }  # fmt: skip


def energy_scores(
    arguments: argparse.Namespace,
    names: SimulatedNames,
    seen: dict[str, xr.Dataset],
    shared: Any,
    alone: Any,
    n_train: int,
) -> dict[str, list[list[float]]]:
    """Energy scores (name, date) of the return and log-vol moves of a day, in standard deviations."""
    dates = names.aligned.date.values
    found: dict[str, list[list[float]]] = {model: [] for model in ("bootstrap", "alone", "shared", "oracle")}
    for name in names.law.labels:
        whole = names.aligned.sel(asset=name, drop=True)
        logs = np.log(whole.implied_vol.values.reshape(len(dates), -1))
        moves = np.column_stack([whole.log_return.values[1:], np.diff(logs, axis=0)])
        unit = moves[: n_train - 1].std(axis=0)
        generators = {
            "bootstrap": volscen.fit(seen[name].sel(date=slice(None, dates[n_train - 1])), "bootstrap"),
            "alone": alone[name].models[name],
            "shared": shared.models[name],
            "oracle": Oracle(names.law.one(name)).fit(whole),
        }
        for model, generator in generators.items():
            row_scores = []
            for row in range(n_train, len(dates) - 1, arguments.score_every):
                history = whole if model == "oracle" else seen[name]
                cube = volscen.generate(
                    generator, history, as_of=dates[row], n_scenarios=arguments.n_scenarios, seed=row, reweight=None,
                    num_threads=1,
                )  # fmt: skip
                x = np.log(cube.implied_vol.values[:, 0].reshape(arguments.n_scenarios, -1)) - logs[row]
                x = np.column_stack([cube.log_return.values[:, 0], x]) / unit
                row_scores.append(energy_score(x, moves[row] / unit))
            found[model].append(row_scores)
    return found


def report(results: list[dict[str, Any]]) -> str:
    """Print tables of all histories of one base, and return that of the page."""
    labels, sparse = results[0]["labels"], results[0]["sparse"]
    late = [name for i, name in enumerate(sparse) if i % 2 == 0]
    groups = {
        "sparse": sparse, "listed late": late, "with gaps": [name for name in sparse if name not in late],
        "full": [name for name in labels if name not in sparse],
    }  # fmt: skip
    rows, columns = {}, []
    for group, members in groups.items():
        at = [labels.index(name) for name in members]

        def daily(kind: str, model: str, at: list[int] = at) -> list[np.ndarray]:
            return [np.mean(np.asarray(result[kind][model])[at], axis=0) for result in results]

        own = {model: float(np.mean(np.concatenate(daily("error", model)))) for model in MODELS}
        test = pooled_diebold_mariano(daily("error", "shared"), daily("error", "alone"))
        by_name = np.mean(
            [np.mean(r["error"]["shared"], axis=1) < np.mean(r["error"]["alone"], axis=1) for r in results], axis=0
        )
        score = {m: float(np.mean(np.concatenate(daily("score", m)))) for m in results[0]["score"]}
        score_test = pooled_diebold_mariano(daily("score", "shared"), daily("score", "alone"))
        # The law's mean is no forecast: it is not the best.
        errors = [own[model] for model in LABELS]
        shown = [plain(error, 3) for error in errors]
        columns.append([
            *pagetables.best_bold(shown[:-1], errors[:-1]), shown[-1],
            f"{100 * (own['shared'] / own['alone'] - 1):.0f}% [{test.t:.1f}]",
            ", ".join(plain(score[model], 3) for model in ("alone", "shared", "oracle")),
        ])  # fmt: skip
        rows[group] = {
            **{f"MAE {model}": f"{value:.3f}" for model, value in own.items()},
            "shared over alone": f"{_change(own['shared'], own['alone'])} [{test.t:+.1f}]",
            "beyond the true mean": _change(own["shared"] - own["true mean"], own["alone"] - own["true mean"]),
            "names better": f"{100 * by_name[at].mean():.0f}%",
            **{f"ES {model}": f"{value:.3f}" for model, value in score.items()},
            "ES shared over alone": f"{_change(score['shared'], score['alone'])} [{score_test.t:+.1f}]",
        }
    at = [labels.index(name) for name in sparse]
    by_seed = [_change(*(np.mean(np.asarray(r["error"][m])[at]) for m in ("shared", "alone"))) for r in results]
    took = {key: np.mean([r["took"][key] for r in results]) for key in results[0]["took"]}
    print(f"\nbase {results[0]['base']}, {len(results)} histories; sparse names by history: {', '.join(by_seed)}")
    trust = np.mean([r["trust"] for r in results], axis=0)
    print(f"fits, s: shared {took['shared']:.0f}, alone, all names {took['alone']:.0f}")
    print(f"share of the networks' word believed: shared {trust[0]:.2f}, alone {trust[1]:.2f}")
    print(pd.DataFrame(rows).to_string(), flush=True)
    labels = [*LABELS.values(), "all names over alone [t]", "energy score: alone, all names, true law"]
    return pagetables.table(HEADER, list(zip(labels, *columns, strict=True)))


def _change(value: float, over: float) -> str:
    return f"{100 * (value / over - 1):+.1f}%"


def main() -> int:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--bases", default="none,har", help="what the networks add to: none, har, no_change, ...")
    parser.add_argument("--epochs", type=int, default=12, help="of the autoencoder, and of all together")
    parser.add_argument(
        "--out", type=Path, help="folder to keep the losses of each history in; those there are not redone"
    )
    parser.add_argument("--quick", action="store_true")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    minutes = 1 if arguments.quick else 15 * len(arguments.seeds.split(",")) * len(arguments.bases.split(","))
    pages = pagetables.Pages(arguments, {"errors": [HEADER]}, kind="scores", minutes=minutes)
    torch.set_num_threads(1)
    arguments.names, arguments.sparse, arguments.days = 30, 10, (1000, 150)
    arguments.score_every, arguments.n_scenarios = 15, 100
    arguments.options = {
        "latent_dim": 8, "hidden": (32,), "lstm_hidden": (32,), "window": 10, "horizons": (1, 5), "penalty": 0.0,
        "dynamics_learning_rate": 3e-4, "weight_decay": 0.1,
        "validation_days": 100,
        "vae_epochs": arguments.epochs, "epochs": arguments.epochs, "progress": False,
    }  # fmt: skip
    seeds = [int(one) for one in arguments.seeds.split(",")]
    bases = arguments.bases.split(",")
    if arguments.quick:
        arguments.names, arguments.sparse, arguments.days = 4, 2, (900, 40)
        arguments.score_every = 3
        arguments.options |= {"latent_dim": 4, "hidden": (8,), "lstm_hidden": (8,), "vae_epochs": 2, "epochs": 2}
        seeds, bases = seeds[:1], bases[:1]
    for base in bases:
        results = []
        for seed in seeds:
            kept = arguments.out / f"{base}_{seed}.json" if arguments.out else None
            if kept is not None and kept.exists():
                results.append(json.loads(kept.read_text()))
                continue
            results.append(one_history(arguments, seed, base))
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(results[-1]))
        text = report(results)
        if base == bases[0]:
            pages.add("errors", text)
    pages.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
