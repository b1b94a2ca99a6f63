"""Closing prices of options on the SSE 50 ETF: some are hidden, and predicted from the others of their day."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

import pagetables
import volscen
from volscen._repair._base import Observations, Predictor, quote_noise
from volscen.errors import InputError
from volscen.sources import read_table

__all__ = ["Day", "days", "hide", "table"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_FEWEST = 20
_SEEN = {"regular": "half", "adversarial": "a quarter"}


@dataclass(frozen=True)
class Day:
    """Out-of-the-money quotes of a date, by expiry and strike: years, ln(K/F), vols, each of shape (n,)."""

    date: np.datetime64
    tau: FloatArray
    k: FloatArray
    vol: FloatArray


def days(folder: Path, every: int = 1) -> list[Day]:
    """Every so many of the file's dates, through parity and filters as the package applies them."""
    raw = pd.read_parquet(folder / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    dates = np.unique(raw["date"])[::every]
    columns = {"option_type": "type", "price": "close", "adjusted": "adjusted_contract"}
    quotes, _ = read_table(raw[raw["date"].isin(dates)], columns=columns)
    found = []
    for date, rows in quotes.groupby("date"):
        try:
            used = volscen.Chain(rows, min_tau=7 / 365).quotes
        except InputError:  # no parity, or too few quotes
            continue
        if len(used) >= _FEWEST and used["tau"].nunique() >= 2:
            columns_ = (used[name].to_numpy(dtype=np.float64) for name in ("tau", "log_moneyness", "implied_vol"))
            found.append(Day(np.datetime64(date, "D"), *columns_))
    return found


def hide(day: Day, kind: str, rng: np.random.Generator) -> BoolArray:
    """Which quotes are seen: half of them; or a third of one side only, often without the first or last expiry."""
    n = day.k.size
    if kind == "regular":
        seen = rng.random(n) < 0.5
    else:
        seen = rng.random(n) < 0.35
        side = day.k * rng.choice([-1, 1])
        seen &= side < 0.3 * side.max()
        expiries = np.unique(day.tau)
        if rng.random() < 0.6:
            seen &= day.tau != rng.choice(expiries[[0, -1]])
        kept = np.unique(day.tau[seen]) if seen.any() else expiries[:1]
        for tau in kept:  # one quote near the money
            own = np.flatnonzero(day.tau == tau)
            seen[own[np.argmin(np.abs(day.k[own]))]] = True
    for i in rng.permutation(n)[: max(0, 5 - int(seen.sum()))]:
        seen[i] = True
    return seen


def _observations(day: Day, seen: BoolArray) -> Observations:
    """One surface whose grid is a single point near the money: all quotes are further points."""
    tau, k = np.append(np.median(day.tau), day.tau), np.append(0.0, day.k)
    log_vol = np.append(np.nan, np.where(seen, np.log(day.vol), np.nan))
    level = np.append(np.median(day.vol[seen]), np.where(seen, day.vol, np.median(day.vol[seen])))
    return Observations(tau, k, (1, 1), log_vol[None], (quote_noise(tau, k) / level)[None])


def _halves(found: list[Day]) -> Iterator[tuple[str, list[Day]]]:
    middle = len(found) // 2
    for part in (found[:middle], found[middle:]):
        yield f"{part[0].date} to {part[-1].date}", part


def table(found: list[Day], predictors: Mapping[str, Predictor], seed: int = 5) -> tuple[str, str]:
    """Markdown tables: by half of the dates, mask and method, the RMSE in vol at hidden quotes and its standard error.

    Coverage is of Gaussian intervals of the predictive standard deviation and the quotes' assumed noise. The second
    table is that of the page.
    """
    page = []
    lines = [
        "| dates | mask | seen % | method | RMSE | s.e. | median | 80% | 95% | ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for label, part in _halves(found):
        for kind in ("regular", "adversarial"):
            rng = np.random.default_rng([seed, len(kind)])
            seen = [hide(day, kind, rng) for day in part]
            share = np.mean([own.mean() for own in seen])
            years = " to ".join(str(day.date)[:4] for day in (part[0], part[-1]))
            page.append([years, _SEEN[kind]])
            told = ""
            for name, predictor in predictors.items():
                start = time.process_time()
                errors, ratios = _errors(part, seen, predictor)
                spent = 1e3 * (time.process_time() - start) / len(part)
                cover = ["-", "-"]
                if np.isfinite(ratios).all():
                    cover = [f"{(ratios < half).mean():.2f}" for half in (1.28155, 1.95996)]
                page[-1].append(f"{100 * errors.mean():.2f}")
                if name == "default":
                    told = " / ".join(one.lstrip("0") for one in cover)
                error = errors.std(ddof=1) / np.sqrt(errors.size)
                lines.append(
                    f"| {label} | {kind} | {100 * share:.0f} | {name} | {errors.mean():.4f} | {error:.4f} | "
                    f"{np.median(errors):.4f} | {cover[0]} | {cover[1]} | {spent:.1f} |"
                )
            page[-1].append(told)
    header = ["dates", "quotes seen", *(f"`{name}`" for name in predictors), "80 / 95% of `default`"]
    return "\n".join(lines), pagetables.table(header, page)


def _errors(part: list[Day], masks: list[BoolArray], predictor: Predictor) -> tuple[FloatArray, FloatArray]:
    """RMSE of each day's hidden quotes, and all errors over their standard deviations."""
    errors, ratios = [], []
    for day, seen in zip(part, masks, strict=True):
        if seen.all():
            continue
        observed = _observations(day, seen)
        prediction = predictor.predict(observed)
        vol = np.exp(prediction.mean[0, 1:])
        miss = np.abs(vol - day.vol)[~seen]
        errors.append(np.sqrt(np.mean(miss**2)))
        sd = np.hypot(prediction.sd[0, 1:] * vol, quote_noise(day.tau, day.k))
        ratios.append(miss / sd[~seen])
    return np.array(errors), np.concatenate(ratios)
