"""Generators judged side by side on one period, and the one table that says how they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from volscen._reweight import Beta
from volscen.errors import InputError
from volscen.evaluation._compare import bootstrap_interval, diebold_mariano, holm
from volscen.evaluation._cubes import score_scenarios
from volscen.evaluation._day import MEASURES
from volscen.evaluation._figures import daily_scores, summarise
from volscen.evaluation._oracle import Oracle
from volscen.evaluation._walk import Refit, walk_forward
from volscen.generators import Generator, generator_class
from volscen.generators._neural_options import CPU, check_device
from volscen.generators._placement import with_networks
from volscen.sources.simulate import Market

__all__ = ["compare", "evaluate", "judge", "judge_scenarios"]

FloatArray = npt.NDArray[np.float64]
Candidate = str | Generator | tuple[str, Mapping[str, Any]]

_EXTREME_DAYS = 20


def evaluate(
    generators: Sequence[str] | Mapping[str, Candidate],
    history: xr.Dataset,
    *,
    first: Any,
    last: Any = None,
    train_end: Any = None,
    baseline: str = "bootstrap",
    oracle: str | Market | None = None,
    seeds: Sequence[int] = (0,),
    refit_every: Refit = "year",
    update_every: int | None = 1,
    window: int | None = None,
    n_scenarios: int = 1000,
    beta: Beta = "auto",
    measures: tuple[str, ...] = MEASURES,
    device: str = CPU,
    num_workers: int | None = None,
    client: Any = None,
    folder: str | Path | None = None,
) -> xr.Dataset:
    """Judge generators out of sample, side by side, on the days of one period.

    Parameters
    ----------
    generators : sequence of str, or mapping
        Names in the registry; or label -> name, (name, options) or fitted generator. Historical simulation is added
        where ``baseline`` is absent.
    history : xarray.Dataset
        Holds the period and the days before it.
    first, last, train_end, refit_every, update_every, window, n_scenarios, beta, measures, num_workers, client
        As for :func:`walk_forward`; they hold for every generator.
    device : str
        As for :func:`volscen.generate`, of the generators with networks; the others are drawn on the CPU as ever.
    baseline : str
        Label of the generator that skill and differences are against.
    oracle : str or Market, optional
        Market that was simulated: its true law is judged too, and skill becomes 1 for it and 0 for the baseline.
    seeds : sequence of int
        Each seeds the scenarios and, where a generator takes an option ``seed``, the training.
    folder : str or Path, optional
        Keeps fitted models and scored blocks, in one folder for each generator and seed; an interrupted run goes on.

    Returns
    -------
    xarray.Dataset
        What :func:`summarise` returns with leading dimensions ``generator`` and ``seed``, and what :func:`compare`
        returns besides. :func:`table` prints it.

    Raises
    ------
    InputError
        If an argument is out of range or two labels are the same.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> found = volscen.evaluate(["pca"], history, first=dates[1440], last=dates[1499], n_scenarios=200)
    >>> found.generator.values.tolist(), found.skill.dims
    (['bootstrap', 'pca'], ('generator', 'seed', 'arm', 'score'))
    """
    candidates = _candidates(generators, baseline, oracle)
    placed = _placed(candidates, check_device(device))
    if len(seeds) == 0 or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds must be distinct and at least one, not {seeds!r}")
    by_seed = []
    for seed in seeds:
        days: dict[str, xr.Dataset] = {}
        for label, (generator, options) in candidates.items():
            chosen, own = (
                (generator, options) if isinstance(generator, Generator) else _seeded(generator, options, seed)
            )
            days[label] = walk_forward(
                chosen, history, first=first, last=last, train_end=train_end, options=own,
                refit_every=None if isinstance(generator, Oracle) else refit_every,
                update_every=1 if isinstance(generator, Oracle) else update_every,
                window=window, n_scenarios=n_scenarios, seed=seed, beta=beta, measures=measures,
                device=device if label in placed else CPU, num_workers=num_workers, client=client,
                folder=None if folder is None else Path(folder) / f"{label}-{seed}",
            )  # fmt: skip
        by_seed.append(judge(days, baseline=baseline, oracle="oracle" if oracle is not None else None))
    whole = xr.concat(by_seed, dim=pd.Index([int(s) for s in seeds], name="seed"), data_vars="all", join="override")
    return whole.transpose("generator", "seed", ...)


def judge_scenarios(
    scenarios: Mapping[str, Any],
    history: xr.Dataset,
    *,
    train_end: Any,
    first: Any = None,
    last: Any = None,
    baseline: str,
    measures: tuple[str, ...] = MEASURES,
) -> xr.Dataset:
    """Judge scenarios that exist already, side by side, on the days they share.

    Parameters
    ----------
    scenarios : mapping
        Label -> cubes, file or folder, as for :func:`score_scenarios`.
    history, train_end, first, last, measures
        As for :func:`score_scenarios`.
    baseline : str
        Label that skill and differences are against.

    Returns
    -------
    xarray.Dataset
        As :func:`volscen.evaluate` returns, without seeds.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import judge_scenarios
    >>> history = volscen.datasets.sample_history()
    >>> train, days = history.isel(date=slice(0, 1400)), history.date.values[1400:1430]
    >>> cubes = {name: volscen.generate(volscen.fit(train, name), history, as_of=days, n_scenarios=200, seed=1)
    ...          for name in ("bootstrap", "pca")}
    >>> judge_scenarios(cubes, history, train_end=days[0], baseline="bootstrap").generator.values.tolist()
    ['bootstrap', 'pca']
    """
    if baseline not in scenarios:
        raise InputError(f"baseline {baseline!r} is not among the scenarios; choose one of {', '.join(scenarios)}")
    days = {
        label: score_scenarios(cubes, history, train_end=train_end, first=first, last=last, measures=measures)
        for label, cubes in scenarios.items()
    }
    return judge(days, baseline=baseline)


def judge(days: Mapping[str, xr.Dataset], *, baseline: str, oracle: str | None = None) -> xr.Dataset:
    """Figures and comparisons of daily scores of several models.

    Parameters
    ----------
    days : mapping of str to xarray.Dataset
        Label -> what :func:`walk_forward` or :func:`score_scenarios` returned, on the same grid.
    baseline, oracle : str
        Labels; see :func:`compare`.

    Returns
    -------
    xarray.Dataset
        What :func:`summarise` and :func:`compare` return, over ``generator``. :func:`table` prints it.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import judge, walk_forward
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> days = {name: walk_forward(name, history, first=dates[1400], last=dates[1429], n_scenarios=200)
    ...         for name in ("bootstrap", "pca")}
    >>> judge(days, baseline="bootstrap").generator.values.tolist()
    ['bootstrap', 'pca']
    """
    labels = xr.DataArray(np.array(list(days), dtype=str), dims="generator", name="generator")
    figures = xr.concat(
        [summarise(one) for one in days.values()], dim=labels, data_vars="all", coords="minimal", compat="override",
        join="override", combine_attrs="drop_conflicts",
    )  # fmt: skip
    return xr.merge(
        [figures, compare(days, baseline=baseline, oracle=oracle)], combine_attrs="drop_conflicts", compat="override",
        join="exact",
    )  # fmt: skip


def _placed(candidates: Mapping[str, tuple[str | Generator, Any]], device: str) -> list[str]:
    """Labels of the generators whose networks are evaluated on a device."""
    kinds = {
        label: generator_class(generator) if isinstance(generator, str) else generator
        for label, (generator, _) in candidates.items()
        if isinstance(generator, (str, Generator))
    }
    return with_networks(device, kinds)


def _candidates(
    generators: Sequence[str] | Mapping[str, Candidate], baseline: str, oracle: str | Market | None
) -> dict[str, tuple[str | Generator, dict[str, Any]]]:
    if isinstance(generators, str):
        generators = [generators]
    pairs = list(generators.items()) if isinstance(generators, Mapping) else [(name, name) for name in generators]
    if len({label for label, _ in pairs}) != len(pairs):
        raise InputError("generators hold a label twice; give each its own")
    out: dict[str, tuple[str | Generator, dict[str, Any]]] = {}
    if baseline not in dict(pairs):
        if baseline != "bootstrap":
            raise InputError(
                f"baseline {baseline!r} is not among the generators: {', '.join(label for label, _ in pairs)}"
            )
        out["bootstrap"] = "bootstrap", {}
    for label, what in pairs:
        if isinstance(what, tuple):
            if len(what) != 2 or not isinstance(what[0], str):
                raise InputError(f"generator {label!r} must be a name, (name, options) or a fitted generator")
            out[label] = what[0], dict(what[1])
        else:
            out[label] = what, {}
    if oracle is not None:
        if "oracle" in out:
            raise InputError("the label 'oracle' is taken by the true law; give the generator another")
        out["oracle"] = Oracle(oracle), {}
    return out


def _seeded(name: str, options: dict[str, Any], seed: int) -> tuple[str, dict[str, Any]]:
    """Options with the seed where the generator takes one and none was given."""
    from inspect import signature

    from volscen.generators import generator_class

    takes = "seed" in signature(generator_class(name)).parameters
    return name, ({"seed": seed} if takes else {}) | options


def compare(
    days: Mapping[str, xr.Dataset], *, baseline: str, oracle: str | None = None, level: float = 0.95
) -> xr.Dataset:
    """Compare daily scores of models on the days they share, pairwise against a baseline.

    Parameters
    ----------
    days : mapping of str to xarray.Dataset
        Label -> what :func:`walk_forward` or :func:`score_scenarios` returned.
    baseline : str
        Label compared against, by its raw arm: weights are what a model adds.
    oracle : str, optional
        Label of the true law.
    level : float
        Of the intervals of skill.

    Returns
    -------
    xarray.Dataset
        Over ``generator``, ``arm`` and ``score``: ``skill``, 1 - S / S_baseline, or with an oracle 1 - (S - S_oracle)
        / (S_baseline - S_oracle), with a block bootstrap interval ``skill_low``, ``skill_high`` (NaN for
        Fissler-Ziegel scores, which have no zero); ``difference`` and its Diebold-Mariano ``dm_t``, ``dm_p_value``,
        and ``holm_p_value`` adjusted over the competitors; ``share_better``, share of days below the baseline;
        ``extreme_difference``, mean difference on the 20 days of largest moves.

    Raises
    ------
    InputError
        If a label is unknown or fewer than 20 days are in common.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import compare, walk_forward
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> days = {name: walk_forward(name, history, first=dates[1400], last=dates[1449], n_scenarios=200)
    ...         for name in ("bootstrap", "pca")}
    >>> bool(compare(days, baseline="bootstrap").skill.sel(generator="pca", arm="raw", score="energy_score") > 0)
    True
    """
    for label in (baseline, *([oracle] if oracle is not None else [])):
        if label not in days:
            raise InputError(f"{label!r} is not among the models compared: {', '.join(days)}")
    common = sorted(set.intersection(*(set(one["date"].values.tolist()) for one in days.values())))
    if len(common) < 20:
        raise InputError(f"only {len(common)} days are in common; a comparison needs at least 20")
    date = np.array(common, dtype="datetime64[ns]")
    series = {label: daily_scores(one.sel(date=date)) for label, one in days.items()}
    names = [str(name) for name in series[baseline] if all(name in one for one in series.values())]
    # (score, date) of the baseline and the oracle, (score, date, arm) of the rest
    losses = {label: np.stack([one[name].values for name in names]) for label, one in series.items()}
    base = losses[baseline][..., 1]
    best = None if oracle is None else losses[oracle][..., 1]
    realised = days[baseline].sel(date=date)["realised"] / days[baseline]["scale"]
    extreme = np.argsort(-np.sqrt((realised.values[:, :-1] ** 2).sum(axis=1)), kind="stable")[:_EXTREME_DAYS]
    keys = (
        "skill",
        "skill_low",
        "skill_high",
        "difference",
        "dm_t",
        "dm_p_value",
        "share_better",
        "extreme_difference",
    )
    out = {key: np.full((len(days), 2, len(names)), np.nan) for key in keys}
    for i, loss in enumerate(losses.values()):
        for arm in range(2):
            for k, name in enumerate(names):
                own, other = loss[k, :, arm], base[k]
                test = diebold_mariano(own, other)
                values = {
                    "difference": test.mean_difference,
                    "dm_t": test.t,
                    "dm_p_value": test.p_value,
                    "share_better": np.mean(own < other),
                    "extreme_difference": np.mean((own - other)[extreme]),
                }
                if not name.startswith("fissler_ziegel"):
                    values |= _skill(own, other, None if best is None else best[k], level)
                for key, value in values.items():
                    out[key][i, arm, k] = value
    others = [i for i, label in enumerate(days) if label not in (baseline, oracle)]
    adjusted = np.ones_like(out["dm_p_value"])
    for arm in range(2):
        for k in range(len(names)):
            if others:
                adjusted[others, arm, k] = holm(out["dm_p_value"][others, arm, k])
    out["holm_p_value"] = adjusted
    dims = ("generator", "arm", "score")
    texts = {
        "skill": "skill against the baseline" + ("" if oracle is None else " (0) and the true law (1)"),
        "skill_low": f"lower end of the {level:.0%} block bootstrap interval of the skill",
        "skill_high": f"upper end of the {level:.0%} block bootstrap interval of the skill",
        "difference": "mean daily score less the baseline's; negative is better",
        "dm_t": "Diebold-Mariano statistic of the difference",
        "dm_p_value": "its two-sided p-value",
        "holm_p_value": "p-value adjusted over the competitors (Holm)",
        "share_better": "share of days with a score below the baseline's",
        "extreme_difference": f"mean difference on the {_EXTREME_DAYS} days of largest moves",
    }
    return xr.Dataset(
        {key: (dims, out[key], {"long_name": text, "units": "1"}) for key, text in texts.items()},
        coords={"generator": np.array(list(days), dtype=str), "arm": ["weighted", "raw"], "score": names},
        attrs={"baseline": baseline, "oracle": oracle or "", "common_days": len(common)},
    )


def _skill(own: FloatArray, base: FloatArray, best: FloatArray | None, level: float) -> dict[str, float]:
    if best is None:

        def statistic(s: FloatArray, b: FloatArray) -> FloatArray:
            return 1 - s / b

        low, high = bootstrap_interval(statistic, own, base, level=level)
        return {"skill": float(1 - own.mean() / base.mean()), "skill_low": low, "skill_high": high}

    def against_oracle(s: FloatArray, b: FloatArray, o: FloatArray) -> FloatArray:
        return 1 - (s - o) / (b - o)

    low, high = bootstrap_interval(against_oracle, own, base, best, level=level)
    skill = float(1 - (own.mean() - best.mean()) / (base.mean() - best.mean()))
    return {"skill": skill, "skill_low": low, "skill_high": high}
