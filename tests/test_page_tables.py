"""Tables of the pages: the commands named above them exist, take those arguments and give tables of that shape; tables
of measured figures have such a command, and prose repeats what they hold."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TABLE = re.compile(r"^(\|.*\|\n\|[ :|-]+\|\n(?:\|.*\n?)*)", re.MULTILINE)
#: Tables with numbers that nothing measures: page and header row.
CONCEPTUAL = {
    ("docs/policy.md", "| from | to | what may happen |"),  # versions
    ("docs/repair.md", "| family | share | what is drawn |"),  # what the library is drawn from
}


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = load(ROOT / "tools" / "refresh_pages.py")
pagetables = load(BENCHMARKS / "pagetables.py")
BLOCKS = [
    (page.relative_to(ROOT).as_posix(), block) for page in PAGES for block in refresh.BLOCK.finditer(page.read_text())
]
COMMANDS = sorted({c for _, b in BLOCKS for c in b["commands"].split(refresh.AND) if "benchmarks/" in c})


@pytest.fixture(scope="module")
def described():
    """What each command says of itself, all asked in this process."""
    before, path, argv = set(sys.modules), list(sys.path), sys.argv
    sys.path.insert(0, str(BENCHMARKS))
    found = {}
    try:
        for command in COMMANDS:
            python, script, *words = shlex.split(command)
            assert python == "python"
            assert (ROOT / script).exists(), script
            sys.argv = [script, *(word.replace("{markdown}", "unwritten.md") for word in words), "--describe"]
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
                importlib.import_module(Path(script).stem).main()
            assert ended.value.code == 0, command
            found[command] = json.loads(printed.getvalue().splitlines()[-1])
    finally:
        sys.path[:], sys.argv = path, argv
        for name in set(sys.modules) - before:
            if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    return found


def test_commands_describe_themselves(described):
    for command, known in described.items():
        assert "{markdown}" in command, command
        assert known["kind"] in ("timing", "scores"), command
        assert known["minutes"] > 0, command


def test_blocks_have_the_shape_that_their_commands_give(described):
    for page, block in BLOCKS:
        commands = block["commands"].split(refresh.AND)
        if not block["piece"]:
            assert len(commands) == 1, page
            assert "benchmarks/" not in commands[0], page
            continue
        given = [described[command]["pieces"][block["piece"]] for command in commands]
        shown = pagetables.headers(block["old"])
        if len(commands) == 1:
            assert given == [shown], (page, block["piece"])
            continue
        (header,) = shown
        assert len(set(header)) == len(header), (page, header)
        columns = [one[0] for one in given]
        assert all(column[0] == header[0] for column in columns), (page, block["piece"])
        assert {cell for column in columns for cell in column} == set(header), (page, block["piece"])


def figures(table: str) -> float:
    """Share of numbers among the cells beyond the first column."""
    rows = [pagetables.cells(line)[1:] for line in table.strip().splitlines()[2:]]
    cells = [cell.strip("*") for row in rows for cell in row if cell]
    return sum(bool(re.match(r"[-+~]?\.?\d", cell)) for cell in cells) / max(len(cells), 1)


def test_figures_are_in_marked_tables():
    loose = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        for table in TABLE.findall(refresh.BLOCK.sub("", page.read_text())):
            if figures(table) > 0.3 and (name, table.splitlines()[0]) not in CONCEPTUAL:
                loose.append((name, table.splitlines()[0]))
    assert loose == []


def test_the_list_of_conceptual_tables_is_short_and_needed():
    assert len(CONCEPTUAL) <= 5
    for name, header in CONCEPTUAL:
        (table,) = (one for one in TABLE.findall((ROOT / name).read_text()) if one.startswith(header))
        assert figures(table) > 0.3


def cell(page: str, header: str, row: str, column: int) -> str:
    """Cell of the marked table whose header row begins so, in the row that begins so."""
    tables = [
        table
        for name, block in BLOCKS
        if name == page
        for table in TABLE.findall(block["old"])
        if table.replace("*", "").startswith(f"| {header}")
    ]
    (line,) = (
        line for table in tables for line in table.splitlines() if line.replace("*", "").startswith(f"| {row} |")
    )
    return pagetables.cells(line.replace("*", ""))[column]


def percent(text: str) -> str:
    return text.split("%")[0] + "%"


def test_prose_repeats_the_tables():
    """Where a page speaks of a figure of a table, it is that figure."""
    results, vae = (re.sub(r"\s+", " ", (ROOT / "docs" / name).read_text()) for name in ("results.md", "vae_lstm.md"))
    skill = "scenarios: skill against historical simulation [t]"
    world = [percent(cell("docs/world.md", "| spx_factors", skill, column)) for column in (4, 3)]
    rows = ("S&P 500, 2016-18 (test)", "SSE 50 ETF, 2022 (test)")
    latent = [percent(cell("docs/vae_lstm.md", "| dates", row, 2)) for row in rows]
    if world[1] == latent[1]:
        both = f"{latent[1]} each on the SSE 50 ETF"
    else:
        both = f"{world[1].rstrip('%')} and {latent[1]} on the SSE 50 ETF"
    assert f"(skill {world[0].rstrip('%')} and {latent[0]} on the S&P, {both})" in results
    har = [
        pagetables.cells(line.replace("*", ""))[2]
        for name, block in BLOCKS
        if name == "README.md"
        for line in block["old"].splitlines()
        if "`har`, the default" in line
    ]
    assert len(har) == 2
    assert f"`har`, fitted once and updated daily, has more ({har[1]} and {har[0]}, " in vae


#: What the README says in words: its words about one figure, and where that figure stands.
IN_WORDS = [
    (r"penalties and weights: about ([\d.]+) ms", "results", "job", "10,000 one-day scenarios", 1),
    (r"written to NetCDF: about ([\d.]+) s", "results", "job", "10 million scenarios", 1),
    (r"implied vol takes about ([\d.]+) ns", "results", "job", "implied vol", 1),
    (r"pyfeng takes ([\d.]+) ns", "results", "job", "implied vol", 2),
    (r"fast-vollib ([\d.]+) ns", "results", "job", "implied vol", 2),
    (r"py_vollib_vectorized ([\d.]+) ns", "results", "job", "implied vol", 2),
    (r"butterfly arbitrage takes about ([\d.]+) us", "results", "job", "raw-SVI slice", 1),
    (r"QuantLib takes ([\d.]+) us", "results", "job", "raw-SVI slice", 2),
    (r"on 4,000 days takes about ([\d.]+) s", "results", "job", "VolGAN training", 1),
    (r"plain torch, ([\d.]+) s", "results", "job", "VolGAN training", 2),
    (r"an error of ([\d.]+) vol points", "repair", "method | SSVI, half", "`volscen.repair`", 1),
    (r"([\d.]+) for a robust eSSVI", "repair", "method | SSVI, half", "robust eSSVI", 1),
    (r"([\d.]+) for linear interpolation", "repair", "method | SSVI, half", "linear interpolation", 1),
    (r"([\d.]+) for a convolutional network", "repair", "method | SSVI, half", "CNN", 1),
]


@pytest.mark.parametrize(("words", "page", "header", "row", "column"), IN_WORDS)
def test_the_readme_in_words(words, page, header, row, column):
    """Figures in its sentences are those of the tables, times within a quarter."""
    (said,) = re.findall(words, re.sub(r"\s+", " ", (ROOT / "README.md").read_text()))
    (line,) = (
        line
        for name, block in BLOCKS
        if name == f"docs/{page}.md" and f"| {header} |" in block["old"].replace("*", "")
        for line in block["old"].replace("*", "").splitlines()
        if line.startswith(f"| {row}")
    )
    figures = [
        float(one.replace(",", "")) for one in re.findall(r"\d[\d,]*(?:\.\d+)?|\.\d+", pagetables.cells(line)[column])
    ]
    tolerance = 0.25 if page == "results" else 0
    assert any(abs(float(said) / one - 1) <= tolerance for one in figures), (said, figures)


# --------------------------------------------------------------------------------------------- the tools
def options(**given):
    return argparse.Namespace(**{"markdown": None, "describe": False} | given)


def test_numbers_of_the_pages():
    plain, signed = pagetables.plain, pagetables.signed
    assert [plain(0.523, 3), plain(-0.5, 1), plain(1.05, 2), plain(-0.001, 1), plain(10, 1), plain(0, 2)] == [
        ".523", "-.5", "1.05", ".0", "10.0", ".00"
    ]  # fmt: skip
    assert [signed(0.8, 1), signed(-0.8, 1), signed(0.01, 1), signed(1.5, 1)] == ["+.8", "-.8", ".0", "+1.5"]
    assert pagetables.best_bold([".5 [+.1]", ".4 [-.2]", ".4"], [0.5, 0.401, 0.4]) == [
        ".5 [+.1]", "**.4 [-.2]**", "**.4**"
    ]  # fmt: skip


def test_tables_are_written_and_read():
    text = pagetables.table(["", "a", "b"], [["one", "", ""], ["two", "1", "2"]])
    assert text == "| | a | b |\n|---|---|---|\n| one | | |\n| two | 1 | 2 |"
    assert pagetables.headers(f"text\n\n{text}\n\nmore") == [["", "a", "b"]]
    for row in (["one"], ["one", "2 | 3", "4"], ["one", "2\n3", "4"]):
        with pytest.raises(ValueError, match="not a row of 3 cells"):
            pagetables.table(["", "a", "b"], [row])


def test_pieces_are_those_announced(tmp_path, capsys):
    pieces = {"one": [["a", "b"]], "two": [["c"]]}
    with pytest.raises(SystemExit) as ended:
        pagetables.Pages(options(describe=True), pieces, kind="scores", minutes=1, needs=["VOLSCEN_DATA"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == {
        "pieces": pieces, "kind": "scores", "minutes": 1, "needs": ["VOLSCEN_DATA"]
    }  # fmt: skip
    pages = pagetables.Pages(options(markdown=tmp_path / "out.md"), pieces, kind="scores", minutes=1)
    with pytest.raises(ValueError, match="announced were"):
        pages.add("one", pagetables.table(["a", "c"], []))
    pages.add("one", pagetables.table(["a", "b"], [["1", "2"]]))
    with pytest.raises(ValueError, match="not handed in: two"):
        pages.write()
    pages.add("two", pagetables.table(["c"], [["3"]]))
    pages.write()
    assert refresh.PIECE.findall((tmp_path / "out.md").read_text()) == ["one", "two"]


def test_tables_of_several_commands_are_filled_cell_by_cell():
    old = pagetables.table(["", "a", "b"], [["one", "1", "2"], ["**two**", "3", "4"]])
    new = pagetables.table(["", "b"], [["two", "**9**"]])
    assert refresh.merged(old, new).strip() == pagetables.table(
        ["", "a", "b"], [["one", "1", "2"], ["**two**", "3", "**9**"]]
    )
    for header, row in ((["", "c"], ["two", "9"]), (["", "b"], ["three", "9"])):
        with pytest.raises(RuntimeError, match="the page has no row"):
            refresh.merged(old, pagetables.table(header, [row]))
    with pytest.raises(RuntimeError, match="two columns or rows of one name"):
        refresh.merged(pagetables.table(["", "a", "a"], [["one", "1", "2"]]), new)


def test_pages_are_filled_where_the_command_stands():
    page = (
        "before\n<!-- x printed by: A -->\nold\n<!-- end of output -->\n"
        "<!-- x printed by: B; and by: A -->\n\n| | a |\n|---|---|\n| one | 1 |\n\n<!-- end of output -->\n"
        "<!-- y printed by: C -->\nkept\n<!-- end of output -->\nafter\n"
    )
    found = refresh.filled(page, "A", {"x": "\n| | a |\n|---|---|\n| one | 2 |\n\n"})
    assert found == page.replace("old\n", "\n| | a |\n|---|---|\n| one | 2 |\n\n").replace("| one | 1 |", "| one | 2 |")
    with pytest.raises(RuntimeError, match="gives no piece 'y'"):
        refresh.filled(page, "C", {"x": ""})


def test_a_command_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    block = "<!-- printed by: {} -->\nold\n<!-- end of output -->\n"
    page.write_text(block.format("exit 3") + block.format("echo new"))
    monkeypatch.setattr(sys, "argv", ["refresh_pages.py", str(page)])
    with pytest.raises(SystemExit, match="failed: exit 3"):
        refresh.main()
    assert page.read_text() == block.format("exit 3") + block.format("echo new").replace("old", "```text\nnew\n```")
    assert "exit 3: ended with 3" in capsys.readouterr().out
    page.write_text(block.format("echo new"))
    monkeypatch.setattr(sys, "argv", ["refresh_pages.py", "--check", str(page)])
    with pytest.raises(SystemExit, match="differ from what the commands print"):
        refresh.main()
    assert "old" in page.read_text()


def test_what_is_not_here_is_named(monkeypatch):
    monkeypatch.delenv("VOLSCEN_DATA", raising=False)
    assert refresh.lacking(["VOLSCEN_DATA", "numpy", "no-such-package"]) == ["VOLSCEN_DATA", "no-such-package"]
    monkeypatch.setenv("VOLSCEN_DATA", "folder")
    assert refresh.lacking(["VOLSCEN_DATA"]) == []
