"""``volscen fit``, ``info``, ``card`` and ``monitor``: models made, described and watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli_arguments import parse_option
from volscen._registry import DEFAULT, REGISTRY
from volscen.errors import InputError

__all__ = ["models_app"]

models_app = typer.Typer(rich_markup_mode=None)

_Model = Annotated[Path, typer.Argument(help="Fitted model (.safetensors).")]


@models_app.command(
    epilog="Examples:  volscen fit history.nc --generator pca --until 2020-12-31 --out model.safetensors   |   "
    "volscen fit history.nc --generator volgan --out gan.safetensors --resume. A training that was stopped goes "
    "on from its checkpoint, to the bits of one that was not."
)
def fit(
    history: Annotated[Path, typer.Argument(help="History (NetCDF).")],
    out: Annotated[Path, typer.Option(help="Model file to write (.safetensors).")],
    generator: Annotated[str, typer.Option(help=f"Name of a generator: {', '.join(sorted(REGISTRY))}.")] = DEFAULT,
    until: Annotated[str | None, typer.Option(help="Fit on the dates up to this one. Default: all.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the generator, name=value; may be repeated.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File for the state of a training, rewritten on the way. It must be new.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the checkpoint where there is one. Default file: OUT.checkpoint."),
    ] = False,
) -> None:
    """Fit a generator to a history and save it."""
    import volscen
    from volscen._dates import to_day
    from volscen._files import check_writable
    from volscen._io import read_dataset
    from volscen.schema import HISTORY

    if out.suffix != ".safetensors":
        raise InputError(f"cannot write to {out}: the name must end in .safetensors")
    check_writable(out)
    options = dict(parse_option(text) for text in option or [])
    if resume or checkpoint is not None:
        options["checkpoint"] = str(_checkpoint(generator, options, out, checkpoint, resume))
    data = read_dataset(history, kind=HISTORY)
    if until is not None:
        dates, last = data["date"].values.astype("datetime64[D]"), to_day(until, "--until")
        if last < dates[0]:
            raise InputError(f"--until {last} lies before the history, which begins on {dates[0]}")
        data = data.isel(date=dates <= last)
    model = volscen.fit(data, generator, **options)
    model.save(out)
    typer.echo(f"wrote {out}: generator {model.name} fitted on {model.period_[0]} to {model.period_[1]}")


def _checkpoint(generator: str, options: dict[str, Any], out: Path, checkpoint: Path | None, resume: bool) -> Path:
    """Where the training keeps its state; refused now where it could not, or would go on unasked."""
    from inspect import signature

    from volscen._files import check_writable
    from volscen.generators import generator_class

    if "checkpoint" not in signature(generator_class(generator)).parameters:
        raise InputError(f"generator {generator!r} keeps no checkpoints; leave out --checkpoint and --resume")
    if "checkpoint" in options:
        raise InputError("--option checkpoint= and --checkpoint or --resume say the same; give one of them")
    path = out.with_name(f"{out.name}.checkpoint") if checkpoint is None else checkpoint
    check_writable(path)
    if path.resolve() == out.resolve():
        raise InputError(f"--checkpoint {path} is the file of the model; give another")
    if path.exists() and not resume:
        raise InputError(f"--checkpoint {path} exists; pass --resume to go on from it, or delete it")
    return path


@models_app.command(epilog="Example:  volscen info scenarios.nc")
def info(file: Annotated[Path, typer.Argument(help="History, scenarios, hedge result or model.")]) -> None:
    """Validate a file and say what it holds."""
    from volscen._summary import describe_file

    typer.echo(describe_file(file))


@models_app.command(
    epilog="Example:  volscen card model.safetensors --evaluation found.nc --history history.nc --out card.md. The "
    "evaluation is what 'volscen evaluate --out found.nc' writes."
)
def card(
    model: _Model,
    history: Annotated[
        Path | None, typer.Option(help="History (NetCDF): how its dates after the fit compare with what was fitted on.")
    ] = None,
    evaluation: Annotated[Path | None, typer.Option(help="Figures of an evaluation (.nc).")] = None,
    label: Annotated[
        str | None, typer.Option(help="Which generator of the evaluation it is. Default: by name.")
    ] = None,
    intended_use: Annotated[str | None, typer.Option(help="Statement to take over into the card.")] = None,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write. Default: print.")] = None,
) -> None:
    """Write the model card of a fitted model."""
    import volscen
    from volscen._files import atomic_path, check_writable
    from volscen._io import read_dataset
    from volscen._model_card import read_evaluation
    from volscen.schema import HISTORY

    if out is not None:
        check_writable(out)
    found = None if evaluation is None else read_evaluation(evaluation)
    if label is not None:
        if found is None:
            raise InputError("--label chooses a generator of --evaluation; give that too")
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
        typer.echo(text, nl=False)
        return
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {out}")


@models_app.command(
    epilog="Example:  volscen monitor model.safetensors history.nc --window 60 --out drift.nc. The history holds the "
    "days since the fit."
)
def monitor(
    model: _Model,
    history: Annotated[Path, typer.Argument(help="History (NetCDF) with the days to watch.")],
    first: Annotated[str | None, typer.Option(help="First realised date. Default: the first after the fit.")] = None,
    last: Annotated[str | None, typer.Option(help="Last realised date. Default: the history's last.")] = None,
    window: Annotated[int, typer.Option(help="Days of the rolling figures.")] = 60,
    alpha: Annotated[float, typer.Option(help="Probability that a right model ever raises the alarm.")] = 0.01,
    update_every: Annotated[int, typer.Option(help="Dates between two updates; 0 for never.")] = 0,
    n_scenarios: Annotated[int, typer.Option("--n-scenarios", "-n", help="Scenarios per date.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the scenarios.")] = 0,
    beta: Annotated[str, typer.Option(help="Strength of the arbitrage weights: a number, 'auto' or 'paper'.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="NetCDF file to write, every figure by date.")] = None,
) -> None:
    """Compare the days since a fit with the model's scenarios; say whether to fit again."""
    from volscen._cli_arguments import number_or
    from volscen._files import atomic_path, check_writable
    from volscen._io import read_dataset
    from volscen.evaluation import monitor_drift
    from volscen.generators import load
    from volscen.schema import HISTORY

    if out is not None:
        if out.suffix != ".nc":
            raise InputError(f"cannot write to {out}: the name must end in .nc")
        check_writable(out)
    fitted, data = load(model), read_dataset(history, kind=HISTORY)
    until, today = fitted.period_[1], str(data["date"].values[-1].astype("datetime64[D]"))
    if first is None and today <= until:  # the night of the fit: nothing is wrong
        typer.echo(f"no day after the fit yet: {model} was fitted up to {until}, and {history} ends on {today}")
        return
    found = monitor_drift(
        fitted,
        data,
        first=first,
        last=last,
        window=window,
        alpha=alpha,
        update_every=update_every or None,
        n_scenarios=n_scenarios,
        seed=seed,
        beta=number_or(beta, ("auto", "paper"), "--beta"),
    )
    end = found.isel(date=-1)
    days = int(end["days_in_window"])
    typer.echo(f"{model}: {found.attrs['generator']} fitted on {found.attrs['period']}")
    typer.echo(f"watched {found.attrs['first']} to {found.attrs['last']}, {found.sizes['date']} days")
    typer.echo(
        f"last {days} days: energy score {float(end['score_excess']):+.1f} standard errors from what the law expects; "
        f"95% coverage {float(end['coverage'].sel(level=0.95).min()):.2f} to "
        f"{float(end['coverage'].sel(level=0.95).max()):.2f}; states outside what was fitted on "
        f"{float(found['state_clipped'][-days:].mean()):.0%}"
    )
    due = "refit due" if found.attrs["refit_due"] else "no refit due"
    typer.echo(f"{due}: {found.attrs['reason']}")
    if out is not None:
        with atomic_path(out) as temporary:
            found.to_netcdf(temporary, engine="netcdf4", format="NETCDF4")
        typer.echo(f"wrote {out}")
