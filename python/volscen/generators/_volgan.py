"""VolGAN: the conditional GAN of Vuletic and Cont for the joint law of return and surface.

Source: M. Vuletic and R. Cont, "VolGAN: a generative model for arbitrage-free implied volatility surfaces",
Applied Mathematical Finance 31 (2024). Training needs torch; sampling evaluates the small network in NumPy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import whole_number
from volscen._progress import bar_is_off
from volscen.errors import FitError
from volscen.generators._base import FloatArray, StepGenerator
from volscen.generators._neural_options import check_checkpoint
from volscen.generators._record import TrainingCurve
from volscen.generators._volgan_data import WINDOW, condition, targets_and_conditions, training_data
from volscen.generators._volgan_factors import FILTER_WINDOW, Factors
from volscen.generators._volgan_network import checked, for_sampling, forward, unpack
from volscen.generators._volgan_options import CURVE, VALIDATION, make_options
from volscen.history import State

if TYPE_CHECKING:
    from volscen.generators._volgan_training import Snapshot, Training

__all__ = ["VolGAN"]

#: Fewer training days than this are refused.
_MIN_DAYS = 10

#: A log vol or a return beyond this leaves float32 when exponentiated.
_LARGEST = 80.0

_NETWORKS = ("generator", "discriminator")


class VolGAN(StepGenerator):
    """Conditional GAN for the next return and log-vol increments (Vuletic and Cont 2024).

    A generator network maps 32 normal numbers and the condition (the last two returns and 21-day realised
    volatility, annualised, and the last log surface) to (sqrt(P) R_t, g_t - g_{t-1}), with g the log surface
    and P periods a year. It trains against a discriminator by binary cross-entropy plus two smoothness
    penalties, whose weights are set by gradient-norm matching.

    Parameters
    ----------
    mode : {"paper", "reference", "improved"}
        ``"paper"``: the published model. ``"reference"``: as the authors' public code trains it, defects
        included, to compare with its results. ``"improved"``: the networks model factors (the return and
        ``n_components`` principal components), each divided by its exponentially weighted scale, given
        standardised and clipped inputs; what the components leave out is drawn from the last 1,000 days; the
        discriminator is wider and learns faster, the generator's parameters are averaged.
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
        Width of the discriminator's softplus layer: 16, or 64 in improved mode, when omitted.
    discriminator_rate : float, optional
        Learning rate of the discriminator as a multiple of the generator's: 1, or 4 in improved mode.
    discriminator_decay : float, optional
        Weight decay of the discriminator, per unit of its learning rate: none, or .1 in improved mode.
    averaging : float, optional
        Decay per step of the running average of the generator's parameters, which is what is validated and
        kept: 0 (the parameters themselves), or .999 in improved mode.
    n_components : int
        Principal components of improved mode.
    patience : int, optional
        Stop after this many validation scores without a better one; omitted, all epochs are trained.
    noise_dim : int
        Number of normal inputs.
    matching_epochs : int
        Epochs on the cross-entropy alone that set the penalties' weights, after which both networks go back
        to their initial parameters.
    smoothness : "match", pair of float or None
        Weights alpha of the two smoothness penalties in the generator's loss: by gradient-norm matching; fixed, along
        moneyness and along tau; or no penalties, which leaves the classical GAN of cross-entropy alone, whose
        surfaces are rough. In paper mode; the other modes have their own.
    seed : int
        Of everything random in training. The same seed, data and settings give the same bits on one machine,
        whatever the number of torch threads; torch's global generator is not touched.
    validation_days : int or float
        Last days of the history that are not trained on but used to choose the epoch: their number, or their
        share when below 1. 0 trains on everything, as the paper does. A tenth when omitted, none in reference
        mode.
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

    The authors' published code differs from the paper in what ``mode="reference"`` reproduces: its realised
    volatility ends one day earlier, its penalties take differences along the wrong axes, their weights are those
    of penalties on volatilities instead of their logarithms, and training goes on from where matching ends. In
    reference mode all random numbers are those of one torch stream seeded with ``seed``.

    Improved mode carries its variances along simulated paths and clips what it is given to the training days
    (flagged by :meth:`is_outside`). It has no smoothness penalties: principal components are smooth already.
    ``update`` renews its pool of what the components leave out.

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

    _PACKAGES = ("numpy", "torch")

    alpha_: tuple[float, float]
    epoch_: int
    _factors: Factors | None

    def __init__(
        self,
        mode: str = "paper",
        *,
        epochs: int = 10_000,
        batch_size: int = 100,
        learning_rate: float = 1e-4,
        hidden: Sequence[int] = (16, 32),
        discriminator_hidden: int | None = None,
        discriminator_rate: float | None = None,
        discriminator_decay: float | None = None,
        averaging: float | None = None,
        n_components: int = 5,
        patience: int | None = None,
        noise_dim: int = 32,
        matching_epochs: int = 25,
        smoothness: Literal["match"] | Sequence[float] | None = "match",
        seed: int = 0,
        validation_days: int | float | None = None,
        validate_every: int = 50,
        validation_scenarios: int = 200,
        keep: Literal["best", "last"] | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 100,
        progress: bool | Literal["auto"] = "auto",
    ) -> None:
        self.options = make_options(
            mode=mode,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            hidden=hidden,
            discriminator_hidden=discriminator_hidden,
            discriminator_rate=discriminator_rate,
            discriminator_decay=discriminator_decay,
            averaging=averaging,
            n_components=n_components,
            patience=patience,
            noise_dim=noise_dim,
            matching_epochs=matching_epochs,
            smoothness=smoothness,
            seed=seed,
            validation_days=validation_days,
            validate_every=validate_every,
            validation_scenarios=validation_scenarios,
            keep=keep,
        )
        self.checkpoint = check_checkpoint(checkpoint)
        self.checkpoint_every = whole_number("checkpoint_every", checkpoint_every)
        bar_is_off(progress)  # or says what it may be
        self.progress = progress
        if mode == "improved":
            self.n_returns, self.n_surfaces = FILTER_WINDOW, FILTER_WINDOW + 1

    def parameters(self) -> dict[str, Any]:
        """Return the constructor arguments that belong to the law, JSON-serialisable."""
        smoothness = self.options.smoothness
        return asdict(self.options) | {
            "hidden": list(self.options.hidden),
            "smoothness": list(smoothness) if isinstance(smoothness, tuple) else smoothness,
        }

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
        training, factors = self._training(history)
        save = None
        if self.checkpoint is not None:
            from volscen.generators._volgan_checkpoint import read_checkpoint, write_checkpoint

            path, identity = self.checkpoint, self._identity(history)
            if path.exists():
                training.resume(read_checkpoint(path, identity, self.options.epochs))

            def save(snapshot: Snapshot) -> None:
                write_checkpoint(path, snapshot, identity)

        training.run(save, progress=self.progress)
        self._keep(training.best(), training.widths)
        self._factors = factors
        self._condition_range = training.condition_range
        self._remember(history)
        return self

    def _training(self, history: xr.Dataset) -> tuple[Training, Factors | None]:
        """Prepare the run of this mode, and the factors that improved mode speaks of."""
        self._check_history(history, max(WINDOW, self.n_returns) + 1 + _MIN_DAYS)
        options = self.options
        # Here, so that loading and sampling never import torch.
        from volscen.generators._volgan_training import Training

        if options.mode == "improved":
            factors, data = Factors.fit(history, options.n_components, options.validation_days, _MIN_DAYS)
            return Training(data, options, self.checkpoint_every), factors
        if options.mode == "reference":
            from volscen.generators._volgan_reference import ReferenceTraining, reference_data

            data = reference_data(history, options.validation_days, _MIN_DAYS, options.batch_size)
            return ReferenceTraining(data, options, self.checkpoint_every), None
        data = training_data(history, options.validation_days, _MIN_DAYS)
        return Training(data, options, self.checkpoint_every), None

    def _identity(self, history: xr.Dataset) -> dict[str, Any]:
        """Collect what decides the course of training: where to stop and what to keep do not."""
        course = {k: v for k, v in self.parameters().items() if k not in ("epochs", "keep", "patience")}
        if course["smoothness"] == "match":  # checkpoints of early versions, which knew nothing else, stay valid
            del course["smoothness"]
        return course | {
            "periods_per_year": float(history.attrs["periods_per_year"]),
            "data_fingerprint": schema.fingerprint(history),
        }

    def _keep(self, snapshot: Snapshot, widths: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        best = self.options.keep == "best" or (self.options.keep is None and snapshot.best_epoch > 0)
        self.epoch_ = snapshot.best_epoch if best else snapshot.epoch
        flats = (
            (snapshot.best_generator, snapshot.best_discriminator)
            if best
            else (snapshot.average, snapshot.discriminator)
        )
        self._networks = {name: unpack(flat, w) for name, flat, w in zip(_NETWORKS, flats, widths, strict=True)}
        self._network = partial(forward, for_sampling(self._networks["generator"]))
        assert snapshot.alpha is not None  # set before the first epoch
        self.alpha_ = snapshot.alpha
        self._set_curve(snapshot.curve, snapshot.validation_curve)

    def _set_curve(self, losses: FloatArray, scores: FloatArray) -> None:
        held = {"energy_score": scores[:, 1]} if len(scores) else {}
        text = {**CURVE, **(VALIDATION if held else {})}
        by_name = dict(zip(CURVE, np.ascontiguousarray(losses.T), strict=True))
        self.curve_ = TrainingCurve(by_name, held, scores[:, 0].astype(np.int64), self.epoch_, text)

    @property
    def training_curve_(self) -> FloatArray:
        """Losses, one row an epoch."""
        assert self.curve_ is not None
        return np.column_stack(list(self.curve_.losses.values()))

    @property
    def validation_curve_(self) -> FloatArray:
        """Epochs and their energy scores."""
        assert self.curve_ is not None
        scores = self.curve_.scores.get("energy_score", np.zeros(0))
        return np.column_stack([self.curve_.score_epoch.astype(np.float64), scores])

    def update(self, history: xr.Dataset) -> Self:
        """Check that a newer history fits the model; in improved mode, renew the pool of what the components leave out.

        The published model has no scales or pools to bring up to date: recent days enter only as the state
        that sampling starts from. Fit again to learn from them. Period and fingerprint stay those of the fit.

        Raises
        ------
        FitError
            If the model has not been fitted.
        InputError
            If the grid or the number of periods a year differs from the model's.
        """
        self._check_update(history, max(WINDOW, self.n_returns) + 1)
        if self._factors is not None:
            self._factors = self._factors.refreshed(history)
        return self

    def is_outside(self, state: State) -> bool:
        """Whether any input of the network at this state lies outside the range of the training days.

        Such a state is clipped in improved mode only: the published model extrapolates.
        """
        if self._factors is not None:
            return self._factors.is_outside(state)
        known = condition(state.log_return[None, -WINDOW:], state.log_iv[-1].reshape(1, -1), self.periods_per_year_)[0]
        low, high = self._condition_range
        slack = 1e-9 * (1 + np.abs(known))  # the order of a sum may differ from that in training
        return bool(np.any(known < low - slack) or np.any(known > high + slack))

    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths of ``horizon`` steps from a state; see :meth:`Generator.sample`."""
        if self._factors is None:
            return super().sample(state, n, horizon, rng)

        def network(known: FloatArray) -> FloatArray:
            noise = rng.standard_normal((n, self.options.noise_dim))
            return self._network(np.concatenate([noise, np.broadcast_to(known, (n, known.shape[1]))], axis=1))

        log_return, log_iv = self._factors.paths(state, n, horizon, rng, network)
        self._check_range(log_return, log_iv.reshape(n, -1))
        np.exp(log_iv, out=log_iv)
        return log_return, log_iv.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def _twins(self, device: str) -> dict[str, Any]:
        from volscen.generators._layer_twins import SoftplusTwin

        return {"_network": SoftplusTwin(device, for_sampling(self._networks["generator"]))}

    def discriminator_score(self, history: xr.Dataset) -> xr.DataArray:
        """Discriminator's probability that each day's move is real, given what was known the evening before.

        An alarm for extreme days: where the networks are in balance ordinary days score about a half, and a
        score far from it says that the generator does not make such days. Vuletic and Cont (2024) report low
        scores on crash days; a discriminator that has learnt how thin the generator's tails are scores them high.

        Parameters
        ----------
        history : xarray.Dataset
            On the model's grid; the days may lie outside the training period.

        Returns
        -------
        xarray.DataArray
            In (0, 1), along ``date``; the first dates, which lack a past, are left out.

        Raises
        ------
        FitError
            If the model has not been fitted.
        InputError
            If the history is too short or on another grid.
        """
        self._check_update(history, max(WINDOW, self.n_returns) + 1)
        if self._factors is not None:
            moves = self._factors.moves(history)
            rows, day = (self._factors.standardised(moves.condition)[0], moves.factor / moves.scale), moves.day
        else:
            target, known = targets_and_conditions(history)
            if self.options.mode == "reference":  # the realised volatility of the public code is a day old
                known[1:, 2], target, known = known[:-1, 2].copy(), target, known
                target, known = target[1:], known[1:]
            rows, day = (known, target), np.arange(history.sizes["date"] - len(target), history.sizes["date"])
        logit = forward(for_sampling(self._networks["discriminator"]), np.concatenate(rows, axis=1))[:, 0]
        return xr.DataArray(
            1 / (1 + np.exp(-np.clip(logit, -700, 700))),
            dims="date",
            coords={"date": history["date"].values[day]},
            name="discriminator_score",
            attrs={"long_name": "probability that the day is real, by the discriminator", "units": "1"},
        )

    def _step(
        self, log_return: FloatArray, log_iv: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Draw one step for n paths at once; see :meth:`StepGenerator._step`."""
        last = log_iv[:, -1]
        noise = rng.standard_normal((len(last), self.options.noise_dim))
        known = condition(log_return, last, self.periods_per_year_)
        with np.errstate(over="ignore", invalid="ignore"):  # judged as a whole just below
            move = self._network(np.concatenate([noise, known], axis=1))
        next_return = move[:, 0] / math.sqrt(self.periods_per_year_)
        next_log_iv = last + move[:, 1:]
        self._check_range(next_return, next_log_iv)
        return next_return, next_log_iv

    @staticmethod
    def _check_range(log_return: FloatArray, log_iv: FloatArray) -> None:
        fine = np.all(np.abs(log_return).reshape(len(log_iv), -1) <= _LARGEST, axis=1) & np.all(
            np.abs(log_iv) <= _LARGEST, axis=1
        )
        if not np.all(fine):
            raise FitError(
                f"{np.sum(~fine)} of {len(fine)} simulated paths left the range of floating-point numbers; "
                "use a shorter horizon or refit"
            )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Weights (out, in) and biases of both networks, the range of the training conditions, penalty weights."""
        out: dict[str, npt.NDArray[Any]] = {
            f"{network}.{kind}{i}": values
            for network, layers in self._networks.items()
            for i, layer in enumerate(layers, start=1)
            for kind, values in zip(("weight", "bias"), layer, strict=True)
        }
        if self._factors is not None:
            out |= {f"factors.{name}": values for name, values in self._factors.arrays().items()}
        return out | {
            "condition_range": self._condition_range,
            "alpha": np.array(self.alpha_),
            "epoch": np.array([self.epoch_]),
        }

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        cells = self.tau_.size * self.moneyness_.size
        n_target, n_condition = 1 + cells, 3 + cells
        self._factors = None
        if self.options.mode == "improved":
            own = {name[8:]: values for name, values in arrays.items() if name.startswith("factors.")}
            self._factors = Factors.restore(own, cells)
            n_target = 1 + self._factors.components.shape[1]
            n_condition = self._factors.condition_mean.size
        widths = (
            (self.options.noise_dim + n_condition, *self.options.hidden, n_target),
            (n_condition + n_target, self.options.discriminator_hidden, 1),
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
        self._network = partial(forward, for_sampling(self._networks["generator"]))
        self._condition_range = checked(arrays, "condition_range", (2, n_condition))
        alpha = checked(arrays, "alpha", (2,))
        self.alpha_ = (float(alpha[0]), float(alpha[1]))
        self.epoch_ = int(arrays["epoch"][0])
        if self.curve_ is None:  # early versions kept two arrays
            self._set_curve(arrays["training_curve"], arrays["validation_curve"])
