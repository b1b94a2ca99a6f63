"""Put into the pages what commands print now: ``python tools/refresh_pages.py [--only TEXT] [--check] [PAGE ...]``.

A page marks such a part, and what produces it, by comments:

    <!-- printed by: COMMAND -->
    ...
    <!-- end of output -->

COMMAND runs in a shell from the root of the repository; {scratch} in it is a folder that is thrown away. Where it
contains {markdown}, it writes Markdown to that file, which is taken in place of what it prints. Printed text becomes a
fenced block unless it is Markdown already. A block that begins "measured on" is given this machine and its versions in
that place: figures say on what they were measured, and never when. Without PAGE all of docs/ and the README are
refreshed; ``--only`` takes the commands that contain a text, ``--check`` changes nothing and fails where a page
differs.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"<!-- printed by: (?P<command>[^\n]+?) -->\n(?P<old>.*?)<!-- end of output -->", re.DOTALL)
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


def output(command: str) -> str:
    """What a command gives, as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        markdown = Path(folder) / "output.md"
        line = command.replace("{markdown}", str(markdown)).replace("{scratch}", folder)
        line = re.sub(r"^(python|volscen)(?= )", lambda m: PROGRAMS[m[0]], line)
        done = subprocess.run(line, shell=True, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise SystemExit(f"{command}: ended with {done.returncode}")
        text = markdown.read_text() if "{markdown}" in command else done.stdout
    text = text.replace(f"{folder}/", "").strip("\n")
    if "{markdown}" in command or re.match(r"#|\|", text):
        return f"\n{text}\n\n"
    return f"```text\n{text}\n```\n"


def refreshed(text: str, only: str) -> str:
    """A page with new output in its marked parts."""

    def new(block: re.Match[str]) -> str:
        if only not in block["command"]:
            return block[0]
        print(f"  {block['command']}", flush=True)
        body = output(block["command"])
        if MEASURED in block["old"]:
            body = body.replace("```text\n", f"```text\n{machine()}\n\n", 1)
        return f"<!-- printed by: {block['command']} -->\n{body}<!-- end of output -->"

    return BLOCK.sub(new, text)


def main() -> None:
    """Refresh or check pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="default: the README and all of docs/")
    parser.add_argument("--only", default="", metavar="TEXT", help="commands that contain this")
    parser.add_argument("--check", action="store_true", help="change nothing, fail where a page differs")
    given = parser.parse_args()
    stale = []
    for page in given.pages or [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        if not BLOCK.search(text):
            continue
        print(page, flush=True)
        new = refreshed(text, given.only)
        if new != text:
            stale.append(str(page))
            if not given.check:
                page.write_text(new)
    if given.check and stale:
        raise SystemExit("differ from what the commands print: " + ", ".join(stale))


if __name__ == "__main__":
    main()
