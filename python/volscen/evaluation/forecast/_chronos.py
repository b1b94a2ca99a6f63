"""Surfaces forecast by a pretrained model of time series that has seen none of them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from volscen._numbers import whole_number
from volscen._threads import single_threaded_torch
from volscen.errors import InputError, MissingExtraError
from volscen.evaluation.forecast._pretrained import Pretrained

__all__ = ["Chronos"]

FloatArray = npt.NDArray[np.float64]


class Chronos(Pretrained):
    """Medians of a pretrained model of time series (Ansari et al. 2024) for the principal components, as it is.

    Each component's past is a series of its own, given to the model without training; the rest reverts by itself as in
    :class:`Var`. Needs the extra ``chronos``. A name is looked up on the Hugging Face hub, and its weights are
    downloaded unless they are on the disk; a folder needs no network. The model may have been trained on data from
    after the dates it forecasts from: "no look-ahead" then holds for the history given, not for its weights.

    Parameters
    ----------
    model : str or pipeline
        Name on the hub, folder, or an object with the method ``predict_quantiles`` of the package's pipelines.
    n_components : int
    context : int
        Days of the past that the model is given; fewer where the history begins later, but at least 64.
    batch_size : int
        Series at a time.

    Raises
    ------
    MissingExtraError
        If the package is missing.
    InputError
        If the model cannot be loaded, or its answer has another shape.

    Examples
    --------
    >>> from volscen.evaluation import forecast
    >>> forecast.Chronos("amazon/chronos-bolt-small", context=256).name
    'chronos'
    """

    name: ClassVar[str] = "chronos"
    n_past = 64

    def __init__(
        self,
        model: Any = "amazon/chronos-bolt-small",
        *,
        n_components: int = 5,
        context: int = 512,
        batch_size: int = 256,
    ) -> None:
        super().__init__(n_components=whole_number("n_components", n_components))
        if not isinstance(model, str) and not callable(getattr(model, "predict_quantiles", None)):
            raise InputError(
                f"model must be a name, a folder or a pipeline with the method predict_quantiles, not {model!r}"
            )
        self.model = model
        self.context = whole_number("context", context, least=self.n_past)
        self.batch_size = whole_number("batch_size", batch_size)
        self._pipeline: Any = None if isinstance(model, str) else model

    def _load(self) -> None:
        if self._pipeline is not None:
            return
        try:
            from chronos import BaseChronosPipeline
        except ImportError:
            raise MissingExtraError("forecaster 'chronos'", "chronos") from None
        try:
            self._pipeline = BaseChronosPipeline.from_pretrained(self.model, device_map="cpu")
        except (OSError, ValueError) as error:
            raise InputError(
                f"model {self.model!r} could not be loaded; give a folder with its weights, or a name on the hub while "
                f"it can be reached ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            ) from error

    def _components(
        self, scores: FloatArray, dates: npt.NDArray[np.datetime64], rows: npt.NDArray[np.intp]
    ) -> FloatArray:
        """Medians."""
        import torch

        days, k = max(self.horizons_), scores.shape[1]
        series = [
            torch.from_numpy(scores[max(0, row + 1 - self.context) : row + 1, i].astype(np.float32))
            for row in rows
            for i in range(k)
        ]
        out = np.empty((len(series), days))
        with single_threaded_torch(), torch.no_grad():
            for start in range(0, len(series), self.batch_size):
                batch = series[start : start + self.batch_size]
                answer = self._pipeline.predict_quantiles(batch, prediction_length=days, quantile_levels=[0.5])[0]
                # One tensor, or one a series: pipelines differ.
                found = np.asarray(torch.stack(list(answer)).float())
                if found.size != len(batch) * days or not np.all(np.isfinite(found)):
                    raise InputError(
                        f"model {self.model!r} answered with shape {found.shape} or values that are not finite; "
                        f"medians of {len(batch)} series {days} days ahead were asked"
                    )
                out[start : start + len(batch)] = found.reshape(len(batch), days)
        return out.reshape(rows.size, k, days).transpose(0, 2, 1)
