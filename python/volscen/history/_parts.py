"""Surfaces of days to a history dataset with its returns, and to the report; also onto the end of a history."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from volscen import schema
from volscen.errors import HistoryWarning, InputError
from volscen.history import make_history
from volscen.history._day import DAY_REASONS, Fitted, Outcome, Settings
from volscen.history._listing import Listing
from volscen.history._returns import JUMP_FLAGS, day_return

__all__ = ["Recorded", "append", "assemble", "last_listing"]


#: Distance of spots from parity's that is taken for an error, in logarithms: whatever the tenor, and a year of yield.
_SPOT_GAP, _YIELD = 0.01, 0.15


@dataclass(frozen=True)
class Recorded:
    """What a history records of its making, in the attribute ``build_settings``.

    Attributes
    ----------
    settings : dict
        See :meth:`volscen.history._day.Settings.record`.
    quotes : dict
        What the table was made of; see :func:`volscen.history._day.split_days`.
    returns : {"forward", "spot"}
    """

    settings: dict[str, Any]
    quotes: dict[str, Any]
    returns: str

    def to_text(self) -> str:
        """JSON text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def of(cls, history: xr.Dataset, name: str) -> Recorded:
        """Read what a history recorded; ``name`` is what errors call it."""
        text = history.attrs.get("build_settings")
        if text is None:
            raise InputError(
                f"{name} does not say how it was built (no attribute build_settings), so no day can be added; build it "
                "anew with volscen.build_history"
            )
        try:
            data = json.loads(str(text))
            return cls(dict(data["settings"]), dict(data["quotes"]), str(data["returns"]))
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{name}: the attribute build_settings is damaged; build it anew") from None


def last_listing(history: xr.Dataset, name: str) -> Listing:
    """What the last day left for the next return."""
    listing = Listing.from_text(str(history.attrs.get("last_day", "")), name)
    if np.datetime64(listing.date) != history["date"].values[-1]:
        raise InputError(
            f"{name} ends on {str(history['date'].values[-1])[:16]} and recorded {listing.date} as its last day: it "
            "was cut after it was built; give the whole one, or build it anew"
        )
    return listing


def assemble(
    outcomes: list[Outcome],
    settings: Settings,
    recorded: Recorded,
    before: Listing | None = None,
    **attributes: Any,
) -> tuple[xr.Dataset | None, pd.DataFrame]:
    """History and report of days in order; no history where no day has a surface.

    Parameters
    ----------
    before : Listing, optional
        Of the day before the first, into which the first return then leads.
    **attributes
        Of :func:`volscen.make_history`.
    """
    kept: list[tuple[dict[str, Any], Fitted]] = []
    returns: list[float] = []
    for row, fitted in outcomes:
        if fitted is None:
            continue
        if before is None:
            returns.append(np.nan)
        else:
            step = day_return(before, fitted.listing, recorded.returns)
            row.update(return_of=step.basis, jump=step.action.kind, return_adjustment=step.adjustment)
            returns.append(step.log_return)
        before = fitted.listing
        kept.append((row, fitted))
    report = pd.DataFrame([row for row, _ in outcomes]).set_index("date").drop(columns="spot_source")
    if not kept:
        return None, report
    _warn_of_jumps(report)
    grids = [fitted.grid for _, fitted in kept]
    history = make_history(
        np.array([row["date"] for row, _ in kept], dtype="datetime64[ns]"),
        settings.tau,
        settings.moneyness,
        np.stack([grid.implied_vol for grid in grids]),
        spot=np.array([fitted.listing.spot for _, fitted in kept]),
        forward=np.stack([grid.forward for grid in grids]),
        discount_factor=np.stack([grid.discount_factor for grid in grids]),
        quality=np.stack([grid.quality for grid in grids]),
        **attributes,
    )
    history["log_return"].values[:] = returns
    for name, values in {
        "n_quotes": np.array([grid.n_quotes for grid in grids], dtype=np.int32),
        "fit_rmse": np.array([grid.fit_rmse for grid in grids]),
        "fit_max": np.array([grid.fit_max for grid in grids]),
        "arbitrage_penalty": np.array([row["penalty"] for row, _ in kept]),
        "extrapolated_share": np.array([row["extrapolated_share"] for row, _ in kept]),
        "jump_flag": np.array([JUMP_FLAGS[row["jump"]] for row, _ in kept], dtype=np.int8),
    }.items():
        history[name] = ("date", values)
    assert before is not None
    history.attrs.update(
        method=settings.method,
        spot_source=kept[0][0]["spot_source"],
        return_source=recorded.returns,
        build_settings=recorded.to_text(),
        last_day=before.to_text(),
    )
    _totals(history, _dropped(report))
    _warn_of_spots(history)
    return schema.validate(schema.arrange(history)), report


