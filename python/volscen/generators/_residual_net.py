"""Energy-score residual network: a small network reshapes the standardised residuals of a statistical model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import finite_number, whole_number
from volscen._progress import bar_is_off
from volscen.errors import InputError
from volscen.generators._base import FloatArray, Generator
from volscen.generators._neural_options import check_checkpoint, check_training
from volscen.generators._record import TrainingCurve
from volscen.generators._residual_net_base import BASES, Base
from volscen.generators._residual_net_data import Inputs, raw_inputs, tables
from volscen.history import State

__all__ = ["ResidualNet", "choose"]

Members = list[list[tuple[FloatArray, FloatArray]]]

#: Shares of the scenarios that may be the network's.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

_TEXT = {
    "energy_score_loss": "energy score on the training days, each over the size of its moves",
    "energy_score": "energy score on the days held out, all scenarios the network's",
}


class ResidualNet(Generator):
    """Small network, trained by the energy score, that reshapes the bootstrapped residuals of a statistical model.

    A standardised factor of the next day is mean + scale h(e, x), with mean and scale those of the base model, e its
    bootstrapped residuals, x what is known, and h(e, x) = e exp(tanh(b(e, x)) / 2) + tanh(a(e, x)). The network
    begins as the identity, so that the model begins as its base.

    Parameters
    ----------
    base : {"har", "pca"}
        Registered generator whose means, scales and residuals are taken.
    n_components, residual_days : int
        Of the base.
    hidden : sequence of int
        Widths of the tanh layers.
    members : int
        Networks trained side by side from different starts; their outputs are averaged.
    epochs : int
        Passes over the training days.
    batch_size : int
        Days a batch.
    draws : int
        Residuals drawn on each day of a batch, at least 2.
    learning_rate : float
        Of Adam; it falls to zero as half a cosine. Gradients are cut at length 1.
    weight_decay : float
        Per unit of the learning rate. One day ahead nearly everything is noise, and without it the network learns
        the training days by heart.
    averaging : float
        Decay per step of the running average of the parameters, which is what is validated and kept, in [0, 1).
    penalty : float
        Weight of the mean static-arbitrage penalty of the surfaces decoded from the draws, beside the energy score
        of a day over the size of its moves; it counts on the days held out too. At 0 no surface is decoded.
    refits : int
        Growing samples that the base's law is refitted on for the training days: see the notes.
    validation_days : int or float
        Last days that are not trained on but choose the epoch and the network's share: their number, or their share
        below 1.
    validate_every : int
        Epochs between two validation scores.
    validation_scenarios : int
        Draws a day for them, the same at every epoch.
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
    share_ : float
        Share of the scenarios that the network reshapes, of 0, 1/4, 1/2, 3/4 and 1: the one with the least energy score
        on the days held out, but 0 where it is not better by a standard error. At 0 the model equals its base, draw
        for draw.
    gain_ : float
        What that share takes off the energy score (with ``penalty``, the penalised one) of the days held out, as a
        share of it; as they chose it, it is too good.
    epoch_ : int
        Epoch whose parameters were kept; 0 where none was better than the identity.
    base_ : Generator
        The base model, fitted.

    Notes
    -----
    Residuals of a model are too small on the days it was fitted to. The training days' are therefore those of laws
    refitted on growing parts of the sample: each day's residual, and the residuals drawn in its place, are of a law
    fitted to days before. The first 30% of the days have in-sample residuals, inflated. Only the coordinates (the
    principal components) are those of the whole sample. ``update`` updates the base; the network stays.

    References
    ----------
    Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules, prediction, and estimation. Journal of the
    American Statistical Association 102, 359-378.
    Pacchiardi, L., Adewoyin, R., Dueben, P. and Dutta, R. (2024). Probabilistic forecasting with generative networks
    via scoring rule minimization. Journal of Machine Learning Research 25.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "residual_net", base="pca", epochs=2, refits=2, progress=False)
    >>> model.base_.name, model.share_ in (0, 0.25, 0.5, 0.75, 1)
    ('pca', True)
    """

    name: ClassVar[str] = "residual_net"
    _PACKAGES: ClassVar[tuple[str, ...]] = ("numpy", "torch")

    share_: float
    gain_: float
    epoch_: int
    base_: Any

    def __init__(
        self,
        base: str = "har",
        *,
        n_components: int = 5,
        residual_days: int = 1000,
        hidden: Sequence[int] = (32,),
        members: int = 3,
        epochs: int = 40,
        batch_size: int = 128,
        draws: int = 16,
        learning_rate: float = 3e-4,
        weight_decay: float = 1.0,
        averaging: float = 0.99,
        penalty: float = 0.0,
        refits: int = 6,
        validation_days: int | float = 0.15,
        validate_every: int = 5,
        validation_scenarios: int = 100,
        patience: int | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 10,
        progress: bool | Literal["auto"] = "auto",
    ) -> None:
        if not isinstance(base, str) or base not in BASES:
            raise InputError(f"base must be one of {', '.join(BASES)}, not {base!r}")
        self.options = check_training(
            {
                "base": base,
                "n_components": whole_number("n_components", n_components),
                "residual_days": whole_number("residual_days", residual_days, least=50),
                "hidden": hidden,
                "members": whole_number("members", members),
                "epochs": epochs,
                "batch_size": batch_size,
                "draws": whole_number("draws", draws, least=2),
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "averaging": averaging,
                "penalty": finite_number("penalty", penalty, least=0),
                "refits": whole_number("refits", refits),
                "validation_days": validation_days,
                "validate_every": validate_every,
                "validation_scenarios": validation_scenarios,
                "patience": patience,
                "seed": seed,
            }
        )
        self.base_ = self._new_base()
        self.n_returns, self.n_surfaces = self.base_.n_returns, self.base_.n_surfaces
        self.checkpoint = check_checkpoint(checkpoint)
        self.checkpoint_every = whole_number("checkpoint_every", checkpoint_every)
        bar_is_off(progress)  # or says what it may be
        self.progress: bool | Literal["auto"] = progress

    def _new_base(self) -> Generator:
        from volscen.generators import generator_class

        names = ("n_components", "residual_days")
        made: Generator = generator_class(self.options["base"])(**{name: self.options[name] for name in names})
        return made

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments that belong to the law, JSON-serialisable."""
        return dict(self.options)

    # ------------------------------------------------------------------------------------------ fitting
    def fit(self, history: xr.Dataset) -> Self:
        """Fit the base, train the network and choose its share.

        Raises
        ------
        InputError
            If the history is too short, or ``checkpoint`` belongs to another run.
        FileFormatError
            If ``checkpoint`` exists and is no readable checkpoint.
        FitError
            If the base cannot be fitted, or training diverges.
        KeyboardInterrupt
            On Ctrl-C, after the checkpoint has been written.
        """
        import torch

        from volscen._threads import single_threaded_torch
        from volscen.generators._neural_training import Plan, train
        from volscen.generators._residual_net_training import Decoder, ResidualTask

        o = self.options
        fitted = self._new_base().fit(history)
        base: Base = BASES[o["base"]](fitted)
        penalised = o["penalty"] > 0
        inputs, days, held = tables(
            base, history, o["validation_days"], o["refits"], o["residual_days"], surfaces=penalised
        )
        axes = (history["tau"].values.astype(np.float64), history["moneyness"].values.astype(np.float64))
        task = ResidualTask(
            days, held, hidden=o["hidden"], members=o["members"], batch_size=o["batch_size"], draws=o["draws"],
            validation_scenarios=o["validation_scenarios"], seed=o["seed"],
            decoder=Decoder(o["penalty"], *base.decoder, *axes) if penalised else None,
        )  # fmt: skip
        plan = Plan(**{name: o[name] for name in Plan.__dataclass_fields__})
        # Checkpoints from before there was a penalty go on.
        left_out = {"patience"} if penalised else {"patience", "penalty"}
        identity = {k: v for k, v in o.items() if k not in left_out} | {"data_fingerprint": schema.fingerprint(history)}
        done = train(
            task, plan, o["seed"], identity=identity, checkpoint=self.checkpoint,
            checkpoint_every=self.checkpoint_every, progress=self.progress,
        )  # fmt: skip
        with single_threaded_torch():
            daily = task.daily(torch.from_numpy(done.best), SHARES)
        best = choose(daily)
        self.share_, self.epoch_ = SHARES[best], done.best_epoch
        self.gain_ = float(1 - daily[best].mean() / daily[0].mean())
        self.base_, self._inputs, self._flat = fitted, inputs, done.best
        self._reshape = partial(_reshaped, _layers(self._flat, task.widths))
        self.curve_ = TrainingCurve(
            {"energy_score_loss": done.losses}, {"energy_score": done.scores[1:, 1]},
            done.scores[1:, 0].astype(np.int64), self.epoch_, _TEXT,
        )  # fmt: skip
        self._remember(history)
        return self

    def update(self, history: xr.Dataset) -> Self:
        """Update the base: its pool of residuals and scales; the network stays as it was trained."""
        self._check_update(history, 2)
        self.base_.update(history)
        return self

    # ------------------------------------------------------------------------------------------ the law
    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths; see :meth:`Generator.sample`. The network has its share of the paths at each step."""
        if self.share_ == 0:
            drawn: tuple[FloatArray, FloatArray] = self.base_.sample(state, n, horizon, rng)
            return drawn
        base: Base = BASES[self.options["base"]](self.base_)
        residual, rest = base.pool
        log_return = np.empty((n, horizon))
        implied_vol = np.empty((n, horizon, self.tau_.size * self.moneyness_.size))
        step = base.start(state)
        for t in range(horizon):
            day = rng.integers(len(residual), size=n)
            e = residual[day]
            z = self._reshape(self._inputs.standardised(raw_inputs(step)), e)
            if self.share_ < 1:
                z = np.where((rng.random(n) < self.share_)[:, None], z, e)
            log_return[:, t], implied_vol[:, t], moved = base.move(step, z, rest[day])
            if t + 1 < horizon:
                step = base.after(moved)
        return log_return, implied_vol.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def _twins(self, device: str) -> dict[str, Any]:
        from volscen.generators._layer_twins import ResidualTwin

        return {"_reshape": ResidualTwin(device, self._flat, self._widths())}

    def is_outside(self, state: State) -> bool:
        """Whether the base clips this state, or the network's inputs lie outside those of its training days."""
        if self.base_.is_outside(state):
            return True
        base: Base = BASES[self.options["base"]](self.base_)
        return self.share_ > 0 and self._inputs.is_outside(raw_inputs(base.start(state)))

    # ------------------------------------------------------------------------------------------ keeping
    def _widths(self) -> tuple[int, ...]:
        k = self.options["n_components"]
        f = k + 1
        return (k + 4 * f, *self.options["hidden"], 2 * f)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Parameters of the networks, a row each; the range of their inputs; share and gain; and the base's arrays."""
        return {f"base.{name}": values for name, values in self.base_.arrays().items()} | {
            "network": self._flat,
            "input_range": self._inputs.range,
            "chosen": np.array([self.share_, self.gain_, float(self.epoch_)]),
        }

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        widths = self._widths()
        size = sum((a + 1) * b for a, b in itertools.pairwise(widths))
        shapes = {
            "network": (self.options["members"], size),
            "input_range": (4, widths[0] - widths[-1] // 2),
            "chosen": (3,),
        }
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise ValueError(f"{name} must be of shape {shape}, not {arrays[name].shape}")
        share, gain, epoch = (float(value) for value in arrays["chosen"])
        if share not in SHARES:
            raise ValueError(f"the network's share is {share}")
        self.share_, self.gain_, self.epoch_ = share, gain, int(epoch)
        self._inputs, self._flat = Inputs(arrays["input_range"]), arrays["network"]
        self._reshape = partial(_reshaped, _layers(self._flat, widths))
        self.base_ = self._new_base()
        self.base_.tau_, self.base_.moneyness_ = self.tau_, self.moneyness_
        self.base_._restore({name[5:]: values for name, values in arrays.items() if name.startswith("base.")})

    @classmethod
    def _from_file(cls, metadata: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], path: Path) -> Self:
        model = super()._from_file(metadata, arrays, path)
        for name in ("period_", "calendar_", "periods_per_year_", "fingerprint_"):
            setattr(model.base_, name, getattr(model, name))
        return model


