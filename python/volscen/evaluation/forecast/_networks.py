"""Networks that forecast surfaces, of the kinds that larger ones are compared with; small, and trained in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._numbers import finite_number, positive_number, whole_number
from volscen._threads import single_threaded_torch
from volscen.errors import InputError
from volscen.evaluation.forecast._exogenous import Scaling, exogenous_values
from volscen.evaluation.forecast._surface_models import _InLogs

if TYPE_CHECKING:
    from torch import Tensor

    from volscen.evaluation.forecast._network_training import Coder, Recurrent, Training

__all__ = ["AutoencoderLstm", "Lstm", "Vae"]

FloatArray = npt.NDArray[np.float64]

#: Standardised inputs beyond this are held: a network knows nothing of what lies further out than its training.
_REACH = 5.0
#: Days to train on that are the least a network can be trained with.
_LEAST = 50


class TrainingOptions(TypedDict, total=False):
    """Options that every network takes, as :class:`Lstm` describes them."""

    hidden: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    seed: int


class LstmOptions(TrainingOptions, total=False):
    """Options of a memory."""

    window: int


class _Network(_InLogs):
    """Standardised surfaces and returns, and the options of training."""

    def __init__(
        self,
        *,
        hidden: int = 64,
        epochs: int = 30,
        patience: int = 6,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        self.hidden = whole_number("hidden", hidden)
        self.epochs = whole_number("epochs", epochs)
        self.patience = whole_number("patience", patience)
        self.batch_size = whole_number("batch_size", batch_size)
        self.learning_rate = positive_number("learning_rate", learning_rate)
        self.seed = whole_number("seed", seed, least=0)

    def _training(self) -> Training:
        from volscen.evaluation.forecast._network_training import Training

        return Training(self.hidden, self.epochs, self.patience, self.batch_size, self.learning_rate, self.seed)

    def _rows(self, n: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Days trained on and days that choose the epoch, all with outcomes."""
        from volscen.evaluation.forecast._network_training import split

        furthest = max(self.horizons_)
        train, held = split(np.arange(self.n_past - 1, n - furthest), furthest)
        if len(train) < _LEAST:
            raise InputError(
                f"history leaves forecaster {self.name!r} {len(train)} dates to train on, besides those held out; it "
                f"needs {_LEAST}, so give {_LEAST - len(train)} more"
            )
        return train, held

    def _standardise_by(self, logs: FloatArray, log_return: FloatArray, last: int) -> None:
        """Take means and deviations from the days up to ``last``: the later ones judge."""
        known = logs[: last + 1]
        # A cell that never moves gets no weight of its own, but must not be divided by zero.
        self.mean_, self.sd_ = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-6)
        self.return_sd_ = max(float(log_return[1 : last + 1].std()), 1e-8)

    def _surfaces(self, logs: FloatArray) -> Tensor:
        import torch

        z = np.clip((logs - self.mean_) / self.sd_, -_REACH, _REACH)
        return torch.from_numpy(z.astype(np.float32))


