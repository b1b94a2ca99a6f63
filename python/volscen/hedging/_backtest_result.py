"""What a hedging backtest leaves behind: the ledger of one position, all of them together, a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.hedging._backtest_market import MarketDay, key_of
from volscen.hedging._backtest_plan import OpenPosition
from volscen.portfolio._instruments import Instrument, Option

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ledger", "assemble", "backtest_table"]

FloatArray = npt.NDArray[np.float64]

_BP = {"units": "1e-4 entry spot"}
_BY_ARM = {
    "error": "profit of the day, long the portfolio and short the hedge, before costs",
    "net_error": "the same after costs",
    "cumulative_error": "tracking error since opening, before costs",
    "net_cumulative_error": "tracking error since opening, after costs",
    "cost": "cost of trading the hedge",
    "turnover": "value of what was traded",
    "option_turnover": "value of the options traded",
}
_COUNTS = {
    "n_options": "options held",
    "largest_ratio": "largest absolute ratio of an option",
    "r_squared": "share of the variance hedged, in sample",
}


class Ledger:
    """Entries of one position, in currency; given out in basis points of the spot at opening."""

    def __init__(self, arms: Sequence[str], sets: Sequence[str], number: int, position: OpenPosition) -> None:
        self._arms, self._sets, self._number, self._position = list(arms), list(sets), number, position
        self._days: list[dict[str, Any]] = []
        self._offered: list[dict[str, Sequence[Instrument]]] = []
        self._entries: list[dict[str, dict[str, Any]]] = []

    def open_day(
        self,
        today: MarketDay,
        tomorrow: MarketDay,
        value: float,
        change: float,
        offered: dict[str, Sequence[Instrument]],
    ) -> None:
        """Begin the entries of a day."""
        self._days.append({"as_of": today.as_of, "date": tomorrow.as_of, "value": value, "change": change})
        self._offered.append(offered)
        self._entries.append({})

    def enter(self, arm: str, *, ratio: FloatArray, is_option: npt.NDArray[np.bool_], **figures: float) -> None:
        """Enter the day of one arm."""
        units = np.abs(ratio[is_option])
        self._entries[-1][arm] = figures | {
            "ratio": ratio,
            "n_options": int(np.count_nonzero(units)),
            "largest_ratio": float(units.max(initial=0.0)),
        }

    def close(self) -> xr.Dataset:
        """The position's part of the result."""
        n_arms, n_days = len(self._arms), len(self._days)
        slots = max((len(i) for day in self._offered for i in day.values()), default=0)
        bp = 1e4 / self._position.spot

        def series(name: str) -> FloatArray:
            return np.array([[float(day[arm][name]) for day in self._entries] for arm in self._arms])

        out = {name: bp * series(name) for name in ("error", "cost", "turnover", "option_turnover")}
        out["net_error"] = out["error"] - out["cost"]
        growth = series("growth")
        for gross, total in (("error", "cumulative_error"), ("net_error", "net_cumulative_error")):
            out[total] = np.empty_like(out[gross])
            account = np.zeros(n_arms)
            for day in range(n_days):
                account = out[gross][:, day] + growth[:, day] * account
                out[total][:, day] = account
        out |= {name: series(name) for name in _COUNTS}
        ratio = np.full((n_arms, n_days, slots), np.nan)
        for i, arm in enumerate(self._arms):
            for day, entries in enumerate(self._entries):
                found = entries[arm]["ratio"]
                ratio[i, day, : found.size] = found
        shape = (len(self._sets), n_days, slots)
        kind, strike = np.full(shape, -1, dtype=np.int8), np.full(shape, np.nan)
        expiry = np.full(shape, np.datetime64("NaT", "ns"))
        for s, label in enumerate(self._sets):
            for day, offered in enumerate(self._offered):
                for slot, instrument in enumerate(offered[label]):
                    kind[s, day, slot] = _kind(instrument)
                    key = key_of(instrument)
                    if key is not None:
                        strike[s, day, slot] = key[1]
                        expiry[s, day, slot] = key[0]
        by_arm, by_slot, by_set = ("arm", "date"), ("arm", "date", "slot"), ("instruments", "date", "slot")

        def daily(name: str) -> npt.NDArray[Any]:
            return np.array([day[name] for day in self._days])

        return xr.Dataset(
            {name: (by_arm, out[name]) for name in (*_BY_ARM, *_COUNTS)}
            | {
                "ratio": (by_slot, ratio),
                "kind": (by_set, kind),
                "strike": (by_set, strike),
                "expiry": (by_set, expiry),
                "portfolio_value": ("date", daily("value")),
                "portfolio_change": ("date", daily("change")),
            },
            coords={
                "arm": np.array(self._arms, dtype=str),
                "date": daily("date").astype("datetime64[ns]"),
                "instruments": np.array(self._sets, dtype=str),
                "as_of": ("date", daily("as_of").astype("datetime64[ns]")),
                "position": ("date", np.full(n_days, self._number)),
                "entry_spot": ("date", np.full(n_days, self._position.spot)),
            },
        )