def append(history: xr.Dataset, new: xr.Dataset | None, report: pd.DataFrame) -> xr.Dataset:
    """The days of ``new`` after those of a history, whose own numbers stay as they are."""
    days = dropped_days(history) + _dropped(report)
    if new is None:
        out = history.copy()
    else:
        parts = {}
        strange = [str(name) for name in history.data_vars if name not in new]
        if strange:
            raise InputError(f"the history holds {', '.join(strange)}, which new days lack; drop these variables")
        for name in new.data_vars:
            if name not in history:
                raise InputError(f"the history lacks the variable {name}; build it anew")
            values = np.concatenate([history[name].values, new[name].values]).astype(history[name].dtype)
            parts[name] = (history[name].dims, values, history[name].attrs)
        dates = np.concatenate([history["date"].values, new["date"].values])
        coords = {
            "date": ("date", dates, history["date"].attrs),
            "tau": history["tau"],
            "moneyness": history["moneyness"],
        }
        out = xr.Dataset(parts, coords=coords, attrs=dict(history.attrs))
        out.attrs["last_day"] = new.attrs["last_day"]
    _totals(out, days)
    return schema.validate(out)


def dropped_days(history: xr.Dataset) -> list[tuple[str, str]]:
    """Dates that gave no surface, with the reason."""
    reasons = list(DAY_REASONS)
    try:
        return [
            (date, reasons[number])
            for number, dates in enumerate(json.loads(str(history.attrs.get("dropped_days", "[]"))))
            for date in dates
        ]
    except (ValueError, TypeError, IndexError):
        raise InputError("the attribute dropped_days of the history is damaged; build it anew") from None


def _dropped(report: pd.DataFrame) -> list[tuple[str, str]]:
    """Days of a report that gave no surface, with the reason."""
    gone = report.loc[report["status"] == "dropped", "reason"]
    return list(zip(np.datetime_as_string(gone.index.to_numpy()).tolist(), gone.tolist(), strict=True))


def _totals(history: xr.Dataset, dropped: list[tuple[str, str]]) -> None:
    """Figures over all days, in the attributes."""
    rmse, n = history["fit_rmse"].values, history["n_quotes"].values.astype(np.int64)
    history.attrs.update(
        days_dropped=len(dropped),
        dropped_days=json.dumps([sorted(d for d, why in dropped if why == reason) for reason in DAY_REASONS]),
        fit_rmse_vol_points=float(100 * np.sqrt(np.sum(n * rmse**2) / n.sum())),
    )


def _warn_of_spots(history: xr.Dataset) -> None:
    """Say where the table's spots are not those that the forwards are of, such as closes adjusted for dividends."""
    if history.attrs["spot_source"] == "parity":
        return
    gap = np.log(history["spot"].values / (history["forward"].values[:, 0] * history["discount_factor"].values[:, 0]))
    middle = float(np.median(gap))
    if abs(middle) > _SPOT_GAP + _YIELD * float(history["tau"].values[0]):
        warnings.warn(
            f"column spot is {abs(np.expm1(middle)):.1%} {'above' if middle > 0 else 'below'} put-call parity's on the "
            f"median day ({np.expm1(gap.min()):+.1%} to {np.expm1(gap.max()):+.1%}): is it adjusted for dividends, of "
            "another hour, or of another underlying? Scenarios start from it; without the column parity's is taken",
            HistoryWarning,
            stacklevel=3,
        )


def _warn_of_jumps(report: pd.DataFrame) -> None:
    suspect = report.index[report["jump"] == "suspect"]
    if len(suspect):
        dates = ", ".join(f"{date:%Y-%m-%d}" for date in suspect[:5])
        warnings.warn(
            f"the return into {dates}{', ...' if len(suspect) > 5 else ''} may be a corporate action (jump_flag 2) and "
            "is left as it is; look at these days, and mark altered contracts in a column adjusted",
            HistoryWarning,
            stacklevel=3,
        )
