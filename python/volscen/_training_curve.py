"""The curves of a training, as a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from volscen.errors import InputError
from volscen.generators import Generator, load

__all__ = ["training_curve"]


def training_curve(model: Generator | str | Path) -> xr.Dataset:
    """Losses and validation scores of a generator's training, by epoch.

    Parameters
    ----------
    model : Generator or path
        Fitted, or the file of one.

    Returns
    -------
    xarray.Dataset
        Every loss over ``epoch`` (from 1), every validation score over ``validation_epoch``, each with ``long_name``;
        the attributes ``generator`` and ``kept_epoch``, the epoch whose parameters the model has.

    Raises
    ------
    InputError
        If the model is not fitted, or keeps no losses by epoch.

    Examples
    --------
    >>> import volscen
    >>> model = volscen.fit(volscen.datasets.sample_history(), "volgan", epochs=3, validate_every=2, progress=False)
    >>> curve = volscen.training_curve(model)
    >>> curve.discriminator_loss.dims, curve.energy_score.validation_epoch.values.tolist()
    (('epoch',), [2, 3])

    One call plots one of them: ``curve.energy_score.plot()``.
    """
    if isinstance(model, (str, Path)):
        model = load(model)
    if not isinstance(model, Generator) or not model.is_fitted:
        raise InputError(f"model must be a fitted generator or the path of one, not {model!r}")
    curve = model.curve_
    if curve is None:
        raise InputError(f"generator {model.name!r} holds no training curve; those that keep losses by epoch do")
    out: dict[str, tuple[str, np.typing.NDArray[np.float64], dict[str, str]]] = {}
    for dim, series in (("epoch", curve.losses), ("validation_epoch", curve.scores)):
        for name, values in series.items():
            out[name] = dim, np.asarray(values), {"long_name": curve.text[name], "units": "1"}
    label = {"units": "epoch"}
    coordinates = {
        "epoch": ("epoch", np.arange(1, curve.epochs + 1), {"long_name": "epoch", **label}),
        "validation_epoch": ("validation_epoch", curve.score_epoch, {"long_name": "epoch of the score", **label}),
    }
    attributes = {"title": "curves of a training", "generator": model.name, "kept_epoch": curve.kept_epoch}
    return xr.Dataset(out, coords=coordinates, attrs=attributes)
