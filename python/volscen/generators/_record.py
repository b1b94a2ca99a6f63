"""What a fitted generator keeps of its fit: the data's outline, versions, and the curves of a training.

None of it enters a draw. It is saved with the model, for cards, plots and monitors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import arbitrage
from volscen._version import __version__

__all__ = ["ARBITRAGE", "FitRecord", "TrainingCurve"]

FloatArray = npt.NDArray[np.float64]
Range = tuple[float, float]

#: A static-arbitrage penalty above this counts as arbitrage.
ARBITRAGE = 1e-6

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PREFIX = "curve."


@dataclass(frozen=True)
class TrainingCurve:
    """Losses of every epoch of an iterative fit, and scores of some epochs.

    A generator that trains sets ``self.curve_`` to one in ``fit``; saving, loading, :func:`volscen.training_curve`
    and the model card do the rest.

    Attributes
    ----------
    losses : mapping of str to ndarray, shape (epochs,)
        At least one, by name.
    scores : mapping of str to ndarray, shape (evaluations,)
        Validation scores by name, lower is better; may be empty.
    score_epoch : ndarray of int, shape (evaluations,)
        Epoch, from 1, after which each score was taken; rising.
    kept_epoch : int
        Epoch whose parameters the model has.
    text : mapping of str to str
        What each loss and score is.

    Raises
    ------
    ValueError
        If names or shapes do not fit together, or a number is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> curve = TrainingCurve({"loss": np.array([3.0, 2.0])}, {"score": np.array([1.5])}, np.array([2]), 2,
    ...                       {"loss": "training loss", "score": "energy score"})
    >>> curve.epochs
    2
    """

    losses: Mapping[str, FloatArray]
    scores: Mapping[str, FloatArray]
    score_epoch: npt.NDArray[np.int64]
    kept_epoch: int
    text: Mapping[str, str]

    def __post_init__(self) -> None:
        lengths = {np.shape(values) for values in self.losses.values()}
        if len(lengths) != 1 or len(next(iter(lengths))) != 1:
            raise ValueError("a training curve needs losses of one length, one number an epoch")
        names = [*self.losses, *self.scores]
        if len(set(names)) != len(names) or not all(_NAME.fullmatch(name) for name in names):
            raise ValueError(f"losses and scores need names of their own in lower case, not {names}")
        if set(self.text) != set(names):
            raise ValueError(f"each of {names} needs a text, and nothing else; there are texts of {sorted(self.text)}")
        epoch = np.asarray(self.score_epoch)
        if epoch.ndim != 1 or np.any(np.diff(epoch) <= 0) or np.any((epoch < 1) | (epoch > self.epochs)):
            raise ValueError("score_epoch must rise and lie among the epochs")
        if any(np.shape(values) != epoch.shape for values in self.scores.values()):
            raise ValueError("scores must be one number for each of score_epoch")
        if not all(np.isfinite(values).all() for values in (*self.losses.values(), *self.scores.values())):
            raise ValueError("losses and scores must be finite")
        if not 0 <= self.kept_epoch <= self.epochs:
            raise ValueError(f"kept_epoch {self.kept_epoch} is none of the {self.epochs} epochs")

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""
        return len(next(iter(self.losses.values())))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for a model file."""
        out: dict[str, npt.NDArray[Any]] = {f"{_PREFIX}loss.{name}": values for name, values in self.losses.items()}
        out |= {f"{_PREFIX}score.{name}": values for name, values in self.scores.items()}
        return out | {f"{_PREFIX}score_epoch": np.asarray(self.score_epoch, dtype=np.int64)}

    def metadata(self) -> dict[str, Any]:
        """JSON for a model file; tells which arrays belong to it."""
        return {
            "losses": {name: self.text[name] for name in self.losses},
            "scores": {name: self.text[name] for name in self.scores},
            "kept_epoch": int(self.kept_epoch),
        }

    @classmethod
    def take(cls, arrays: dict[str, npt.NDArray[Any]], metadata: Mapping[str, Any] | None) -> Self | None:
        """Take the curve's arrays out of those of a model file; KeyError where one is missing."""
        if metadata is None:
            return None
        losses = {name: arrays.pop(f"{_PREFIX}loss.{name}") for name in metadata["losses"]}
        scores = {name: arrays.pop(f"{_PREFIX}score.{name}") for name in metadata["scores"]}
        epoch = arrays.pop(f"{_PREFIX}score_epoch")
        text = {name: str(words) for part in ("losses", "scores") for name, words in metadata[part].items()}
        return cls(losses, scores, epoch, int(metadata["kept_epoch"]), text)


