"""``volscen evaluate``: generators, or scenarios that exist, judged out of sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import (
    MODELLING,
    Beta,
    Device,
    NScenarios,
    Scheduler,
    Store,
    cluster,
    number_or,
    parse_option,
    parse_pairs,
)
from volscen._cli._command import Result, command
from volscen._cli._complete import MARKETS, files, generators, words
from volscen._cli._plan import dry_run, expected, planned
from volscen.errors import InputError

__all__ = ["evaluate_app"]

evaluate_app = typer.Typer(rich_markup_mode=None)


@command(
    evaluate_app,
    panel=MODELLING,
    examples=[
        "volscen evaluate history.nc -g pca -g har --first 2014-01-01 --last 2015-12-31 --out table.csv",
        "volscen evaluate history.nc --scenarios theirs=folder --scenarios ours=cube.nc --baseline ours \\\n"
        "    --train-end 2014-01-01 --out table.json",
    ],
)
def evaluate(
    history: Store,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            "--generator",
            "-g",
            help="Name (fitted on the way), or label=name, or a model file; may be repeated.",
            autocompletion=generators,
        ),
    ] = None,
    scenarios: Annotated[
        list[str] | None,
        typer.Option(help="Existing scenarios instead: label=file or folder of NetCDF; may be repeated."),
    ] = None,
    first: Annotated[str | None, typer.Option(help="First realised date to score.")] = None,
    last: Annotated[str | None, typer.Option(help="Last realised date to score. Default: the history's last.")] = None,
    train_end: Annotated[
        str | None, typer.Option(help="Moves are scaled by the dates before this one. Default: --first.")
    ] = None,
    baseline: Annotated[str, typer.Option(help="Label that skill is against.")] = "bootstrap",
    oracle: Annotated[
        str | None,
        typer.Option(help="Market of a simulated history: its true law is judged too.", autocompletion=words(*MARKETS)),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of a generator, label.name=value; may be repeated.")
    ] = None,
    refit: Annotated[
        str,
        typer.Option(
            help="year, quarter, month, a number of dates, or never.",
            autocompletion=words("year", "quarter", "month", "never"),
        ),
    ] = "year",
    update_every: Annotated[int, typer.Option(help="Dates between two updates; 0 for never.")] = 1,
    n_scenarios: NScenarios = 1000,
    seed: Annotated[list[int] | None, typer.Option(help="May be repeated: the worst is printed. Default: 0.")] = None,
    beta: Beta = "auto",
    device: Device = "cpu",
    num_workers: Annotated[
        int | None,
        typer.Option("--num-workers", "-j", help="Processes; the result is the same for any number. Default: 1."),
    ] = None,
    scheduler: Scheduler = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder for models and scored days; an evaluation that was stopped goes on from it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the table (.csv, .json) or every figure (.nc).",
            autocompletion=files(".csv", ".json", ".nc"),
        ),
    ] = None,
) -> Result:
    """Judge generators, or existing scenarios, out of sample."""
    from volscen._io import read_dataset
    from volscen.evaluation import evaluate as evaluate_generators
    from volscen.evaluation import format_table, judge_scenarios, table, write_evaluation
    from volscen.evaluation._table import check_evaluation_path
    from volscen.generators._neural_options import CPU, check_device
    from volscen.schema import HISTORY

    if out is not None:
        check_evaluation_path(out)
    if bool(generator) == bool(scenarios):
        raise InputError("give --generator or --scenarios, one of the two, at least once")
    if scenarios and train_end is None:
        raise InputError("--train-end is needed with --scenarios: the dates before it give the scales")
    if generator and first is None:
        raise InputError("--first is needed: the first date to score")
    if check_device(device) != CPU and scenarios:
        raise InputError("--device goes with --generator: the scenarios are there already")
    strength = number_or(beta, ("auto", "paper"), "--beta")
    candidates = _candidates(generator or [], option or [])
    if dry_run():
        return _plan(history, candidates, first, last, len(seed or (0,)), n_scenarios, out, checkpoint)
    data = read_dataset(history, kind=HISTORY)
    if scenarios:
        pairs = parse_pairs(",".join(scenarios), "--scenarios") or {}
        found = judge_scenarios(pairs, data, train_end=train_end, first=first, last=last, baseline=baseline)
    else:
        with cluster(scheduler):
            found = evaluate_generators(
                candidates,
                data,
                first=first,
                last=data["date"].values[-1] if last is None else last,
                train_end=train_end,
                baseline=baseline,
                oracle=oracle,
                seeds=tuple(seed or (0,)),
                refit_every=None if refit == "never" else int(refit) if refit.isdecimal() else refit,  # type: ignore[arg-type]
                update_every=update_every or None,
                n_scenarios=n_scenarios,
                beta=strength,
                device=device,
                num_workers=num_workers if num_workers or scheduler else 1,
                folder=checkpoint,
            )
    frame = table(found)
    lines = [
        f"{found.attrs['first']} to {found.attrs['last']}, {found.attrs['days']} days; skill against {baseline}",
        format_table(frame),
    ]
    if out is not None:
        write_evaluation(found, out)
        lines.append(f"wrote {out}")
    figures = {
        "out": out,
        "first": found.attrs["first"],
        "last": found.attrs["last"],
        "days": found.attrs["days"],
        "baseline": baseline,
        "rows": frame.reset_index().to_dict("records"),
    }
    return Result(figures, "\n".join(lines))


def _plan(
    history: Path, candidates: dict[str, Any], first: str | None, last: str | None, seeds: int, n: int,
    out: Path | None, checkpoint: Path | None,
) -> Result:  # fmt: skip
    """How many days would be scored."""
    from volscen._dates import to_day
    from volscen._io import read_dataset
    from volscen.schema import HISTORY

    days = None
    if not expected(history):
        dates = read_dataset(history, kind=HISTORY)["date"].values.astype("datetime64[D]")
        begin = dates[0] if first is None else to_day(first, "--first")
        end = dates[-1] if last is None else to_day(last, "--last")
        days = int(((dates >= begin) & (dates <= end)).sum())
    counts = {"generators": len(candidates), "seeds": seeds, "days": days, "n_scenarios": n}
    drawn = None if days is None else (len(candidates) + 1) * seeds * days * n
    return planned(reads=[history], writes=[out, checkpoint], figures={**counts, "scenarios_to_draw": drawn})


def _candidates(generators: list[str], options: list[str]) -> dict[str, Any]:
    """Generators to judge by label, with their options; a model file is loaded."""
    import volscen

    own: dict[str, dict[str, Any]] = {}
    for text in options:
        label, separator, rest = text.partition(".")
        if not separator:
            raise InputError(f"--option must look like label.name=value, not {text!r}")
        name, value = parse_option(rest)
        own.setdefault(label, {})[name] = value
    out: dict[str, Any] = {}
    for text in generators:
        label, separator, what = text.partition("=")
        what = what if separator else label
        label = label if separator or not label.endswith(".safetensors") else Path(label).stem
        if label in out:
            raise InputError(f"--generator {label!r} is given twice; name one label=name")
        chosen = own.pop(label, {})
        if what.endswith(".safetensors"):
            if chosen:
                raise InputError(f"--option {label}.: a fitted model has options of its own")
            out[label] = volscen.load(what)
        else:
            out[label] = (what, chosen)
    if own:
        raise InputError(f"--option names {', '.join(sorted(own))}, which no --generator does")
    return out
