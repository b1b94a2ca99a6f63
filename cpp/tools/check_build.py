"""Build the extension another way in a scratch folder, and run the kernel tests and the fuzz on that build.

``python cpp/tools/check_build.py clang``
    With Clang and warnings as errors: the kernel tests pass, and random inputs give the same bits as the installed
    build does.
``python cpp/tools/check_build.py sanitize``
    With AddressSanitizer and UndefinedBehaviorSanitizer: the kernel tests and the fuzz end without a report.
``python cpp/tools/check_build.py aarch64``
    With a cross compiler for 64-bit ARM: every kernel compiles, without a header of x86. The compiler is
    ``aarch64-linux-gnu-g++``, or Zig's (``pip install ziglang``).

``--inputs`` is the count of random numbers for the fuzz (``cpp/tools/fuzz_kernels.py``). The scratch build needs pip
and the network (or a cache) for pybind11 and scikit-build-core; pytest and hypothesis come from this environment.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FUZZ = ROOT / "cpp" / "tools" / "fuzz_kernels.py"
# Every test of these names that the repository has.
KERNEL_TESTS = [
    "core",
    "american",
    "black",
    "bachelier*",
    "implied_vol*",
    "normal*",
    "svi*",
    "ssvi*",
    "arbitrage",
    "torch_penalty",
    "project*",
    "revalue*",
]
X86_HEADER = re.compile(r"/(\w*mmintrin|immintrin|x86\w*intrin|cpuid)\.h")


def run(command: list[str], **environment: str) -> None:
    print("+", " ".join(command), flush=True)
    if subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}).returncode != 0:
        raise SystemExit(f"failed: {' '.join(command)}")


def build(target: Path, compiler: str, *defines: str) -> None:
    """Install the package into a folder of its own, warnings as errors."""
    try:
        origin = metadata.distribution("volscen").read_text("direct_url.json") or "{}"
    except metadata.PackageNotFoundError:
        origin = "{}"
    if json.loads(origin).get("dir_info", {}).get("editable"):
        raise SystemExit(
            "volscen is installed editable here, which hides any other build: use an environment without it"
        )
    given = ["VOLSCEN_WERROR=ON", *defines]
    options = [part for define in given for part in ("-C", f"cmake.define.{define}")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    run([*pip, *options, str(ROOT)], CXX=compiler)


def kernel_tests() -> list[str]:
    found = [path for name in KERNEL_TESTS for path in sorted((ROOT / "tests").glob(f"test_{name}.py"))]
    return [str(path.relative_to(ROOT)) for path in dict.fromkeys(found)]


def check(target: Path, inputs: str, **environment: str) -> None:
    """Run tests and fuzz on the package in the folder."""
    environment["PYTHONPATH"] = str(target)
    python = [sys.executable, "-c"]
    where = f"import volscen._core as c; assert c.__file__.startswith({str(target)!r}), c.__file__"
    run([*python, where], **environment)
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *kernel_tests()], **environment)
    run([sys.executable, str(FUZZ), "--inputs", inputs], **environment)


def digests(**environment: str) -> list[str]:
    """Digest of each kernel's results on the same random inputs."""
    done = subprocess.run(
        [sys.executable, str(FUZZ), "--here", "--inputs", "4e5", "--seed", "1"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [f"{line.split()[1]} {line.split()[-1]}" for line in done.stdout.splitlines()]


def clang(scratch: Path, inputs: str) -> None:
    compiler = shutil.which("clang++")
    if compiler is None:
        raise SystemExit("clang++ is not on the path: install it (Debian: apt-get install clang)")
    build(scratch, compiler)
    check(scratch, inputs)
    here, there = digests(), digests(PYTHONPATH=str(scratch))
    for one, other in zip(here, there, strict=True):
        if one != other:
            raise SystemExit(f"the two builds differ: {one.split()[0]}")
    print(f"{len(here)} kernels give the same bits in both builds")


def sanitize(scratch: Path, inputs: str) -> None:
    compiler = os.environ.get("CXX", "g++")
    libraries = [
        subprocess.check_output([compiler, f"-print-file-name=lib{name}.so"], text=True).strip()
        for name in ("asan", "ubsan")
    ]
    if not all(Path(library).is_absolute() for library in libraries):
        raise SystemExit(f"{compiler} has no shared sanitizer libraries; use GCC (CXX=g++)")
    build(scratch, compiler, "VOLSCEN_SANITIZE=ON")
    check(
        scratch,
        inputs,
        LD_PRELOAD=" ".join(libraries),
        # Python keeps memory to its end. Big requests must fail as they do without the sanitizer.
        ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1",
        UBSAN_OPTIONS="print_stacktrace=1",
    )


def aarch64(scratch: Path, _: str) -> None:
    if shutil.which("aarch64-linux-gnu-g++") is not None:
        compiler = ["aarch64-linux-gnu-g++"]
    elif importlib.util.find_spec("ziglang") is not None:
        compiler = [sys.executable, "-m", "ziglang", "c++", "-target", "aarch64-linux-gnu"]
    else:
        raise SystemExit("no cross compiler: apt-get install g++-aarch64-linux-gnu, or pip install ziglang")
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-ffp-contract=off"]
    # As in CMakeLists.txt; GCC ignores what it does not know.
    flags += ["-Wno-bitwise-conditional-parentheses", "-Wno-pass-failed"]
    for source in sorted((ROOT / "cpp" / "src").glob("*.cpp")):
        made = scratch / f"{source.stem}.o"
        needs = scratch / f"{source.stem}.d"
        run(
            [
                *compiler,
                *flags,
                f"-I{ROOT / 'cpp' / 'include'}",
                "-MD",
                "-MF",
                str(needs),
                "-c",
                str(source),
                "-o",
                str(made),
            ]
        )
        header = X86_HEADER.search(needs.read_text(encoding="utf-8"))
        if header is not None:
            raise SystemExit(f"{source.name} includes {header.group(1)}.h where there is no x86")
        machine = int.from_bytes(made.read_bytes()[18:20], "little")
        if machine != 183:  # EM_AARCH64
            raise SystemExit(f"{compiler[0]} made an object of machine {machine}, not of aarch64")
    print("every kernel compiles for aarch64")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["clang", "sanitize", "aarch64"])
    parser.add_argument("--inputs", default="1e6")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        {"clang": clang, "sanitize": sanitize, "aarch64": aarch64}[options.what](Path(scratch), options.inputs)


if __name__ == "__main__":
    main()
