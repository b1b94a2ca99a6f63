"""``volscen risk``, ``stress`` and ``hedge``: what a book may lose on scenarios, and what it is hedged with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import (
    RISK,
    AsOf,
    Portfolio,
    Scenarios,
    Step,
    check_file,
    check_out,
    number_or,
    of_one_date,
    parse_numbers,
    parse_pairs,
    write_table,
)
from volscen._cli._command import Result, command
from volscen._cli._complete import DATASETS, HEDGES, TABLES, files, words
from volscen._cli._plan import dry_run, expected, planned
from volscen.errors import InputError

__all__ = ["risk_app"]

risk_app = typer.Typer(rich_markup_mode=None)

#: Sizes of a shock in decimals; none beyond this one is meant as such.
_DECIMALS = ("log_return", "level", "skew", "curvature", "term")
_LARGEST = 3.0


@command(
    risk_app,
    panel=RISK,
    examples=[
        "volscen risk scenarios.nc --portfolio portfolio.csv",
        "volscen risk scenarios.nc -p portfolio.csv --alpha 0.05,0.01 --step 1 --out positions.csv",
    ],
)
def risk(
    scenarios: Scenarios,
    portfolio: Portfolio,
    alpha: Annotated[str, typer.Option(help="Tail probabilities, separated by commas.")] = "0.05,0.025,0.01",
    step: Step = None,
    as_of: AsOf = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write each position's contributions (.csv).", autocompletion=files(".csv")),
    ] = None,
) -> Result:
    """Value at risk and expected shortfall of a book.

    Contributions of the positions are to the expected shortfall and value at risk of the last tail probability given,
    and sum to them. Losses are positive.

    Columns of a table of positions: type (call, put, underlying, forward, cash, variance_swap, vix, vix_call, vix_put),
    quantity (negative for short), one of strike, moneyness, strike_over_spot, delta, one of tau (years) and expiry (a
    date), and, if wanted, group.
    """
    import volscen
    from volscen._cli._book import book_risk, book_text
    from volscen._io import read_dataset
    from volscen.schema import SCENARIOS as KIND

    levels = parse_numbers(alpha, "--alpha")
    if out is not None:
        check_file(out, ".csv")
    if dry_run():
        expected(scenarios)
        book = None if expected(portfolio) else volscen.Portfolio.from_table(portfolio)
        return planned(
            reads=[scenarios, portfolio], writes=[out], figures={"positions": None if book is None else len(book)}
        )
    cube = of_one_date(read_dataset(scenarios, kind=KIND), as_of)
    figures, lines = book_risk(cube, volscen.Portfolio.from_table(portfolio), alpha=levels, step=step)
    if out is not None:
        write_table(lines.set_index("position"), out)
    return Result({**figures, "out": out}, book_text(figures) + (f"\nwrote {out}" if out else ""))


@command(
    risk_app,
    panel=RISK,
    examples=[
        "volscen stress scenarios.nc --portfolio portfolio.csv --shock log_return=-0.1,level=0.08,skew=0.02",
        "volscen stress history.nc -p portfolio.csv --replay spx.nc --out crises.nc",
        "volscen stress history.nc -p portfolio.csv --replay spx.nc --window 2020=2020-02-19:2020-03-16",
        "volscen stress scenarios.nc -p portfolio.csv --loss 100",
    ],
)
def stress(
    start: Annotated[
        Path,
        typer.Argument(
            help="What is stressed: a history's last date, or the start of scenarios.", autocompletion=files(*DATASETS)
        ),
    ],
    portfolio: Portfolio,
    shock: Annotated[
        list[str] | None,
        typer.Option(
            help="Shock by hand: log_return, level, skew, curvature, term in decimals, tau, delta, name; name=value "
            "with commas; may be repeated."
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            help="History whose crises are replayed: the known ones it holds.", autocompletion=files(*DATASETS)
        ),
    ] = None,
    window: Annotated[
        list[str] | None, typer.Option(help="Crisis to replay instead: NAME=FIRST:LAST; may be repeated.")
    ] = None,
    loss: Annotated[
        float | None, typer.Option(help="Find the likeliest scenario (of the scenarios' law) that loses so much.")
    ] = None,
    as_of: AsOf = None,
    project: Annotated[
        bool, typer.Option("--project", help="Replace every surface by the nearest one without static arbitrage.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the stress scenarios (.nc or .zarr).", autocompletion=files(*DATASETS)),
    ] = None,
) -> Result:
    """Profit of a book under shocks, past crises, the likely worst.

    Columns of a table of positions: type (call, put, underlying, forward, cash, variance_swap, vix, vix_call, vix_put),
    quantity (negative for short), one of strike, moneyness, strike_over_spot, delta, one of tau (years) and expiry (a
    date), and, if wanted, group.
    """
    import volscen
    from volscen._cli._book import stress_figures, stress_text
    from volscen._io import read_dataset
    from volscen.schema import HISTORY

    if out is not None:
        check_out(out)
    if shock is None and replay is None and loss is None:
        raise InputError("give at least one of --shock, --replay and --loss")
    if window and replay is None:
        raise InputError("--window goes with --replay: the history that holds it")
    shocks = [_shock(text) for text in shock or []]
    windows = dict(_window(text) for text in window or []) or None
    if dry_run():
        for path in (start, portfolio, replay):
            expected(path)
        return planned(reads=[start, portfolio, replay], writes=[out], figures={"shocks": len(shocks)})
    state: Any = read_dataset(start)
    if "scenario" in state.dims:
        state, as_of = of_one_date(state, as_of), None
    book = volscen.Portfolio.from_table(portfolio)
    parts = [
        volscen.stress.shock(
            state, as_of=as_of, project=project, **{"name": f"shock {i}" if len(shocks) > 1 else "shock", **one}
        )
        for i, one in enumerate(shocks, start=1)
    ]
    if replay is not None:
        past = read_dataset(replay, kind=HISTORY)
        try:
            parts.append(volscen.stress.replay(state, past, windows, as_of=as_of, project=project))
        except InputError as error:
            raise InputError(str(error).replace("give windows", "give --window NAME=FIRST:LAST")) from None
    if loss is not None:
        parts.append(volscen.stress.reverse(state, book, loss, project=project))
    stressed = volscen.stress.combine(*parts) if len(parts) > 1 else parts[0]
    if out is not None:
        volscen.write(stressed, out)
    figures = stress_figures(stressed, book)
    return Result({**figures, "out": out}, stress_text(figures) + (f"\nwrote {out}" if out else ""))


@command(
    risk_app,
    panel=RISK,
    examples=[
        "volscen hedge scenarios.nc --portfolio portfolio.csv --instruments instruments.csv --out hedge.nc",
        "volscen hedge scenarios.nc -p portfolio.csv -i instruments.csv --method lasso --step 1",
    ],
)
def hedge(
    scenarios: Scenarios,
    portfolio: Portfolio,
    instruments: Annotated[
        Path,
        typer.Option(
            "--instruments",
            "-i",
            help="Instruments to hedge with (.csv or .parquet): columns as of a portfolio, without quantity and group.",
            autocompletion=files(*TABLES),
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            help=f"auto (ridge with two or more options, else regression), {', '.join(HEDGES[1:])}.",
            autocompletion=words(*HEDGES),
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
    step: Step = None,
    as_of: AsOf = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the result (.nc or .zarr).", autocompletion=files(*DATASETS)),
    ] = None,
) -> Result:
    """Hedge ratios from scenarios.

    Columns of a table of positions: type (call, put, underlying, forward, cash, variance_swap, vix, vix_call, vix_put),
    quantity (negative for short), one of strike, moneyness, strike_over_spot, delta, one of tau (years) and expiry (a
    date), and, if wanted, group.
    """
    import volscen
    from volscen._figures import hedge_figures
    from volscen._io import read_dataset
    from volscen._summary import hedge_summary
    from volscen.portfolio import instruments_from_table
    from volscen.schema import SCENARIOS as KIND

    if out is not None:
        check_out(out)
    penalty = number_or(alpha, ("grid", "cv"), "--alpha")
    if dry_run():
        for path in (scenarios, portfolio, instruments):
            expected(path)
        return planned(reads=[scenarios, portfolio, instruments], writes=[out], figures={"method": method})
    result = volscen.hedge(
        of_one_date(read_dataset(scenarios, kind=KIND), as_of),
        volscen.Portfolio.from_table(portfolio),
        instruments_from_table(instruments),
        method=method,
        alpha=penalty,
        noise=noise,
        half_spread_vol=half_spread_vol,
        step=step,
    )
    if out is not None:
        volscen.write(result, out)
    return Result({**hedge_figures(result), "out": out}, hedge_summary(result) + (f"\nwrote {out}" if out else ""))


def _shock(text: str) -> dict[str, Any]:
    """Arguments of a shock from name=value,name=value."""
    from inspect import signature

    from volscen.stress import shock

    known = [name for name in signature(shock).parameters if name not in ("start", "as_of", "weight", "project")]
    out: dict[str, Any] = {}
    for name, value in (parse_pairs(text, "--shock") or {}).items():
        if name not in known:
            raise InputError(f"--shock has no {name!r}; it has {', '.join(known)}")
        try:
            out[name] = value if name == "name" else value.lower() == "true" if name == "relative" else float(value)
        except ValueError:
            if name != "tau":
                raise InputError(f"--shock {name} must be a number, not {value!r}") from None
            out[name] = value
        if name in _DECIMALS and abs(out[name]) > _LARGEST and "relative=true" not in text.lower():
            raise InputError(f"--shock {name}={value} means {out[name]:,.0%}: sizes are decimals, 0.08 for 8 points")
    return out


def _window(text: str) -> tuple[str, tuple[str, str]]:
    name, equals, dates = text.rpartition("=")
    first, colon, last = dates.partition(":")
    if not (name and equals and first and colon and last):
        raise InputError(f"--window must look like NAME=FIRST:LAST, such as 2020=2020-02-19:2020-03-16, not {text!r}")
    return name, (first, last)
