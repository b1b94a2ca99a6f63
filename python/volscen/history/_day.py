"""One day of a history: its rows, its chain, its surface, and its row of the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen import black
from volscen._names import shown
from volscen._threads import single_threaded_blas
from volscen._underlyings import refuse_mixed_spots, warn_of_underlyings
from volscen.chain import CHAIN_REASONS, Chain
from volscen.chain._options import ChainOptions
from volscen.errors import InputError
from volscen.history._listing import Listing
from volscen.quotes import OPTIONAL_COLUMNS, REASONS, REQUIRED_COLUMNS, instants_of, judge_quotes
from volscen.surface._build import (
    EXTRAPOLATED,
    OBSERVED,
    Grid,
    OutOfReachError,
    check_limits,
    read_grid,
    surface_on_grid,
)
from volscen.surface._judge import FIGURES
from volscen.surface._smoothers import check_options

__all__ = ["DAY_REASONS", "Day", "Fitted", "Outcome", "Settings", "fit_days", "read_settings", "split_days"]

FloatArray = npt.NDArray[np.float64]

#: Why a day is dropped.
DAY_REASONS: dict[str, str] = {
    "unusable_chain": "no quote is left, or calls or puts only, or no spot, or one that the forwards contradict",
    "beyond_expiries": "the grid reaches farther before the first or after the last expiry than max_tau_ratio",
    "beyond_strikes": "the grid reaches farther beyond the quoted strikes than max_extrapolation",
    "unfitted": "the smoother gives no positive volatility everywhere",
}

#: Relative error of a difference of call prices that is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Settings:
    """What a day's surface depends on besides its quotes, checked."""

    tau: FloatArray
    moneyness: FloatArray
    method: str
    max_extrapolation: float
    max_tau_ratio: float
    intraday: bool
    chain: ChainOptions
    smoother: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """As plain values that JSON holds to the last bit, and :func:`read_settings` reads."""
        try:
            smoother = json.loads(json.dumps(self.smoother, default=lambda value: value.tolist()))
        except (TypeError, ValueError, AttributeError):
            raise InputError(
                f"options of the smoother must be plain numbers and texts, not {self.smoother!r}"
            ) from None
        return {
            "tau": self.tau.tolist(),
            "moneyness": self.moneyness.tolist(),
            "method": self.method,
            "max_extrapolation": float(self.max_extrapolation),
            "max_tau_ratio": float(self.max_tau_ratio),
            "intraday": self.intraday,
            **json.loads(json.dumps(asdict(self.chain))),
            **smoother,
        }


@dataclass(frozen=True)
class Day:
    """Sound rows of one day (or snapshot) and counts of the others."""

    date: np.datetime64
    clean: pd.DataFrame
    dropped: pd.Series[int]

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that the day's surface is made from."""
        digest = hashlib.sha256(f"{self.date}{self.dropped.to_list()}".encode())
        for name, column in self.clean.items():
            values = column.to_numpy()
            if values.dtype.kind not in "biufM":
                values = np.array(["" if pd.isna(v) else str(v) for v in values], dtype="U")
            digest.update(f"{name}{values.dtype.kind}{values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Fitted:
    """A day's surface, and what the next day's return is measured against."""

    grid: Grid
    listing: Listing


Outcome = tuple[dict[str, Any], Fitted | None]


def read_settings(
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    method: str,
    max_extrapolation: float,
    max_tau_ratio: float,
    intraday: bool,
    options: Mapping[str, Any],
) -> Settings:
    """Share the options out between chain and smoother, refusing unknown ones before any work is done."""
    tau, moneyness = read_grid(tau, "tau"), read_grid(moneyness, "moneyness")
    check_limits(max_extrapolation, max_tau_ratio)
    if not isinstance(intraday, bool | np.bool_):
        raise InputError(f"intraday must be True or False, not {intraday!r}")
    names = {field.name for field in fields(ChainOptions)}
    chain = ChainOptions(**{name: value for name, value in options.items() if name in names})
    smoother = {name: value for name, value in options.items() if name not in names}
    check_options(method, smoother, also=tuple(names))
    return Settings(tau, moneyness, method, max_extrapolation, max_tau_ratio, bool(intraday), chain, smoother)


def split_days(quotes: pd.DataFrame, settings: Settings) -> tuple[list[Day], int, dict[str, Any]]:
    """Split the table by day, or by snapshot.

    Returns
    -------
    days : list of Day
        In order of time.
    rows_without_date : int
    kind : dict
        What the table is made of: ``bid_ask``, ``spot``, ``timed`` and ``underlying``.
    """
    clean, verdict, date = judge_quotes(quotes, keep=settings.chain.keep)
    warn_of_underlyings(quotes, stacklevel=3)
    refuse_mixed_spots(clean)
    name = _underlying(clean)
    key, key_of_clean = _keys(quotes, clean, date, settings.intraday)
    known = ~np.isnat(key)
    keys, row = np.unique(key[known], return_inverse=True)
    if not keys.size:
        raise InputError("quotes hold no row with a date")
    n = len(REASONS) + 1  # one more for the rows kept, whose verdict is -1
    counts = np.bincount(row * n + verdict[known] + 1, minlength=keys.size * n).reshape(-1, n)[:, 1:]
    clean = clean[[name for name in clean.columns if name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)]]
    bounds = np.searchsorted(key_of_clean, keys, side="left")
    ends = np.append(bounds[1:], len(clean))
    index = pd.Index(REASONS, name="reason")
    days = [
        Day(day, clean.iloc[start:end], pd.Series(count, index=index, name="rows"))
        for day, start, end, count in zip(keys, bounds, ends, counts, strict=True)
    ]
    kind = {
        "bid_ask": "bid" in clean and "ask" in clean,
        "spot": "spot" in clean,
        "timed": "quote_time" in clean,
        "underlying": name,
    }
    return days, int(np.count_nonzero(~known)), kind


