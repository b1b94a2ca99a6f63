"""Importing is light and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = (
    "xarray",
    "pandas",
    "torch",
    "scipy",
    "sklearn",
    "matplotlib",
    "netCDF4",
    "dask",
    "typer",
    "databento",
    "tqdm",
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_loads_nothing_heavy():
    loaded = json.loads(run("import sys, json, volscen; print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in HEAVY if name in loaded] == []


def test_importing_the_kernels_loads_nothing_heavier_than_numpy():
    kernels = "volscen.black, volscen.ssvi, volscen.svi, volscen.arbitrage"
    code = f"import sys, json, {kernels}; print(json.dumps(sorted(sys.modules)))"
    assert [name for name in HEAVY if name in json.loads(run(code))] == []


def test_sampling_needs_no_torch_nor_sklearn():
    code = "import sys, json, volscen; volscen.generate(n_scenarios=10, seed=1); print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(code))
    assert [name for name in ("torch", "sklearn", "matplotlib") if name in loaded] == []


def test_every_public_name_exists():
    assert run("import volscen; print(all(hasattr(volscen, n) for n in volscen.__all__))").strip() == "True"


def test_no_module_bears_the_name_of_a_function():
    """Importing such a module would replace the function."""
    code = (
        "import volscen, pkgutil, types\n"
        "modules = {m.name for m in pkgutil.iter_modules(volscen.__path__)}\n"
        "print([n for n in volscen.__all__ if n in modules and not isinstance(getattr(volscen, n), types.ModuleType)])"
    )
    assert run(code).strip() == "[]"