def _kind(instrument: Instrument) -> int:
    if not isinstance(instrument, Option):
        return 0
    return 1 if instrument.is_call else 2


def assemble(parts: Sequence[xr.Dataset], attributes: Mapping[str, Any]) -> xr.Dataset:
    """All positions together, with names and units."""
    slots = max(part.sizes["slot"] for part in parts)
    padded = []
    for part in parts:
        missing = slots - part.sizes["slot"]
        padded.append(part.pad(slot=(0, missing), constant_values={"kind": -1}) if missing else part)
    for part in padded:
        part["kind"] = part["kind"].astype(np.int8)
    out = xr.concat(padded, dim="date", data_vars="minimal", coords="minimal", compat="override", join="override")
    for name, text in _BY_ARM.items():
        out[name].attrs = {"long_name": text, **_BP}
    for name, text in _COUNTS.items():
        out[name].attrs = {"long_name": text, "units": "1"}
    texts = {
        "ratio": ("units held short against the portfolio", "1"),
        "kind": ("0 underlying, 1 call, 2 put, -1 empty slot", "1"),
        "strike": ("strike of the instrument in the slot", "currency"),
        "portfolio_value": ("value of the portfolio at as_of", "currency"),
        "portfolio_change": ("its change to date", "currency"),
        "entry_spot": ("spot price when the position was opened", "currency"),
        "position": ("number of the position", "1"),
    }
    for name, (text, unit) in texts.items():
        out[name].attrs = {"long_name": text, "units": unit}
    out["expiry"].attrs = {"long_name": "expiry of the instrument in the slot"}
    out["as_of"].attrs = {"long_name": "evening on which the hedge was set"}
    out.attrs = {str(k): v if isinstance(v, (int, float, str)) else str(v) for k, v in attributes.items()}
    return out


def backtest_table(
    found: xr.Dataset, *, baseline: str, net: bool = False, by: Literal["day", "position"] = "day"
) -> pd.DataFrame:
    """Tracking errors of the arms of a backtest side by side.

    Parameters
    ----------
    found : xarray.Dataset
        From :func:`volscen.backtest_hedge`; part of it by ``sel(date=...)`` or ``sel(arm=[...])``.
    baseline : str
        Arm that the others are compared with.
    net : bool
        After costs.
    by : {"day", "position"}
        Daily errors, or the cumulative error of each position at its close.

    Returns
    -------
    pandas.DataFrame
        What :func:`volscen.evaluation.tracking_table` gives, in basis points of entry spot: mean, standard
        deviation, RMSE, value at risk and expected shortfall (losses positive), ratio of RMSE to the baseline's
        with its interval, Diebold-Mariano statistic of squared errors; and per day ``cost``, ``cost_ratio`` to the
        baseline's, ``turnover``, ``n_options`` and the ``largest_ratio`` of all days.

    Raises
    ------
    InputError
        If the baseline is absent or there are fewer than 20 days or positions.

    Examples
    --------
    See :func:`volscen.backtest_hedge`.
    """
    from volscen.evaluation import tracking_table

    if not isinstance(found, xr.Dataset) or not {"error", "net_cumulative_error"} <= set(found.data_vars):
        raise InputError("found must be the dataset that backtest_hedge returns")
    if by not in ("day", "position"):
        raise InputError(f"by must be 'day' or 'position', not {by!r}")
    name = ("net_" if net else "") + ("error" if by == "day" else "cumulative_error")
    values = found[name]
    if by == "position":
        number = found["position"].values
        values = values.isel(date=np.flatnonzero(np.append(np.diff(number) != 0, True)))
    frame = tracking_table({str(a): values.sel(arm=a).values for a in found["arm"].values}, baseline=baseline)
    cost = found["cost"].mean("date")
    frame["cost"] = cost.values
    base = float(cost.sel(arm=baseline))
    frame["cost_ratio"] = cost.values / base if base > 0 else np.nan
    for extra in ("turnover", "n_options"):
        frame[extra] = found[extra].mean("date").values
    frame["largest_ratio"] = found["largest_ratio"].max("date").values
    return frame
