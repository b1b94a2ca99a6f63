"""``ds.volscen`` for every dataset, without importing xarray for it.

Where xarray is loaded already, the accessor is registered at once; else when it is imported, by whomever. This module
imports nothing but the standard library's import machinery, which is loaded anyway.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["register_when_xarray_is_loaded"]


class _Watcher(MetaPathFinder):
    """Finds nothing itself: has the others find xarray, and registers the accessor once it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "xarray":
            return None
        for finder in sys.meta_path:
            find = None if isinstance(finder, _Watcher) else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                self._watch(spec)
                return spec
        return None

    def _watch(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return
        run = loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            if module.__name__ == "xarray":  # loaders of frozen applications serve all modules
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                _register()

        # On the instance: the loader stays of its own class, which xarray asks for its resources.
        loader.exec_module = run_and_register  # type: ignore[method-assign]


def _register() -> None:
    from volscen import _accessor

    _accessor.register()


def register_when_xarray_is_loaded() -> None:
    """Register the accessor now if xarray is loaded, else once it is."""
    if hasattr(sys.modules.get("xarray"), "register_dataset_accessor"):
        _register()
    elif not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())