def _underlying(clean: pd.DataFrame) -> str | None:
    if "underlying" not in clean:
        return None
    names = clean["underlying"].unique()
    if len(names) > 1:
        raise InputError(
            f"quotes hold {len(names)} underlyings ({shown(names)}); keep one "
            f"(on the command line, --underlying {names[0]})"
        )
    return str(names[0]) if len(names) else None


def _keys(
    quotes: pd.DataFrame, clean: pd.DataFrame, date: npt.NDArray[np.datetime64], intraday: bool
) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.datetime64]]:
    """What tells the rows of one surface from another's: the day, or the instant; of all rows and of the sound ones."""
    of_clean = clean["date"].to_numpy().astype("datetime64[D]")
    if not intraday:
        if "quote_time" in clean:
            several = clean.groupby("date", sort=True)["quote_time"].nunique()
            if (several > 1).any():
                day, n = several.index[several > 1][0], int(several[several > 1].iloc[0])
                raise InputError(
                    f"quotes of {day:%Y-%m-%d} hold {n} snapshots; keep one a day, or give intraday=True and "
                    "periods_per_year for a history with a row per snapshot"
                )
        return date, of_clean
    if "quote_time" not in quotes:
        raise InputError("intraday=True needs quotes with quote_time and expiry_time; these have none")
    every, times = instants_of(quotes["quote_time"]), clean["quote_time"].to_numpy().astype("datetime64[ns]")
    off = times.astype("datetime64[D]") != of_clean
    if off.any():
        raise InputError(
            f"the quotes of {of_clean[off][0]} were taken at {np.datetime_as_string(times[off][0], unit='m')}, which "
            "is another day; state quote_time and expiry_time in the exchange's own time, without a time zone"
        )
    return np.where(np.isnat(date), np.datetime64("NaT", "D"), every), times


def fit_days(days: list[Day], settings: Settings) -> list[Outcome]:
    """Surface, or reason for there being none, of each day."""
    # Sums of products may differ in the last bit with the number of BLAS threads, and workers have fewer of them.
    with single_threaded_blas():
        return [_one_day(day, settings) for day in days]


def _one_day(day: Day, settings: Settings) -> Outcome:
    """Surface of one day with its row of the report; a day that cannot be used gives a row only."""
    row: dict[str, Any] = {
        "date": day.date,
        "status": "dropped",
        "reason": "",
        "detail": "",
        "n_rows": len(day.clean) + int(day.dropped.sum()),
        "n_used": 0,
        "n_expiries": 0,
        **dict.fromkeys(("fit_rmse", "fit_max", "rate", "penalty"), np.nan),
        **dict.fromkeys(("calendar_free", "butterfly_free"), False),
        **dict.fromkeys(("observed_share", "extrapolated_share", *FIGURES), np.nan),
        **{"return_of": "", "jump": "", "return_adjustment": 0.0},
        "spot_source": "",
        **{f"dropped_{reason}": int(day.dropped[reason]) for reason in REASONS},
        **{f"dropped_{reason}": 0 for reason in CHAIN_REASONS},
    }
    try:
        chain = Chain.from_clean(day.clean, day.date, day.dropped, settings.chain)
    except InputError as error:
        row.update(reason="unusable_chain", detail=str(error))
        return row, None
    row.update({f"dropped_{reason}": int(count) for reason, count in chain.dropped.items()})
    row["n_used"], row["n_expiries"] = len(chain.quotes), int(np.count_nonzero(chain.forwards["n_used"]))
    row["spot_source"] = chain.spot_source
    last = chain.forwards[chain.forwards["n_used"] > 0].iloc[-1]
    row["rate"] = -float(np.log(last["discount_factor"])) / float(last["tau"])
    try:
        grid = surface_on_grid(
            chain,
            settings.tau,
            settings.moneyness,
            settings.method,
            settings.max_extrapolation,
            settings.max_tau_ratio,
            settings.smoother,
        )
    except OutOfReachError as error:
        row.update(reason=error.reason, detail=str(error))
        return row, None
    except InputError as error:
        row.update(reason="unfitted", detail=str(error))
        return row, None
    calendar, monotone, convex = grid.penalty
    row.update(
        status="kept",
        fit_rmse=grid.fit_rmse,
        fit_max=grid.fit_max,
        penalty=float(grid.penalty.sum()),
        calendar_free=bool(calendar == 0),
        butterfly_free=bool(max(monotone, convex) == 0 and _first_slopes_bounded(grid, settings)),
        observed_share=float(np.mean(grid.quality == OBSERVED)),
        extrapolated_share=float(np.mean(grid.quality == EXTRAPOLATED)),
        **grid.figures,
        **grid.details,
    )
    return row, Fitted(grid, Listing.of(chain, day.clean, day.date))


def _first_slopes_bounded(grid: Grid, settings: Settings) -> bool:
    """Whether call prices fall no faster than the strike rises, which the penalty does not look at."""
    m = settings.moneyness[:2]
    if m.size < 2:
        return True
    call = black.price(1.0, m, settings.tau[:, None], grid.implied_vol[:, :2])
    return bool(np.all(call[:, 0] - call[:, 1] <= (m[1] - m[0]) * (1 + _ROUNDING)))
