"""``volscen generate``, ``reweight``, ``resample`` and ``export``: scenario files made, weighed, thinned, handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import (
    SCENARIOS,
    Beta,
    Device,
    NScenarios,
    Out,
    Scenarios,
    Scheduler,
    Seed,
    check_file,
    check_out,
    cluster,
    number_or,
    parse_dates,
)
from volscen._cli._command import Result, command
from volscen._cli._complete import DATASETS, MODELS, files, words
from volscen._cli._given import parse_given, parse_views
from volscen._cli._plan import dry_run, expected, planned, scenario_bytes
from volscen.errors import InputError

__all__ = ["scenarios_app"]

scenarios_app = typer.Typer(rich_markup_mode=None)

_Compression = Annotated[int, typer.Option(help="zlib level of the file, 0 to 9.")]
_Given = Annotated[
    list[str] | None,
    typer.Option(help="Known of the outcome: log_return=-0.02, 'vix=25:', 'atm_vol(0.25)=0.2:0.3'; may be repeated."),
]


@command(
    scenarios_app,
    panel=SCENARIOS,
    examples=[
        "volscen generate --out scenarios.nc",
        "volscen generate --model model.safetensors --history history.nc --as-of 2024-06-03 \\\n"
        "    -n 50000 --horizon 10 --seed 1 --out scenarios.nc",
        "volscen generate -n 2000000 --horizon 21 --chunks 8192 --seed 1 --out large.zarr",
        "volscen generate --given log_return=-0.06:-0.04 --out crash.nc",
    ],
)
def generate(
    out: Out,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            help="Fitted model, as written by 'volscen fit'. Default: the embedded, simulated one; with "
            "--history, har fitted on all of it up to the first --as-of.",
            autocompletion=files(*MODELS),
        ),
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="History that gives the starting state.", autocompletion=files(*DATASETS))
    ] = None,
    as_of: Annotated[
        list[str] | None, typer.Option(help="Last date known; may be repeated. Default: the history's last.")
    ] = None,
    n_scenarios: NScenarios = 10_000,
    horizon: Annotated[int, typer.Option(help="Steps (trading days) of each path.")] = 1,
    given: _Given = None,
    seed: Seed = None,
    beta: Beta = "auto",
    equal_weights: Annotated[bool, typer.Option("--equal-weights", help="Do not reweight.")] = False,
    project: Annotated[
        bool, typer.Option("--project", help="Replace every surface by the nearest one without static arbitrage.")
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(help="Of the surfaces.", metavar="float32|float64", autocompletion=words("float32", "float64")),
    ] = "float32",
    num_threads: Annotated[int | None, typer.Option(help="Default: all available.")] = None,
    device: Device = "cpu",
    compression: _Compression = 0,
    chunks: Annotated[
        int | None,
        typer.Option(help="Draw and write so many scenarios at a time, however many there are; multiples of 1024."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --chunks: go on with a file that was stopped on the way.")
    ] = False,
    scheduler: Scheduler = None,
) -> Result:
    """Draw weighted scenarios and write them.

    Without a model and a history they are those of the embedded, SIMULATED market: to try things out, not to measure
    risk. Prints index VaR and ES, vol quantiles, arbitrage penalties and the effective sample size.
    """
    import volscen
    from volscen._figures import scenario_figures, streamed_figures
    from volscen._io import read_dataset
    from volscen._numbers import whole_number
    from volscen._summary import scenario_text, streamed_text
    from volscen.generators._neural_options import check_device
    from volscen.scenarios._generate import float_type
    from volscen.schema import HISTORY

    check_out(out, compression)
    check_device(device)
    if model is not None and history is None:
        raise InputError("--history is needed with --model: it gives the starting state")
    strength = number_or(beta, ("auto", "paper"), "--beta")
    if chunks is None and (resume or scheduler is not None):
        raise InputError(f"{'--resume' if resume else '--scheduler'} goes with --chunks, the scenarios in one piece")
    if resume and seed is None:
        raise InputError("--resume needs the --seed of the run that was stopped")
    if dry_run():
        unknown = expected(model) | expected(history)
        cells = None if unknown else _cells(history)
        shape = (whole_number("n_scenarios", n_scenarios), whole_number("horizon", horizon), max(1, len(as_of or [])))
        size = None if cells is None else scenario_bytes(cells, *shape, itemsize=float_type(dtype).itemsize)
        return planned(
            reads=[model, history],
            writes={out: size},
            memory_bytes=_in_memory(cells, size, shape, chunks),
            figures={"n_scenarios": n_scenarios, "horizon": horizon, "n_dates": shape[2], "grid_points": cells},
        )
    with cluster(scheduler):
        cube = volscen.generate(
            model,
            None if history is None else read_dataset(history, kind=HISTORY),
            as_of=parse_dates(as_of),
            n_scenarios=n_scenarios,
            horizon=horizon,
            given=parse_given(given),
            seed=seed,
            reweight=None if equal_weights else "arbitrage",
            beta=strength,
            project=project,
            num_threads=num_threads,
            dtype=dtype,
            chunks=chunks,
            device=device,
        )
        volscen.write(cube, out, compression=compression, resume=resume)
    if chunks is not None:  # a summary would draw it all again
        figures = streamed_figures(read_dataset(out, chunks=chunks))
        return Result({"out": out, "bytes": _size(out), **figures}, f"{streamed_text(figures)}\n{_wrote(out)}")
    figures = scenario_figures(cube)
    return Result({"out": out, "bytes": _size(out), **figures}, f"{scenario_text(figures)}\n{_wrote(out)}")


@command(
    scenarios_app,
    in_place=True,
    panel=SCENARIOS,
    examples=[
        "volscen reweight scenarios.nc --beta 500 --out weighted.nc",
        "volscen reweight scenarios.nc --given 'vix=25:' --out nervous.nc",
        "volscen reweight scenarios.nc --view 'mean(atm_vol(0.25))=0.25' \\\n"
        "    --view 'correlation(total_log_return,atm_vol(0.25))<=-0.5' --out stressed.nc",
    ],
)
def reweight(
    scenarios: Scenarios,
    out: Out,
    beta: Annotated[
        str | None,
        typer.Option(
            help="By arbitrage, with this strength: a number, 'auto' or 'paper'.", metavar="NUMBER|auto|paper"
        ),
    ] = None,
    given: _Given = None,
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="What is believed: mean, std, variance, correlation or 'quantile(X,0.95)' of quantities such as "
            "log_return, total_log_return, atm_vol(0.25), vix, skew(0.25), with =, <= or >= a number; may be repeated."
        ),
    ] = None,
    ess_floor: Annotated[
        float | None, typer.Option(help="Least effective sample size over N that is accepted. Default: the verb's.")
    ] = None,
    blend: Annotated[
        bool, typer.Option("--blend", help="Mix in as much of the old weights as the floor needs (views).")
    ] = False,
) -> Result:
    """Weigh scenarios by arbitrage, by what is given, or by views.

    Nothing is drawn: weights only move probability between scenarios that are there.
    """
    import volscen
    from volscen import views
    from volscen._figures import scenario_figures
    from volscen._io import read_dataset
    from volscen._summary import scenario_text
    from volscen.schema import SCENARIOS as KIND

    check_out(out)
    if sum(one is not None for one in (beta, given, view)) != 1:
        raise InputError("give one of --beta, --given and --view: they are three ways to weigh")
    if blend and view is None:
        raise InputError("--blend goes with --view")
    floor: dict[str, Any] = {} if ess_floor is None else {"ess_floor": ess_floor}
    beliefs = parse_views(view)
    if dry_run():
        return planned(reads=[scenarios], writes={out: None if expected(scenarios) else _size(scenarios)})
    cube = read_dataset(scenarios, kind=KIND)
    met = None
    if beta is not None:
        after = volscen.reweight(cube, beta=number_or(beta, ("auto", "paper"), "--beta"), **floor)
    elif given is not None:
        after = volscen.condition(cube, parse_given(given) or {}, **floor)
    else:
        after = volscen.entropy_pool(cube, beliefs, blend=blend, **floor)
        met = views.compare(cube, after, beliefs) if after["weight"].ndim == 1 else None
    volscen.write(after, out)
    figures = scenario_figures(after)
    table = "" if met is None else met.to_string(float_format="%.6g") + "\n"
    compared = None if met is None else met.reset_index().to_dict("records")
    return Result(
        {"out": out, "bytes": _size(out), "views": compared, **figures},
        f"{scenario_text(figures)}\n{table}{_wrote(out)}",
    )


@command(
    scenarios_app,
    in_place=True,
    panel=SCENARIOS,
    examples=["volscen resample scenarios.nc -n 1000 --seed 7 --out equal.nc"],
)
def resample(
    scenarios: Scenarios,
    out: Out,
    n_scenarios: Annotated[
        int | None,
        typer.Option("--n-scenarios", "-n", help="How many to draw per date. Default: as many as there are."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    method: Annotated[
        str,
        typer.Option(
            help="systematic, stratified or multinomial.",
            autocompletion=words("systematic", "stratified", "multinomial"),
        ),
    ] = "systematic",
) -> Result:
    """Draw scenarios by their weights, so that they need none.

    For systems that know no weights.
    """
    import volscen
    from volscen._figures import scenario_figures
    from volscen._io import read_dataset
    from volscen._summary import scenario_text
    from volscen.schema import SCENARIOS as KIND

    check_out(out)
    if dry_run():
        size = None if expected(scenarios) else _size(scenarios)
        return planned(reads=[scenarios], writes={out: size}, figures={"n_scenarios": n_scenarios})
    cube = volscen.resample(read_dataset(scenarios, kind=KIND), n_scenarios, seed=seed, method=method)
    volscen.write(cube, out)
    figures = scenario_figures(cube)
    return Result({"out": out, "bytes": _size(out), **figures}, f"{scenario_text(figures)}\n{_wrote(out)}")


@command(
    scenarios_app,
    panel=SCENARIOS,
    examples=[
        "volscen export scenarios.nc --out scenarios.parquet",
        "volscen export equal.nc --name SP5 --market-xml market.xml --out ore_scenarios.csv",
    ],
)
def export(
    scenarios: Scenarios,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help=".parquet for a table, .csv for the Open Source Risk Engine.",
            autocompletion=files(".parquet", ".csv"),
        ),
    ],
    wide: Annotated[
        bool, typer.Option("--wide", help="Of a table: a row per scenario and step, a column per grid point.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="For ORE: the equity's name in its configuration.")] = None,
    market_xml: Annotated[
        Path | None, typer.Option(help="For ORE: also write the part of its simulation market that fits.")
    ] = None,
    strikes: Annotated[
        str | None,
        typer.Option(
            help="For ORE: sticky, spot or forward; what a moneyness stands for. Default: sticky.",
            autocompletion=words("sticky", "spot", "forward"),
        ),
    ] = None,
    ignore_weights: Annotated[
        bool, typer.Option("--ignore-weights", help="For ORE, which knows no weights: drop them.")
    ] = False,
) -> Result:
    """Write scenarios for other systems: Parquet, or ORE's CSV."""
    import volscen
    from volscen._io import read_dataset
    from volscen.schema import SCENARIOS as KIND

    check_file(out, ".parquet", ".csv")
    table = out.suffix == ".parquet"
    for flag, value, fits in (
        ("--wide", wide or None, table),
        ("--name", name, not table),
        ("--market-xml", market_xml, not table),
        ("--strikes", strikes, not table),
        ("--ignore-weights", ignore_weights or None, not table),
    ):
        if value is not None and not fits:
            raise InputError(f"{flag} goes with {'.csv (ORE)' if table else '.parquet'}, not with {out.name}")
    if not table and name is None:
        raise InputError("--name is needed for ORE: the equity's name in its configuration, such as SP5")
    if market_xml is not None:
        check_file(market_xml)
    if dry_run():
        size = None if expected(scenarios) else _size(scenarios)
        return planned(reads=[scenarios], writes={out: size, market_xml: None})
    cube = read_dataset(scenarios, kind=KIND)
    if table:
        volscen.to_long_table(cube, out, wide=wide)
    else:
        options: dict[str, Any] = {"weights": "ignore" if ignore_weights else "refuse"}
        if strikes is not None:
            options["strikes"] = strikes
        volscen.export_ore(cube, out, name=str(name), market_xml=market_xml, **options)
    written = [one for one in (out, market_xml) if one is not None]
    return Result(
        {"out": out, "market_xml": market_xml, "bytes": _size(out)}, "\n".join(_wrote(one) for one in written)
    )


def _cells(history: Path | None) -> int:
    """Points of the grid that scenarios will have."""
    if history is None:
        from volscen.datasets import sample_history

        return int(sample_history()["implied_vol"][0].size)
    from volscen._io import read_dataset
    from volscen.schema import HISTORY

    return int(read_dataset(history, kind=HISTORY)["implied_vol"].isel(date=0).size)


def _in_memory(cells: int | None, size: int | None, shape: tuple[int, int, int], chunks: int | None) -> int | None:
    """Bytes of the cube, or of the pieces that are in work at once and 24 for each scenario."""
    import os

    if cells is None or chunks is None:
        return size
    n, horizon, n_dates = shape
    return (os.cpu_count() or 1) * scenario_bytes(cells, min(chunks, n), horizon) + 24 * n * n_dates


def _size(out: Path) -> int:
    return sum(file.stat().st_size for file in out.rglob("*")) if out.is_dir() else out.stat().st_size


def _wrote(out: Path) -> str:
    return f"wrote {out} ({_size(out) / 1e6:.1f} MB)"
