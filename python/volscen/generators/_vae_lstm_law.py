"""The law of one day around what the VAE-LSTM foresees: scales, past residuals, units of the last 60 days."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import FitError
from volscen.generators._cell_regression import CellRegression
from volscen.generators._move_scale import FILTER, HALF_LIVES, MoveScale, borne_out, filter_weights, filtered
from volscen.generators._stillness import STILL
from volscen.generators._vae_lstm_features import LOOK_BACK, N_FEATURES, Points, day_features, history_features
from volscen.generators._vae_lstm_numpy import Nets
from volscen.generators._vae_lstm_options import FRAME_DAYS, VaeLstmOptions
from volscen.generators._vae_lstm_panel import REACH, Units, frame_of

__all__ = ["N_PAST", "DayLaw", "Moves", "Path", "Pool"]

FloatArray = npt.NDArray[np.float64]

#: Surfaces before a day that its law depends on: each of the filter's moves has units of its own.
N_PAST = FRAME_DAYS + FILTER + 1
#: How far beyond the days fitted on simulated log vols may go.
_BEYOND = 0.7
#: Least and largest factor of the residuals.
_SPREAD = (1.0, 1.3)
_CHUNK = 256


@dataclass(frozen=True)
class Moves:
    """What happened on every day after the first 60, beside what was foreseen.

    Attributes
    ----------
    moves : ndarray, shape (n, 1 + latents)
        Annualised return; latents' surprise beside the base forecast, times the deviation of the last 60 days.
    said : ndarray, shape (n, 1 + latents)
        What the network said of them.
    shock : ndarray, shape (n, cells)
        What is left of the log vols.
    rest : ndarray, shape (n, cells)
        What latents missed of them the day before, which reverts.
    level : ndarray, shape (n,)
        Mean log vol the day before.
    """

    moves: FloatArray
    said: FloatArray
    shock: FloatArray
    rest: FloatArray
    level: FloatArray


@dataclass(frozen=True)
class Pool:
    """Past days drawn from: standardised residuals (days, 1 + latents) and shocks (days, cells)."""

    residual: FloatArray
    rest: FloatArray


@dataclass
class Path:
    """State of paths: one row before the first step, one for each path after."""

    logs: FloatArray  # (n, 60, cells)
    returns: FloatArray  # (n, 22), annualised
    features: FloatArray  # (n, window, features), standardised
    variance: FloatArray  # (n, 2, 1 + latents): of the moves in units of their standard deviation, by half-life


@dataclass(frozen=True)
class DayLaw(MoveScale):
    """Next return and surface given the past.

    A surface moves by the base forecast, by what the decoder makes of the latents' move in the units of the last 60
    days, and by a past day's shock to what latents miss.
    """

    move_sd: FloatArray
    shrink: FloatArray
    spread: FloatArray
    low: FloatArray
    high: FloatArray
    reach: FloatArray
    reversion: FloatArray
    base: FloatArray
    sd_floor: FloatArray
    feature_mean: FloatArray
    feature_sd: FloatArray
    return_sd: FloatArray

    # ------------------------------------------------------------------------------------------ fitting
    @classmethod
    def begin(cls, logs: FloatArray, units: Units, base: CellRegression, latents: int) -> DayLaw:
        """Units and ranges; moves, scales and spread are still to fit."""
        n = 1 + latents
        return cls(
            move_sd=np.ones(n), shrink=np.ones(2), spread=np.ones(n), low=logs.min(axis=0) - _BEYOND,
            high=logs.max(axis=0) + _BEYOND, reach=np.abs(np.diff(logs, axis=0)).max(axis=0),
            reversion=np.zeros(logs.shape[1]), base=base.coefficients[:1], sd_floor=units.sd_floor,
            feature_mean=units.feature_mean, feature_sd=units.feature_sd, return_sd=np.array([units.return_sd]),
            **MoveScale.neutral(n),
        )  # fmt: skip

    def fitted(self, found: Moves, n_train: int, kind: str, days: int) -> DayLaw:
        """Fit what the validation days bear out of the network's word, the scales, and the spread.

        Rows from ``n_train`` on were not trained on. The spread is the size of the residuals there beside that of the
        ``days`` before each, from which they would have been drawn, with scales fitted before; at least one, because
        a quiet stretch is no reason to expect less. Then scales are fitted to all.
        """
        move_sd = found.moves[:n_train].std(axis=0)
        if np.any(move_sd <= STILL):
            raise FitError("the return or a latent never moves in the training days; train longer or use fewer latents")
        out = replace(self, move_sd=move_sd)
        moves, said = found.moves / move_sd, found.said / move_sd
        parts = (slice(0, 1), slice(1, None))
        out = replace(out, shrink=np.array([borne_out(said[n_train:, p], moves[n_train:, p]) for p in parts]))
        before = out._scaled(moves[:n_train], said[:n_train], found.level[:n_train], kind)
        rest = before.residuals(found)
        n = n_train - FILTER
        sizes = [_widening(rest[:, p], n, days) for p in parts]
        spread = np.clip(np.r_[sizes[0], np.full(len(move_sd) - 1, sizes[1])], *_SPREAD)
        # What latents miss comes back by itself; else the cells of long paths would drift apart.
        back = -np.sum(found.shock * found.rest, axis=0) / np.maximum(np.sum(found.rest**2, axis=0), 1e-300)
        out = replace(out, reversion=np.clip(back, 0.0, 1.0))
        return replace(out._scaled(moves, said, found.level, kind), spread=spread)

    def _scaled(self, moves: FloatArray, said: FloatArray, level: FloatArray, kind: str) -> DayLaw:
        own, shared = self.features(filtered(moves), level[FILTER:])
        return self.with_scale(moves[FILTER:], (self._believed * said)[FILTER:], own, shared, kind)

    @property
    def _believed(self) -> FloatArray:
        return np.asarray(np.r_[self.shrink[0], np.full(len(self.move_sd) - 1, self.shrink[1])])

    def residuals(self, found: Moves) -> FloatArray:
        """Standardised residuals of the days after the first 63 moves."""
        moves, said = found.moves / self.move_sd, found.said / self.move_sd
        own, shared = self.features(filtered(moves), found.level[FILTER:])
        return np.asarray((moves - self._believed * said)[FILTER:] / self.scale(own, shared))

    def pool(self, found: Moves, days: int) -> Pool:
        """Residuals, widened, and shocks of the last days."""
        residual = self.spread * self.residuals(found)
        shock = found.shock[FILTER:][-days:]
        # Half the size on disk; the rounding is far below sampling noise.
        return Pool(residual[-days:].copy(), (shock - shock.mean(axis=0)).astype(np.float32).astype(np.float64))

    # ------------------------------------------------------------------------------------------ the past
    @property
    def units(self) -> Units:
        """Units of the asset."""
        return Units(self.sd_floor, self.feature_mean, self.feature_sd, float(self.return_sd[0]))

    def moves_of(
        self, logs: FloatArray, returns: FloatArray, points: Points, nets: Nets, options: VaeLstmOptions, extra: int,
        *, silent: bool = False,
    ) -> Moves:  # fmt: skip
        """Moves of the days after the first 60 of log surfaces (T, cells) and annualised returns (T,) into them.

        ``silent``: without what the network says.
        """
        n, window = len(logs), options.window
        features = self.units.features(history_features(logs, returns, points))
        base = CellRegression(self.base)
        parts: list[list[FloatArray]] = [[], [], [], []]
        for start in range(FRAME_DAYS, n, _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, n)) - 1  # the days before
            past = logs[rows[:, None] + np.arange(1 - FRAME_DAYS, 1)]
            mean, sd, size = frame_of(past, self.sd_floor)
            surprise = logs[rows + 1] - logs[rows] - base.next_change(past)
            x = (past[:, -window:] - mean[:, None]) / sd[:, None]
            then = np.clip(x[:, -1] + surprise / sd, -REACH, REACH)
            x = np.clip(x, -REACH, REACH)
            known = features[rows[:, None] + np.arange(1 - window, 1)]
            latent = nets.encode(x, known)[0]
            moved = nets.encode(then, known[:, -1])[0]
            out = np.zeros((len(rows), 1 + options.latent_dim))
            if not silent:
                out = self._said(nets, latent, known, extra)
            out[:, 1:] *= size[:, None]
            moves = np.column_stack([returns[rows + 1], size[:, None] * (moved - latent[:, -1])])
            rest = logs[rows] - mean - sd * nets.decode(latent[:, -1])
            shock = surprise - sd * (nets.decode(moved) - nets.decode(latent[:, -1])) + self.reversion * rest
            for part, found in zip(parts, (moves, out, shock, rest), strict=True):
                part.append(found)
        moves, said, shock, rest = (np.concatenate(part) for part in parts)
        return Moves(moves, said, shock, rest, logs[FRAME_DAYS - 1 : -1].mean(axis=1))

    def _said(self, nets: Nets, latent: FloatArray, features: FloatArray, extra: int) -> FloatArray:
        """Annualised return and the latents' moves (n, 1 + latents) that the network foresees for the next day."""
        days = np.concatenate([latent, features, np.zeros((*latent.shape[:2], extra))], axis=2)
        out = nets.foresee(nets.states(days)[0])[0][:, : latent.shape[2] + 1]
        return np.column_stack([self.return_sd[0] * out[:, -1], out[:, :-1]])

    # ------------------------------------------------------------------------------------------ the future
    def start(self, logs: FloatArray, returns: FloatArray, points: Points, nets: Nets, options: VaeLstmOptions) -> Path:
        """State at the end of the last ``N_PAST`` log surfaces and annualised returns into them."""
        found = self.moves_of(logs, returns, points, nets, options, 0, silent=True)
        squares = (found.moves[-FILTER:] / self.move_sd) ** 2
        variance = np.stack([filter_weights(h) @ squares for h in HALF_LIVES])
        features = self.units.features(history_features(logs, returns, points))
        return Path(
            logs[None, -FRAME_DAYS:], returns[None, -LOOK_BACK:], features[None, -options.window :], variance[None]
        )

    def step(
        self, path: Path, n: int, pool: Pool, points: Points, nets: Nets, options: VaeLstmOptions, extra: int,
        rng: np.random.Generator, noise: np.random.Generator,
    ) -> tuple[FloatArray, FloatArray]:  # fmt: skip
        """Draw the next annualised returns (n,) and log surfaces (n, cells), and move the path on."""
        latents, window = options.latent_dim, options.window
        mean, sd, size = frame_of(path.logs, self.sd_floor)
        x = np.clip((path.logs[:, -window:] - mean[:, None]) / sd[:, None], -REACH, REACH)
        latent, posterior = nets.encode(x, path.features)
        if options.posterior_noise:
            latent = latent + posterior * noise.standard_normal((n, window, latents))
        said = self._said(nets, latent, np.broadcast_to(path.features, (len(latent), window, N_FEATURES)), extra)
        said[:, 1:] *= size[:, None]
        day = rng.integers(len(pool.residual), size=n)
        own, shared = self.features(path.variance, path.logs[:, -1].mean(axis=1))
        move = self._believed * said / self.move_sd + self.scale(own, shared) * pool.residual[day]
        step = self.move_sd * move
        now = latent[:, -1]
        moved = nets.decode(now + step[:, 1:] / size[:, None]) - nets.decode(now)
        # Far from the days trained on a decoder may make much of little: no day moves a cell further than any did.
        moved = np.clip(sd * moved, -self.reach, self.reach)
        rest = path.logs[:, -1] - mean - sd * nets.decode(now)
        logs = path.logs[:, -1] + CellRegression(self.base).next_change(path.logs) + moved
        logs = logs - self.reversion * rest + pool.rest[day]
        logs = np.clip(logs, self.low, self.high)
        self._arrive(path, step[:, 0], logs, move, points)
        return step[:, 0], logs

    def _arrive(self, path: Path, annual: FloatArray, logs: FloatArray, move: FloatArray, points: Points) -> None:
        n = len(logs)

        def appended(old: FloatArray, new: FloatArray) -> FloatArray:
            return np.concatenate([np.broadcast_to(old[:, 1:], (n, *old[:, 1:].shape[1:])), new[:, None]], axis=1)

        path.logs, path.returns = appended(path.logs, logs), appended(path.returns, annual)
        new = self.units.features(day_features(path.logs, path.returns, points))
        path.features = appended(path.features, new)
        keep = np.array([0.5 ** (1 / h) for h in HALF_LIVES])[None, :, None]
        path.variance = keep * path.variance + (1 - keep) * move[:, None] ** 2

    # ------------------------------------------------------------------------------------------- keeping
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything fitted."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def restore(cls, arrays: dict[str, npt.NDArray[Any]], latents: int, cells: int) -> DayLaw:
        """Rebuild from :meth:`arrays`; a wrong shape raises ValueError."""
        m = latents + 1
        shapes: dict[str, tuple[int, ...]] = {
            **MoveScale.scale_shapes(m),
            **dict.fromkeys(("move_sd", "spread"), (m,)),
            **dict.fromkeys(("low", "high", "reach", "reversion", "sd_floor"), (cells,)),
            **dict.fromkeys(("feature_mean", "feature_sd"), (N_FEATURES,)),
            "shrink": (2,), "base": (1, cells, 4), "return_sd": (1,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype.kind != "f":
                raise ValueError(f"array {name} of shape {arrays[name].shape} does not fit the grid and parameters")
        return cls(**{name: arrays[name] for name in shapes})


def _widening(residual: FloatArray, first: int, days: int) -> float:
    """Root mean square of residuals (n, factors) from a row on, in units of that of the days before each."""
    total = np.concatenate([np.zeros((1, residual.shape[1])), np.cumsum(residual**2, axis=0)])
    rows = np.arange(first, len(residual))
    begin = np.maximum(rows - days, 0)
    before = (total[rows] - total[begin]) / np.maximum(rows - begin, 1)[:, None]
    return float(np.sqrt(np.mean(residual[rows] ** 2 / before))) if first > 0 and rows.size else 1.0
