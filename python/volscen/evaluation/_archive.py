"""The folder of one walk: its settings, fitted models and scored blocks, each written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xarray as xr

from volscen._files import atomic_path
from volscen.errors import FileFormatError, InputError
from volscen.generators import REGISTRY, Generator, generator_class, load

__all__ = ["Archive"]


class Archive:
    """Blocks and models of one walk on disk.

    Parameters
    ----------
    folder : str or Path
        Made when absent.
    settings : dict
        All that decides the result; a folder made with others is refused.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
        path = self._folder / "settings.json"
        if path.exists():
            try:
                stored = json.loads(path.read_text())
                differing = sorted(k for k in {*stored, *settings} if stored.get(k) != settings.get(k))
            except (ValueError, TypeError, OSError) as error:
                raise FileFormatError(f"{path}: not readable ({error}); remove the folder to start anew") from None
            if differing:
                raise InputError(
                    f"folder {folder} holds another walk: {', '.join(differing)} differ; give another folder, or "
                    "remove this one to start anew"
                )
        else:
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(settings, indent=1, sort_keys=True))

    def _block(self, number: int) -> Path:
        return self._folder / f"block-{number:04d}.nc"

    def has(self, number: int) -> bool:
        """Whether a block was scored."""
        return self._block(number).exists()

    def put(self, number: int, days: xr.Dataset) -> None:
        """Keep a block."""
        with atomic_path(self._block(number)) as temporary:
            days.to_netcdf(temporary, engine="netcdf4", format="NETCDF4")

    def get(self, number: int) -> xr.Dataset:
        """Read a block."""
        try:
            with xr.open_dataset(self._block(number), engine="netcdf4") as days:
                return days.load()
        except Exception as error:  # the libraries below raise whatever a corrupt file makes them stumble over
            raise FileFormatError(
                f"{self._block(number)}: not a readable block ({str(error)[:200]}); remove it to score it again"
            ) from None

    def _model(self, segment: int) -> Path:
        return self._folder / f"model-{segment:03d}.safetensors"

    def model(self, segment: int, template: Generator) -> Generator | None:
        """Model fitted for a segment, where it was kept."""
        path = self._model(segment)
        if not path.exists():
            return None
        found = load(path)
        if type(found) is not type(template):
            raise FileFormatError(f"{path}: holds a {found.name!r}, not a {template.name!r}; remove it to fit it again")
        return found

    def keep(self, segment: int, fitted: Generator) -> None:
        """Keep a fitted model; one whose class is not registered could not be loaded, and is fitted again instead."""
        if fitted.name in REGISTRY and generator_class(fitted.name) is type(fitted):
            fitted.save(self._model(segment))