class Lstm(_Network):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) over the past surfaces, returns and series from outside.

    The change of every cell's log volatility from today is forecast for all horizons at once by a linear head that
    begins at zero: untrained, the network is "no change". It learns by Huber's loss, each horizon and cell in units of
    its own deviation. The last 15% of the days choose the epoch, the start among them; they follow the others by the
    furthest horizon, so that no outcome is seen twice. A fit on 4,000 days takes some 4 seconds on one core.

    Parameters
    ----------
    window : int
        Days that are looked at.
    hidden : int
        Units of the memory.
    epochs, patience : int
        Most epochs, and those without a better validation score before it stops.
    batch_size : int
    learning_rate : float
        Adam's at the start; it falls to zero as half a cosine.
    seed : int
        Same data and seed, same bits on the same machine.

    Attributes
    ----------
    epoch_ : int
        Epoch chosen; 0 when no epoch was better than no change.
    scores_ : ndarray, shape (epochs + 1, 2)
        Epoch and loss on the days held out.

    Raises
    ------
    InputError
        If an option is out of range, or too few dates are left to train on.
    FitError
        If training diverges.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> from volscen.evaluation import forecast
    >>> history = volscen.datasets.sample_history()
    >>> model = forecast.Lstm(hidden=8, epochs=1).fit(history, (1, 5))
    >>> model.forecast(history, np.array([500, 501])).shape
    (2, 2, 8, 10)
    """

    name: ClassVar[str] = "lstm"
    uses_exogenous = True
    network_: Recurrent
    epoch_: int
    scores_: FloatArray

    def __init__(
        self,
        *,
        window: int = 22,
        hidden: int = 64,
        epochs: int = 30,
        patience: int = 6,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(
            hidden=hidden,
            epochs=epochs,
            patience=patience,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
        )
        self.window = whole_number("window", window)
        self.n_past = self.window + 1  # the first return of a history is unknown

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        import torch
        from torch.nn.functional import smooth_l1_loss

        from volscen.evaluation.forecast._network_training import fit_recurrent

        train, held = self._rows(len(logs))
        log_return, outside = history["log_return"].values, exogenous_values(history)
        self._standardise_by(logs, log_return, int(train[-1]))
        self.scaling_ = Scaling(outside[: int(train[-1]) + 1])
        changes = np.stack([logs[train + h] - logs[train] for h in self.horizons_], axis=1)
        self.unit_ = np.maximum(np.sqrt(np.square(changes).mean(axis=0)), 1e-8)  # (horizon, cells)
        with single_threaded_torch():
            self._fit_code(logs, train, held)
            x = self._inputs(logs, log_return, outside)
            level, levels = self._code(logs), torch.from_numpy(logs)
            unit = torch.from_numpy(self.unit_)

            def error(out: Tensor, rows: Tensor) -> Tensor:
                moved = torch.stack([levels[rows + h] - levels[rows] for h in self.horizons_], dim=1) / unit
                return smooth_l1_loss(self._change(out, level[rows]), moved.float(), reduction="none")

            self.network_, self.epoch_, self.scores_ = fit_recurrent(
                lambda rows: self._windows(x, rows),
                error,
                (train, held),
                self._training(),
                inputs=x.shape[1],
                outputs=len(self.horizons_) * self._n_out(level),
            )

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        import torch

        with single_threaded_torch(), torch.no_grad():
            x = self._inputs(logs, history["log_return"].values, exogenous_values(history))
            at = torch.from_numpy(rows.astype(np.int64))
            change = self._change(self.network_(self._windows(x, at)), self._code(logs)[at])
        return np.asarray(logs[rows][:, None] + change.numpy().astype(np.float64) * self.unit_)

    def _windows(self, x: Tensor, rows: Tensor) -> Tensor:
        import torch

        return x[rows[:, None] + torch.arange(1 - self.window, 1)]

    def _inputs(self, logs: FloatArray, log_return: FloatArray, outside: FloatArray) -> Tensor:
        """What the memory sees of each day: (dates, code, return and series from outside)."""
        import torch

        move = np.clip(np.nan_to_num(log_return) / self.return_sd_, -_REACH, _REACH)
        more = np.column_stack([move, self.scaling_(outside)])
        return torch.cat([self._code(logs), torch.from_numpy(more.astype(np.float32))], dim=1)

    # What a subclass that codes surfaces otherwise puts in place.
    def _fit_code(self, logs: FloatArray, train: npt.NDArray[np.intp], held: npt.NDArray[np.intp]) -> None:
        """Learn the code of surfaces; cells need none."""

    def _code(self, logs: FloatArray) -> Tensor:
        return self._surfaces(logs)

    def _n_out(self, code: Tensor) -> int:
        return int(code.shape[1])

    def _change(self, out: Tensor, code: Tensor) -> Tensor:
        """Changes (n, horizon, cells) in their units from the head's outputs."""
        return out.view(len(out), len(self.horizons_), -1)


