"""Commands on the pages: those of the command line's page run, those of all pages are spelled right."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from cli_runner import volscen_command
from volscen.cli import app
from volscen.sources.simulate import simulate_market, simulate_quotes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(page: Path) -> list[list[str]]:
    """Lines of code blocks that begin with volscen, those continued joined, without comments and pipes."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    blocks = [block for language, block in fenced if language in ("", "bash", "sh", "console")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if re.match(r"(\$ )?volscen ", line)]
    return [line[: line.index(">")] if ">" in line else line for line in words]


def test_the_command_lines_page_runs(tmp_path):
    """From a table of quotes with names of its own to a report."""
    market = simulate_market("A", 60, seed=2, start="2000-01-10").isel(date=slice(-40, None))
    names = {"date": "day", "expiry": "expires", "strike": "K", "option_type": "cp"}
    quotes = simulate_quotes(market, n_strikes=13, seed=1).rename(columns=names)
    quotes["price"] = (quotes["bid"] + quotes["ask"]) / 2
    quotes.drop(columns=["bid", "ask", "source"]).to_csv(tmp_path / "closes.csv", index=False)
    page = ROOT / "docs" / "command_line.md"
    text = page.read_text(encoding="utf-8")
    positions = re.search(r"^    type,quantity.*?\n\n", text, re.S | re.M)
    assert positions is not None
    (tmp_path / "portfolio.csv").write_text(re.sub(r"^    ", "", positions[0], flags=re.M))
    (tmp_path / "instruments.csv").write_text("type,moneyness,tau\nunderlying,,\ncall,1,0.12\n")
    lines = [line for line in commands_of(page) if line[1] != "demo"]
    assert len(lines) > 8
    for line in lines:
        done = volscen_command(*line[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert json.loads(volscen_command("info", "hedge.nc", "--json", cwd=tmp_path).stdout)["r_squared"] > 0.5
    config = re.search(r"^```toml\n(.*?)^```", text, re.S | re.M)
    assert config is not None
    (tmp_path / "nightly.toml").write_text(config[1])
    assert volscen_command("config", "check", tmp_path / "nightly.toml").returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_on_every_page_are_spelled_right(page):
    for words in commands_of(page):
        if "..." in words:
            continue
        at = typer.main.get_command(app)
        rest = words[1:]
        while hasattr(at, "commands") and rest and not rest[0].startswith("-"):
            at, rest = at.commands[rest[0]], rest[1:]
        if rest not in (["--help"], ["--version"], ["--install-completion"]):
            at.make_context(" ".join(words[:2]), rest)
