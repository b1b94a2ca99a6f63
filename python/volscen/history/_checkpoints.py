"""Finished days on disk, from which a build that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volscen._files import atomic_path, write_safetensors
from volscen._version import __version__
from volscen.errors import FileFormatError, InputError
from volscen.history._day import Day, Fitted, Outcome, Settings
from volscen.history._listing import Listing
from volscen.surface._build import Grid

__all__ = ["DayCheckpoints"]

_MANIFEST = "settings.json"
_ARRAYS = ("implied_vol", "forward", "discount_factor", "quality", "penalty")
_SCALARS = ("fit_rmse", "fit_max", "n_quotes", "n_expiries")


class DayCheckpoints:
    """A folder of finished days, one file per batch.

    Parameters
    ----------
    folder : str or Path
        Made if it does not exist.
    settings : Settings
        Must be those that the folder was begun with, and so must the version of volscen.

    Raises
    ------
    InputError
        If the folder is of another build, or cannot be written to.
    FileFormatError
        If one of its files is damaged.
    """

    def __init__(self, folder: str | Path, settings: Settings) -> None:
        if not isinstance(folder, str | Path):
            raise InputError(f"resume must be a folder, not {folder!r}")
        self.folder = Path(folder)
        wanted = {"volscen_version": __version__, "settings": settings.record()}
        manifest = self.folder / _MANIFEST
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # What begins with a point was begun by a build that was killed while it wrote.
            held = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        except OSError as error:
            raise InputError(f"resume: cannot use the folder {folder}: {error.strerror}") from None
        if not manifest.exists():
            if held:
                raise InputError(f"resume: the folder {folder} holds other things; give an empty or a new one")
            with atomic_path(manifest) as temporary:
                temporary.write_text(json.dumps(wanted, indent=1))
        else:
            _check_same(manifest, wanted)
        self._done: dict[str, tuple[str, Outcome]] = {}
        for path in sorted(self.folder.glob("days-*.safetensors")):
            self._done.update(_load(path))

    def split(self, days: Sequence[Day]) -> tuple[dict[int, Outcome], list[int]]:
        """Outcomes of the days finished before, by position, and the positions of the others."""
        found: dict[int, Outcome] = {}
        for position, day in enumerate(days):
            known = self._done.get(str(day.date))
            if known is None:
                continue
            if known[0] != day.fingerprint():
                raise InputError(
                    f"resume: the quotes of {day.date} are not those that {self.folder} holds the surface of; give a "
                    "new folder"
                )
            found[position] = known[1]
        return found, [position for position in range(len(days)) if position not in found]

    def save(self, days: Sequence[Day], outcomes: Sequence[Outcome]) -> None:
        """Keep a finished batch."""
        grids = [fitted.grid for _, fitted in outcomes if fitted is not None]
        arrays = {name: np.stack([getattr(grid, name) for grid in grids]) for name in _ARRAYS if grids}
        entries = [
            {
                "fingerprint": day.fingerprint(),
                "row": {**row, "date": str(row["date"])},
                "listing": None if fitted is None else fitted.listing.to_text(),
                "scalars": None if fitted is None else [getattr(fitted.grid, name) for name in _SCALARS],
            }
            for day, (row, fitted) in zip(days, outcomes, strict=True)
        ]
        names = [str(day.date).replace(":", "") for day in (days[0], days[-1])]
        write_safetensors(
            self.folder / f"days-{names[0]}-{names[1]}-{len(days)}.safetensors",
            arrays or {"none": np.zeros(1)},
            json.dumps(entries),
        )


def _check_same(manifest: Path, wanted: dict[str, Any]) -> None:
    try:
        held = json.loads(manifest.read_text())
        version, settings = held["volscen_version"], dict(held["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FileFormatError(f"{manifest}: not a readable record of settings; give a new folder") from None
    if version != wanted["volscen_version"]:
        raise InputError(
            f"resume: {manifest.parent} was begun by volscen {version}, this is {wanted['volscen_version']}; "
            "give a new folder"
        )
    differing = [
        name for name in {**settings, **wanted["settings"]} if settings.get(name) != wanted["settings"].get(name)
    ]
    if differing:
        raise InputError(
            f"resume: {manifest.parent} was begun with other settings ({', '.join(sorted(differing))}); give those, "
            "or a new folder"
        )


def _load(path: Path) -> dict[str, tuple[str, Outcome]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            entries = json.loads(file.metadata()["volscen"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        out: dict[str, tuple[str, Outcome]] = {}
        kept = 0
        for entry in entries:
            row = {**entry["row"], "date": np.datetime64(entry["row"]["date"])}
            fitted = None
            if entry["scalars"] is not None:
                values = {name: arrays[name][kept] for name in _ARRAYS}
                scalars = dict(zip(_SCALARS, entry["scalars"], strict=True))
                grid = Grid(**values, **scalars, figures={}, details={})
                fitted = Fitted(grid, Listing.from_text(entry["listing"], str(path)))
                kept += 1
            out[entry["row"]["date"]] = (entry["fingerprint"], (row, fitted))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError):
        raise FileFormatError(f"{path}: not a readable file of finished days; delete it and build again") from None
    return out
