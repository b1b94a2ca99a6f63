"""Figures that tell whether a file reads as it did: those of its contents, and those of what a model draws."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import volscen
from volscen.generators import Generator

#: A folder for each version: its files in one archive, and what they are to read as. Beside them ``draws.json``.
FOLDER = Path(__file__).parent / "formats"
ARCHIVE, MANIFEST = "files.zip", "manifest.json"

#: Draws come from elementary functions and sums that platforms round in their own ways; networks do it in 32 bits.
DRAWS_RTOL, NETWORK_RTOL = 1e-6, 1e-3
NETWORKS = ("ddpm", "residual_net", "vae_lstm", "volgan", "world")


def array_figures(array: Any) -> dict[str, Any]:
    """Shape, and of numbers how many are finite, their sum and a sum that tells their order; of texts all."""
    values = np.asarray(array)
    if values.dtype.kind in "USO":
        return {"shape": list(values.shape), "text": [str(one) for one in values.ravel()]}
    if values.dtype.kind == "M":
        values = values.astype("datetime64[s]").astype(np.int64) / 86_400
    numbers = values.astype(np.float64).ravel()
    known = np.where(np.isfinite(numbers), numbers, 0.0)
    place = np.arange(1, known.size + 1) / max(known.size, 1)
    return {
        "shape": list(values.shape),
        "finite": int(np.isfinite(numbers).sum()),
        "sum": float(known.sum()),
        "order": float(known @ place),
    }


def dataset_figures(ds: xr.Dataset) -> dict[str, Any]:
    """Figures of every variable and the attributes of a dataset."""
    variables = {str(name): {"dims": [*map(str, v.dims)], **array_figures(v)} for name, v in ds.variables.items()}
    attributes = {name: array_figures(value) for name, value in ds.attrs.items()}
    return {"variables": variables, "attributes": attributes}


def model_figures(model: Generator) -> dict[str, Any]:
    """Figures of all that the file of a generator holds."""
    return {
        "generator": model.name,
        "period": list(model.period_),
        "fingerprint": model.fingerprint_,
        "arrays": {name: array_figures(array) for name, array in model.arrays().items()},
        "epochs": None if model.curve_ is None else model.curve_.epochs,
        "dates": model.record_ and model.record_.n_dates,
    }


def draw_figures(cube: xr.Dataset) -> dict[str, list[float]]:
    """Mean, standard deviation and a sum that tells the order, of what was drawn."""
    out = {}
    for name in ("log_return", "implied_vol", "weight"):
        values = cube[name].values.astype(np.float64).ravel()
        place = np.arange(1, values.size + 1) / values.size
        out[name] = [float(values.mean()), float(values.std()), float(np.mean(values * place))]
    return out


def draw_joint(joint: Any, history: xr.Dataset) -> dict[str, xr.Dataset]:
    """Scenarios of the two assets that joint models here have."""
    histories = {"A": history, "B": history.isel(date=slice(30, None))}
    return volscen.generate_joint(joint, histories, n_scenarios=64, horizon=2, seed=7, dtype="float64")


def draw(model: Generator, history: xr.Dataset) -> xr.Dataset:
    """Scenarios of a model from the last day of the history beside it."""
    return volscen.generate(model, history, n_scenarios=64, horizon=2, seed=7, dtype="float64")


def pack(folder: Path, archive: Path) -> None:
    """Put all files of a folder, stores in it as well, into one, which is the same for the same files."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def unpack(version: str, folder: Path) -> Path:
    """Take the files of a version out of what :func:`pack` wrote."""
    with zipfile.ZipFile(FOLDER / version / ARCHIVE) as packed:
        packed.extractall(folder)
    return folder
