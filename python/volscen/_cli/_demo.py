"""``volscen demo``: the whole way once, on simulated quotes, each command with what it prints and its Python."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import WORK
from volscen._cli._command import Result, call, command, note
from volscen._cli._plan import dry_run, planned
from volscen.errors import InputError

__all__ = ["demo_app"]

demo_app = typer.Typer(rich_markup_mode=None)

_DAYS, _MONEYNESS, _N_DAYS = "30,60,91", "0.9,0.95,1,1.05,1.1", 440
#: Days left out at the end of the sample, to end on an ordinary one.
_LEFT_OUT = 25

_PORTFOLIO = """\
type,quantity,moneyness,tau,group
put,-200,0.95,0.16,short puts
call,100,1.0,0.25,straddle
put,100,1.0,0.25,straddle
underlying,-10,,,delta
"""

_INSTRUMENTS = """\
type,moneyness,tau
underlying,,
put,0.95,0.2
call,1.05,0.2
"""

#: What is done: words for people, the command, the same in Python. {f} is the folder.
_STEPS: tuple[tuple[str, str, str], ...] = (
    (
        "Look at the last day: the smile behind its quotes.",
        f"volscen surface {{f}}/quotes.csv --days {_DAYS} --moneyness {_MONEYNESS}",
        "volscen.build_surface(volscen.Chain(quotes, date), tau, moneyness)",
    ),
    (
        "A history: one surface a day, free of static arbitrage.",
        f"volscen history build {{f}}/quotes.csv --days {_DAYS} --moneyness {_MONEYNESS} "
        "--option source=simulated --out {f}/history.nc",
        "history, report = volscen.build_history(quotes, tau=tau, moneyness=moneyness)",
    ),
    (
        "A model of tomorrow's return and surface together.",
        "volscen fit {f}/history.nc --out {f}/model.safetensors",
        "model = volscen.fit(history)",
    ),
    (
        "5,000 weighted scenarios of the next five days.",
        "volscen generate --model {f}/model.safetensors --history {f}/history.nc -n 5000 --horizon 5 --seed 1 "
        "--out {f}/scenarios.nc",
        "cube = volscen.generate(model, history, n_scenarios=5000, horizon=5, seed=1)",
    ),
    (
        "What a book may lose, and which positions make it up.",
        "volscen risk {f}/scenarios.nc --portfolio {f}/portfolio.csv",
        "profit = volscen.portfolio.pnl(cube, volscen.Portfolio.from_table('portfolio.csv'))\n"
        "        volscen.risk.contributions(profit, alpha=0.01)",
    ),
    (
        "The same book in a crash.",
        "volscen stress {f}/scenarios.nc --portfolio {f}/portfolio.csv "
        "--shock name=crash,log_return=-0.1,level=0.06,skew=0.02",
        "volscen.stress.shock(cube, log_return=-0.1, level=0.06, skew=0.02, name='crash')",
    ),
    (
        "How many of which instruments take tomorrow's risk away.",
        "volscen hedge {f}/scenarios.nc --portfolio {f}/portfolio.csv --instruments {f}/instruments.csv --step 1 "
        "--out {f}/hedge.nc",
        "volscen.hedge(cube, book, instruments, step=1)",
    ),
)

_REPORT = (
    "All of it on one page.",
    "volscen report {f}/scenarios.nc --history {f}/history.nc --portfolio {f}/portfolio.csv --out {f}/report.html",
    "volscen.report(cube, history, book, path='report.html')",
)


@command(demo_app, panel=WORK, examples=["volscen demo", "volscen demo --out try"])
def demo(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files; made where it is not there.")] = Path(
        "volscen-demo"
    ),
) -> Result:
    """Walk from quotes to a hedge and a report, on simulated data.

    Everything runs offline, within a minute. Each step prints its command, as you would type it, the same in
    Python, and what comes out; the files stay in the folder for you to go on from. The quotes are SIMULATED and
    say so.
    """
    from volscen._cli._config import find_command

    root: Any = ctx.find_root().command
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    steps = (*_STEPS, *((_REPORT,) if "report" in root.commands else ()))
    names = ["quotes.csv", "portfolio.csv", "instruments.csv"]
    names += [Path(word).name for _, line, _ in steps for flag, word in _pairs(line.split()) if flag == "--out"]
    if dry_run():
        return planned(writes=[out / name for name in names], figures={"steps": len(steps) + 1})
    out.mkdir(parents=True, exist_ok=True)
    rows = _write_inputs(out)
    done = []
    note(f"1. Quotes of {_N_DAYS} days of a SIMULATED market, and a book: {rows:,} rows in {out / 'quotes.csv'}")
    for number, (words, line, python) in enumerate(steps, start=2):
        typed = line.format(f=shlex.quote(out.as_posix()))
        note(f"\n{number}. {words}\n   $ {typed}\n   >>> {python.replace(chr(10) + '        ', chr(10) + '   >>> ')}")
        _, first, *rest = shlex.split(typed)
        name = f"{first}.{rest.pop(0)}" if hasattr(root.commands[first], "commands") else first
        result = call(find_command(root, name), words=rest)
        done.append({"command": typed, "python": python, "result": result.figures})
    last = out / names[-1]
    said = f"\nEverything lies in {out}: {', '.join(names)}.\n"
    said += f"The report: {last}" if last.suffix == ".html" else f"Look at one with: volscen info {last}"
    return Result({"out": out, "files": [out / name for name in names], "simulated": True, "steps": done}, said)


def _write_inputs(out: Path) -> int:
    """Quotes and a book; how many rows of quotes."""
    from volscen._files import atomic_path
    from volscen.datasets import sample_history
    from volscen.sources.simulate import simulate_quotes

    quotes = simulate_quotes(sample_history().isel(date=slice(-_N_DAYS - _LEFT_OUT, -_LEFT_OUT)), seed=1)
    with atomic_path(out / "quotes.csv") as temporary:
        quotes.to_csv(temporary, index=False)
    for name, text in (("portfolio.csv", _PORTFOLIO), ("instruments.csv", _INSTRUMENTS)):
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return len(quotes)


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    return list(pairwise(words))
