"""Scenarios for the Open Source Risk Engine (ORE): its scenario file, and the part of its market that the file needs.

The format is that of ORE's own ``ScenarioWriter`` and ``ScenarioFileReader``: a header ``Date,Scenario,Numeraire`` and
one column per risk-factor key ``Type/Name/Index``; one line per sample and date, the dates of a sample together.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._dates import to_days
from volscen._elapsed import elapsed_days_of
from volscen._files import atomic_path
from volscen.errors import InputError
from volscen.portfolio._contracts import DAYS_PER_YEAR, StartingState, one_date
from volscen.surface._interpolate import interpolate_vol

__all__ = ["export_ore"]

FloatArray = npt.NDArray[np.float64]

#: Scenarios worked on at a time.
_BLOCK = 2048

_NAME = re.compile(r"[A-Za-z0-9_.:\-]+")


def export_ore(
    ds: xr.Dataset,
    path: str | Path,
    *,
    name: str,
    strikes: Literal["sticky", "spot", "forward"] = "sticky",
    weights: Literal["refuse", "ignore"] = "refuse",
    dates: npt.ArrayLike | None = None,
    numeraire: npt.ArrayLike | None = None,
    market_xml: str | Path | None = None,
) -> Path:
    r"""Write scenarios of one date as a scenario file of the Open Source Risk Engine.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date, with equal weights: the format has no weights; see :func:`volscen.resample`.
    path : str or Path
        Ends in ``.csv``.
    name : str
        Name of the equity in ORE's configuration, such as ``"SP5"``: letters, digits, ``_ . : -``.
    strikes : {"sticky", "spot", "forward"}
        What a moneyness m of the grid stands for in the file. ORE reads quotes at m times the spot: of today with its
        default ``SmileDynamics`` StickyStrike (``"sticky"``: strike m S0 in every scenario), of the scenario
        otherwise (``"spot"``). Volatilities are interpolated there, flat beyond the grid. ``"forward"`` writes the
        surface as it is, for K/F, which equals ``"spot"`` where there is no carry.
    weights : {"refuse", "ignore"}
        What to do with unequal weights.
    dates : array_like of dates, shape (step,), optional
        ORE's simulation dates; by default weekdays are counted from ``as_of``.
    numeraire : array_like, shape (step,), optional
        Value of the numeraire, the same in all scenarios; by default one unit on the bank account that today's
        discount factors imply.
    market_xml : str or Path, optional
        Also write the fragment of ORE's simulation market that fits the columns (names, expiries, moneyness).

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If weights are unequal, there are several dates, an argument does not fit, or a file cannot be written.

    Notes
    -----
    Columns are ``EquitySpot/<name>/0`` and ``EquityVolatility/<name>/<k>`` with k = i J + j for moneyness i of the grid
    and expiry j of J: expiries run fastest, as in ORE's ``ScenarioSimMarket``. Samples are numbered from 1. Curves
    (rates, dividends, forecasts) are not simulated and stay those of ORE's market.

    Examples
    --------
    >>> import tempfile, volscen
    >>> cube = volscen.resample(volscen.generate(n_scenarios=200, horizon=2, seed=1), 100)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = volscen.export_ore(cube, folder + "/scenarios.csv", name="SP5").read_text()
    >>> text[:66]
    'Date,Scenario,Numeraire,EquitySpot/SP5/0,EquityVolatility/SP5/0,Eq'
    >>> text.count("\n")
    201
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be a scenario dataset such as volscen.generate() returns, not {type(ds).__name__}")
    schema.validate(ds, schema=schema.SCENARIOS)
    ds = one_date(ds)
    _check(path, name, strikes, weights, ds)
    start = StartingState.of(ds)
    days = _days(ds, start, dates)
    bank = _numeraire(start, days, numeraire)
    n_cells = start.tau.size * start.moneyness.size
    keys = [f"EquitySpot/{name}/0", *(f"EquityVolatility/{name}/{k}" for k in range(n_cells))]
    if market_xml is not None:
        text = _market(start, name)
        with atomic_path(market_xml) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write((",".join(["Date", "Scenario", "Numeraire", *keys]) + "\n").encode())
        for begin in range(0, ds.sizes["scenario"], _BLOCK):
            part = ds[["spot", "implied_vol"]].isel(scenario=slice(begin, begin + _BLOCK)).compute()
            _write_block(file, part, start, days, bank, strikes, begin, keys)
    return Path(path)


def _check(path: Any, name: Any, strikes: Any, weights: Any, ds: xr.Dataset) -> None:
    if not isinstance(path, (str, Path)) or Path(path).suffix != ".csv":
        raise InputError(f"cannot write to {path}: the name must end in .csv")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"name must be ORE's name of the equity, of letters, digits and _ . : -, not {name!r}")
    if strikes not in ("sticky", "spot", "forward"):
        raise InputError(f"strikes must be 'sticky', 'spot' or 'forward', not {strikes!r}")
    if weights not in ("refuse", "ignore"):
        raise InputError(f"weights must be 'refuse' or 'ignore', not {weights!r}")
    weight = ds["weight"].values
    if weights == "refuse" and np.ptp(weight) > 1e-9 / weight.size:
        raise InputError(
            "the scenarios have unequal weights, which ORE does not know; draw by them with volscen.resample(ds), or "
            "pass weights='ignore'"
        )


