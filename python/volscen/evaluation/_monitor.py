"""Watching a fitted generator: whether the days that come still look like draws from its law."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import kstwo, norm

from volscen._doubts import told_together
from volscen._numbers import bounded_number, whole_number
from volscen._reweight import Beta
from volscen._threads import single_threaded_blas
from volscen._version import __version__
from volscen.errors import InputError
from volscen.evaluation._figures import _kolmogorov
from volscen.evaluation._martingale import BETS, calibration_evidence
from volscen.evaluation._scores import _fair
from volscen.evaluation._tests_of_risk import kupiec
from volscen.evaluation._walk import _period
from volscen.evaluation._yardstick import Yardstick
from volscen.generators import Generator, load
from volscen.generators._neural_options import CPU, check_device
from volscen.generators._placement import look_for
from volscen.scenarios import generate

__all__ = ["CHANNELS", "monitor_drift"]

FloatArray = npt.NDArray[np.float64]

#: Quantities whose PITs are watched.
CHANNELS = ("return", "atm30", "vix30", "mean_increment", "return_times_atm30", "distance")
_LEVELS = (0.5, 0.9, 0.95)
#: Dates drawn at once: bounds memory.
_DATES = 16
#: Rows of the distance matrix worked on at once.
_ROWS = 128
#: Spawn key of the tie-breaking numbers; blocks of scenarios are numbered from 0.
_TIES_KEY = 2**31 + 1

_SAYS = {
    "higher": "outcomes lie higher than the law says",
    "lower": "outcomes lie lower than the law says",
    "wider": "the law is too narrow",
    "narrower": "the law is too wide",
}
_SAYS_OF_DISTANCE = {
    "higher": "outcomes lie farther from the scenarios than these from one another: too narrow, or off centre",
    "lower": "outcomes lie closer to the scenarios than these to one another: too wide",
    "wider": "distances of outcomes from the scenarios vary more than the law says",
    "narrower": "distances of outcomes from the scenarios vary less than the law says",
}


def monitor_drift(
    model: Generator | str | Path,
    history: xr.Dataset,
    *,
    first: Any = None,
    last: Any = None,
    window: int = 60,
    significance: float = 0.01,
    update_every: int | None = None,
    n_scenarios: int = 500,
    seed: int = 0,
    beta: Beta = "auto",
    device: str = CPU,
) -> xr.Dataset:
    """Compare the days since a fit with the scenarios that the model gave for them, and say when to fit again.

    Parameters
    ----------
    model : Generator or path
        Fitted before ``first``, or the file of one; it stays as it is.
    history : xarray.Dataset
        Holds the days to watch and those before them.
    first, last : date, optional
        First and last realised date; the first after the fit, and the history's last, when omitted.
    window : int
        Days of the rolling figures, at least 10; at the start they are of the days so far.
    significance : float
        Probability of a false alarm, however long the model is watched: a calibrated model's ``refit_due`` ever turns
        true with at most this probability. In (0, 0.5].
    update_every : int or None
        Dates between updates of a copy of the model (:meth:`Generator.update`); none when omitted.
    n_scenarios : int
        Scenarios a day, at least 100.
    seed : int
        Of the scenarios.
    beta : float, "auto" or "paper"
        Strength of the arbitrage weights.
    device : str
        As for :func:`volscen.generate`.

    Returns
    -------
    xarray.Dataset
        Over the realised ``date``:

        - ``pit`` by ``channel``: the return, the nearest cell to 30 days at the money, the 30-day strip volatility, the
          mean increment, return x at-the-money move, and the mean distance from the scenarios. Ranks among the
          scenarios, ties and the step between ranks drawn at random, so that they are exactly uniform for equal
          weights.
        - ``log10_evidence``, also by channel: capital of the bets against uniformity
          (:func:`calibration_evidence`); their mean over channels is tested. ``refit_due`` is true from the first day
          that it reaches ``1 / significance``.
        - ``energy_score``, and the mean and standard deviation that it has under the law: ``expected_energy_score``
          and ``energy_score_sd``, of the scenarios' scores against one another.
        - Rolling: ``score_excess``, the sum of actual less expected scores over the root of the sum of their
          variances, nearly standard normal under the law, with its one-sided p-value; ``pit_ks`` with its p-value;
          ``coverage`` of central intervals with Kupiec's p-value. They describe; the verdict is the test's alone.
        - ``state_clipped``.

        Attributes: ``refit_due`` (0 or 1), ``alarm`` (its date), ``reason``, ``significance`` and the settings.

    Raises
    ------
    InputError
        If the model saw part of the period when fitted, no date lies in it, an argument is out of range, or the device
        is not there or of no use to the model.

    Notes
    -----
    The test holds for any number of looks and without end; it is exact for equal weights, and with others PITs are
    uniform to order one over the effective sample size. ``docs/models.md`` has its power. After a refit start anew.

    References
    ----------
    Vovk et al. (2021), "Retrain or not retrain: conformal test martingales for change-point detection"; Arnold, Henzi
    and Ziegel (2023), "Sequentially valid tests for forecast calibration"; Ville (1939); Gneiting and Raftery (2007).

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import monitor_drift
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history.isel(date=slice(0, 1400)), "pca")
    >>> found = monitor_drift(model, history, n_scenarios=200)
    >>> found.sizes["date"], found.attrs["refit_due"]
    (100, 0)
    """
    if isinstance(model, (str, Path)):
        model = load(model)
    plan = _checked(model, history, first, last, window, significance, update_every, n_scenarios, seed, device)
    yard = Yardstick.of(history, yard_end := history["date"].values[plan.rows[0] + 1])
    days = []
    with single_threaded_blas(), told_together():
        for row, cube in _cubes(model, history, plan, beta):
            days.append(_one_day(yard, row, cube, seed))
    columns = {name: np.stack([day[name] for day in days]) for name in days[0]}
    out = _figures(columns, plan.window)
    attributes = {
        "title": "days since a fit beside the scenarios of the model",
        "generator": model.name,
        "period": " to ".join(model.period_),
        "data_fingerprint": model.fingerprint_,
        "first": str(yard.date[plan.rows[0] + 1]),
        "last": str(yard.date[plan.rows[-1] + 1]),
        "scales_before": str(np.datetime64(yard_end, "D")),
        "window": plan.window,
        "update_every": str(update_every).lower(),
        "n_scenarios": n_scenarios,
        "seed": seed,
        "beta": str(beta),
        "volscen_version": __version__,
    }
    if device != CPU:  # the same up to rounding is not the same
        attributes["device"] = device
    date = yard.date[plan.rows + 1].astype("datetime64[ns]")
    ds = xr.Dataset(
        {
            name: (dims, values, {"long_name": text, "units": "1"})
            for name, (dims, values, text) in (out | _verdict(columns["pit"], significance, attributes, date)).items()
        },
        coords={"date": date, "channel": list(CHANNELS), "level": list(_LEVELS)},
        attrs=attributes,
    )
    return ds


# ---------------------------------------------------------------------------------------------- arguments
@dataclass(frozen=True)
class _Plan:
    rows: npt.NDArray[np.intp]  # last rows known of the realised dates
    window: int
    update_every: int | None
    n_scenarios: int
    seed: int
    device: str


def _checked(
    model: Any,
    history: xr.Dataset,
    first: Any,
    last: Any,
    window: Any,
    significance: Any,
    update_every: Any,
    n: Any,
    seed: Any,
    device: Any,
) -> _Plan:
    if not isinstance(model, Generator) or not model.is_fitted:
        raise InputError(f"model must be a fitted generator or the path of one, not {model!r}")
    bounded_number("significance", significance, 0, 0.5, ends="(]")
    seed = whole_number("seed", seed, least=0)
    look_for(check_device(device), model)
    fitted_to = np.datetime64(model.period_[1], "D")
    given = first is not None
    if not given and isinstance(history, xr.Dataset) and "date" in history.coords:
        end = history["date"].values.astype("datetime64[D]")[-1]
        if end <= fitted_to:
            raise InputError(
                f"no day after the fit yet: model {model.name!r} was fitted up to {fitted_to}, and the history ends on "
                f"{end}; append the days since, or give first and a model fitted earlier"
            )
    rows = _period(
        history,
        first if given else fitted_to + np.timedelta64(1, "D"),
        history["date"].values[-1] if last is None else last,
    )
    start = history["date"].values[rows[0] + 1].astype("datetime64[D]")
    if start <= fitted_to:
        raise InputError(
            f"model {model.name!r} was fitted up to {fitted_to}, and first is {start}: it has seen that day; choose a "
            "later first, or a model fitted earlier"
        )
    step = None if update_every is None else whole_number("update_every", update_every)
    size, number = whole_number("window", window, least=10), whole_number("n_scenarios", n, least=100)
    return _Plan(rows, size, step, number, int(seed), device)


# --------------------------------------------------------------------------------------------- scenarios
def _cubes(model: Generator, history: xr.Dataset, plan: _Plan, beta: Beta) -> Iterator[tuple[int, xr.Dataset]]:
    """Scenarios of every date, from what was known the evening before."""
    settings: dict[str, Any] = {
        "n_scenarios": plan.n_scenarios, "seed": plan.seed, "beta": beta, "num_threads": 1, "device": plan.device,
    }  # fmt: skip
    own = copy.deepcopy(model)
    step = plan.update_every or _DATES
    for start in range(0, plan.rows.size, step):
        if plan.update_every is not None and history["date"].values[plan.rows[start]] > np.datetime64(own.period_[1]):
            own.update(history.isel(date=slice(0, int(plan.rows[start]) + 1)))
        for part in np.split(plan.rows[start : start + step], range(_DATES, step, _DATES)):
            if part.size:
                cube = generate(own, history, as_of=history["date"].values[part], **settings)
                yield from ((int(row), cube.isel(as_of=i, step=0)) for i, row in enumerate(part))


def _one_day(yard: Yardstick, row: int, cube: xr.Dataset, seed: int) -> dict[str, npt.NDArray[Any]]:
    implied_vol = cube["implied_vol"].values.astype(np.float64)
    weight = cube["weight"].values
    _fair(weight)  # refuses a law that is one scenario: there is nothing to rank among
    moves = yard.moves(row, implied_vol, cube["log_return"].values)
    # Outcome and scenarios in one array: what is done to one is done to the other.
    both = np.vstack([moves, yard.move[row]]) / yard.scale
    atm = yard.named["atm30"]
    channels = [both[:, 0], both[:, atm], both[:, -1], both[:, 1:-1].mean(axis=1), both[:, 0] * both[:, atm]]
    x, y = both[:-1, :-1], both[-1, :-1]
    to_others, to_outcome = _distances(x, weight), np.linalg.norm(x - y, axis=1)
    distance = _mean_distances(to_others, to_outcome, weight)
    day = int((yard.date[row] - np.datetime64("1900-01-01", "D")).astype(int))
    ties = np.random.SeedSequence(seed, spawn_key=(day, _TIES_KEY))
    pit = _ranks(np.column_stack([*channels, distance]), weight, np.random.Generator(np.random.PCG64(ties)))
    own = to_others / (1 - weight)  # of each scenario from the others, the law's own distances
    mean = weight @ own
    return {
        "pit": pit,
        "energy_score": np.asarray(weight @ to_outcome - mean / 2),
        "expected_energy_score": np.asarray(mean / 2),
        "energy_score_sd": np.asarray(np.sqrt(weight @ (own - mean) ** 2)),
        "state_clipped": cube["state_clipped"].values,
    }


def _distances(x: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted sum (n,) of the distances of each row from all others."""
    centred = x - x.mean(axis=0)
    square = np.einsum("ij,ij->i", centred, centred)
    out = np.empty(len(x))
    for first in range(0, len(x), _ROWS):
        rows = slice(first, first + _ROWS)
        squared = square[rows, None] + square - 2 * (centred[rows] @ centred.T)
        distance = np.sqrt(np.maximum(squared, 0))
        own = np.arange(len(distance))
        distance[own, first + own] = 0
        out[rows] = distance @ weight
    return out


