"""Generators: the law of the next return and the next surface, behind one protocol.

Adding one means adding a file here and a line to the registry.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from volscen import schema
from volscen._doubts import callers_level
from volscen._registry import DEFAULT, REGISTRY
from volscen._version import is_other_number, other_number
from volscen.errors import FileFormatError, HistoryWarning, InputError
from volscen.generators._base import BLOCK_SIZE, MODEL_FORMAT, Generator, StepGenerator
from volscen.generators._record import TrainingCurve

__all__ = ["BLOCK_SIZE", "REGISTRY", "Generator", "StepGenerator", "TrainingCurve", "fit", "generator_class", "load"]

#: What an option is called that is annotated so.
_NUMBERS = {"int": "a whole number", "float": "a number", "int | float": "a number", "float | int": "a number"}

#: Name under which files hold a model of several assets.
JOINT = "joint"


def generator_class(name: str) -> type[Generator]:
    """Class registered under a name.

    Examples
    --------
    >>> from volscen.generators import generator_class
    >>> generator_class("pca").name
    'pca'
    """
    if not isinstance(name, str) or name not in REGISTRY:
        raise InputError(f"unknown generator {name!r}; the registered ones are {sorted(REGISTRY)}")
    module, attribute = REGISTRY[name]
    found: type[Generator] = getattr(import_module(module), attribute)
    return found


def fit(history: xr.Dataset, generator: str = DEFAULT, **options: Any) -> Generator:
    """Fit a generator to a history.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``.
    generator : str
        ``"bootstrap"`` (historical simulation), ``"ddpm"`` (denoising diffusion), ``"fhs"`` (filtered historical
        simulation), ``"har"`` (robust HAR on the exchange calendar), ``"heston"`` and ``"sabr"`` (calibrated parameters
        that move), ``"pca"`` (scaled PCA-VAR with bootstrapped residuals), ``"residual_net"`` (a network on the
        residuals of ``"har"`` or ``"pca"``), ``"vae_lstm"`` (variational autoencoder, and an LSTM with attention of its
        latents), ``"volgan"`` (conditional GAN of Vuletic and Cont) or ``"world"`` (latent world model of surfaces as
        pictures).
    **options
        Constructor arguments of the generator's class.

    Returns
    -------
    Generator
        Fitted, ready for :func:`volscen.generate` and ``save``.

    Raises
    ------
    InputError
        If the name is unknown, an option is not one of the generator's, or the history is too short.

    Examples
    --------
    >>> import volscen
    >>> model = volscen.fit(volscen.datasets.sample_history(), "bootstrap")
    >>> model.name
    'bootstrap'
    """
    made = unfitted(generator, options)
    schema.validate(history, schema=schema.HISTORY)
    _warn_of_suspects(history)
    return made.fit(history)


def _warn_of_suspects(history: xr.Dataset) -> None:
    """Say which returns may be corporate actions: a split taken for a crash would be drawn again as one."""
    if "jump_flag" not in history:
        return
    where = np.argwhere(history["jump_flag"].values == 2)
    if not len(where):
        return
    dates = history["date"].values.astype("datetime64[D]")
    told = [f"{dates[at[-1]]} ({history['log_return'].values[tuple(at)]:+.2f})" for at in where[:5]]
    warnings.warn(
        f"the model learns the log return into {', '.join(told)}{', ...' if len(where) > 5 else ''}, which may be a "
        f"corporate action (jump_flag 2): volscen.adjust_return(history, '{dates[where[0][-1]]}', split=3) (or volscen "
        "history adjust) takes a split of three for one out, dividend= a payment, and without either it is declared a "
        "return",
        HistoryWarning,
        stacklevel=callers_level(),
    )


def unfitted(name: str, options: Mapping[str, Any]) -> Generator:
    """Generator of a name; refuses names that are no option of it, and words where only a number can be meant."""
    cls = generator_class(name)
    known = signature(cls).parameters
    for option, value in options.items():
        if option not in known:
            raise InputError(
                f"generator {name!r} has no option {option!r}; it has {', '.join(sorted(known)) or 'none'}"
            )
        expected = _NUMBERS.get(str(known[option].annotation).removesuffix(" | None"))
        whole = expected == "a whole number"
        if expected is not None and isinstance(value, (str, float, np.floating) if whole else str):
            default = known[option].default
            raise InputError(
                f"option {option!r} of generator {name!r} must be {expected}"
                + (f", such as {default}" if default is not None else "")
                + f", not {value!r}"
            )
    try:
        return cls(**options)
    except TypeError as error:
        raise InputError(f"options of generator {name!r}: {error}") from None


def _other_format(found: Any, metadata: dict[str, Any]) -> str:
    """Say what a file is that is no model of this version."""
    if not isinstance(found, str) or not found.startswith("volscen/"):
        return f"not a volscen generator of format {MODEL_FORMAT}"
    if found.rpartition("/")[0].endswith("-checkpoint"):
        return "holds a training that was stopped, not a model; pass it as checkpoint= (volscen fit --resume) to go on"
    if is_other_number(found, MODEL_FORMAT):
        return f"a model of {other_number(found, MODEL_FORMAT, metadata.get('volscen_version'), 'fit again')}"
    return f"holds {found[:60]}, not a volscen generator of format {MODEL_FORMAT}"


def load(path: str | Path) -> Generator:
    """Load a fitted generator; runs no code from the file.

    Raises
    ------
    FileFormatError
        If the file is missing, truncated, or no volscen model.

    Examples
    --------
    >>> import tempfile, volscen
    >>> model = volscen.fit(volscen.datasets.sample_history(), "bootstrap")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = volscen.load(model.save(folder + "/model.safetensors"))
    >>> again.name, again.period_ == model.period_
    ('bootstrap', True)
    """
    path = Path(path)
    metadata, arrays = read_model(path)
    if metadata.get("generator") == JOINT:
        raise FileFormatError(f"{path}: a joint model of several assets; read it with volscen.load_joint")
    name = metadata.get("generator")
    if not isinstance(name, str) or name not in REGISTRY:
        raise FileFormatError(f"{path}: unknown generator {str(name)[:60]!r}")
    return generator_class(name)._from_file(metadata, arrays, path)


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and arrays of a model file of ours."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get("volscen")
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        named = str(path) in REGISTRY
        hint = (
            f"; {path} is the name of a generator: fit it first, volscen.fit(history, {str(path)!r})" if named else ""
        )
        raise FileFormatError(f"{path}: no such model file{hint}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        metadata = json.loads(header) if header else {}
        found = metadata["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if found != MODEL_FORMAT:
        raise FileFormatError(f"{path}: {_other_format(found, metadata if found else {})}")
    return metadata, arrays
