"""One number for how far a surface is from an ordinary one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen.errors import InputError

__all__ = ["RiskSignal"]

FloatArray = npt.NDArray[np.float64]
Encoder = Callable[[FloatArray], Any]


@dataclass(frozen=True)
class RiskSignal:
    """Mean absolute standardised latent of a surface: about 0.8 on an ordinary day, several in a crisis.

    Attributes
    ----------
    tau, moneyness : ndarray
        Grid of the surfaces.
    mean, sd : ndarray, shape (k,)
        Of each latent over the history fitted on.
    encoder : callable
        From surfaces (n, tau, moneyness) to latents (n, k).
    """

    tau: FloatArray
    moneyness: FloatArray
    mean: FloatArray
    sd: FloatArray
    encoder: Encoder

    @classmethod
    def fit(cls, history: xr.Dataset, *, encoder: Encoder | None = None, n_components: int = 5) -> Self:
        """Learn what is ordinary from the days of a history, all of which must be known when the signal is used.

        Parameters
        ----------
        history : xarray.Dataset
            Surfaces following ``volscen/history/1``.
        encoder : callable, optional
            From surfaces, shape (n, tau, moneyness), to latents, shape (n, k), such as that of a trained network.
            Principal components of the log volatilities when omitted.
        n_components : int
            How many of them.

        Raises
        ------
        InputError
            If there are fewer days or cells than components, a latent never moves, or the encoder returns anything but
            finite numbers of shape (n, k).

        Examples
        --------
        >>> import volscen
        >>> history = volscen.datasets.sample_history()
        >>> risk = volscen.agent.RiskSignal.fit(history)(history["implied_vol"])
        >>> risk.dims, bool(risk.median() < 1)
        (('date',), True)
        """
        schema.validate(history, schema=schema.HISTORY)
        surfaces = history["implied_vol"].transpose("date", "tau", "moneyness").values.astype(np.float64)
        if encoder is None:
            encoder = _principal_components(np.log(surfaces), n_components)
        latents = _encode(encoder, surfaces)
        sd = latents.std(axis=0)
        if not np.all(sd > 0):
            raise InputError("history: a latent is the same on all days; give more days or fewer n_components")
        return cls(history["tau"].values, history["moneyness"].values, latents.mean(axis=0), sd, encoder)

    def __call__(self, implied_vol: xr.DataArray) -> xr.DataArray:
        """Signal of every surface of an array with dimensions ``tau`` and ``moneyness``; the other dimensions stay.

        Raises
        ------
        InputError
            If the grid is not the one fitted on, or a volatility is not positive and finite.
        """
        if not isinstance(implied_vol, xr.DataArray):
            raise InputError("implied_vol must be a DataArray with the dimensions tau and moneyness")
        schema.check_same_grid(self.tau, self.moneyness, implied_vol.to_dataset(name="implied_vol"), "the signal")
        risk: xr.DataArray = xr.apply_ufunc(
            self._evaluate, implied_vol, input_core_dims=[["tau", "moneyness"]], keep_attrs=False
        )
        return risk.rename("risk")

    def _evaluate(self, implied_vol: npt.NDArray[np.floating]) -> FloatArray:
        surfaces = implied_vol.reshape(-1, self.tau.size, self.moneyness.size).astype(np.float64)
        if not (np.all(np.isfinite(surfaces)) and np.all(surfaces > 0)):
            raise InputError("implied_vol must be positive and finite")
        z = (_encode(self.encoder, surfaces) - self.mean) / self.sd
        return np.asarray(np.abs(z).mean(axis=1).reshape(implied_vol.shape[:-2]))


def _encode(encoder: Encoder, surfaces: FloatArray) -> FloatArray:
    latents = np.asarray(encoder(surfaces), dtype=np.float64)
    if latents.ndim != 2 or len(latents) != len(surfaces) or not np.all(np.isfinite(latents)):
        raise InputError(
            f"encoder must return finite latents of shape ({len(surfaces)}, k), not shape {latents.shape} or NaN"
        )
    return latents


def _principal_components(log_vol: FloatArray, n_components: int) -> Encoder:
    flat = log_vol.reshape(len(log_vol), -1)
    if not 1 <= n_components <= min(len(flat) - 1, flat.shape[1]):
        raise InputError(
            f"n_components must be between 1 and {min(len(flat) - 1, flat.shape[1])} for {len(flat)} days of "
            f"{flat.shape[1]} cells, not {n_components}"
        )
    center = flat.mean(axis=0)
    axes = np.linalg.svd(flat - center, full_matrices=False)[2][:n_components]
    return lambda surfaces: (np.log(surfaces).reshape(len(surfaces), -1) - center) @ axes.T