class AutoencoderLstm(Lstm):
    """The same memory over the latents of an autoencoder.

    The autoencoder (ELU, one hidden layer each way) is trained first, on the same days. The head moves today's latents;
    the forecast adds to today's surface what that changes in the decoded one, so that what the latents miss stays.

    Parameters
    ----------
    latent_dim : int
    **options
        As of :class:`Lstm`.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> from volscen.evaluation import forecast
    >>> history = volscen.datasets.sample_history()
    >>> model = forecast.AutoencoderLstm(latent_dim=3, hidden=8, epochs=1).fit(history, (1, 5))
    >>> model.forecast(history, np.array([500])).shape
    (1, 2, 8, 10)
    """

    name: ClassVar[str] = "ae_lstm"
    coder_: Coder

    def __init__(self, *, latent_dim: int = 8, **options: Unpack[LstmOptions]) -> None:
        super().__init__(**options)
        self.latent_dim = whole_number("latent_dim", latent_dim)

    def _fit_code(self, logs: FloatArray, train: npt.NDArray[np.intp], held: npt.NDArray[np.intp]) -> None:
        import torch

        from volscen.evaluation.forecast._network_training import fit_coder

        x = self._surfaces(logs)
        self.coder_ = fit_coder(
            x[: int(train[-1]) + 1],
            x[held],
            self._training(),
            latent_dim=self.latent_dim,
            variational=False,
        )
        with torch.no_grad():
            z = self.coder_.encode(x[: int(train[-1]) + 1])
            self.centre_, self.spread_ = z.mean(dim=0), z.std(dim=0).clamp_min(1e-6)
            z = z / self.spread_
            ahead = [(z[h:] - z[:-h]).square().mean(dim=0).sqrt() for h in self.horizons_]
            self.latent_unit_ = torch.stack(ahead)
        self.scale_ = torch.from_numpy((self.sd_ / self.unit_).astype(np.float32))

    def _code(self, logs: FloatArray) -> Tensor:
        import torch

        with torch.no_grad():
            return (self.coder_.encode(self._surfaces(logs)) - self.centre_) / self.spread_

    def _change(self, out: Tensor, code: Tensor) -> Tensor:
        moved = code[:, None] + out.view(len(out), len(self.horizons_), -1) * self.latent_unit_
        today, ahead = (self.coder_.decode(z * self.spread_ + self.centre_) for z in (code[:, None], moved))
        return (ahead - today) * self.scale_


class Vae(_Network):
    """A variational autoencoder alone (Kingma and Welling 2014).

    Today's surface is encoded, each latent reverts to its mean by a direct regression for each horizon, and the result
    is decoded; what the decoder misses of today's surface reverts to zero likewise.

    Parameters
    ----------
    latent_dim : int
    beta : float
        Of the divergence from a standard normal law, in squared deviations of a cell; near the variance of what the
        latents miss.
    **options
        As of :class:`Lstm`, but for ``window``.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> from volscen.evaluation import forecast
    >>> history = volscen.datasets.sample_history()
    >>> model = forecast.Vae(latent_dim=3, hidden=8, epochs=1).fit(history, (1, 5))
    >>> model.forecast(history, np.array([500])).shape
    (1, 2, 8, 10)
    """

    name: ClassVar[str] = "vae"
    coder_: Coder

    def __init__(self, *, latent_dim: int = 8, beta: float = 0.02, **options: Unpack[TrainingOptions]) -> None:
        super().__init__(**options)
        self.latent_dim = whole_number("latent_dim", latent_dim)
        self.beta = finite_number("beta", beta, least=0)

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        from volscen.evaluation.forecast._network_training import fit_coder

        train, held = self._rows(len(logs))
        self._standardise_by(logs, history["log_return"].values, int(train[-1]))
        x = self._surfaces(logs)
        with single_threaded_torch():
            self.coder_ = fit_coder(
                x[: int(train[-1]) + 1],
                x[held],
                self._training(),
                latent_dim=self.latent_dim,
                variational=True,
                beta=self.beta,
            )
        z, rest = self._split(logs)
        # The regressions choose nothing by validation: they take all days.
        self.centre_ = z.mean(axis=0)
        self.slopes_ = tuple(np.stack([_slope(one, h) for h in self.horizons_]) for one in (z - self.centre_, rest))

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        import torch

        z, rest = self._split(logs[rows])
        ahead = self.centre_ + self.slopes_[0] * (z - self.centre_)[:, None]
        with single_threaded_torch(), torch.no_grad():
            surface = self.coder_.decode(torch.from_numpy(ahead.astype(np.float32))).numpy().astype(np.float64)
        return np.asarray(self.mean_ + self.sd_ * surface + self.slopes_[1] * rest[:, None])

    def _split(self, logs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Latents, and what their decoded surface misses of the log volatilities."""
        import torch

        with single_threaded_torch(), torch.no_grad():
            z = self.coder_.encode(self._surfaces(logs))
            surface = self.coder_.decode(z).numpy().astype(np.float64)
        return z.numpy().astype(np.float64), logs - self.mean_ - self.sd_ * surface


def _slope(x: FloatArray, h: int) -> FloatArray:
    """Slope through the origin of what comes h days later, between none and all."""
    found = (x[h:] * x[:-h]).sum(axis=0) / np.maximum((x[:-h] ** 2).sum(axis=0), 1e-30)
    return np.asarray(np.clip(found, 0, 1))
