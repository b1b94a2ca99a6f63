"""The ``volscen`` command.

Exit codes: 0 success, 1 bad input or data (one sentence on standard error), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli_arguments import check_out, number_or, parse_option, parse_pairs
from volscen._cli_given import parse_given
from volscen._cli_history import history_app
from volscen._cli_models import models_app
from volscen._cli_plot import plot_app
from volscen._cli_repair import repair_app
from volscen._cli_report import report_app
from volscen.errors import InputError, VolscenError

__all__ = ["app", "main"]

app = typer.Typer(
    name="volscen",
    help="Scenarios of implied-volatility surfaces: quotes in, weighted scenario cubes and hedge ratios out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 success, 1 bad input or data, 2 wrong usage, 130 interrupted.",
)
app.add_typer(history_app, name="history")
app.add_typer(models_app)
app.add_typer(repair_app)
app.add_typer(report_app)
app.add_typer(plot_app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from volscen import __version__

        typer.echo(f"volscen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:  volscen generate --out scenarios.nc   |   volscen generate --generator model.safetensors "
    "--history history.nc --as-of 2020-03-16 -n 50000 --horizon 10 --seed 1 --out scenarios.nc"
)
def generate(
    out: Annotated[Path, typer.Option(help="NetCDF file to write.")],
    generator: Annotated[
        Path | None,
        typer.Option(
            help="Fitted model, as written by 'volscen fit'. Default: the embedded model; with "
            "--history, har fitted on all of it up to the first --as-of."
        ),
    ] = None,
    history: Annotated[Path | None, typer.Option(help="History that gives the starting state.")] = None,
    as_of: Annotated[
        list[str] | None, typer.Option(help="Last date known; may be repeated. Default: the history's last.")
    ] = None,
    n_scenarios: Annotated[int, typer.Option("--n-scenarios", "-n", help="Scenarios per date.")] = 10_000,
    horizon: Annotated[int, typer.Option(help="Steps (trading days) of each path.")] = 1,
    given: Annotated[
        list[str] | None,
        typer.Option(
            help="Known of the outcome: log_return=-0.02, 'vix=25:', 'atm_vol(0.25)=0.2:0.3'; may be repeated."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; drawn and recorded when omitted.")] = None,
    beta: Annotated[str, typer.Option(help="Strength of the arbitrage weights: a number, 'auto' or 'paper'.")] = "auto",
    equal_weights: Annotated[bool, typer.Option("--equal-weights", help="Do not reweight.")] = False,
    project: Annotated[
        bool, typer.Option("--project", help="Replace every surface by the nearest one without static arbitrage.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="Of the surfaces: float32 or float64.")] = "float32",
    num_threads: Annotated[int | None, typer.Option(help="Default: all available.")] = None,
    compression: Annotated[int, typer.Option(help="zlib level of the file, 0 to 9.")] = 0,
) -> None:
    """Draw weighted scenarios, write them to NetCDF and print a summary."""
    import volscen
    from volscen._io import read_dataset
    from volscen._summary import scenario_summary
    from volscen.schema import HISTORY

    check_out(out, compression)
    if generator is not None and history is None:
        raise InputError("--history is needed with --generator: it gives the starting state")
    dates: Any = as_of[0] if as_of and len(as_of) == 1 else as_of or None
    cube = volscen.generate(
        generator,
        None if history is None else read_dataset(history, kind=HISTORY),
        as_of=dates,
        n_scenarios=n_scenarios,
        horizon=horizon,
        given=parse_given(given),
        seed=seed,
        reweight=None if equal_weights else "arbitrage",
        beta=number_or(beta, ("auto", "paper"), "--beta"),
        project=project,
        num_threads=num_threads,
        dtype=dtype,
    )
    volscen.write(cube, out, compression=compression)
    typer.echo(scenario_summary(cube))
    size = sum(file.stat().st_size for file in out.rglob("*")) if out.is_dir() else out.stat().st_size
    typer.echo(f"wrote {out} ({size / 1e6:.1f} MB)")


@app.command(
    epilog="Example:  volscen download SPX.OPT SPXW.OPT --start 2024-01-19 --schema cbbo-1m --schema definition "
    "--folder opra. The key is taken from the environment variable DATABENTO_API_KEY."
)
def download(
    symbols: Annotated[list[str], typer.Argument(help="Parent symbols, such as SPY.OPT.")],
    start: Annotated[str, typer.Option(help="First day.")],
    end: Annotated[str | None, typer.Option(help="Last day, included. Default: the first.")] = None,
    schema: Annotated[
        list[str] | None,
        typer.Option(
            help="cbbo-1m, cbbo-1s, cmbp-1, tcbbo, definition, statistics; may be repeated. Default: cbbo-1m."
        ),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to pay.")] = False,
) -> None:
    """Show what option data costs at Databento, ask, and download it."""
    from volscen.sources import download_databento

    files = download_databento(
        symbols, start=start, end=end, schemas=schema or "cbbo-1m", folder=folder, confirm=True if yes else None
    )
    for file in files:
        typer.echo(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")
    if not files:
        typer.echo("nothing was downloaded")


@app.command(
    epilog="Example:  volscen hedge scenarios.nc --portfolio portfolio.csv --instruments instruments.csv "
    "--method lasso --out hedge.nc. The tables have columns type (call, put, underlying), one of strike, moneyness, "
    "strike_over_spot, delta, one of tau, expiry, and quantity."
)
def hedge(
    scenarios: Annotated[Path, typer.Argument(help="Scenarios (NetCDF).")],
    portfolio: Annotated[Path, typer.Option(help="Positions to hedge (CSV or Parquet).")],
    instruments: Annotated[Path, typer.Option(help="Instruments to hedge with (CSV or Parquet).")],
    method: Annotated[
        str,
        typer.Option(
            help="auto (ridge with two or more options, else regression), regression, ridge, lasso, min-es, delta, "
            "min-variance-delta, delta-vega, delta-vega-sqrt, vega-buckets or neighbours."
        ),
    ] = "auto",
    alpha: Annotated[
        str | None, typer.Option(help="Penalty of the LASSO: a number, 'grid' or 'cv'. Default: cv.")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="Of the ridge: error of a quoted vol, in decimals. Default: 0.002.")
    ] = None,
    half_spread_vol: Annotated[
        float | None, typer.Option(help="Half-spread of the options in vol, in decimals; costs are then heeded.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Step whose value changes are hedged. Default: the last.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Date, where the scenarios have several.")] = None,
    out: Annotated[Path | None, typer.Option(help="NetCDF file to write.")] = None,
) -> None:
    """Compute hedge ratios from scenarios."""
    import volscen
    from volscen._io import read_dataset
    from volscen._summary import hedge_summary
    from volscen.portfolio import instruments_from_table
    from volscen.schema import SCENARIOS

    if out is not None:
        check_out(out)
    result = volscen.hedge(
        _of_one_date(read_dataset(scenarios, kind=SCENARIOS), as_of),
        volscen.Portfolio.from_table(portfolio),
        instruments_from_table(instruments),
        method=method,
        alpha=number_or(alpha, ("grid", "cv"), "--alpha"),
        noise=noise,
        half_spread_vol=half_spread_vol,
        step=step,
    )
    typer.echo(hedge_summary(result))
    if out is not None:
        volscen.write(result, out)
        typer.echo(f"wrote {out}")


@app.command(
    epilog="Examples:  volscen evaluate history.nc --generator pca --generator har --first 2014-01-01 --last "
    "2015-12-31 --out table.csv   |   volscen evaluate history.nc --scenarios theirs=folder --scenarios ours=cube.nc "
    "--baseline ours --train-end 2014-01-01 --out table.json"
)
def evaluate(
    history: Annotated[Path, typer.Argument(help="History (NetCDF) that holds the period and the days before it.")],
    generator: Annotated[
        list[str] | None,
        typer.Option(
            "--generator", "-g", help="Name (fitted on the way), or label=name, or a model file; may be repeated."
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
        str | None, typer.Option(help="Market of a simulated history: its true law is judged too.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Option of a generator, label.name=value; may be repeated.")
    ] = None,
    refit: Annotated[str, typer.Option(help="year, quarter, month, a number of dates, or never.")] = "year",
    update_every: Annotated[int, typer.Option(help="Dates between two updates; 0 for never.")] = 1,
    n_scenarios: Annotated[int, typer.Option("--n-scenarios", "-n", help="Scenarios per date.")] = 1000,
    seed: Annotated[list[int] | None, typer.Option(help="May be repeated: the worst is printed. Default: 0.")] = None,
    beta: Annotated[str, typer.Option(help="Strength of the arbitrage weights: a number, 'auto' or 'paper'.")] = "auto",
    num_workers: Annotated[int, typer.Option(help="Processes; the result is the same for any number.")] = 1,
    folder: Annotated[
        Path | None, typer.Option(help="Keep models and scored days here; an interrupted run goes on from them.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table (.csv, .json) or every figure (.nc).")] = None,
) -> None:
    """Judge generators, or scenarios that exist, out of sample; print one table and write it."""
    from volscen._io import read_dataset
    from volscen.evaluation import evaluate as evaluate_generators
    from volscen.evaluation import format_table, judge_scenarios, table, write_evaluation
    from volscen.evaluation._table import check_evaluation_path
    from volscen.schema import HISTORY

    if out is not None:
        check_evaluation_path(out)
    if bool(generator) == bool(scenarios):
        raise InputError("give --generator or --scenarios, one of the two, at least once")
    data = read_dataset(history, kind=HISTORY)
    if scenarios:
        if train_end is None:
            raise InputError("--train-end is needed with --scenarios: the dates before it give the scales")
        pairs = parse_pairs(",".join(scenarios), "--scenarios") or {}
        found = judge_scenarios(pairs, data, train_end=train_end, first=first, last=last, baseline=baseline)
    else:
        if first is None:
            raise InputError("--first is needed: the first date to score")
        found = evaluate_generators(
            _candidates(generator or [], option or []),
            data,
            first=first,
            last=data["date"].values[-1] if last is None else last,
            train_end=train_end,
            baseline=baseline,
            oracle=oracle,
            seeds=tuple(seed or (0,)),
            refit_every=None if refit == "never" else _whole_or(refit),
            update_every=update_every or None,
            n_scenarios=n_scenarios,
            beta=number_or(beta, ("auto", "paper"), "--beta"),
            num_workers=num_workers,
            folder=folder,
        )
    frame = table(found)
    typer.echo(f"{found.attrs['first']} to {found.attrs['last']}, {found.attrs['days']} days; skill against {baseline}")
    typer.echo(format_table(frame))
    if out is not None:
        write_evaluation(found, out)
        typer.echo(f"wrote {out}")


# ---------------------------------------------------------------------------------------------- arguments
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


def _whole_or(text: str) -> Any:
    return int(text) if text.isdecimal() else text


def _of_one_date(cube: Any, as_of: str | None) -> Any:
    from volscen._dates import to_day

    dates = cube["as_of"].values.astype("datetime64[D]")
    held = f"the scenarios are of {', '.join(map(str, dates.ravel()[:5]))}{', ...' if dates.size > 5 else ''}"
    if as_of is None:
        if dates.ndim:
            raise InputError(f"{held}; choose one with --as-of")
        return cube
    wanted = to_day(as_of, "--as-of")
    if wanted not in dates:
        raise InputError(f"--as-of {wanted}: {held}")
    return cube.isel(as_of=int((dates == wanted).argmax())) if dates.ndim else cube


def main() -> None:
    """Run the command; an expected error is one sentence, never a traceback."""
    warnings.showwarning = _show_warning
    try:
        code = app(standalone_mode=True)
    except VolscenError as error:
        typer.echo(f"volscen: {error}", err=True)
        code = 1
    except BrokenPipeError:  # the reader of a pipe went away: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except MemoryError as error:
        detail = str(error).rstrip(".")
        typer.echo(f"volscen: not enough memory{f' ({detail})' if detail else ''}; ask for less at once", err=True)
        code = 1
    except OSError as error:
        typer.echo(f"volscen: {error}", err=True)
        code = 1
    sys.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"warning: {message}", err=True)


if __name__ == "__main__":
    main()
