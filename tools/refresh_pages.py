"""Put into the pages what commands print now: ``python tools/refresh_pages.py [--list] [--only TEXT] [PAGE ...]``.

A page marks such a part, and what produces it, by comments:

    <!-- printed by: COMMAND -->
    ...
    <!-- end of output -->

COMMAND runs in a shell from the root of the repository; {scratch} in it is a folder that is thrown away. Where it
contains {markdown}, it writes Markdown to that file, which is taken in place of what it prints. Printed text becomes a
fenced block unless it is Markdown already. A block that begins "measured on" is given this machine and its versions in
that place: figures say on what they were measured, and never when.

Benchmarks write several pieces at once (``benchmarks/pagetables.py``). ``<!-- NAME printed by: COMMAND -->`` takes one
of them, and a command runs once, however many blocks it fills. Where a table is filled by several commands
(``COMMAND; and by: COMMAND``), each gives the cells of its own rows and columns, and the others stay.

``--list`` shows all commands, what kind they are and what they need, ``--only`` takes the commands that contain a text
and ``--kind`` those that measure times (to be run on an idle machine) or scores (the same anywhere). What needs market
data or packages that are not here is left out, and named. Without PAGE all of docs/ and the README are refreshed;
``--check`` changes nothing and fails where a page differs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"<!-- (?:(?P<piece>[\w-]+) )?printed by: (?P<commands>[^\n]+?) -->\n(?P<old>.*?)<!-- end of output -->", re.DOTALL
)
PIECE = re.compile(r"^<!-- piece ([\w-]+) -->\n", re.MULTILINE)
AND = "; and by: "
MEASURED = "measured on "
#: What this interpreter has, installed or not on the path.
PROGRAMS = {"python": shlex.quote(sys.executable), "volscen": f"{shlex.quote(sys.executable)} -m volscen.cli"}


def machine() -> str:
    """Processor and versions that figures depend on."""
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), flags=re.MULTILINE)):
        name = found[1]
    packages = ", ".join(f"{package} {version(package)}" for package in ("numpy", "scipy", "torch", "volscen"))
    return f"{MEASURED}{name}, {os.cpu_count()} processors, Python {platform.python_version()}, {packages}"


def shell(command: str) -> str:
    """Command line for this interpreter."""
    return re.sub(r"^(python|volscen)(?= )", lambda m: PROGRAMS[m[0]], command)


def described(command: str) -> dict[str, Any]:
    """What a command says of itself: its pieces, kind, minutes and needs; nothing of those that are no benchmarks."""
    if "benchmarks/" not in command:
        return {"pieces": {}, "kind": "scores", "minutes": 0.1, "needs": []}
    line = shell(command.replace("{markdown}", os.devnull).replace("{scratch}", tempfile.gettempdir()))
    done = subprocess.run(f"{line} --describe", shell=True, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} --describe: ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def lacking(needs: list[str]) -> list[str]:
    """Those that are not here: distributions, or variables of the environment in capitals."""
    absent = []
    for need in needs:
        if need.isupper():
            absent += [] if os.environ.get(need) else [need]
            continue
        try:
            version(need)
        except PackageNotFoundError:
            absent.append(need)
    return absent


def output(command: str) -> dict[str, str]:
    """What a command gives, as Markdown, by piece; the whole is named "" where it has none."""
    with tempfile.TemporaryDirectory() as folder:
        markdown = Path(folder) / "output.md"
        line = shell(command.replace("{markdown}", str(markdown)).replace("{scratch}", folder))
        done = subprocess.run(line, shell=True, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise RuntimeError(f"{command}: ended with {done.returncode}")
        text = markdown.read_text() if "{markdown}" in command else done.stdout
    text = text.replace(f"{folder}/", "").strip("\n")
    names = PIECE.split(text)
    if len(names) > 1:
        return {name: f"\n{one.strip()}\n\n" for name, one in zip(names[1::2], names[2::2], strict=True)}
    if "{markdown}" in command or re.match(r"#|\|", text):
        return {"": f"\n{text}\n\n"}
    return {"": f"```text\n{text}\n```\n"}


def merged(old: str, new: str) -> str:
    """A table with the cells of another one in their places; rows and columns must be there, and keep their names."""
    lines, fresh = ([row(line) for line in text.strip().splitlines()] for text in (old, new))
    columns = {plain(cell): i for i, cell in enumerate(lines[0])}
    rows = {plain(line[0]): line for line in lines[2:]}
    if len(columns) < len(lines[0]) or len(rows) < len(lines) - 2:
        raise RuntimeError(f"a table of several commands has two columns or rows of one name: {old.strip()}")
    for line in fresh[2:]:
        for column, cell in zip(fresh[0][1:], line[1:], strict=True):
            if plain(column) not in columns or plain(line[0]) not in rows:
                raise RuntimeError(f"the page has no row {line[0]!r} with a column {column!r}")
            rows[plain(line[0])][columns[plain(column)]] = cell
    body = [re.sub(r"\|  (?=\|)", "| ", f"| {' | '.join(line)} |") for line in [lines[0], *lines[2:]]]
    return "\n".join(["", body[0], "|" + "---|" * len(lines[0]), *body[1:], "", ""])


def row(line: str) -> list[str]:
    """Cells of a line of a table."""
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def plain(cell: str) -> str:
    """Cell without stress."""
    return cell.replace("**", "")


def filled(text: str, command: str, pieces: dict[str, str]) -> str:
    """A page with a command's new output in its places."""

    def new(block: re.Match[str]) -> str:
        commands = block["commands"].split(AND)
        if command not in commands:
            return block[0]
        name = block["piece"] or ""
        if name not in pieces:
            raise RuntimeError(f"{command}: gives no piece {name!r}, but {', '.join(pieces)}")
        body = pieces[name] if len(commands) == 1 else merged(block["old"], pieces[name])
        if MEASURED in block["old"]:
            body = re.sub(r"\A(```text)?\n", lambda m: f"{m[0]}{machine()}\n\n", body, count=1)
        head = f"{name} " if name else ""
        return f"<!-- {head}printed by: {block['commands']} -->\n{body}<!-- end of output -->"

    return BLOCK.sub(new, text)


