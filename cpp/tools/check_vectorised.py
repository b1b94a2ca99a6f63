"""Compile every kernel and fail unless the loops marked as hot were vectorised.

A loop joins by a comment on the line above its ``for``::

    // hot loop
    for (std::size_t i = 0; i < n; ++i) {

``// hot loop`` asks for vectors of 64, 32 and 16 bytes (AVX-512, AVX2 and the baseline of x86-64) and for no
instance of the loop, in any wrapper and for any type, that stayed scalar. ``// hot loop, not in the baseline`` leaves
the baseline out, where an instruction is missing. Loops in headers that no kernel compiles are errors too.

Run ``python cpp/tools/check_vectorised.py [--compiler g++]``. GCC's report decides, as GCC builds what is handed
out. With ``--compiler clang++`` Clang's report is printed for comparison and fails nothing.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

CPP = Path(__file__).resolve().parents[1]
TAG = re.compile(r"^\s*// hot loop(, not in the baseline)?\s*$")
FLAGS = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-DNDEBUG",
]
GCC_REPORT = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+):\d+: (?P<kind>optimized|missed):\s+(?P<text>.*)$")
CLANG_REPORT = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+):\d+: remark: (?P<text>.*) \[-Rpass")


@dataclass
class Loop:
    """A loop marked as hot, and what the compiler said of it."""

    file: Path
    first: int  # line of the `for`
    last: int  # line of its opening brace
    baseline: bool
    widths: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    scalar: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return (
            f"{self.file.relative_to(CPP.parent) if self.file.is_relative_to(CPP.parent) else self.file}:{self.first}"
        )


def marked_loops(files: list[Path]) -> list[Loop]:
    """Every loop under a tag; a tag over anything else is an error."""
    loops = []
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            tag = TAG.match(line)
            if tag is None:
                if "hot loop" in line and line.lstrip().startswith("//"):
                    raise SystemExit(f"{file}:{number}: not a tag that this tool knows: {line.strip()}")
                continue
            if number == len(lines) or not lines[number].lstrip().startswith("for ("):
                raise SystemExit(f"{file}:{number}: the tag must stand on the line above a for loop")
            last = next(i for i in range(number, len(lines)) if lines[i].rstrip().endswith("{"))
            loops.append(Loop(file, number + 1, last + 1, baseline=tag.group(1) is None))
    return loops


def compile_report(compiler: str, source: Path, include: Path) -> str:
    """What the compiler says of vectorisation in one translation unit."""
    clang = "clang" in Path(compiler).name
    report = ["-Rpass=loop-vectorize", "-Rpass-missed=loop-vectorize"] if clang else ["-fopt-info-vec-optimized-missed"]
    command = [compiler, *FLAGS, *report, f"-I{include}", "-c", str(source), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stderr


def read_report(text: str, loops: list[Loop], clang: bool) -> None:
    """Enter the compiler's lines at the loops they speak of."""
    by_line = {(loop.file.name, line): loop for loop in loops for line in range(loop.first, loop.last + 1)}
    pattern = CLANG_REPORT if clang else GCC_REPORT
    for line in text.splitlines():
        found = pattern.match(line)
        if found is None:
            continue
        loop = by_line.get((Path(found["file"]).name, int(found["line"])))
        if loop is None:
            continue
        said = found["text"]
        width = re.search(r"vectorization width: (\d+)" if clang else r"loop vectorized using (\d+) byte", said)
        if width is not None:
            loop.widths[int(width.group(1))] += 1
        elif "couldn't vectorize loop" in said or "loop not vectorized" in said:
            loop.scalar.append(said)


def problem(loop: Loop, clang: bool) -> str | None:
    """Say what is wrong with a loop, or None."""
    if not loop.widths and not loop.scalar:
        return "no kernel compiles it"
    if clang:
        return None if loop.widths else "scalar at every width"
    wanted = (64, 32, 16) if loop.baseline else (64, 32)
    missing = [width for width in wanted if width not in loop.widths]
    if missing:
        return f"not vectorised to {', '.join(map(str, missing))} bytes"
    if loop.baseline and loop.scalar:
        return f"{len(loop.scalar)} of its instances stayed scalar"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--root", type=Path, default=CPP, help="folder of include/volscen and src")
    options = parser.parse_args(arguments)
    clang = "clang" in Path(options.compiler).name
    loops = marked_loops(sorted((options.root / "include").rglob("*.hpp")))
    sources = sorted((options.root / "src").glob("*.cpp"))
    with ThreadPoolExecutor(2) as pool:
        for text in pool.map(lambda s: compile_report(options.compiler, s, options.root / "include"), sources):
            read_report(text, loops, clang)
    failed = 0
    for loop in loops:
        wrong = problem(loop, clang)
        failed += wrong is not None
        unit = "lanes" if clang else "bytes"
        seen = ", ".join(f"{count} x {width}" for width, count in sorted(loop.widths.items()))
        print(f"{'FAIL' if wrong else 'ok  '} {loop.where}: {wrong or f'{seen} {unit}'}")
    if not loops:
        print("no loop is marked as hot")
    print(f"{len(loops) - failed} of {len(loops)} hot loops vectorised by {options.compiler}")
    return 1 if (failed and not clang) or not loops else 0


if __name__ == "__main__":
    sys.exit(main())
