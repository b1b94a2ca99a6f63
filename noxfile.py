"""Sessions for developers: ``nox -s tests lint types mintest bench``."""

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
def mintest(session: nox.Session) -> None:
    """Run the tests with the lowest direct versions that pyproject.toml admits (needs uv)."""
    session.install("uv")
    session.run("uv", "pip", "install", "--resolution", "lowest-direct", "-c", "constraints.txt", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    session.install("-c", "constraints.txt", ".[bench]")
    for script in ("kernels.py", "generate.py"):
        session.run("python", f"benchmarks/{script}", *session.posargs)
