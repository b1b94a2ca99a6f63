"""What a world model makes of surfaces: latents and reconstructions, and how good they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._dates import to_day
from volscen.errors import InputError
from volscen.generators._neural_options import CPU, check_device
from volscen.generators._placement import put_on
from volscen.generators._world import WorldModel
from volscen.world._similarity import structural_similarity

__all__ = ["check_model", "judged_days", "latents", "reconstruct", "reconstruction_figures", "told"]

FloatArray = npt.NDArray[np.float64]

#: A latent is active where it tells this much: nats of divergence, or variance of its means.
ACTIVE = 0.01


def check_model(model: Any, history: xr.Dataset, device: Any = CPU) -> WorldModel:
    """The model on a device, or refuse what is no fitted world model, or a history on another grid."""
    if not isinstance(model, WorldModel) or not model.is_fitted:
        given = repr(str(model.name)) if hasattr(model, "name") else type(model).__name__
        raise InputError(f"model must be a fitted generator 'world', not {given}; fit one with generator='world'")
    schema.validate(history, schema=schema.HISTORY)
    schema.check_same_grid(model.tau_, model.moneyness_, history, "the world model")
    return put_on(model, check_device(device))


def latents(model: WorldModel, history: xr.Dataset, *, device: str = CPU) -> xr.Dataset:
    """Latents of every surface of a history.

    Parameters
    ----------
    model : WorldModel
    history : xarray.Dataset
        On the model's grid; a few days will do.
    device : str
        As for :func:`volscen.generate`: where the networks are evaluated. The result's attribute says which.

    Returns
    -------
    xarray.Dataset
        ``latent_mean`` and ``latent_sd`` (date, latent) of the encoder's posterior; ``divergence`` (latent), its mean
        Kullback-Leibler divergence from a standard normal in nats; ``variance`` (latent) of the means; ``active``
        (latent), whether divergence or variance exceeds .01; ``principal`` (date, component), the first two principal
        components of the means; ``atm_vol`` (date), at the middle maturity. Attribute ``active_share``; and
        ``effective_dimension``, (sum of eigenvalues)^2 / (sum of their squares) of the covariance of the means.

    Raises
    ------
    InputError
        If the model is no fitted world model, the grids differ, or the device is not there.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "world", raster_size=16, channels=(4, 4, 8), latent_dim=4, epochs=1,
    ...                     dynamics_epochs=1, progress=False)
    >>> found = volscen.world.latents(model, history)
    >>> found.active.sizes["latent"], 0 <= found.attrs["active_share"] <= 1
    (4, True)
    """
    model = check_model(model, history, device)
    mean, log_variance = model.encode(history["implied_vol"].values.astype(np.float64))
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).mean(axis=0)
    variance = mean.var(axis=0)
    active = (divergence > ACTIVE) | (variance > ACTIVE)
    centred = mean - mean.mean(axis=0)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    two = vectors[:2] * np.where(vectors[:2].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    power = values**2
    middle = history["implied_vol"].isel(tau=history.sizes["tau"] // 2).sel(moneyness=1.0, method="nearest")
    total = float(np.sum(power**2))
    return xr.Dataset(
        {
            "latent_mean": (("date", "latent"), mean, _text("mean of the encoder's posterior")),
            "latent_sd": (
                ("date", "latent"),
                np.exp(0.5 * log_variance),
                _text("standard deviation of the encoder's posterior"),
            ),
            "divergence": ("latent", divergence, _text("mean divergence from a standard normal, nats")),
            "variance": ("latent", variance, _text("variance of the posterior's means")),
            "active": ("latent", active, _text("whether the latent tells anything")),
            "principal": (("date", "component"), centred @ two.T, _text("principal components of the means")),
            "atm_vol": ("date", middle.values, _text("implied volatility at K/F = 1, middle maturity")),
        },
        coords={"date": history["date"].values, "latent": np.arange(mean.shape[1])},
        attrs={
            "active_share": float(active.mean()),
            "effective_dimension": float(power.sum() ** 2 / total) if total > 0 else 0.0,
            **told(model),
        },
    )


def reconstruct(model: WorldModel, history: xr.Dataset, *, device: str = CPU) -> xr.Dataset:
    """Pictures of surfaces and what is left of them after the latents.

    Parameters
    ----------
    model, history, device
        As for :func:`latents`.

    Returns
    -------
    xarray.Dataset
        ``raster`` and ``reconstruction`` (date, tau, moneyness), volatilities on the model's pixels.

    Raises
    ------
    InputError
        As for :func:`latents`.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "world", raster_size=16, channels=(4, 4, 8), latent_dim=4, epochs=1,
    ...                     dynamics_epochs=1, progress=False)
    >>> volscen.world.reconstruct(model, history.isel(date=slice(0, 3))).reconstruction.shape
    (3, 16, 16)
    """
    model = check_model(model, history, device)
    vol = history["implied_vol"].values.astype(np.float64)
    mean, _ = model.encode(vol)
    tau, moneyness = model.screen.axes
    dims = ("date", "tau", "moneyness")
    return xr.Dataset(
        {
            "raster": (dims, model.screen.paint(vol), _text("implied volatility")),
            "reconstruction": (dims, model.decode_rasters(mean), _text("implied volatility, decoded")),
        },
        coords={"date": history["date"].values, "tau": tau, "moneyness": moneyness},
        attrs=told(model),
    )


def reconstruction_figures(
    model: WorldModel, history: xr.Dataset, *, first: Any, last: Any = None, device: str = CPU
) -> dict[str, float]:
    """How well the model's pictures survive its latents, beside as many principal components.

    Parameters
    ----------
    model : WorldModel
    history : xarray.Dataset
        Holds the period and the days that the model was fitted on, from which the components come.
    first, last : date
        Period to judge, after the fit; to the end of the history when ``last`` is omitted.
    device : str
        As for :func:`latents`.

    Returns
    -------
    dict of str to float
        ``ssim`` and ``ssim_pca`` (mean structural similarity of vol pictures, range that of the days fitted on),
        ``mse`` and ``mse_pca`` (squared vol points), ``active_share``, ``effective_dimension``, ``roughness`` and
        ``roughness_pca``: mean squared daily step of the latents over their variance.

    Raises
    ------
    InputError
        As for :func:`latents`; or if the period holds no dates or overlaps the fit.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history.isel(date=slice(0, 400)), "world", raster_size=16, channels=(4, 4, 8), latent_dim=4,
    ...                     epochs=1, dynamics_epochs=1, progress=False)
    >>> found = reconstruction_figures(model, history, first=history.date.values[400], last=history.date.values[450])
    >>> found["ssim"] < found["ssim_pca"] <= 1
    True
    """
    from sklearn.decomposition import PCA

    model = check_model(model, history)
    train = history.sel(date=slice(*model.period_))
    held = judged_days(model, history, first, last)
    pictures = model.screen.standardised(train["implied_vol"].values.astype(np.float64)).reshape(
        train.sizes["date"], -1
    )
    count = min(model.options.latent_dim, *pictures.shape)
    pca = PCA(count, svd_solver="randomized", random_state=0).fit(pictures)
    seen = reconstruct(model, held, device=device)
    truth = seen["raster"].values
    flat = model.screen.standardised(held["implied_vol"].values.astype(np.float64)).reshape(len(truth), -1)
    score = pca.transform(flat)
    linear = model.screen.vol(pca.inverse_transform(score).astype(np.float64))
    of_train = model.screen.vol(pictures.astype(np.float64))
    data_range = float(of_train.max() - of_train.min())
    out = {}
    for name, drawn in (("", seen["reconstruction"].values), ("_pca", linear)):
        out[f"ssim{name}"] = float(structural_similarity(truth, drawn, data_range=data_range).mean())
        out[f"mse{name}"] = 1e4 * float(np.mean((truth - drawn) ** 2))
    found = latents(model, train, device=device)
    mean = latents(model, held, device=device)["latent_mean"].values
    for name, path in (("", mean), ("_pca", score)):
        out[f"roughness{name}"] = float(np.mean(np.diff(path, axis=0) ** 2, axis=0).sum() / path.var(axis=0).sum())
    return out | {name: float(found.attrs[name]) for name in ("active_share", "effective_dimension")}


def told(model: WorldModel) -> dict[str, Any]:
    """Attribute that says on which device the networks were evaluated, if any was named."""
    return {} if model._device is None else {"device": model._device}


def judged_days(model: WorldModel, history: xr.Dataset, first: Any, last: Any) -> xr.Dataset:
    """Dates of a period after the model's fit."""
    start = to_day(first, "first")
    if start <= np.datetime64(model.period_[1]):
        raise InputError(
            f"first {start} lies in the days fitted on, which end on {model.period_[1]}; choose a later one"
        )
    held = history.sel(date=slice(start, None if last is None else to_day(last, "last")))
    if held.sizes["date"] < 2:
        raise InputError("the history holds fewer than two dates from first to last")
    return held


def _text(name: str) -> dict[str, str]:
    return {"long_name": name, "units": "1"}
