"""``volscen fit``, ``update``, ``card`` and ``monitor``: models made, kept up to date, described and watched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import (
    MODELLING,
    Beta,
    Device,
    Model,
    NScenarios,
    Options,
    Store,
    check_file,
    number_or,
    parse_option,
)
from volscen._cli._command import Result, command, note
from volscen._cli._complete import DATASETS, MODELS, files, generators
from volscen._cli._plan import dry_run, expected, planned
from volscen._registry import DEFAULT, REGISTRY
from volscen.errors import InputError

__all__ = ["REFIT_DUE", "models_app"]

models_app = typer.Typer(rich_markup_mode=None)

#: Exit code of a monitor that raises its alarm: the work is done, and somebody should look.
REFIT_DUE = 3

_ModelOut = Annotated[
    Path, typer.Option("--out", "-o", help="Model file to write (.safetensors).", autocompletion=files(*MODELS))
]


@command(
    models_app,
    panel=MODELLING,
    examples=[
        "volscen fit history.nc --out model.safetensors",
        "volscen fit history.nc --generator pca --until 2020-12-31 --option n_components=4 --out pca.safetensors",
        "volscen fit history.nc --generator volgan --out gan.safetensors --resume",
    ],
)
def fit(
    history: Store,
    out: _ModelOut,
    generator: Annotated[
        str,
        typer.Option(
            "--generator", "-g", help=f"Name of a generator: {', '.join(sorted(REGISTRY))}.", autocompletion=generators
        ),
    ] = DEFAULT,
    until: Annotated[str | None, typer.Option(help="Fit on the dates up to this one. Default: all.")] = None,
    option: Options = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File for the state of a training, rewritten on the way. It must be new.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the checkpoint where there is one. Default file: OUT.checkpoint."),
    ] = False,
) -> Result:
    """Fit a generator to a history.

    A training that was stopped goes on from its checkpoint, to the bits of one that was not.
    """
    import volscen
    from volscen._dates import to_day
    from volscen._figures import model_figures
    from volscen._io import read_dataset
    from volscen.schema import HISTORY

    check_file(out, ".safetensors")
    options = dict(parse_option(text) for text in option or [])
    if resume or checkpoint is not None:
        options["checkpoint"] = str(_checkpoint(generator, options, out, checkpoint, resume))
    if dry_run() and expected(history):
        return planned(reads=[history], writes=[out], figures={"generator": generator})
    data = read_dataset(history, kind=HISTORY)
    if until is not None:
        dates, last = data["date"].values.astype("datetime64[D]"), to_day(until, "--until")
        if last < dates[0]:
            raise InputError(f"--until {last} lies before the history, which begins on {dates[0]}")
        data = data.isel(date=dates <= last)
    if dry_run():
        counts = {"generator": generator, "days": data.sizes["date"], "grid_points": data["implied_vol"][0].size}
        return planned(reads=[history], writes=[out], memory_bytes=int(data.nbytes), figures=counts)
    model = volscen.fit(data, generator, **options)
    model.save(out)
    return Result(
        {"out": out, **model_figures(model)},
        f"wrote {out}: generator {model.name} fitted on {model.period_[0]} to {model.period_[1]}",
    )


def _checkpoint(generator: str, options: dict[str, Any], out: Path, checkpoint: Path | None, resume: bool) -> Path:
    """Where the training keeps its state; refused now where it could not, or would go on unasked."""
    from inspect import signature

    from volscen.generators import generator_class

    if "checkpoint" not in signature(generator_class(generator)).parameters:
        raise InputError(f"generator {generator!r} keeps no checkpoints; leave out --checkpoint and --resume")
    if "checkpoint" in options:
        raise InputError("--option checkpoint= and --checkpoint or --resume say the same; give one of them")
    path = out.with_name(f"{out.name}.checkpoint") if checkpoint is None else checkpoint
    check_file(path)
    if os.path.realpath(path) == os.path.realpath(out):
        raise InputError(f"--checkpoint {path} is the file of the model; give another")
    if path.exists() and not resume:
        raise InputError(f"--checkpoint {path} exists; pass --resume to go on from it, or delete it")
    return path


@command(
    models_app,
    in_place=True,
    panel=MODELLING,
    examples=[
        "volscen update model.safetensors history.nc",
        "volscen update model.safetensors history.nc --out new.safetensors",
    ],
)
def update(
    model: Model,
    history: Store,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Model file to write. Default: the one that is read.", autocompletion=files(*MODELS)
        ),
    ] = None,
) -> Result:
    """Let a fitted model learn the recent days, without refitting.

    Scales and pools of residuals are renewed from the history; what was fitted stays.
    """
    from volscen._figures import model_figures
    from volscen._io import read_dataset
    from volscen.generators import load
    from volscen.schema import HISTORY

    target = model if out is None else out
    check_file(target, ".safetensors")
    if dry_run():
        expected(model)
        expected(history)
        return planned(reads=[model, history], writes=[target])
    data = read_dataset(history, kind=HISTORY)
    fitted = load(model).update(data)
    fitted.save(target)
    day = data["date"].values[-1].astype("datetime64[D]")
    return Result(
        {"out": target, "updated_to": day, **model_figures(fitted)},
        f"wrote {target}: generator {fitted.name} fitted up to {fitted.period_[1]}, updated to {day}",
    )


@command(
    models_app,
    panel=MODELLING,
    examples=[
        "volscen card model.safetensors",
        "volscen card model.safetensors --evaluation found.nc --history history.nc --out card.md",
    ],
)
def card(
    model: Model,
    history: Annotated[
        Path | None,
        typer.Option(
            help="History: how its dates after the fit compare with what was fitted on.",
            autocompletion=files(*DATASETS),
        ),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="What 'volscen evaluate --out found.nc' wrote.", autocompletion=files(".nc"))
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Which generator of the evaluation it is. Default: by name.")
    ] = None,
    intended_use: Annotated[str | None, typer.Option(help="Statement to take over into the card.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Markdown file to write. Default: print.", autocompletion=files(".md")),
    ] = None,
) -> Result:
    """Write the model card of a fitted model."""
    import volscen
    from volscen._files import atomic_path
    from volscen._io import read_dataset
    from volscen._model_card import read_evaluation
    from volscen.schema import HISTORY

    if out is not None:
        check_file(out)
    if label is not None and evaluation is None:
        raise InputError("--label chooses a generator of --evaluation; give that too")
    if dry_run():
        for path in (model, history, evaluation):
            expected(path)
        return planned(reads=[model, history, evaluation], writes=[out])
    found = None if evaluation is None else read_evaluation(evaluation)
    if label is not None and found is not None:
        if "generator" not in found.dims or label not in found["generator"].values:
            raise InputError(f"--label {label!r} is not a generator of {evaluation}")
        found = found.sel(generator=[label])
    text = volscen.model_card(
        model,
        history=None if history is None else read_dataset(history, kind=HISTORY),
        evaluation=found,
        intended_use=intended_use,
    )
    if out is None:
        return Result({"out": None, "card": text}, text)
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Result({"out": out, "card": text}, f"wrote {out}")


@command(
    models_app,
    panel=MODELLING,
    examples=["volscen monitor model.safetensors history.nc --window 60 --out drift.nc"],
)
def monitor(
    model: Model,
    history: Store,
    first: Annotated[str | None, typer.Option(help="First realised date. Default: the first after the fit.")] = None,
    last: Annotated[str | None, typer.Option(help="Last realised date. Default: the history's last.")] = None,
    window: Annotated[int, typer.Option(help="Days of the rolling figures.")] = 60,
    significance: Annotated[float, typer.Option(help="Probability that a right model ever raises the alarm.")] = 0.01,
    update_every: Annotated[int, typer.Option(help="Dates between two updates; 0 for never.")] = 0,
    n_scenarios: NScenarios = 500,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    beta: Beta = "auto",
    device: Device = "cpu",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write every figure by date (.nc).", autocompletion=files(".nc")),
    ] = None,
) -> Result:
    """Say whether a model is due for a refit.

    Compares the days since the fit, which the history holds, with the model's scenarios of them. The exit code is 3
    where a refit is due.
    """
    from volscen._files import atomic_path
    from volscen._io import read_dataset
    from volscen.evaluation import monitor_drift
    from volscen.generators import load
    from volscen.generators._neural_options import check_device
    from volscen.schema import HISTORY

    if out is not None:
        check_file(out, ".nc")
    check_device(device)
    strength = number_or(beta, ("auto", "paper"), "--beta")
    if dry_run():
        expected(model)
        expected(history)
        return planned(reads=[model, history], writes=[out], figures={"n_scenarios": n_scenarios})
    fitted, data = load(model), read_dataset(history, kind=HISTORY)
    until, today = fitted.period_[1], str(data["date"].values[-1].astype("datetime64[D]"))
    if first is None and today <= until:  # the night of the fit: nothing is wrong
        said = f"no day after the fit yet: {model} was fitted up to {until}, and {history} ends on {today}"
        return Result({"out": None, "days": 0, "refit_due": False, "reason": said}, said)
    found = monitor_drift(
        fitted,
        data,
        first=first,
        last=last,
        window=window,
        significance=significance,
        update_every=update_every or None,
        n_scenarios=n_scenarios,
        seed=seed,
        beta=strength,
        device=device,
    )
    if out is not None:
        with atomic_path(out) as temporary:
            found.to_netcdf(temporary, engine="netcdf4", format="NETCDF4")
    figures = _drift(found)
    note(f"{model}: {found.attrs['generator']} fitted on {found.attrs['period']}")
    lines = [
        f"watched {figures['first']} to {figures['last']}, {figures['days']} days",
        f"last {figures['days_in_window']} days: energy score {figures['score_excess']:+.1f} standard errors from what "
        f"the law expects; 95% coverage {figures['coverage_95_least']:.2f} to "
        f"{figures['coverage_95_most']:.2f}; states outside what was fitted on {figures['state_clipped']:.0%}",
        f"{'refit due' if figures['refit_due'] else 'no refit due'}: {figures['reason']}",
    ]
    if out is not None:
        lines.append(f"wrote {out}")
    return Result({"out": out, **figures}, "\n".join(lines), REFIT_DUE if figures["refit_due"] else 0)


def _drift(found: Any) -> dict[str, Any]:
    """Figures of the last window of :func:`volscen.evaluation.monitor_drift`."""
    end = found.isel(date=-1)
    days = int(end["days_in_window"])
    coverage = end["coverage"].sel(level=0.95)
    return {
        "first": found.attrs["first"],
        "last": found.attrs["last"],
        "days": found.sizes["date"],
        "days_in_window": days,
        "score_excess": float(end["score_excess"]),
        "coverage_95_least": float(coverage.min()),
        "coverage_95_most": float(coverage.max()),
        "state_clipped": float(found["state_clipped"][-days:].mean()),
        "refit_due": bool(found.attrs["refit_due"]),
        "reason": str(found.attrs["reason"]),
    }