def show(command: str, known: dict[str, Any]) -> None:
    """One command and what it needs."""
    needs = f", needs {', '.join(known['needs'])}" if known["needs"] else ""
    print(f"{known['kind']}, {known['minutes']:g} min{needs}:\n  {command}", flush=True)


def refreshed(command: str, texts: dict[Path, str]) -> dict[Path, str]:
    """Pages that a command changes, as they are then."""
    pieces = output(command)
    try:
        new = {page: filled(text, command, pieces) for page, text in texts.items()}
    except RuntimeError:
        print("\n".join(f"{name}:{text}" for name, text in pieces.items()))  # what was long in coming is not lost
        raise
    return {page: text for page, text in new.items() if text != texts[page]}


def main() -> None:
    """Refresh, check or list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="default: the README and all of docs/")
    parser.add_argument("--only", default="", metavar="TEXT", help="commands that contain this")
    parser.add_argument("--kind", choices=["timing", "scores"], help="commands that measure times, or scores")
    parser.add_argument("--list", action="store_true", help="show the commands and what they need; change nothing")
    parser.add_argument("--check", action="store_true", help="change nothing, fail where a page differs")
    given = parser.parse_args()
    pages = [page.resolve() for page in given.pages or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]]
    texts = {page: page.read_text() for page in pages}
    blocks = [block for text in texts.values() for block in BLOCK.finditer(text)]
    commands = dict.fromkeys(c for block in blocks for c in block["commands"].split(AND) if given.only in c)
    stale, left_out, failed = set(), [], []
    for command in commands:
        try:
            known = described(command)
            if given.kind not in (None, known["kind"]):
                continue
            show(command, known)
            absent = lacking(known["needs"])
            if absent:
                print(f"  {'would be ' if given.list else ''}left out: {', '.join(absent)} not here", flush=True)
                left_out.append(command)
            if absent or given.list:
                continue
            started = time.perf_counter()
            changed = refreshed(command, texts)
        except RuntimeError as error:  # the others are not to wait for it
            print(f"  FAILED: {error}", flush=True)
            failed.append(command)
            continue
        texts |= changed
        stale |= {str(page) for page in changed}
        if not given.check:
            for page, text in changed.items():
                page.write_text(text)
        print(f"  {time.perf_counter() - started:.0f} s", flush=True)
    if left_out:
        print(f"left out for what they need: {len(left_out)} of {len(commands)}")
    if failed:
        raise SystemExit("failed: " + ", ".join(failed))
    if given.check and stale:
        raise SystemExit("differ from what the commands print: " + ", ".join(sorted(stale)))


if __name__ == "__main__":
    main()
