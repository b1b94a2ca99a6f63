"""Surfaces forecast by a pretrained model of candlesticks that has seen none of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen._numbers import positive_number, whole_number
from volscen._threads import single_threaded_torch
from volscen.errors import InputError
from volscen.evaluation.forecast._pretrained import Pretrained

__all__ = ["Kronos"]

FloatArray = npt.NDArray[np.float64]

_WHERE = "https://github.com/shiyu-coder/Kronos"


class Kronos(Pretrained):
    """Mean paths of Kronos (Shi et al. 2025), a pretrained model of candlesticks, for the principal components.

    Each component's past is a series of candles, which open where the day before closed and have nothing beyond; its
    closes are the forecasts, averaged over paths. The rest reverts by itself as in :class:`Var`. The code is no package
    of an index: clone its repository, install what it requires (torch, einops, huggingface_hub, safetensors), and give
    the folder. Weights are looked up on the Hugging Face hub and downloaded unless they are on the disk; they may have
    been trained on the very period that is judged.

    Parameters
    ----------
    model : str or predictor
        Name of the weights on the hub, a folder, or an object with the method ``predict_batch`` of the repository's
        ``KronosPredictor``.
    tokenizer : str
        Name or folder of the tokenizer's weights.
    code : str or Path, optional
        Folder of the clone, which holds the package ``model``; its code is run. Not needed where that is importable.
    n_components : int
    context : int
        Days of the past that the model is given, at least 64; its own limit is 512.
    n_paths : int
        Paths averaged.
    temperature, top_p : float
        Of the draws.
    seed : int

    Raises
    ------
    InputError
        If code or weights cannot be loaded, an option is out of range, or the model's answer has another shape.

    Examples
    --------
    >>> from volscen.evaluation import forecast
    >>> forecast.Kronos("NeoQuasar/Kronos-small", context=256).name
    'kronos'
    """

    name: ClassVar[str] = "kronos"
    n_past = 64

    def __init__(
        self,
        model: Any = "NeoQuasar/Kronos-small",
        *,
        tokenizer: str = "NeoQuasar/Kronos-Tokenizer-base",
        code: str | Path | None = None,
        n_components: int = 5,
        context: int = 400,
        n_paths: int = 20,
        temperature: float = 1.0,
        top_p: float = 0.9,
        seed: int = 0,
    ) -> None:
        super().__init__(n_components=whole_number("n_components", n_components))
        if not isinstance(model, str) and not callable(getattr(model, "predict_batch", None)):
            raise InputError(
                f"model must be a name, a folder or a predictor with the method predict_batch, not {model!r}"
            )
        self.model, self.tokenizer, self.code = model, tokenizer, code
        self.context = whole_number("context", context, least=self.n_past)
        self.n_paths = whole_number("n_paths", n_paths)
        self.temperature = positive_number("temperature", temperature)
        self.top_p = positive_number("top_p", top_p)
        if self.top_p > 1:
            raise InputError(f"top_p must be at most 1, not {top_p!r}")
        self.seed = whole_number("seed", seed, least=0)
        self._predictor: Any = None if isinstance(model, str) else model

    def _load(self) -> None:
        if self._predictor is not None:
            return
        package = self._package()
        try:
            tokenizer = package.KronosTokenizer.from_pretrained(self.tokenizer)
            network = package.Kronos.from_pretrained(self.model)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(
                f"model {self.model!r} or tokenizer {self.tokenizer!r} could not be loaded; give folders with their "
                f"weights, or names on the hub while it can be reached "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            ) from error
        limit = max(self.context, 512)
        self._predictor = package.KronosPredictor(network.eval(), tokenizer.eval(), device="cpu", max_context=limit)

    def _package(self) -> Any:
        if self.code is not None:
            folder = Path(self.code)
            if not (folder / "model" / "__init__.py").is_file():
                raise InputError(f"code: {folder} holds no package 'model'; give the folder of a clone of {_WHERE}")
            # The repository imports itself by this name.
            sys.path.insert(0, str(folder.resolve()))
        try:
            package = importlib.import_module("model")
        except ImportError as error:
            raise InputError(
                f"forecaster 'kronos' needs the code of Kronos ({error}); clone {_WHERE}, install its requirements, "
                "and give the folder as code="
            ) from None
        finally:
            if self.code is not None:
                sys.path.remove(str(folder.resolve()))
        if not all(hasattr(package, one) for one in ("Kronos", "KronosTokenizer", "KronosPredictor")):
            raise InputError(f"the package 'model' found is not that of Kronos; give the folder of {_WHERE} as code=")
        return package

    def _components(
        self, scores: FloatArray, dates: npt.NDArray[np.datetime64], rows: npt.NDArray[np.intp]
    ) -> FloatArray:
        import torch

        days, k = max(self.horizons_), scores.shape[1]
        out = np.empty((rows.size, days, k))
        with single_threaded_torch(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            for i, row in enumerate(rows):
                # Draws depend on the date alone, not on what else is asked.
                torch.manual_seed(self.seed + int(dates[row].astype("datetime64[D]").astype(np.int64)))
                first = max(0, int(row) + 1 - self.context)
                past = pd.Series(pd.DatetimeIndex(dates[first : row + 1]))
                ahead = pd.Series(pd.bdate_range(past.iloc[-1] + pd.Timedelta(days=1), periods=days))
                candles = [_candles(scores[first : row + 1, j]) for j in range(k)]
                found = self._predictor.predict_batch(
                    candles, [past] * k, [ahead] * k, days,
                    T=self.temperature, top_p=self.top_p, sample_count=self.n_paths, verbose=False,
                )  # fmt: skip
                closes = np.column_stack([np.asarray(one["close"], dtype=np.float64) for one in found])
                if closes.shape != (days, k) or not np.all(np.isfinite(closes)):
                    raise InputError(
                        f"model {self.model!r} answered with shape {closes.shape} or values that are not finite; "
                        f"{k} series {days} days ahead were asked"
                    )
                out[i] = closes
        return out


def _candles(close: FloatArray) -> pd.DataFrame:
    opened = np.r_[close[:1], close[:-1]]
    both = np.stack([opened, close])
    return pd.DataFrame({"open": opened, "high": both.max(axis=0), "low": both.min(axis=0), "close": close})
