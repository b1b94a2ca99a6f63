"""Point forecasts of surfaces by the VAE-LSTM, direct or a day at a time, and where its attention lay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.generators._cell_regression import CellRegression
from volscen.generators._vae_lstm_numpy import Nets
from volscen.generators._vae_lstm_options import VaeLstmOptions
from volscen.generators._vae_lstm_panel import REACH, Panel, Units

__all__ = ["Seen", "all_horizons", "look", "raw_forecasts"]

FloatArray = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


def all_horizons(options: VaeLstmOptions) -> tuple[int, ...]:
    """Horizons that forecasts are made for; those between are interpolated."""
    last = options.horizons[-1]
    return options.horizons if options.dynamics == "direct" else tuple(range(1, last + 1))


@dataclass(frozen=True)
class Seen:
    """What the LSTM sees of some dates, besides the market.

    Attributes
    ----------
    latent : ndarray, shape (n, window, latents)
    features : ndarray, shape (n, window, features)
    stale : ndarray, shape (n, window)
    """

    latent: FloatArray
    features: FloatArray
    stale: FloatArray


def look(panel: Panel, units: Units, nets: Nets, options: VaeLstmOptions, rows: Rows) -> Seen:
    """Encode the windows that end on some days of the panel, in these days' units."""
    window = rows[:, None] + np.arange(1 - options.window, 1)
    sd = np.maximum(panel.sd[rows], units.sd_floor)
    x = np.clip((panel.logs[window] - panel.mean[rows][:, None]) / sd[:, None], -REACH, REACH)
    features = units.features(panel.features[window])
    return Seen(nets.encode(x, features)[0], features, np.log1p(panel.stale[window]))


def raw_forecasts(
    panel: Panel, units: Units, nets: Nets, base: CellRegression, options: VaeLstmOptions, rows: Rows, seen: Seen,
    market: FloatArray | None,
) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Changes of log vols that the base and the network foresee.

    Parameters
    ----------
    market : ndarray, shape (n, window, extra - 1), optional
        What follows staleness among the LSTM's inputs; None for a network of one asset.

    Returns
    -------
    base, network : ndarray, shape (n, horizon, cells)
    attention : ndarray, shape (n, heads, window)
    """
    parts = [seen.latent, seen.features]
    if market is not None:
        parts += [seen.stale[..., None], market]
    days = np.concatenate(parts, axis=2)
    states, memory = nets.states(days)
    out, weights = nets.foresee(states)
    now, n = seen.latent[:, -1], options.latent_dim
    if options.dynamics == "direct":
        moved = now[:, None] + out.reshape(len(rows), -1, n + 1)[..., :n]
    else:
        steps = [now + out[:, :n]]
        for _ in range(options.horizons[-1] - 1):
            day = np.concatenate([steps[-1], days[:, -1, n:]], axis=1)[:, None]
            new, memory = nets.go_on(day, memory)
            states = np.concatenate([states[:, 1:], new], axis=1)
            steps.append(steps[-1] + nets.foresee(states)[0][:, :n])
        moved = np.stack(steps, axis=1)
    sd = np.maximum(panel.sd[rows], units.sd_floor)[:, None]
    decoded = nets.decode(moved)
    if options.base == "none":
        today = panel.logs[rows][:, None]
        return np.zeros_like(decoded), panel.mean[rows][:, None] + sd * decoded - today, weights
    change = base.change(CellRegression.inputs(panel.logs, rows))
    return change, sd * (decoded - nets.decode(now)[:, None]), weights


def between(values: FloatArray, known: tuple[int, ...], wanted: tuple[int, ...]) -> FloatArray:
    """Changes (n, horizon, cells) at other horizons, linear between those known, of which day 0 has none."""
    at = np.r_[0, known]
    padded = np.concatenate([np.zeros_like(values[:, :1]), values], axis=1)
    right = np.clip(np.searchsorted(at, wanted), 1, len(at) - 1)
    share: Any = ((np.array(wanted) - at[right - 1]) / (at[right] - at[right - 1]))[None, :, None]
    return np.asarray((1 - share) * padded[:, right - 1] + share * padded[:, right])