def _days(ds: xr.Dataset, start: StartingState, dates: npt.ArrayLike | None) -> npt.NDArray[np.datetime64]:
    if start.as_of is None:
        raise InputError("ds has no coordinate as_of, which the dates are counted from; assign it")
    if dates is None:
        elapsed = elapsed_days_of(ds, start.as_of, None)
        return np.asarray(start.as_of.astype("datetime64[D]") + elapsed.astype("timedelta64[D]"))
    given = np.asarray(to_days(np.atleast_1d(np.asarray(dates)), "dates")).astype("datetime64[D]")
    if given.shape != (ds.sizes["step"],):
        raise InputError(f"dates must give one date for each of the {ds.sizes['step']} steps, not shape {given.shape}")
    if given[0] <= start.as_of.astype("datetime64[D]") or np.any(np.diff(given) <= np.timedelta64(0, "D")):
        raise InputError("dates must come after as_of and increase strictly")
    return given


def _numeraire(start: StartingState, days: npt.NDArray[np.datetime64], numeraire: npt.ArrayLike | None) -> FloatArray:
    if numeraire is None:
        assert start.as_of is not None
        elapsed = (days - start.as_of.astype("datetime64[D]")).astype(np.float64)
        return np.asarray(1 / start.discount_factor(elapsed / DAYS_PER_YEAR))
    try:
        given = np.atleast_1d(np.asarray(numeraire, dtype=np.float64))
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.shape != days.shape or not np.all(np.isfinite(given)) or np.any(given <= 0):
        raise InputError(f"numeraire must give one positive number for each of the {days.size} steps")
    return given


def _write_block(
    file: BinaryIO,
    part: xr.Dataset,
    start: StartingState,
    days: npt.NDArray[np.datetime64],
    bank: FloatArray,
    strikes: str,
    begin: int,
    keys: list[str],
) -> None:
    import pyarrow as pa
    from pyarrow import csv

    spot = part["spot"].transpose("scenario", "step").values
    surface = part["implied_vol"].transpose("scenario", "step", "tau", "moneyness").values
    # netCDF 3 is big-endian, Arrow is not.
    spot, surface = (x.astype(x.dtype.newbyteorder("="), copy=False) for x in (spot, surface))
    if strikes != "forward":
        surface = _at_spot_moneyness(surface, spot, start, strikes)
    n, steps = spot.shape
    # Moneyness before expiry: expiries run fastest.
    cells = np.moveaxis(surface, -1, -2).reshape(n * steps, -1)
    columns = [
        np.tile(np.datetime_as_string(days, unit="D"), n),
        np.repeat(np.arange(begin + 1, begin + n + 1), steps),
        np.tile(bank, n),
        spot.ravel(),
        *np.ascontiguousarray(cells.T),
    ]
    table = pa.table(columns, names=["Date", "Scenario", "Numeraire", *keys])
    # Without quotes, which not all of ORE's readers take off.
    csv.write_csv(table, file, csv.WriteOptions(include_header=False, quoting_style="none"))


def _at_spot_moneyness(
    surface: npt.NDArray[Any], spot: FloatArray, start: StartingState, strikes: str
) -> npt.NDArray[Any]:
    """Volatility at strikes m S0 ("sticky") or m S ("spot") in place of m F."""
    strike_over_spot = start.moneyness * (start.spot / spot[..., None] if strikes == "sticky" else 1.0)
    out = np.empty_like(surface)
    for j, tau in enumerate(start.tau):
        query = np.broadcast_to(
            strike_over_spot / start.carry(np.array([tau]))[0], surface.shape[:2] + start.moneyness.shape
        )
        out[:, :, j] = interpolate_vol(
            surface, start.tau, start.moneyness, np.full(start.moneyness.size, tau), np.ascontiguousarray(query)
        )
    return out


def _market(start: StartingState, name: str) -> str:
    days = 365 * start.tau
    if np.any(np.abs(days - np.round(days)) > 0.01):
        raise InputError(
            "market_xml: ORE's expiries are whole days, and the grid's are not "
            f"({', '.join(f'{d:.4g}' for d in days)}); write the scenarios without it"
        )
    expiries = ",".join(f"{d:.0f}D" for d in days)
    moneyness = ",".join(f"{m:.10g}" for m in start.moneyness)
    return f"""<EquityVolatilities>
  <Simulate>true</Simulate>
  <ReactionToTimeDecay>ForwardVariance</ReactionToTimeDecay>
  <Names>
    <Name>{name}</Name>
  </Names>
  <Expiries>{expiries}</Expiries>
  <Surface>
    <Moneyness>{moneyness}</Moneyness>
  </Surface>
</EquityVolatilities>
"""
