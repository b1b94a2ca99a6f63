"""``volscen report``: one page about scenarios, a history, a book and a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volscen._cli._arguments import RISK, AsOf, Scenarios, check_file, of_one_date, parse_numbers
from volscen._cli._command import Result, command
from volscen._cli._complete import DATASETS, HEDGES, MODELS, TABLES, files, words
from volscen._cli._plan import dry_run, expected, planned

__all__ = ["report_app"]

report_app = typer.Typer(rich_markup_mode=None)


@command(
    report_app,
    panel=RISK,
    examples=[
        "volscen report scenarios.nc",
        "volscen report scenarios.nc --history history.nc --portfolio portfolio.csv --model model.safetensors \\\n"
        "    --out report.html",
    ],
)
def report(
    scenarios: Scenarios,
    history: Annotated[
        Path | None, typer.Option(help="History on the same grid, to compare with.", autocompletion=files(*DATASETS))
    ] = None,
    portfolio: Annotated[
        Path | None,
        typer.Option(
            "--portfolio",
            "-p",
            help="Positions (.csv or .parquet), as of 'volscen hedge': risk and hedges.",
            autocompletion=files(*TABLES),
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="Fitted model (.safetensors), for its card.", autocompletion=files(*MODELS)),
    ] = None,
    instruments: Annotated[
        Path | None,
        typer.Option(
            "--instruments",
            "-i",
            help="Instruments to hedge with (.csv or .parquet). Default: underlying and options.",
            autocompletion=files(*TABLES),
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Method of the hedge, as of 'volscen hedge'.", autocompletion=words(*HEDGES))
    ] = "auto",
    evaluation: Annotated[
        Path | None, typer.Option(help="Figures of an evaluation (.nc), for the card.", autocompletion=files(".nc"))
    ] = None,
    alpha: Annotated[str, typer.Option(help="Tail probabilities, separated by commas.")] = "0.05,0.025,0.01",
    elapsed_days: Annotated[
        str | None, typer.Option(help="Calendar days to each step, with commas. Default: counted in weekdays.")
    ] = None,
    as_of: AsOf = None,
    title: Annotated[str | None, typer.Option(help="Heading. Default: the scenarios' title.")] = None,
    n_shown: Annotated[int, typer.Option(help="Scenarios that the sliders lead through.")] = 41,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.", autocompletion=files(".html"))] = Path(
        "report.html"
    ),
) -> Result:
    """Write one page: surfaces, fans, weights, tails, risk and hedges.

    The page is self-contained: it needs no network, and can be mailed.
    """
    import volscen
    from volscen._io import read_dataset
    from volscen.schema import SCENARIOS

    check_file(out, ".html")
    levels = parse_numbers(alpha, "--alpha")
    if dry_run():
        read = [scenarios, history, portfolio, model, instruments, evaluation]
        for path in read:
            expected(path)
        return planned(reads=read, writes=[out])
    written = volscen.report(
        of_one_date(read_dataset(scenarios, kind=SCENARIOS), as_of),
        history,
        portfolio,
        model,
        instruments=instruments,
        method=method,
        evaluation=evaluation,
        alpha=levels,
        elapsed_days=None if elapsed_days is None else parse_numbers(elapsed_days, "--elapsed-days"),
        title=title,
        n_shown=n_shown,
        path=out,
    )
    size = written.stat().st_size
    return Result({"out": written, "bytes": size}, f"wrote {written} ({size / 1e6:.1f} MB)")
