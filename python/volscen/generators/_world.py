"""A world model of surfaces: a convolutional autoencoder that sees, a recurrent network that foresees.

After D. Ha and J. Schmidhuber (2018), "World models", arXiv:1803.10122, with surfaces as pictures. Training needs
torch; sampling evaluates the networks in NumPy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import whole_number
from volscen._progress import bar_is_off
from volscen.errors import InputError
from volscen.generators._base import FloatArray
from volscen.generators._move_scale import borne_out
from volscen.generators._neural_options import check_checkpoint, check_device
from volscen.generators._record import TrainingCurve
from volscen.generators._world_law import FILTER, LatentLaw, Series
from volscen.generators._world_numpy import Recurrence
from volscen.generators._world_options import make_world_options
from volscen.generators._world_raster import Screen
from volscen.generators._world_seeing import Seer, arrays_of, loadings_of
from volscen.history import State

if TYPE_CHECKING:
    from volscen.generators._world_training import Snapshot

__all__ = ["WorldModel"]

#: Days beyond those of the filter and the window that a fit needs.
_MIN_DAYS = 60


class WorldModel(Seer):
    """Latent world model: a convolutional VAE of rasters, an LSTM of its latents, fitted residuals.

    Surfaces become standardised ``raster_size`` x ``raster_size`` pictures of log vol. A convolutional variational
    autoencoder (three layers, kernel 4, stride 2) turns a picture into ``latent_dim`` numbers and back. An LSTM
    forecasts the next latents and return from the last ``window``. Scenarios are the forecast move plus the
    residuals of one past day, each in units of its scale, times today's scale; what the decoder leaves of
    today's surface is carried along, so that scenarios start at today's surface, on the history's own grid.

    Parameters
    ----------
    latent_dim, window, hidden : int
        Latents, past days the LSTM sees, width of the LSTM.
    raster_size : int
        Pixels each way, a multiple of 8.
    channels : three int
        Widths of the convolutions.
    decoder : {"conv", "pca+conv"}
        ``"conv"``: networks alone. ``"pca+conv"``: latents and pictures start as the principal components of the
        training pictures, to which the networks add what is not linear.
    epochs, dynamics_epochs : int
        Passes over the training days for the autoencoder and for the LSTM.
    batch_size : int
    learning_rate, dynamics_learning_rate : float
        Of Adam for the two networks; they fall to zero along a cosine.
    beta : float
        Weight of the Kullback-Leibler divergence against the sum of squared pixel errors.
    warmup : float
        Share of the epochs over which the weight rises from zero.
    free_bits : float
        Nats of each latent's divergence that cost nothing; against latents that switch off.
    dynamics : {"residual", "direct"}
        The LSTM forecasts the move beyond mean reversion (each latent by itself), or the next latents themselves.
    weight_decay : float
        Of the LSTM, per unit of its learning rate.
    scale : {"fitted", "ewma", "none"}
        Scale of the residuals: log-linear in exponentially weighted moves (half-lives 5 and 20 days) of the series
        itself, the return and all latents and in the mean log vol, by penalised Student-t likelihood; the 20-day
        average alone; or constant.
    posterior_noise : bool
        The LSTM sees draws of the encoder's posterior instead of its means, in training and in sampling.
    residual_days : int
        Residuals are drawn from the last ``residual_days`` days fitted on or updated with.
    validation_days : int or float
        Last days of the history that are not trained on but choose the epoch: their number, or share when below 1.
    seed : int
        Of everything random in training. Same seed, data and settings: same bits on one machine's CPU.
    device : str
        Where ``fit`` trains: ``"cpu"``, ``"cuda"`` (the first) or ``"cuda:1"``. For drawing
        scenarios, see ``device`` of :func:`volscen.generate`.
    num_threads : int
        Torch threads in training; another number may round differently.
    checkpoint : path, optional
        File that holds the whole state of training; when it exists, ``fit`` goes on from it to the bits of an
        uninterrupted run. It stays after the end.
    checkpoint_every : int
        Epochs between two writings of it. It is also written at the start, at the end and on Ctrl-C.
    progress : bool or "auto"
        Show a progress bar; ``"auto"`` shows it on a terminal only.

    Attributes
    ----------
    vision_curve_ : ndarray, shape (epochs, 4)
        Objective, mean squared error of standardised pixels, divergence (nats), validation error.
    dynamics_curve_ : ndarray, shape (dynamics_epochs, 2)
        Mean squared error of the standardised target, in training and validation.
    epochs_kept_ : tuple of int
        Epochs of the two networks kept: the best on the validation days, or the last without any.
    worst_day_ : str
        Day fitted on with the highest mean log vol, where stresses begin.
    rescale_ : float
        What vols and returns are divided by on the way in; see :meth:`rescaled`.

    Notes
    -----
    Higgins et al. (2017), "beta-VAE"; free bits after Kingma et al. (2016), "Improved variational inference with
    inverse autoregressive flow". Moves and scales use the last 63 days.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "world", raster_size=16, channels=(4, 4, 8), latent_dim=4, epochs=1,
    ...                     dynamics_epochs=1, progress=False)
    >>> cube = volscen.generate(model, history, n_scenarios=100, seed=1)
    >>> dict(cube.sizes)["scenario"]
    100
    """

    name: ClassVar[str] = "world"
    _SCALES_DAYS: ClassVar[bool] = True
    _PACKAGES: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    _MAY_HOLD_NAN: ClassVar[tuple[str, ...]] = ("vision_curve", "dynamics_curve")

    vision_curve_: FloatArray
    dynamics_curve_: FloatArray
    epochs_kept_: tuple[int, int]
    worst_day_: str
    _recurrence: Recurrence
    _worst: FloatArray

    def __init__(
        self,
        *,
        latent_dim: int = 32,
        window: int = 10,
        hidden: int = 64,
        raster_size: int = 64,
        channels: Sequence[int] = (32, 64, 128),
        decoder: Literal["conv", "pca+conv"] = "conv",
        epochs: int = 25,
        dynamics_epochs: int = 30,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        dynamics_learning_rate: float = 3e-4,
        beta: float = 0.01,
        warmup: float = 0.5,
        free_bits: float = 0.02,
        dynamics: Literal["residual", "direct"] = "residual",
        weight_decay: float = 1.0,
        scale: Literal["fitted", "ewma", "none"] = "fitted",
        posterior_noise: bool = True,
        residual_days: int = 1000,
        validation_days: int | float = 0.1,
        seed: int = 0,
        device: str = "cpu",
        num_threads: int = 1,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 5,
        progress: bool | Literal["auto"] = "auto",
    ) -> None:
        self.options = make_world_options(
            latent_dim=latent_dim, window=window, hidden=hidden, raster_size=raster_size, channels=channels,
            decoder=decoder, epochs=epochs, dynamics_epochs=dynamics_epochs, batch_size=batch_size,
            learning_rate=learning_rate, dynamics_learning_rate=dynamics_learning_rate, beta=beta,
            warmup=warmup, free_bits=free_bits, dynamics=dynamics, weight_decay=weight_decay, scale=scale,
            posterior_noise=posterior_noise, residual_days=residual_days, validation_days=validation_days, seed=seed,
        )  # fmt: skip
        bar_is_off(progress)  # or says what it may be
        self.device, self.num_threads = check_device(device), whole_number("num_threads", num_threads)
        self.checkpoint = check_checkpoint(checkpoint)
        self.checkpoint_every, self.progress = whole_number("checkpoint_every", checkpoint_every), progress
        self.n_returns = max(FILTER, self.options.window)
        self.n_surfaces = self.n_returns + 1

    def parameters(self) -> dict[str, Any]:
        """Return the constructor arguments that belong to the law, JSON-serialisable."""
        return asdict(self.options) | {"channels": list(self.options.channels)}

    # ------------------------------------------------------------------------------------------- fitting
    def fit(self, history: xr.Dataset) -> Self:
        """Train on a history.

        Raises
        ------
        InputError
            If the history is too short or has holes, the device is not there, or ``checkpoint`` belongs to
            another run.
        FileFormatError
            If ``checkpoint`` exists and is no readable checkpoint.
        FitError
            If training diverges or something never moves.
        KeyboardInterrupt
            On Ctrl-C, after the checkpoint has been written. A model fitted before stays as it was.
        """
        fresh = copy.copy(self)
        fresh.rescale_ = 1.0
        fresh._train(history)
        self.__dict__.update(fresh.__dict__)
        return self

    def _train(self, history: xr.Dataset) -> None:
        options = self.options
        self._check_history(history, self.n_surfaces + _MIN_DAYS)
        # Here, so that loading and sampling never import torch.
        from volscen.generators._device import find_device
        from volscen.generators._world_training import RunSettings, train_dynamics, train_vision

        find_device(self.device)
        n = history.sizes["date"]
        held = options.validation_days
        n_train = n - (math.floor(held * n) if held < 1 else int(held))
        if n_train < self.n_surfaces + _MIN_DAYS:
            raise InputError(
                f"validation_days leaves {n_train} of {n} dates to train on; generator {self.name!r} needs at least "
                f"{self.n_surfaces + _MIN_DAYS}: hold fewer back or give a longer history"
            )
        vol, log_return = arrays_of(history)
        screen = Screen.fit(vol, *_grid(history), options.raster_size, n_train)
        pictures = screen.standardised(vol)
        loadings = loadings_of(pictures[:n_train], options.latent_dim) if options.decoder == "pca+conv" else None

        done: dict[str, Snapshot] = {}
        save = None
        if self.checkpoint is not None:
            from volscen.generators._world_checkpoint import read_checkpoint, write_checkpoint

            path = self.checkpoint
            identity = self.parameters() | {
                "periods_per_year": float(history.attrs["periods_per_year"]),
                "data_fingerprint": schema.fingerprint(history),
            }
            if path.exists():
                done = read_checkpoint(path, identity)

            def save(snapshot: Snapshot) -> None:
                done[snapshot.stage] = snapshot
                write_checkpoint(path, list(done.values()), identity)

        run = RunSettings(self.device, self.num_threads, self.checkpoint_every, save, self.progress)
        vision = done.get("vision")
        if vision is None or vision.epoch < options.epochs:
            vision = train_vision(pictures, n_train, loadings, options, run, vision)
        self._screen = screen
        self._see(vision.kept)
        series = self._series(vol, log_return, float(history.attrs["periods_per_year"]), pictures)
        law = LatentLaw.begin(series, n_train)
        windows, target, spread = law.examples(series, options.window, self._direct)
        rows = n_train - options.window - 1
        noise = spread if options.posterior_noise else np.zeros_like(spread)
        dynamics = done.get("dynamics")
        if dynamics is None or dynamics.epoch < options.dynamics_epochs:
            dynamics = train_dynamics(windows, target, noise, rows, options, run, dynamics)
        self._remember_networks(vision, dynamics)
        self._law = self._finish(law, series, windows[rows:], target[rows:])
        worst = int(np.argmax(series.level[:n_train]))
        self._worst = series.latent[worst]
        self.worst_day_ = str(history["date"].values[worst].astype("datetime64[D]"))
        self._remember(history)

    def _remember_networks(self, vision: Snapshot, dynamics: Snapshot) -> None:
        self._dynamics_arrays = dynamics.kept
        self._recurrence = Recurrence.from_arrays(dynamics.kept, 1 + self.options.latent_dim, self.options.hidden)
        self.vision_curve_ = np.column_stack([vision.curve, vision.validation_curve])
        self.dynamics_curve_ = np.column_stack([dynamics.curve[:, 1], dynamics.validation_curve])
        self.epochs_kept_ = (vision.best_epoch or vision.epoch, dynamics.best_epoch or dynamics.epoch)
        losses = {"squared_error": vision.curve[:, 1], "divergence": vision.curve[:, 2]}
        held = {"validation_error": vision.validation_curve} if vision.best_epoch else {}
        text = {
            "squared_error": "mean squared error of standardised pixels, with the posterior's noise",
            "divergence": "Kullback-Leibler divergence of the posteriors, nats a picture",
            "validation_error": "mean squared error of standardised pixels on the validation days",
        }
        names = {name: text[name] for name in (*losses, *held)}
        scored = np.arange(1, vision.epoch + 1 if held else 1)
        self.curve_ = TrainingCurve(losses, held, scored, self.epochs_kept_[0], names)

    def _finish(self, law: LatentLaw, series: Series, windows: FloatArray, target: FloatArray) -> LatentLaw:
        """Shrink the network's word by what the validation days bear out, then fit scales and residuals."""
        if len(windows) and not self._direct:
            said = self._recurrence(windows)
            parts = (slice(0, 1), slice(1, None))
            law = replace(law, shrink=np.array([borne_out(said[:, p], target[:, p]) for p in parts]))
        moves, mean = law.known_moves(series, self._recurrence, self.options.window, self._direct)
        return law.fit_scales(moves, mean, series, self.options.scale).pooled(
            moves, mean, series, self.options.residual_days
        )

    def update(self, history: xr.Dataset) -> Self:
        """Renew the pool of residuals with the last ``residual_days`` days of ``history``; no network is retrained."""
        self._check_update(history, self.n_surfaces + _MIN_DAYS)
        recent = history.isel(date=slice(-(self.options.residual_days + self.n_surfaces), None))
        series = self._series(*arrays_of(recent), self.periods_per_year_)
        moves, mean = self._law.known_moves(series, self._recurrence, self.options.window, self._direct)
        self._law = self._law.pooled(moves, mean, series, self.options.residual_days)
        return self

    # ------------------------------------------------------------------------------------------- the law
    @property
    def _direct(self) -> bool:
        return self.options.dynamics == "direct"

    @property
    def worst_latent(self) -> FloatArray:
        """Latents of the day :attr:`worst_day_`."""
        return self._worst

    def known_moves(self, series: Series) -> tuple[FloatArray, FloatArray]:
        """Standardised moves and their foreseen means, on the dates after the first 63."""
        return self._law.known_moves(series, self._recurrence, self.options.window, self._direct)

    def foresee(
        self, series: Series, latent: FloatArray, n: int, steps: int, rng: np.random.Generator | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Evolve n paths from the end of a series, with other latents there; ``rng=None`` follows the mean.

        Returns
        -------
        log_return : ndarray, shape (n, steps)
        log_vol : ndarray, shape (n, 1 + steps, cells)
            The start first.
        latent : ndarray, shape (n, 1 + steps, latents)
        """
        law = self._law
        path = law.start(series, n, self.options.window)
        path.latent = np.repeat(latent[None], n, axis=0)
        window = path.window.copy()
        now = (path.latent - law.latent_mean) / law.latent_sd
        window[:, -1, 1:] = np.clip(now, law.input_low[1:], law.input_high[1:])
        log_return = np.empty((n, steps))
        log_vol = np.empty((n, 1 + steps, law.rest_mean.size))
        latents = np.empty((n, 1 + steps, latent.size))
        log_vol[:, 0], latents[:, 0] = self._decode(path.latent) + path.rest, path.latent
        for step in range(steps):
            path.level = log_vol[:, step].mean(axis=1)
            annual, day = law.step(path, window, self._recurrence, rng, self._direct)
            window = law.arrive(path, window, annual, day)
            log_return[:, step] = annual / math.sqrt(self.periods_per_year_)
            log_vol[:, step + 1], latents[:, step + 1] = self._decode(path.latent) + path.rest, path.latent
        return self.rescale_ * log_return, math.log(self.rescale_) + log_vol, latents

    def _state_series(self, state: State) -> Series:
        vol = np.exp(state.log_iv[-self.n_surfaces :])
        returns = np.r_[0.0, state.log_return[-self.n_returns :]]
        return self._series(vol, returns, self.periods_per_year_, last_rest_only=True)

    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths of ``horizon`` steps from a state; see :meth:`Generator.sample`."""
        law, series = self._law, self._state_series(state)
        path = law.start(series, n, self.options.window)
        window = law.blur(path, series, rng) if self.options.posterior_noise else path.window
        log_return = np.empty((n, horizon))
        log_iv = np.empty((n, horizon, law.rest_mean.size))
        for step in range(horizon):
            annual, day = law.step(path, window, self._recurrence, rng, self._direct)
            window = law.arrive(path, window, annual, day)
            log_return[:, step] = self.rescale_ * annual / math.sqrt(self.periods_per_year_)
            log_iv[:, step] = self._decode(path.latent) + path.rest
            path.level = log_iv[:, step].mean(axis=1)
        log_iv += math.log(self.rescale_)
        np.exp(log_iv, out=log_iv)
        return log_return, log_iv.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def _twins(self, device: str) -> dict[str, Any]:
        from volscen.generators._world_twins import RecurrenceTwin, VisionTwin

        return {
            "_vision": VisionTwin(device, self._vision, self._vision_arrays, self._screen.read_off()[0]),
            "_recurrence": RecurrenceTwin(device, self._dynamics_arrays),
        }

    def is_outside(self, state: State) -> bool:
        """Whether a latent or the scales' inputs at this state lie outside the training days, and are clipped."""
        return self._law.is_outside(self._state_series(state))

    # ------------------------------------------------------------------------------------------- keeping
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Networks, law, standardisation and training curves."""
        return {
            **{f"vision.{name}": array for name, array in self._vision_arrays.items()},
            **{f"dynamics.{name}": array for name, array in self._dynamics_arrays.items()},
            **{f"law.{name}": array for name, array in self._law.arrays().items()},
            "pixel_mean": self._screen.mean,
            "pixel_sd": self._screen.sd,
            "worst": self._worst,
            "rescale": np.array([self.rescale_]),
            "worst_day": np.array([np.datetime64(self.worst_day_, "D").astype(np.int64)]),
            "epochs_kept": np.array(self.epochs_kept_),
            "vision_curve": self.vision_curve_,
            "dynamics_curve": self.dynamics_curve_,
        }

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        def group(head: str) -> dict[str, npt.NDArray[Any]]:
            return {name[len(head) :]: array for name, array in arrays.items() if name.startswith(head)}

        options, size = self.options, self.options.raster_size
        if arrays["pixel_mean"].shape != (size, size) or arrays["pixel_sd"].shape != (size, size):
            raise ValueError("pixel_mean and pixel_sd do not fit raster_size")
        self._screen = Screen(self.tau_, self.moneyness_, size, arrays["pixel_mean"], arrays["pixel_sd"])
        self._see(group("vision."))
        self._dynamics_arrays = group("dynamics.")
        self._recurrence = Recurrence.from_arrays(self._dynamics_arrays, 1 + options.latent_dim, options.hidden)
        self._law = LatentLaw.restore(group("law."), options.latent_dim, self.tau_.size * self.moneyness_.size)
        self._worst = arrays["worst"]
        self.rescale_ = float(arrays["rescale"][0])
        if self._worst.shape != (options.latent_dim,):
            raise ValueError("worst does not fit latent_dim")
        self.worst_day_ = str(np.datetime64(int(arrays["worst_day"][0]), "D"))
        self.epochs_kept_ = (int(arrays["epochs_kept"][0]), int(arrays["epochs_kept"][1]))
        self.vision_curve_, self.dynamics_curve_ = arrays["vision_curve"], arrays["dynamics_curve"]


def _grid(history: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    return history["tau"].values.astype(np.float64), history["moneyness"].values.astype(np.float64)