@dataclass(frozen=True)
class FitRecord:
    """Outline of the history that a generator was fitted on, and the versions it was fitted with.

    Attributes
    ----------
    n_dates : int
    title, source : str
        Of the history.
    log_return, implied_vol, atm_vol : pair of float
        Least and largest; ``atm_vol`` is the cell nearest to 30 days and K/F = 1.
    arbitrage_share : float
        Share of the surfaces whose static-arbitrage penalty is above 1e-6.
    versions : dict of str to str
        Of volscen and of what the fit used.
    highest, lowest : tuple of float
        Largest and least vol of each point of the surface, maturities outermost; empty from a file of an early version.
    """

    n_dates: int
    title: str
    source: str
    log_return: Range
    implied_vol: Range
    atm_vol: Range
    arbitrage_share: float
    versions: dict[str, str]
    highest: tuple[float, ...] = ()
    lowest: tuple[float, ...] = ()

    @classmethod
    def of(cls, history: xr.Dataset, packages: Sequence[str]) -> Self:
        """Outline a history, of all its underlyings together."""
        tau, moneyness = history["tau"].values.astype(np.float64), history["moneyness"].values.astype(np.float64)
        surface = history["implied_vol"].transpose(..., "tau", "moneyness").values.astype(np.float64)
        atm = surface[..., np.argmin(np.abs(tau - 30 / 365)), np.argmin(np.abs(moneyness - 1))]
        penalty = arbitrage.penalty(surface, tau, moneyness, num_threads=1)
        points = surface.reshape(-1, tau.size * moneyness.size)
        return cls(
            n_dates=history.sizes["date"],
            title=str(history.attrs["title"]),
            source=str(history.attrs["source"]),
            log_return=_range(history["log_return"].values),
            implied_vol=_range(surface),
            atm_vol=_range(atm),
            arbitrage_share=float(np.mean(penalty > ARBITRAGE)),
            versions={"volscen": __version__} | {name: _version(name) for name in packages},
            # Five digits: it is there to be compared with twice itself, and the header holds it as text.
            highest=tuple(float(f"{vol:.5g}") for vol in points.max(axis=0)),
            lowest=tuple(float(f"{vol:.5g}") for vol in points.min(axis=0)),
        )

    def metadata(self) -> dict[str, Any]:
        """JSON for a model file."""
        return asdict(self)

    @classmethod
    def restore(cls, metadata: Mapping[str, Any] | None) -> Self | None:
        """Read what :meth:`metadata` gave; TypeError or ValueError where it is something else."""
        if metadata is None:
            return None
        ranges = {name: tuple(map(float, metadata[name])) for name in ("log_return", "implied_vol", "atm_vol")}
        for name, pair in ranges.items():
            if len(pair) != 2 or not np.isfinite(pair).all():
                raise ValueError(f"record: {name} must be two finite numbers, not {pair}")
        points = {name: tuple(map(float, metadata.get(name, ()))) for name in ("highest", "lowest")}
        for name, values in points.items():
            if len(values) != len(points["highest"]) or not all(np.isfinite(v) and v > 0 for v in values):
                raise ValueError(f"record: {name} must be a positive number for each point of the surface")
        return cls(
            n_dates=int(metadata["n_dates"]),
            highest=points["highest"],
            lowest=points["lowest"],
            title=str(metadata["title"]),
            source=str(metadata["source"]),
            arbitrage_share=float(metadata["arbitrage_share"]),
            versions={str(name): str(number) for name, number in metadata["versions"].items()},
            **ranges,  # type: ignore[arg-type]
        )


def _range(values: npt.NDArray[Any]) -> Range:
    """Least and largest; the first return of a history is NaN, and one date has none."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


@lru_cache
def _version(package: str) -> str:
    return version(package)