def _mean_distances(to_others: FloatArray, to_outcome: FloatArray, weight: FloatArray) -> FloatArray:
    """Mean distance (n + 1,) of each scenario, and at last of the outcome, from all others.

    The outcome, weighing 1/n, is one of the others: nothing sets it apart, and so its rank is uniform.
    """
    n = weight.size
    return np.append((to_others + to_outcome / n) / (1 - weight + 1 / n), weight @ to_outcome)


def _ranks(both: FloatArray, weight: FloatArray, rng: np.random.Generator) -> FloatArray:
    """PITs (C,) of the last row among the others: weight below, and a random part of what is equal and of its own."""
    x, y, n = both[:-1], both[-1], len(both) - 1
    below, equal = weight @ (x < y), weight @ (x == y)
    u = rng.random(y.size)
    return np.asarray(np.clip((n * below + u * (n * equal + 1)) / (n + 1), 1e-12, 1 - 1e-12))


# ----------------------------------------------------------------------------------------------- figures
Figures = dict[str, tuple[tuple[str, ...], npt.NDArray[Any], str]]


def _figures(days: dict[str, npt.NDArray[Any]], window: int) -> Figures:
    pit = days["pit"]
    n_days = len(pit)
    size = np.minimum(np.arange(1, n_days + 1), window)
    excess = _rolling_sum(days["energy_score"] - days["expected_energy_score"], window)
    spread = np.sqrt(_rolling_sum(days["energy_score_sd"] ** 2, window))
    parts = [pit[end - n : end] for end, n in zip(range(1, n_days + 1), size, strict=True)]
    ks = np.stack([_kolmogorov(part) for part in parts])
    levels = np.array(_LEVELS)
    inside = [np.abs(part[:, :, None] - 0.5) <= levels / 2 for part in parts]
    by = ("date", "channel")
    texts = {
        "pit": (by, "rank of the outcome among the scenarios"),
        "energy_score": (("date",), "fair energy score of return and log-vol moves, in standard deviations"),
        "expected_energy_score": (("date",), "its mean under the law"),
        "energy_score_sd": (("date",), "its standard deviation under the law"),
        "state_clipped": (("date",), "whether the starting state lay outside what the generator was fitted on"),
    }
    out: Figures = {name: (dims, days[name], text) for name, (dims, text) in texts.items()}
    return out | {
        "days_in_window": (("date",), size, "days of the rolling figures"),
        "score_excess": (("date",), excess / spread, "rolling energy score less its mean under the law, standardised"),
        "score_excess_p_value": (("date",), np.asarray(norm.sf(excess / spread)), "its one-sided p-value"),
        "pit_ks": (by, ks, "rolling Kolmogorov-Smirnov distance of the PITs from uniform"),
        "pit_ks_p_value": (by, np.asarray(kstwo.sf(ks, size[:, None])), "its p-value"),
        "coverage": ((*by, "level"), np.stack([hit.mean(axis=0) for hit in inside]), "rolling coverage"),
        "coverage_p_value": (
            (*by, "level"),
            np.stack([kupiec(~hit, 1 - levels) for hit in inside]),
            "p-value of the test that the coverage is right",
        ),
    }


