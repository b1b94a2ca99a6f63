"""The VAE-LSTM among the forecasts of surfaces."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.evaluation.forecast._surface_models import _InLogs
from volscen.generators._vae_lstm import VaeLstm as Generator
from volscen.generators._vae_lstm_options import FRAME_DAYS

__all__ = ["VaeLstm"]

FloatArray = npt.NDArray[np.float64]


class VaeLstm(_InLogs):
    """Variational autoencoder and LSTM with attention, as the generator ``vae_lstm``: its point forecasts.

    Parameters
    ----------
    seed, epochs, window : int
    **options
        Further constructor arguments of the generator, ``horizons`` excepted: they are those asked for.

    Attributes
    ----------
    model_ : volscen.generators.Generator
        As fitted.

    Raises
    ------
    InputError
        If an option is not the generator's or out of range.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> from volscen.evaluation import forecast
    >>> history = volscen.datasets.sample_history()
    >>> small = dict(latent_dim=4, hidden=(8,), lstm_hidden=(8,), heads=2, window=5, vae_epochs=1)
    >>> model = forecast.VaeLstm(epochs=1, **small).fit(history, (1, 5))
    >>> model.forecast(history, np.array([500])).shape
    (1, 2, 8, 10)
    """

    name: ClassVar[str] = "vae_lstm"
    model_: Generator

    def __init__(self, *, seed: int = 0, epochs: int = 40, window: int = 20, **options: Any) -> None:
        if "horizons" in options:
            raise InputError("horizons are those that forecast_surfaces asks for; leave them out")
        try:
            Generator(seed=seed, epochs=epochs, window=window, **options)
        except TypeError as error:
            raise InputError(f"options: {error}") from None
        self.seed, self.epochs, self.window, self.options = seed, epochs, window, options
        self.n_past = FRAME_DAYS + window

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        options = {"progress": False} | self.options
        ahead = tuple(sorted({1, *self.horizons_}))
        model = Generator(seed=self.seed, epochs=self.epochs, window=self.window, horizons=ahead, **options)
        self.model_ = model.fit(history)

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        found = self.model_.forecast(history, horizons=self.horizons_, dates=history["date"].values[rows]).values
        return np.asarray(np.log(found).reshape(len(rows), len(self.horizons_), -1))
