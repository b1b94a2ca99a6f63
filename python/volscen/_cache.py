"""A folder of arrays that are dear to compute: whole files only, each checked against its hash before it is used."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen._files import write_safetensors
from volscen.errors import InputError

__all__ = ["cache_folder", "load_cached", "store_cached"]

_VARIABLE = "VOLSCEN_CACHE"

Arrays = dict[str, npt.NDArray[Any]]


def cache_folder() -> Path:
    """Folder of cached arrays: ``VOLSCEN_CACHE``, else volscen in the user's folder for caches; it need not exist.

    Notes
    -----
    That folder is ``XDG_CACHE_HOME`` or ~/.cache, ~/Library/Caches on macOS, ``LOCALAPPDATA`` on Windows. All in it
    may be deleted at any time.
    """
    own = os.environ.get(_VARIABLE)
    if own:
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "volscen"
    home = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache") / "volscen"


def _path(kind: str, key: Mapping[str, Any]) -> Path:
    text = json.dumps(key, sort_keys=True)
    return cache_folder() / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(array.data)
    return found.hexdigest()


def load_cached(kind: str, key: Mapping[str, Any]) -> Arrays | None:
    """Arrays stored under a key, or None where there are none or the file is damaged (the next one replaces it)."""
    from safetensors import SafetensorError, safe_open

    path = _path(kind, key)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            metadata = json.loads((file.metadata() or {}).get("volscen", "{}"))
            arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        return None
    return arrays if metadata.get("sha256") == _digest(arrays) and metadata.get("key") == dict(key) else None


def store_cached(kind: str, key: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Write arrays under a key, atomically.

    Raises
    ------
    InputError
        If the folder cannot be written to, with the environment variable that names another.
    """
    path = _path(kind, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, arrays, json.dumps({"sha256": _digest(arrays), "key": dict(key)}))
    except (OSError, InputError) as error:
        raise InputError(
            f"cannot keep arrays in the cache {path.parent} ({error}): set {_VARIABLE} to a folder that can be written "
            "to, or ask for no cache"
        ) from None
    return path
