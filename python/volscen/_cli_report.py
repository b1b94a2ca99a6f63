"""``volscen report``: one page about scenarios, a history, a book and a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volscen._cli_arguments import parse_numbers

__all__ = ["report_app"]

report_app = typer.Typer(rich_markup_mode=None)


@report_app.command(
    "report",
    epilog="Example:  volscen report scenarios.nc --history history.nc --portfolio book.csv --model model.safetensors "
    "-o report.html. The tables are those of 'volscen hedge'.",
)
def report_command(
    scenarios: Annotated[Path, typer.Argument(help="Scenarios (NetCDF or zarr).")],
    history: Annotated[Path | None, typer.Option(help="History on the same grid, to compare with.")] = None,
    portfolio: Annotated[Path | None, typer.Option(help="Positions (CSV or Parquet): risk and hedges.")] = None,
    model: Annotated[Path | None, typer.Option(help="Fitted model (.safetensors), for its card.")] = None,
    instruments: Annotated[
        Path | None, typer.Option(help="Instruments to hedge with (CSV or Parquet). Default: underlying and options.")
    ] = None,
    method: Annotated[str, typer.Option(help="Method of the hedge, as of 'volscen hedge'.")] = "auto",
    evaluation: Annotated[Path | None, typer.Option(help="Figures of an evaluation (.nc), for the card.")] = None,
    alpha: Annotated[str, typer.Option(help="Tail probabilities, with commas.")] = "0.05,0.025,0.01",
    elapsed_days: Annotated[
        str | None, typer.Option(help="Calendar days to each step, with commas. Default: counted in weekdays.")
    ] = None,
    as_of: Annotated[str | None, typer.Option(help="Date, where the scenarios have several.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading. Default: the scenarios' title.")] = None,
    n_shown: Annotated[int, typer.Option(help="Scenarios that the sliders lead through.")] = 41,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page: surfaces, fans, weights, tails, risk and hedges."""
    import volscen
    from volscen._io import read_dataset
    from volscen.cli import _of_one_date
    from volscen.schema import SCENARIOS

    path = volscen.report(
        _of_one_date(read_dataset(scenarios, kind=SCENARIOS), as_of),
        history,
        portfolio,
        model,
        instruments=instruments,
        method=method,
        evaluation=evaluation,
        alpha=parse_numbers(alpha, "--alpha"),
        elapsed_days=None if elapsed_days is None else parse_numbers(elapsed_days, "--elapsed-days"),
        title=title,
        n_shown=n_shown,
        out=out,
    )
    typer.echo(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
