"""Stresses in latent space: a shocked state, and how the world model believes that it calms down."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._numbers import whole_number
from volscen.errors import InputError
from volscen.generators._neural_options import CPU
from volscen.generators._world import WorldModel
from volscen.history._history import position
from volscen.stress._assemble import assemble, start_of
from volscen.world._views import check_model, told

__all__ = ["stress"]

FloatArray = npt.NDArray[np.float64]
Direction = Literal["worst_day", "level", "skew", "term"]

_DIRECTIONS = ("worst_day", "level", "skew", "term")
_STEP = 1e-2


def stress(
    model: WorldModel,
    history: xr.Dataset,
    *,
    direction: Direction = "worst_day",
    factor: float = 5.0,
    steps: int = 50,
    n_paths: int | None = None,
    as_of: Any = None,
    rescale: float = 1.0,
    log_return: float = 0.0,
    seed: int = 0,
    device: str = CPU,
) -> xr.Dataset:
    """Shock today's latents and let the model foresee what follows, beside what follows without the shock.

    Parameters
    ----------
    model : WorldModel
        Fitted generator ``world``.
    history : xarray.Dataset
        Gives the starting state; on the model's grid.
    direction : {"worst_day", "level", "skew", "term"}
        ``"worst_day"``: the latents become those of the day fitted on with the highest mean log vol, their distance
        from the average latents times ``factor``. The others move today's latents by ``factor`` daily standard
        deviations along the likeliest of the directions that raise, as decoded: the mean log vol; log vol at the
        lowest less the highest moneyness; log vol at the first less the last maturity, at the money.
    factor : float
        Size; negative for the other way. Latents are of log vols: factors multiply vols geometrically.
    steps : int
        Steps that the model foresees after the shock.
    n_paths : int, optional
        Draw so many paths of either kind; omitted, one path each, of mean moves without residuals.
    as_of : date, optional
        Starting date; the last of the history when omitted.
    rescale : float
        For another asset, whose vols are about so many times those fitted on; see ``WorldModel.rescaled``.
    log_return : float
        Return of the step of the shock.
    seed : int
        Of the paths drawn.
    device : str
        As for :func:`volscen.generate`: where the networks are evaluated. The result's attribute says which.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/scenarios/1``, scenarios named ``"calm"`` and ``"<direction> x <factor>"``. Step 1 holds the
        shocked surface (today's, for the calm ones). ``decoder_outside`` (scenario, step) is 1 where a latent lies
        outside the range of the days fitted on, so that the decoder extrapolates: believe those surfaces' direction
        rather than their size. Attribute ``half_life_steps``: steps until half of the shock's gap to the calm path,
        in mean log vol and averaged over paths, is gone for the first time; infinite if it never is. For ``"skew"``
        and ``"term"`` the gap is that of what was shocked.

    Raises
    ------
    InputError
        If the model is no fitted world model, the grids differ, an argument is out of range, the device is not there,
        or the shock decodes to vols that are not finite.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "world", raster_size=16, channels=(4, 4, 8), latent_dim=4, epochs=1,
    ...                     dynamics_epochs=1, progress=False)
    >>> crash = volscen.world.stress(model, history, factor=2, steps=20)
    >>> crash.name.values.tolist(), crash.sizes["step"]
    (['calm', 'worst_day x 2'], 21)
    """
    model = check_model(model, history, device)
    if direction not in _DIRECTIONS:
        raise InputError(f"direction must be one of {', '.join(_DIRECTIONS)}, not {direction!r}")
    for name, value in (("factor", factor), ("log_return", log_return)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
            raise InputError(f"{name} must be a finite number, not {value!r}")
    for name, count, least in (
        ("steps", steps, 1),
        ("n_paths", 1 if n_paths is None else n_paths, 1),
        ("seed", seed, 0),
    ):
        whole_number(name, count, least=least)
    row = history.sizes["date"] - 1 if as_of is None else position(history, as_of)
    if row + 1 < model.n_surfaces:
        raise InputError(f"the history holds {row} dates before as_of; the model needs {model.n_surfaces - 1}")
    model = model.rescaled(rescale)
    recent = history.isel(date=slice(row + 1 - model.n_surfaces, row + 1))
    series = model.series_of(recent)
    today = series.latent[-1]
    if direction == "worst_day":
        shocked = model.law.latent_mean + factor * (model.worst_latent - model.law.latent_mean)
    else:
        shocked = today + factor * _likeliest(model, today, direction)
    n = 1 if n_paths is None else int(n_paths)
    rng = None if n_paths is None else np.random.default_rng(seed)
    parts = []
    with np.errstate(over="ignore", invalid="ignore"):  # judged by assemble
        for latent, first in ((today, 0.0), (shocked, float(log_return))):
            returns, log_vol, latents = model.foresee(series, latent, n, int(steps), rng)
            parts.append((np.column_stack([np.full(n, first), returns]), log_vol, latents))
        returns, log_vol, latents = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        vol = np.exp(log_vol)
    label = f"{direction} x {factor:g}"
    names = ["calm", label] if n_paths is None else [f"{name} {i}" for name in ("calm", label) for i in range(n)]
    grid = (model.tau_.size, model.moneyness_.size)
    ds = assemble(start_of(history, as_of), names, returns, vol.reshape(2 * n, steps + 1, *grid), kind="latent stress")
    low, high = (
        model.law.latent_mean + model.law.latent_sd * edge[1:] for edge in (model.law.input_low, model.law.input_high)
    )
    slack = 1e-6 * (high - low)
    outside = np.any((latents < low - slack) | (latents > high + slack), axis=2)
    ds["decoder_outside"] = ("scenario", "step"), outside.astype(np.int8)
    ds["decoder_outside"].attrs = {"long_name": "whether the decoder extrapolates", "units": "1"}
    figure = _functional(model, "level" if direction == "worst_day" else direction)
    gap = log_vol @ figure
    ds.attrs["half_life_steps"] = half_life(gap[n:].mean(axis=0) - gap[:n].mean(axis=0))
    ds.attrs |= {"data_fingerprint": model.fingerprint_, **told(model)}
    return ds


def half_life(gap: FloatArray) -> float:
    """Steps until a gap first is at most half of what it was, linear between steps; infinite if it never is."""
    ratio = gap / gap[0] if gap[0] else np.ones_like(gap)
    reached = np.flatnonzero(ratio <= 0.5)
    if not reached.size:
        return math.inf
    i = int(reached[0])
    return float(i - 1 + (ratio[i - 1] - 0.5) / (ratio[i - 1] - ratio[i]))


def _functional(model: WorldModel, direction: str) -> FloatArray:
    """Weights (cells,) of the log vols that make up what a direction is about."""
    weight = np.zeros((model.tau_.size, model.moneyness_.size))
    if direction == "level":
        weight[:] = 1 / weight.size
    elif direction == "skew":
        weight[:, 0], weight[:, -1] = 1 / model.tau_.size, -1 / model.tau_.size
    else:
        atm = int(np.argmin(np.abs(np.log(model.moneyness_))))
        weight[0, atm], weight[-1, atm] = 1.0, -1.0
    return weight.ravel()


def _likeliest(model: WorldModel, latent: FloatArray, direction: str) -> FloatArray:
    """Move of one daily standard deviation that raises a functional of the decoded surface most.

    Of all moves as likely as one standard deviation, d C^-1 d = 1 with C the covariance of the days' moves, the one
    along C times the gradient raises it most.
    """
    steps = _STEP * np.diag(model.law.latent_sd)
    ends = model.decode_grid(np.concatenate([latent + steps, latent - steps])) @ _functional(model, direction)
    half = len(latent)
    gradient = (ends[:half] - ends[half:]) / (2 * np.diag(steps))
    moves = model.law.residual[:, 1:] * model.law.move_sd[1:]
    covariance = moves.T @ moves / len(moves)
    rise = covariance @ gradient
    variance = float(gradient @ rise)
    if not variance > 0:
        raise InputError(f"the decoded surface has no {direction} that latents could raise; train the model longer")
    return np.asarray(rise / math.sqrt(variance))
