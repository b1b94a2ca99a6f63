"""Walking a generator forward through days it has not seen, and scoring each against what happened next."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import xarray as xr
from tqdm import tqdm

from volscen import arbitrage
from volscen._reweight import Beta
from volscen.errors import InputError
from volscen.evaluation._scores import energy_score, probability_integral_transform
from volscen.generators import Generator
from volscen.scenarios import generate

__all__ = ["score_generator", "summarise"]


def score_generator(
    generator: Generator,
    history: xr.Dataset,
    *,
    first: Any,
    last: Any,
    train_end: Any,
    n_scenarios: int = 1000,
    seed: int = 0,
    beta: Beta = "auto",
    update_every: int | None = None,
) -> xr.Dataset:
    """Score one-day-ahead scenarios on every realised date of a period.

    Parameters
    ----------
    generator : Generator
        Fitted on dates before ``first``.
    history : xarray.Dataset
        Holds the period and the days before it.
    first, last : date
        First and last realised date to score (nearest dates inside the period are used).
    train_end : date
        Moves are divided by their standard deviation over dates before this one.
    n_scenarios : int
        Scenarios per day.
    seed : int
        Passed to :func:`volscen.generate`.
    beta : float, "auto" or "paper"
        Strength of the arbitrage weights.
    update_every : int, optional
        Update a copy of the generator with the days known, every so many days; the one passed stays as it was
        fitted. Never updated when omitted.

    Returns
    -------
    xarray.Dataset
        Over the realised ``date``: ``energy_score`` (weighted and ``energy_score_raw``) of
        (sqrt(periods a year) log return, log-vol increments) / standard deviation; ``pit`` and ``pit_raw``
        by variable (the return, then every cell); ``penalty_raw``, ``penalty_weighted``, ``penalty_data``;
        ``ess_fraction``; ``state_clipped``.

    Raises
    ------
    InputError
        If the period is empty or the generator saw part of it when fitted.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import score_generator, summarise
    >>> history = volscen.datasets.sample_history()
    >>> train = history.isel(date=slice(0, 1400))
    >>> model = volscen.fit(train, "pca")
    >>> end = history.date.values[1400]
    >>> days = score_generator(model, history, first=end, last=history.date.values[1419], train_end=end)
    >>> days.sizes["date"], summarise(days)["days"]
    (20, 20)
    """
    dates = history["date"].values
    rows = np.flatnonzero((dates >= np.datetime64(first)) & (dates <= np.datetime64(last)))
    rows = rows[rows > 0]
    if rows.size == 0:
        raise InputError(f"no date of the history lies between first {first} and last {last}")
    if generator.period_[1] >= str(dates[rows[0]])[:10]:
        raise InputError(
            f"generator {generator.name!r} was fitted up to {generator.period_[1]}, inside the period to score; "
            "fit it on dates before first"
        )
    # Updated through the period it would carry later days into whatever it is used for next.
    generator = copy.deepcopy(generator)
    annualise = np.sqrt(float(history.attrs["periods_per_year"]))
    log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(dates.size, -1)
    moves = np.column_stack([annualise * history["log_return"].values[1:], np.diff(log_iv, axis=0)])
    scale = moves[dates[1:] < np.datetime64(train_end)].std(axis=0)
    tau, moneyness = history["tau"].values, history["moneyness"].values
    out: dict[str, list[Any]] = {name: [] for name in _DAILY}
    for count, row in enumerate(tqdm(rows, desc=generator.name, unit="day", disable=None, delay=1.0, leave=False)):
        known = row - 1  # the day before is the last one known
        if update_every and count % update_every == 0:
            generator.update(history.isel(date=slice(0, known + 1)))
        cube = generate(generator, history, as_of=dates[known], n_scenarios=n_scenarios, seed=seed, beta=beta)
        surfaces = np.log(cube["implied_vol"].values[:, 0].astype(np.float64)).reshape(n_scenarios, -1)
        x = np.column_stack([annualise * cube["log_return"].values[:, 0], surfaces - log_iv[known]]) / scale
        y = moves[known] / scale
        weight, penalty = cube["weight"].values, cube["arbitrage_penalty"].values[:, 0]
        out["energy_score"].append(energy_score(x, y, weight))
        out["energy_score_raw"].append(energy_score(x, y))
        out["pit"].append(probability_integral_transform(x, y, weight))
        out["pit_raw"].append(probability_integral_transform(x, y))
        out["penalty_raw"].append(penalty.mean())
        out["penalty_weighted"].append(weight @ penalty)
        out["penalty_data"].append(float(arbitrage.penalty(history["implied_vol"].values[row], tau, moneyness)))
        out["ess_fraction"].append(cube.attrs["ess_fraction"])
        out["state_clipped"].append(int(cube["state_clipped"]))
    return xr.Dataset(
        {name: (("date", "variable")[: np.ndim(values)], np.array(values)) for name, values in out.items()},
        coords={"date": dates[rows]},
        attrs={"generator": generator.name, "n_scenarios": n_scenarios, "seed": seed},
    )


_DAILY = (
    "energy_score",
    "energy_score_raw",
    "pit",
    "pit_raw",
    "penalty_raw",
    "penalty_weighted",
    "penalty_data",
    "ess_fraction",
    "state_clipped",
)


def summarise(days: xr.Dataset, *, level: float = 0.9) -> dict[str, float]:
    """Means over days of what :func:`score_generator` returns.

    Parameters
    ----------
    days : xarray.Dataset
        From :func:`score_generator`.
    level : float
        Of the central interval whose coverage is reported.

    Returns
    -------
    dict
        ``energy_score``, ``coverage`` (mean over cells), ``coverage_worst`` (cell farthest from the level),
        ``coverage_return``, each also with the suffix ``_raw`` for equal weights; ``penalty_raw``,
        ``penalty_weighted``, ``penalty_data``, ``ess_fraction``, ``ess_fraction_min``, ``days``.
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie in (0, 1), not {level}")
    tail = (1 - level) / 2
    result: dict[str, float] = {"days": days.sizes["date"]}
    for suffix in ("", "_raw"):
        pit = days[f"pit{suffix}"].values
        inside = ((pit >= tail) & (pit <= 1 - tail)).mean(axis=0)
        cells = inside[1:]
        result[f"energy_score{suffix}"] = float(days[f"energy_score{suffix}"].mean())
        result[f"coverage{suffix}"] = float(cells.mean())
        result[f"coverage_worst{suffix}"] = float(cells[np.argmax(np.abs(cells - level))])
        result[f"coverage_return{suffix}"] = float(inside[0])
    for name in ("penalty_raw", "penalty_weighted", "penalty_data", "ess_fraction"):
        result[name] = float(days[name].mean())
    result["ess_fraction_min"] = float(days["ess_fraction"].min())
    result["state_clipped"] = float(days["state_clipped"].mean())
    return result