def _rolling_sum(values: FloatArray, window: int) -> FloatArray:
    total = np.r_[0.0, np.cumsum(values)]
    end = np.arange(1, total.size)
    return np.asarray(total[end] - total[np.maximum(end - window, 0)])


def _verdict(pit: FloatArray, significance: float, attributes: dict[str, Any], date: npt.NDArray[Any]) -> Figures:
    """Evidence by day, and the verdict, which goes into the attributes."""
    found = calibration_evidence(pit)
    total = logsumexp(found.log_capital, axis=1) - np.log(len(CHANNELS))
    over = total >= -np.log(significance)
    due = bool(over.any())
    day = int(over.argmax()) if due else int(total.argmax())
    channel = int(found.log_capital[day].argmax())
    what = CHANNELS[channel]
    share = found.share[day, channel]
    words = [name for name, _, _ in BETS[1:]]
    by_word = {word: share[1:][[name == word for name in words]].sum() for word in dict.fromkeys(words)}
    word = max(by_word, key=lambda name: float(by_word[name]))
    largest = 10 ** min(float(total[day] / np.log(10)), 300.0)
    says = (_SAYS_OF_DISTANCE if what == "distance" else _SAYS)[word]
    reason = (
        f"{what}: {says}; evidence {largest:.3g} against {1 / significance:g} on {str(date[day])[:10]}"
        if due
        else f"evidence at most {largest:.3g}, an alarm needs {1 / significance:g}"
    )
    attributes |= {
        "refit_due": int(due),
        "alarm": str(date[day])[:10] if due else "",
        "reason": reason,
        "significance": float(significance),
    }
    tens = float(np.log(10))
    return {
        "log10_evidence": (("date",), total / tens, "evidence against the law, log to base 10"),
        "log10_evidence_by_channel": (("date", "channel"), found.log_capital / tens, "the same by channel"),
        "refit_due": (("date",), np.logical_or.accumulate(over), "whether the evidence has reached 1/significance"),
    }