def choose(daily: npt.NDArray[np.float64]) -> int:
    """Index of the share to take.

    The least mean score, if it is better than the base's by more than a standard error, else 0, the base: the best of
    five shares and several epochs looks good by chance.

    Parameters
    ----------
    daily : ndarray, shape (shares, days)
        Scores, those of the base first.
    """
    best = int(np.argmin(daily.mean(axis=1)))
    gain = daily[0] - daily[best]
    return best if gain.mean() > gain.std(ddof=1) / np.sqrt(gain.size) else 0


def _reshaped(members: Members, x: FloatArray, e: FloatArray) -> FloatArray:
    """What the networks make of residuals e (n, f) given inputs x (1 or n, p): the mean over the members."""
    f = e.shape[1]
    total = np.zeros_like(e)
    for (w, b), *others in members:
        hidden = np.clip(e, -4, 4) @ w[len(w) - f :] + (x @ w[: len(w) - f] + b)
        for weight, bias in others:
            hidden = np.tanh(hidden) @ weight + bias
        heads = np.tanh(hidden)
        total += e * np.exp(0.5 * heads[:, :f]) + heads[:, f:]
    return total / len(members)


def _layers(flat: npt.NDArray[np.float32], widths: Sequence[int]) -> Members:
    """Weights (in, out) and biases (out,) of every member's layers: trained in float32, evaluated in float64."""
    members = []
    for row in flat.astype(np.float64):
        layers, start = [], 0
        for n_in, n_out in itertools.pairwise(widths):
            stop = start + n_in * n_out
            layers.append((row[start:stop].reshape(n_in, n_out), row[stop : stop + n_out]))
            start = stop + n_out
        members.append(layers)
    return members
