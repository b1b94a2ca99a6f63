"""Sessions for developers: ``nox -s tests lint types docs mintest bench``; for kernels, ``sanitize clang aarch64``."""

from __future__ import annotations

import nox

nox.options.sessions = ["tests", "lint", "types"]
nox.options.default_venv_backend = "venv"


@nox.session
def tests(session: nox.Session) -> None:
    session.install("-c", "constraints.txt", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff", "clang-format==19.1.7")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    files = session.run("git", "ls-files", "cpp/*.hpp", "cpp/*.cpp", external=True, silent=True) or ""
    session.run("clang-format", "--dry-run", "-Werror", *files.split())


@nox.session
def types(session: nox.Session) -> None:
    session.install("-c", "constraints.txt", ".[lint,distributed,plot]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in ``build/site``; a warning is an error."""
    session.install("-c", "constraints.txt", ".[docs]")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-n", "docs", "build/site", *session.posargs)


@nox.session
def mintest(session: nox.Session) -> None:
    """Run the tests with the lowest direct versions that pyproject.toml admits (needs uv)."""
    session.install("uv")
    session.run("uv", "pip", "install", "--resolution", "lowest-direct", "-c", "constraints.txt", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def vectorised(session: nox.Session) -> None:
    """Check that the compiler vectorised the loops marked as hot."""
    session.run("python", "cpp/tools/check_vectorised.py", *session.posargs)


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run kernel tests and ten million random inputs a kernel path under AddressSanitizer and UBSan."""
    session.install("-c", "constraints.txt", ".[test]")
    session.run("python", "cpp/tools/check_build.py", "sanitize", *(session.posargs or ["--inputs", "1e7"]))


@nox.session
def clang(session: nox.Session) -> None:
    """Run kernel tests on a build by Clang, and compare its bits with the installed build."""
    session.install("-c", "constraints.txt", ".[test]")
    session.run("python", "cpp/tools/check_build.py", "clang", *session.posargs)


@nox.session
def aarch64(session: nox.Session) -> None:
    """Compile the kernels for 64-bit ARM."""
    session.install("ziglang")
    session.run("python", "cpp/tools/check_build.py", "aarch64")


@nox.session
def browser(session: nox.Session) -> None:
    """Look at the report in a browser: needs Chromium."""
    session.install("-c", "constraints.txt", ".[test,browser]")
    session.run("pytest", "-m", "browser", "-s", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time the kernels beside their peers, and the whole way; arguments go to the benchmark of the kernels."""
    session.install("-c", "constraints.txt", ".[bench]")
    session.run("python", "benchmarks/kernels.py", *session.posargs)
    session.run("python", "benchmarks/generate.py")
