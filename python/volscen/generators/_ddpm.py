"""Conditional denoising diffusion (Ho, Jain and Abbeel 2020) for the return and the factors of the surface."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import bounded_number, whole_number
from volscen._progress import bar_is_off
from volscen.errors import InputError
from volscen.generators._base import FloatArray, Generator
from volscen.generators._ddpm_process import EMBEDDING, Reversal, layers_of, schedule
from volscen.generators._neural_options import check_checkpoint, check_training
from volscen.generators._record import TrainingCurve
from volscen.generators._volgan_factors import FILTER_WINDOW, Factors
from volscen.generators._volgan_network import checked
from volscen.history import State

__all__ = ["Diffusion"]

_MIN_DAYS = 10
_TEXT = {
    "velocity_loss": "squared error of the predicted velocity on the training days",
    "energy_score": "energy score on days held out",
}


class Diffusion(Generator):
    """Denoising diffusion model of the return and the surface's principal components, given the state.

    A network learns to undo a diffusion that turns the day's factors into noise, step by step, given what was known
    the evening before; scenarios start as noise, from which the steps lead back. The factors are the annualised
    return and the first principal components of the log-vol increments, each divided by its exponentially weighted
    scale; inputs are standardised and clipped to the training days; what the components leave out is drawn from the
    last 1,000 days. These are the coordinates of improved VolGAN, so that the two differ in the model alone.

    Parameters
    ----------
    n_components : int
        Principal components that are modelled.
    hidden : sequence of int
        Widths of the SiLU layers.
    diffusion : {"cosine", "linear"}
        Noise schedule.
    diffusion_steps : int
        Steps of the diffusion, at least 2.
    sampling_steps : int, optional
        Steps back, fewer than ``diffusion_steps`` or all when omitted.
    eta : float
        1: ancestral sampling (DDPM); 0: no noise but at the start (DDIM); or between.
    epochs : int
        Passes over the training days.
    batch_size : int
        Days a batch.
    learning_rate : float
        Of Adam; it falls to zero as half a cosine. Gradients are cut at length 1.
    weight_decay : float
        Per unit of the learning rate. With much less, the energy score of days held out soon rises.
    averaging : float
        Decay per step of the running average of the parameters, which is what is validated and kept, in [0, 1).
    validation_days : int or float
        Last days that are not trained on but choose the epoch: their number, or their share below 1.
    validate_every : int
        Epochs between two validation scores.
    validation_scenarios : int
        Draws a day for them, on at most 200 of the days, the same at every epoch.
    patience : int, optional
        Stop after so many validation scores without a better one; omitted, all epochs are trained.
    seed : int
        Of everything random in training.
    checkpoint : path, optional
        File that holds the state of training; when it exists, ``fit`` goes on from it to the bits of an
        uninterrupted run.
    checkpoint_every : int
        Epochs between two writings of it. It is also written at the start, at the end and on Ctrl-C.
    progress : bool or "auto"
        Show a progress bar; ``"auto"`` shows it on a terminal only.

    Attributes
    ----------
    epoch_ : int
        Epoch whose parameters were kept.

    Notes
    -----
    The network predicts velocities (Salimans and Ho 2022). What it takes for the value without noise is cut to the
    range of the training days at every step back, so that no draw's scaled factor lies beyond it. Training needs
    torch, sampling does not.

    References
    ----------
    Ho, J., Jain, A. and Abbeel, P. (2020). Denoising diffusion probabilistic models. Advances in Neural Information
    Processing Systems 33.
    Salimans, T. and Ho, J. (2022). Progressive distillation for fast sampling of diffusion models. International
    Conference on Learning Representations.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "ddpm", epochs=2, validate_every=2, progress=False)
    >>> cube = volscen.generate(model, history, n_scenarios=100, seed=1)
    >>> dict(cube.sizes)["scenario"]
    100
    """

    name: ClassVar[str] = "ddpm"
    _SCALES_DAYS: ClassVar[bool] = True
    n_returns: int = FILTER_WINDOW
    n_surfaces: int = FILTER_WINDOW + 1
    _PACKAGES: ClassVar[tuple[str, ...]] = ("numpy", "torch")

    epoch_: int

    def __init__(
        self,
        n_components: int = 5,
        *,
        hidden: Sequence[int] = (64, 64),
        diffusion: Literal["cosine", "linear"] = "cosine",
        diffusion_steps: int = 50,
        sampling_steps: int | None = None,
        eta: float = 1.0,
        epochs: int = 100,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 3.0,
        averaging: float = 0.99,
        validation_days: int | float = 0.1,
        validate_every: int = 10,
        validation_scenarios: int = 50,
        patience: int | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 10,
        progress: bool | Literal["auto"] = "auto",
    ) -> None:
        if diffusion not in ("cosine", "linear"):
            raise InputError(f"diffusion must be 'cosine' or 'linear', not {diffusion!r}")
        steps = whole_number("diffusion_steps", diffusion_steps, least=2)
        back = steps if sampling_steps is None else whole_number("sampling_steps", sampling_steps)
        if back > steps:
            raise InputError(f"sampling_steps is {back}, more than the {steps} diffusion_steps")
        self.options = check_training(
            {
                "n_components": whole_number("n_components", n_components),
                "hidden": hidden,
                "diffusion": diffusion,
                "diffusion_steps": steps,
                "sampling_steps": back,
                "eta": bounded_number("eta", eta, 0, 1, ends="[]"),
                "epochs": epochs,
                "batch_size": batch_size,
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "averaging": averaging,
                "validation_days": validation_days,
                "validate_every": validate_every,
                "validation_scenarios": validation_scenarios,
                "patience": patience,
                "seed": seed,
            }
        )
        self.checkpoint = check_checkpoint(checkpoint)
        self.checkpoint_every = whole_number("checkpoint_every", checkpoint_every)
        bar_is_off(progress)  # or says what it may be
        self.progress: bool | Literal["auto"] = progress

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments that belong to the law, JSON-serialisable."""
        return dict(self.options)

    def fit(self, history: xr.Dataset) -> Self:
        """Fit the factors and train the network.

        Raises
        ------
        InputError
            If the history is too short or does not move, or ``checkpoint`` belongs to another run.
        FileFormatError
            If ``checkpoint`` exists and is no readable checkpoint.
        FitError
            If training diverges.
        KeyboardInterrupt
            On Ctrl-C, after the checkpoint has been written.
        """
        from volscen.generators._ddpm_training import DiffusionTask
        from volscen.generators._neural_training import Plan, train

        self._check_history(history, FILTER_WINDOW + 1 + _MIN_DAYS)
        o = self.options
        n_cells = history.sizes["tau"] * history.sizes["moneyness"]
        if o["n_components"] > n_cells:
            raise InputError(
                f"n_components is {o['n_components']} but the grid has only {n_cells} cells; give fewer, such as "
                f"n_components={n_cells}"
            )
        factors, data = Factors.fit(history, o["n_components"], o["validation_days"], _MIN_DAYS)
        task = DiffusionTask(
            data, hidden=o["hidden"], batch_size=o["batch_size"], diffusion=o["diffusion"],
            steps=o["diffusion_steps"], sampling_steps=o["sampling_steps"], eta=o["eta"],
            validation_scenarios=o["validation_scenarios"], seed=o["seed"],
        )  # fmt: skip
        plan = Plan(**{name: o[name] for name in Plan.__dataclass_fields__})
        identity = {k: v for k, v in o.items() if k != "patience"} | {"data_fingerprint": schema.fingerprint(history)}
        done = train(
            task, plan, o["seed"], identity=identity, checkpoint=self.checkpoint,
            checkpoint_every=self.checkpoint_every, progress=self.progress,
        )  # fmt: skip
        self._factors, self._flat, self.epoch_ = factors, done.best[0], done.best_epoch
        self._target = np.vstack([task.centre, task.width, task.bounds])
        self._prepare()
        self.curve_ = TrainingCurve(
            {"velocity_loss": done.losses}, {"energy_score": done.scores[:, 1]},
            done.scores[:, 0].astype(np.int64), self.epoch_, _TEXT,
        )  # fmt: skip
        self._remember(history)
        return self

    def _prepare(self) -> None:
        o = self.options
        self._reversal = Reversal(
            layers_of(self._flat, self._widths()), schedule(o["diffusion"], o["diffusion_steps"]), o["sampling_steps"],
            o["eta"], self._target[2:],
        )  # fmt: skip

    def _twins(self, device: str) -> dict[str, Any]:
        from volscen.generators._layer_twins import ReversalTwin

        return {"_reversal": ReversalTwin(device, self._reversal, self._flat, self._widths())}

    def _widths(self) -> tuple[int, ...]:
        f = self._factors.factor_sd.size
        return (f + EMBEDDING + self._factors.condition_mean.size, *self.options["hidden"], f)

    def update(self, history: xr.Dataset) -> Self:
        """Renew the pool of what the components leave out from a history's last days; the network stays.

        The scales of the factors follow the market by themselves.
        """
        self._check_update(history, FILTER_WINDOW + 1)
        self._factors = self._factors.refreshed(history)
        return self

    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths of ``horizon`` steps from a state; see :meth:`Generator.sample`."""
        centre, width = self._target[:2]

        def network(known: FloatArray) -> FloatArray:
            return np.asarray(centre + width * self._reversal(known, n, rng))

        log_return, log_iv = self._factors.paths(state, n, horizon, rng, network)
        np.exp(log_iv, out=log_iv)
        return log_return, log_iv.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def is_outside(self, state: State) -> bool:
        """Whether anything known at a state lies outside the training days and is clipped."""
        return self._factors.is_outside(state)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Parameters of the network; mean, deviation and range of the scaled factors; the factors' own arrays."""
        return {f"factors.{name}": values for name, values in self._factors.arrays().items()} | {
            "network": self._flat,
            "target": self._target,
            "epoch": np.array([self.epoch_]),
        }

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        own = {name[8:]: values for name, values in arrays.items() if name.startswith("factors.")}
        self._factors = Factors.restore(own, self.tau_.size * self.moneyness_.size)
        size = sum((a + 1) * b for a, b in itertools.pairwise(self._widths()))
        self._flat = checked(arrays, "network", (size,))
        self._target = checked(arrays, "target", (4, self._factors.factor_sd.size))
        self.epoch_ = int(checked(arrays, "epoch", (1,))[0])
        self._prepare()
