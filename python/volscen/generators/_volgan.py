"""VolGAN: the conditional GAN of Vuletic and Cont for the joint law of return and surface.

Source: M. Vuletic and R. Cont, "VolGAN: a generative model for arbitrage-free implied volatility surfaces",
Applied Mathematical Finance 31 (2024). Training needs torch; sampling evaluates the small network in NumPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen.errors import FitError, InputError
from volscen.generators._base import FloatArray, StepGenerator
from volscen.generators._volgan_data import WINDOW, condition, training_data
from volscen.generators._volgan_network import checked, for_sampling, forward, unpack
from volscen.history import State

if TYPE_CHECKING:
    from volscen.generators._volgan_training import Settings, Snapshot

__all__ = ["VolGAN"]

#: Fewer training days than this are refused.
_MIN_DAYS = 10

#: A log vol or a return beyond this leaves float32 when exponentiated.
_LARGEST = 80.0

_NETWORKS = ("generator", "discriminator")

#: Constructor arguments that are saved with the model; the others only say how a run goes on.
_LAW = (
    "mode",
    "epochs",
    "batch_size",
    "learning_rate",
    "discriminator_hidden",
    "noise_dim",
    "matching_epochs",
    "seed",
    "validation_days",
    "validate_every",
    "validation_scenarios",
    "keep",
)


class VolGAN(StepGenerator):
    """Conditional GAN for the next return and log-vol increments (Vuletic and Cont 2024).

    A generator network maps 32 normal numbers and the condition (the last two returns and 21-day realised
    volatility, annualised, and the last log surface) to (sqrt(P) R_t, g_t - g_{t-1}), with g the log surface
    and P periods a year. It trains against a discriminator by binary cross-entropy plus two smoothness
    penalties, whose weights are set by gradient-norm matching.

    Parameters
    ----------
    mode : str
        ``"paper"``, the published model, is the only one.
    epochs : int
        Passes over the training days.
    batch_size : int
        Days a batch; a last smaller batch takes what remains. Each batch makes one discriminator step, then
        one generator step with fresh noise.
    learning_rate : float
        Of RMSProp, for both networks.
    hidden : pair of int
        Widths of the generator's two softplus layers.
    discriminator_hidden : int
        Width of the discriminator's softplus layer.
    noise_dim : int
        Number of normal inputs.
    matching_epochs : int
        Epochs on the cross-entropy alone that set the penalties' weights, after which both networks go back
        to their initial parameters.
    seed : int
        Of everything random in training. The same seed, data and settings give the same bits on one machine,
        whatever the number of torch threads; torch's global generator is not touched.
    validation_days : int or float
        Last days of the history that are not trained on but used to choose the epoch: their number, or their
        share when below 1. 0 trains on everything, as the paper does.
    validate_every : int
        Epochs between two validation scores (and one at the end).
    validation_scenarios : int
        Draws a day for the validation score: the fair energy score of unweighted (sqrt(P) R, increments),
        each divided by its standard deviation over the training days, on common random numbers.
    keep : {"best", "last"}, optional
        Keep the parameters of the best validation score or of the last epoch. Omitted: the best where there
        are validation days, else the last.
    checkpoint : path, optional
        File that holds the whole state of training. When it exists, ``fit`` goes on from it and ends at the
        bits of an uninterrupted run (more ``epochs`` than before are allowed); it stays after the end.
    checkpoint_every : int
        Epochs between two writings of it. It is also written at the start, at the end and on Ctrl-C.
    progress : bool or "auto"
        Show a progress bar; ``"auto"`` shows it on a terminal only.

    Attributes
    ----------
    alpha_ : tuple of float
        Weights of the smoothness penalties along moneyness and along tau.
    epoch_ : int
        Epoch whose parameters were kept.
    training_curve_ : ndarray, shape (epochs, 4)
        Discriminator loss, generator cross-entropy, smoothness penalty along moneyness and along tau, means
        over each epoch.
    validation_curve_ : ndarray, shape (evaluations, 2)
        Epoch and energy score; empty without validation days.

    Notes
    -----
    As published, inputs are neither scaled nor clipped: a state beyond the training days is flagged by
    :meth:`is_outside` and extrapolated from. Nothing bounds a simulated path of many steps either; where it
    leaves the range of floating-point numbers, sampling raises :class:`~volscen.errors.FitError`. The law
    depends on the epoch at which training stops, which is why validation days are held out by default.

    The authors' published code differs from the paper: its realised volatility ends one day earlier, and its
    penalties take the differences along the wrong axes. This class follows the paper.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "volgan", epochs=2, matching_epochs=1, progress=False)
    >>> model.training_curve_.shape
    (2, 4)
    >>> cube = volscen.generate(model, history, n_scenarios=100, seed=1)
    >>> dict(cube.sizes)["scenario"]
    100
    """

    name = "volgan"
    n_returns = WINDOW
    n_surfaces = 1

    alpha_: tuple[float, float]
    epoch_: int
    training_curve_: FloatArray
    validation_curve_: FloatArray

    def __init__(
        self,
        mode: str = "paper",
        *,
        epochs: int = 10_000,
        batch_size: int = 100,
        learning_rate: float = 1e-4,
        hidden: Sequence[int] = (16, 32),
        discriminator_hidden: int = 16,
        noise_dim: int = 32,
        matching_epochs: int = 25,
        seed: int = 0,
        validation_days: int | float = 0.1,
        validate_every: int = 50,
        validation_scenarios: int = 200,
        keep: Literal["best", "last"] | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 100,
        progress: bool | Literal["auto"] = "auto",
    ) -> None:
        if mode != "paper":
            raise InputError(f"mode {mode!r} is not known; the only one is 'paper'")
        self.mode = mode
        self.epochs = _integer("epochs", epochs)
        self.batch_size = _integer("batch_size", batch_size)
        self.learning_rate = _number("learning_rate", learning_rate)
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate must be positive, not {learning_rate!r}")
        if not isinstance(hidden, Sequence) or isinstance(hidden, str) or len(hidden) != 2:
            raise InputError(f"hidden must be a pair of layer widths such as (16, 32), not {hidden!r}")
        self.hidden = (_integer("hidden[0]", hidden[0]), _integer("hidden[1]", hidden[1]))
        self.discriminator_hidden = _integer("discriminator_hidden", discriminator_hidden)
        self.noise_dim = _integer("noise_dim", noise_dim)
        self.matching_epochs = _integer("matching_epochs", matching_epochs)
        self.seed = _integer("seed", seed, least=0)
        self.validation_days = _number("validation_days", validation_days)
        if self.validation_days < 0 or (self.validation_days >= 1 and self.validation_days % 1):
            raise InputError(
                f"validation_days must be a whole number of days, a share of them below 1, or 0 for none, "
                f"not {validation_days!r}"
            )
        self.validate_every = _integer("validate_every", validate_every)
        self.validation_scenarios = _integer("validation_scenarios", validation_scenarios, least=2)
        if keep not in (None, "best", "last"):
            raise InputError(f"keep must be 'best' or 'last', not {keep!r}")
        if keep == "best" and self.validation_days == 0:
            raise InputError("keep='best' needs validation days to choose by; pass validation_days or keep='last'")
        self.keep = keep
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.checkpoint_every = _integer("checkpoint_every", checkpoint_every)
        if progress not in (True, False, "auto"):
            raise InputError(f"progress must be True, False or 'auto', not {progress!r}")
        self.progress = progress

    def parameters(self) -> dict[str, Any]:
        """Return the constructor arguments that belong to the law, JSON-serialisable."""
        return {name: getattr(self, name) for name in _LAW} | {"hidden": list(self.hidden)}

    def fit(self, history: xr.Dataset) -> Self:
        """Train on a history.

        Parameters
        ----------
        history : xarray.Dataset
            Following ``volscen/history/1``; the first 22 dates only serve as the past of the others.

        Raises
        ------
        InputError
            If the history is too short or does not move, or ``checkpoint`` belongs to another run.
        FileFormatError
            If ``checkpoint`` exists and is no readable checkpoint.
        FitError
            If training diverges; a checkpoint written before stays.
        KeyboardInterrupt
            On Ctrl-C, after the checkpoint has been written.
        """
        self._check_history(history, WINDOW + 1 + _MIN_DAYS)
        data = training_data(history, self.validation_days, _MIN_DAYS)

        # Here, so that loading and sampling never import torch.
        from volscen.generators._volgan_training import Training

        settings = self._settings()
        training = Training(data, settings)
        save = None
        if self.checkpoint is not None:
            from volscen.generators._volgan_checkpoint import read_checkpoint, write_checkpoint

            path, identity = self.checkpoint, self._identity(settings, history)
            if path.exists():
                training.resume(read_checkpoint(path, identity, self.epochs))

            def save(snapshot: Snapshot) -> None:
                write_checkpoint(path, snapshot, identity)

        training.run(save, show_progress=None if self.progress == "auto" else self.progress)
        self._keep(training.best(), training.widths)
        self._condition_range = np.stack([data.condition.min(axis=0), data.condition.max(axis=0)])
        self._remember(history)
        return self

    def _settings(self) -> Settings:
        from volscen.generators._volgan_training import Settings

        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def _identity(self, settings: Settings, history: xr.Dataset) -> dict[str, Any]:
        """Collect what decides the course of training: where to stop and how often to write do not."""
        course = {k: v for k, v in asdict(settings).items() if k not in ("epochs", "checkpoint_every")}
        return course | {
            "mode": self.mode,
            "hidden": list(self.hidden),
            "validation_days": self.validation_days,
            "periods_per_year": float(history.attrs["periods_per_year"]),
            "data_fingerprint": schema.fingerprint(history),
        }

    def _keep(self, snapshot: Snapshot, widths: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        best = self.keep == "best" or (self.keep is None and snapshot.best_epoch > 0)
        self.epoch_ = snapshot.best_epoch if best else snapshot.epoch
        flats = (
            (snapshot.best_generator, snapshot.best_discriminator)
            if best
            else (snapshot.generator, snapshot.discriminator)
        )
        self._networks = {name: unpack(flat, w) for name, flat, w in zip(_NETWORKS, flats, widths, strict=True)}
        self._layers = for_sampling(self._networks["generator"])
        assert snapshot.alpha is not None  # set before the first epoch
        self.alpha_ = snapshot.alpha
        self.training_curve_ = snapshot.curve
        self.validation_curve_ = snapshot.validation_curve

    def update(self, history: xr.Dataset) -> Self:
        """Check that a newer history fits the model; nothing in it adapts.

        The published model has no scales or pools to bring up to date: recent days enter only as the state
        that sampling starts from. Fit again to learn from them. Period and fingerprint stay those of the fit.

        Raises
        ------
        FitError
            If the model has not been fitted.
        InputError
            If the grid or the number of periods a year differs from the model's.
        """
        self._check_update(history, WINDOW + 1)
        return self

    def is_outside(self, state: State) -> bool:
        """Whether any input of the network at this state lies outside the range of the training days.

        Such a state is not clipped: the published model extrapolates.
        """
        known = condition(state.log_return[None, -WINDOW:], state.log_iv[-1].reshape(1, -1), self.periods_per_year_)[0]
        low, high = self._condition_range
        slack = 1e-9 * (1 + np.abs(known))  # the order of a sum may differ from that in training
        return bool(np.any(known < low - slack) or np.any(known > high + slack))

    def _step(
        self, log_return: FloatArray, log_iv: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Draw one step for n paths at once; see :meth:`StepGenerator._step`."""
        last = log_iv[:, -1]
        noise = rng.standard_normal((len(last), self.noise_dim))
        known = condition(log_return, last, self.periods_per_year_)
        with np.errstate(over="ignore", invalid="ignore"):  # judged as a whole just below
            move = forward(self._layers, np.concatenate([noise, known], axis=1))
        next_return = move[:, 0] / math.sqrt(self.periods_per_year_)
        next_log_iv = last + move[:, 1:]
        fine = (np.abs(next_return) <= _LARGEST) & np.all(np.abs(next_log_iv) <= _LARGEST, axis=1)
        if not np.all(fine):
            raise FitError(
                f"{np.sum(~fine)} of {len(fine)} simulated paths left the range of floating-point numbers; "
                "use a shorter horizon or refit"
            )
        return next_return, next_log_iv

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Weights (out, in) and biases of both networks, the range of the training conditions, the curves."""
        out: dict[str, npt.NDArray[Any]] = {
            f"{network}.{kind}{i}": values
            for network, layers in self._networks.items()
            for i, layer in enumerate(layers, start=1)
            for kind, values in zip(("weight", "bias"), layer, strict=True)
        }
        return out | {
            "condition_range": self._condition_range,
            "alpha": np.array(self.alpha_),
            "epoch": np.array([self.epoch_]),
            "training_curve": self.training_curve_,
            "validation_curve": self.validation_curve_,
        }

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        n_target = 1 + self.tau_.size * self.moneyness_.size
        n_condition = n_target + 2
        widths = (
            (self.noise_dim + n_condition, *self.hidden, n_target),
            (n_condition + n_target, self.discriminator_hidden, 1),
        )
        self._networks = {
            name: [
                (
                    checked(arrays, f"{name}.weight{i}", (n_out, n_in)),
                    checked(arrays, f"{name}.bias{i}", (n_out,)),
                )
                for i, (n_in, n_out) in enumerate(itertools.pairwise(w), start=1)
            ]
            for name, w in zip(_NETWORKS, widths, strict=True)
        }
        self._layers = for_sampling(self._networks["generator"])
        self._condition_range = checked(arrays, "condition_range", (2, n_condition))
        alpha = checked(arrays, "alpha", (2,))
        self.alpha_ = (float(alpha[0]), float(alpha[1]))
        self.epoch_ = int(arrays["epoch"][0])
        self.training_curve_ = arrays["training_curve"]
        self.validation_curve_ = arrays["validation_curve"]


def _integer(name: str, value: object, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value!r}")
    return float(value)
