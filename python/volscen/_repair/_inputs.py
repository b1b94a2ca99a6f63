"""What is to be repaired, in any of its forms, as surfaces that share their points."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen._array import float_array
from volscen._repair._base import quote_noise
from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.schema import check_grid

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Batch", "Request", "read_request"]

FloatArray = npt.NDArray[np.float64]

#: Volatilities outside are mistaken (per cent, prices, total variances), and so are times.
_LEAST_VOL, _MOST_VOL, _MOST_TAU = 1e-3, 5.0, 60.0

#: K/F outside are strikes or per cent, and this much apart in logarithm they are the same (ratios to four digits).
_MONEYNESS, _SAME_STRIKE = (0.02, 20.0), 5e-4

#: Least relative error of a quote, and the error in vol that every half-spread has added in quadrature.
_LEAST_NOISE, _SPREAD_FLOOR = 1e-4, 5e-4

#: Columns of a table that are read, others that mean one of them, and how like one another name must be to be a slip.
_COLUMNS = ("date", "tau", "moneyness", "log_moneyness", "implied_vol", "half_spread_vol", "bid_vol", "ask_vol")
_ALSO = {"bid_iv": "bid_vol", "ask_iv": "ask_vol", "spread_vol": "half_spread_vol"}
_NEAR = 0.8

#: Half-spread to standard deviation, an error being anywhere within bid and ask.
_UNIFORM = 1 / np.sqrt(3)

_SURFACE_DIMS = ("tau", "moneyness")


@dataclass(frozen=True)
class Batch:
    """Surfaces observed at the same points.

    Attributes
    ----------
    rows : ndarray of int, shape (n,)
        Their places among all.
    tau, k : ndarray, shape (P,)
        Points quoted.
    vol, noise : ndarray, shape (n, P)
        Volatilities, NaN where there is none, and standard deviations of their errors; None for the usual ones.
    """

    rows: npt.NDArray[np.intp]
    tau: FloatArray
    k: FloatArray
    vol: FloatArray
    noise: FloatArray | None


@dataclass(frozen=True)
class Request:
    """All that is to be repaired.

    Attributes
    ----------
    tau, moneyness : ndarray, shapes (J,), (I,)
        The grid wanted.
    on_grid : bool
        Whether the points quoted are those of this grid.
    quoted : tuple of ndarray, or None
        Times and moneyness of the grid quoted, where it is a grid.
    lead : dict
        Further dimensions and their sizes.
    coords : dict
        Coordinates along them.
    """

    tau: FloatArray
    moneyness: FloatArray
    on_grid: bool
    quoted: tuple[FloatArray, FloatArray] | None
    lead: dict[str, int]
    coords: dict[str, Any]
    batches: list[Batch]
    source: str

    @property
    def count(self) -> int:
        """Number of surfaces."""
        return int(np.prod(list(self.lead.values()), dtype=np.int64))


def read_request(observed: Any, tau: Any, moneyness: Any, noise: Any) -> Request:
    """Read what is given to :func:`volscen.repair`."""
    import pandas as pd
    import xarray as xr

    from volscen.chain import Chain

    if isinstance(observed, Chain):
        return _of_chain(observed, *_wanted(tau, moneyness, "a chain"), noise)
    if isinstance(observed, pd.DataFrame):
        return _of_table(observed, *_wanted(tau, moneyness, "a table"), noise)
    if isinstance(observed, xr.Dataset | xr.DataArray):
        return _of_xarray(observed, tau, moneyness, noise)
    if tau is None or moneyness is None:
        raise InputError("an array of volatilities needs tau and moneyness, the axes of its last two dimensions")
    years, m = _axis(tau, "tau"), _axis(moneyness, "moneyness")
    vol = float_array("observed", _unmasked(observed))
    if vol.shape[-2:] != (years.size, m.size):
        raise InputError(f"observed must end in axes (tau, moneyness) = ({years.size}, {m.size}), not {vol.shape}")
    lead = {"surface": int(np.prod(vol.shape[:-2], dtype=np.int64))} if vol.ndim > 2 else {}
    error = None if noise is None else _noise_like(noise, vol.shape)
    return _of_grid(vol, error, (years, m), (years, m), lead, {}, "volatilities on a grid")


def _of_xarray(observed: xr.Dataset | xr.DataArray, tau: Any, moneyness: Any, noise: Any) -> Request:
    import xarray as xr

    array = observed["implied_vol"] if isinstance(observed, xr.Dataset) and "implied_vol" in observed else observed
    if isinstance(array, xr.Dataset):
        raise InputError(f"observed has no variable implied_vol; it has {sorted(map(str, array.data_vars))}")
    lacking = [name for name in _SURFACE_DIMS if name not in array.dims or name not in array.coords]
    if lacking:
        raise InputError(f"observed lacks the dimension and coordinate {' and '.join(lacking)}; it has {array.dims}")
    array = array.transpose(..., *_SURFACE_DIMS)
    own = (_axis(array["tau"].values, "tau"), _axis(array["moneyness"].values, "moneyness"))
    wanted = (
        own[0] if tau is None else _axis(tau, "tau"),
        own[1] if moneyness is None else _axis(moneyness, "moneyness"),
    )
    lead = {str(name): int(array.sizes[name]) for name in array.dims[:-2]}
    coords = {str(name): c for name, c in array.coords.items() if not set(c.dims) & set(_SURFACE_DIMS)}
    coords = {name: c for name, c in coords.items() if name not in _SURFACE_DIMS}
    error = noise
    vol = float_array("implied_vol", array.values)
    if isinstance(observed, xr.Dataset) and noise is None:
        spread = {str(n): observed[n] for n in ("half_spread_vol", "bid_vol", "ask_vol") if n in observed}
        if ("bid_vol" in spread) != ("ask_vol" in spread) and "half_spread_vol" not in spread:
            raise InputError("observed has one of bid_vol and ask_vol and needs both, or neither: add or drop one")
        error = _from_spread({name: _laid_out(name, a, array) for name, a in spread.items()}, ~np.isnan(vol))
    elif isinstance(noise, xr.DataArray):
        error = _laid_out("noise", noise, array)
    error = None if error is None else _noise_like(error, vol.shape)
    return _of_grid(vol, error, own, wanted, lead, coords, "volatilities on a grid")


def _laid_out(name: str, values: xr.DataArray, like: xr.DataArray) -> Any:
    """Values over the dimensions of another array, in its order."""
    foreign = [str(dim) for dim in values.dims if dim not in like.dims]
    if foreign:
        raise InputError(f"{name} has the dimension {foreign[0]}, which the volatilities lack; they have {like.dims}")
    import xarray as xr

    try:
        _, values = xr.align(like, values, join="exact")
    except ValueError:
        raise InputError(f"{name} and the volatilities lie at different coordinates; reindex one of them") from None
    return values.broadcast_like(like).transpose(*like.dims).values


def _unmasked(values: Any) -> Any:
    """NaN, which is no quote, where an array is masked."""
    if not isinstance(values, np.ma.MaskedArray) or values.dtype.kind not in "fiu":
        return values
    return np.where(np.ma.getmaskarray(values), np.nan, np.ma.getdata(values))


def table_dates(column: pd.Series) -> npt.NDArray[np.datetime64]:
    """Dates of a column: dates, text, or numbers such as 20240131; local ones where there is a time zone."""
    import pandas as pd

    try:
        column = column.infer_objects()
        if pd.api.types.is_bool_dtype(column):
            raise TypeError
        if pd.api.types.is_numeric_dtype(column):
            # pandas would take them as nanoseconds since 1970.
            days = column.to_numpy(dtype=np.float64)
            if not np.all((days >= 19000101) & (days < 22000101) & (days == np.floor(days))):
                raise TypeError
            stamps = pd.to_datetime(pd.Series(days.astype(np.int64).astype(str)), format="%Y%m%d")
        else:
            stamps = pd.to_datetime(column)
        if getattr(stamps.dt, "tz", None) is not None:
            stamps = stamps.dt.tz_localize(None)
        return stamps.to_numpy().astype("datetime64[ns]")
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            "column date must hold dates, or whole numbers such as 20240131; give it to pandas.to_datetime first"
        ) from None


def _of_grid(
    vol: FloatArray,
    noise: FloatArray | None,
    own: tuple[FloatArray, FloatArray],
    wanted: tuple[FloatArray, FloatArray],
    lead: dict[str, int],
    coords: dict[str, Any],
    source: str,
) -> Request:
    if vol.size == 0:
        raise InputError("observed holds no surface")
    flat = vol.reshape(-1, own[0].size * own[1].size)
    _check_vols(flat, lambda index: f"surface {index[0]}, point {index[1]} of its grid")
    empty = np.flatnonzero(np.isnan(flat).all(axis=1))
    if empty.size:
        which = "observed" if len(flat) == 1 else f"{empty.size} of {len(flat)} surfaces, the first number {empty[0]},"
        raise InputError(
            f"{which} hold{'s' if len(flat) == 1 else ''} no quote at all; drop what has none"
            " (dates of a history: volscen.select_dates)"
        )
    tau, k = np.repeat(own[0], own[1].size), np.tile(np.log(own[1]), own[0].size)
    error = None if noise is None else noise.reshape(flat.shape)
    if error is not None:
        _check_noise(error[~np.isnan(flat)])
        error = np.where(np.isnan(flat), 1.0, error)
    same = all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(own, wanted, strict=True))
    batch = Batch(np.arange(len(flat)), tau, k, flat, error)
    return Request(*wanted, same, own, lead, coords, [batch], source)


def _of_chain(chain: Any, tau: FloatArray, moneyness: FloatArray, noise: Any) -> Request:
    quotes = chain.quotes
    spread = {"half_spread_vol": quotes["half_spread_vol"].to_numpy()} if "half_spread_vol" in quotes else {}
    error = _from_spread(spread) if noise is None else _noise_like(noise, (len(quotes),))
    years, k, vol = (quotes[name].to_numpy(dtype=np.float64) for name in ("tau", "log_moneyness", "implied_vol"))
    batch = _scattered(0, years, k, vol, error, str(chain.date))
    coords = {"date": np.datetime64(chain.date, "ns")}
    name = "option quotes" if chain.underlying is None else f"option quotes on {chain.underlying}"
    return Request(tau, moneyness, False, None, {}, coords, [batch], name)


def _of_table(table: pd.DataFrame, tau: FloatArray, moneyness: FloatArray, noise: Any) -> Request:
    lacking = [name for name in ("tau", "implied_vol") if name not in table]
    if "moneyness" not in table and "log_moneyness" not in table:
        lacking.append("moneyness or log_moneyness")
    if lacking:
        raise InputError(f"the table of quotes lacks {', '.join(lacking)}; it has {list(table.columns)}")
    _check_names([str(name) for name in table], noise)
    if not len(table):
        raise InputError("the table holds no quote")
    if ("bid_vol" in table) != ("ask_vol" in table) and "half_spread_vol" not in table:
        raise InputError("the table has one of bid_vol and ask_vol and needs both, or neither: add or drop a column")

    values = {name: table[name].to_numpy() for name in table if name != "date"}
    values["tau"] = to_years("column tau", values["tau"])

    def column(name: str) -> FloatArray:
        try:
            return np.asarray(values[name], dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"column {name} must hold numbers") from None

    if "moneyness" in table:
        m = column("moneyness")
        if not np.all(m > 0):
            raise InputError("column moneyness must hold positive numbers; drop the other rows")
        k = np.log(m)
        if "log_moneyness" in table and not np.allclose(column("log_moneyness"), k, rtol=0, atol=_SAME_STRIKE):
            raise InputError("columns moneyness and log_moneyness = ln(moneyness) contradict each other; drop one")
    if "log_moneyness" in table:
        k = column("log_moneyness")
        m = np.exp(np.clip(k, -99, 99))
    _check_strikes(m, "moneyness of the table")
    spread = {name: column(name) for name in ("half_spread_vol", "bid_vol", "ask_vol") if name in table}
    error = _from_spread(spread) if noise is None else _noise_like(noise, (len(table),))
    years, vol = column("tau"), column("implied_vol")
    if "date" not in table:
        return Request(
            tau, moneyness, False, None, {}, {}, [_scattered(0, years, k, vol, error, "the table")], "quotes"
        )
    stamps = table_dates(table["date"])
    if np.isnat(stamps).any():
        raise InputError("column date holds missing dates; drop those rows")
    dates, place = np.unique(stamps, return_inverse=True)
    batches = []
    for row, date in enumerate(dates):
        own = place == row
        part = None if error is None else error[own]
        batches.append(_scattered(row, years[own], k[own], vol[own], part, str(date.astype("datetime64[D]"))))
    return Request(tau, moneyness, False, None, {"date": len(dates)}, {"date": ("date", dates)}, batches, "quotes")


def _check_names(names: list[str], noise: Any) -> None:
    """Refuse columns that say something to repair and would not be heard; others of a table of quotes may be there."""
    absent = [column for column in _COLUMNS if column not in names]
    for name in (name for name in names if name not in _COLUMNS):
        plain = name.lower().replace(" ", "_")
        if "volume" in plain:  # ask_volume is no slip of ask_vol
            continue
        like = get_close_matches(plain, [c for c in absent if c[0] == plain[:1]], n=1, cutoff=_NEAR)
        meant = [_ALSO[plain]] if _ALSO.get(plain) in absent else like
        if meant:
            raise InputError(
                f"the table of quotes has a column {name!r}, which is not read: name it {meant[0]!r}, or drop it"
            )
    if "noise" in names and noise is None:
        raise InputError("the table has a column noise, which is not read: pass noise=table['noise'], or drop it")


def _scattered(
    row: int, tau: FloatArray, k: FloatArray, vol: FloatArray, noise: FloatArray | None, where: str
) -> Batch:
    for name, values in (("tau", tau), ("log_moneyness", k), ("implied_vol", vol)):
        if not np.all(np.isfinite(values)):
            raise InputError(f"{name} of {where} holds NaN or infinite values; drop those quotes")
    if not np.all((tau > 0) & (tau < _MOST_TAU)):
        raise InputError(f"tau of {where} must lie within 0 and {_MOST_TAU:g} years; are these days?")
    _check_vols(vol[None], lambda index: f"quote {index[1]} of {where}")
    if noise is not None:
        _check_noise(noise)
    return Batch(np.array([row]), tau, k, vol[None], None if noise is None else noise[None])


def _wanted(tau: Any, moneyness: Any, what: str) -> tuple[FloatArray, FloatArray]:
    if tau is None or moneyness is None:
        raise InputError(f"{what} needs tau and moneyness, the grid on which the surface is wanted")
    return _axis(tau, "tau"), _axis(moneyness, "moneyness")


def _axis(values: Any, name: str) -> FloatArray:
    try:
        axis = check_grid(to_years(name, values) if name == "tau" else values, name)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from None
    if name == "tau" and axis[-1] > _MOST_TAU:
        raise InputError(f"tau must be in years, at most {_MOST_TAU:g}, not {axis[-1]:g}; are these days?")
    if name == "moneyness":
        _check_strikes(axis, name)
    return axis


def _check_strikes(moneyness: FloatArray, name: str) -> None:
    wrong = moneyness[(moneyness < _MONEYNESS[0]) | (moneyness > _MONEYNESS[1])]
    if wrong.size:
        raise InputError(
            f"{name} must be K/F within {_MONEYNESS[0]:g} and {_MONEYNESS[1]:g}, not {wrong[0]:g}; are these strikes "
            "or per cent?"
        )


def _check_vols(vol: FloatArray, name: Any) -> None:
    wrong = np.argwhere(~np.isnan(vol) & ~((vol >= _LEAST_VOL) & (vol <= _MOST_VOL)))
    if len(wrong):
        first = tuple(int(i) for i in wrong[0])
        raise InputError(
            f"implied_vol must be decimals of {_LEAST_VOL:g} to {_MOST_VOL:g} (0.2 is 20%), or NaN where there is no "
            f"quote: {len(wrong)} are not, the first {vol[first]:g} ({name(first)}); drop or correct them"
        )


def _noise_like(noise: Any, shape: tuple[int, ...]) -> FloatArray:
    values = float_array("noise", noise)
    try:
        return np.array(np.broadcast_to(values, shape))
    except ValueError:
        raise InputError(f"noise of shape {values.shape} does not fit volatilities of shape {shape}") from None


def _check_noise(noise: FloatArray) -> None:
    if not np.all(np.isfinite(noise) & (noise > 0) & (noise < _MOST_VOL)):
        raise InputError(
            "noise must be positive standard deviations in decimals of volatility, less than "
            f"{_MOST_VOL:g}, wherever there is a quote"
        )


def _from_spread(columns: dict[str, FloatArray], quoted: npt.NDArray[np.bool_] | None = None) -> FloatArray | None:
    """Standard deviation of the error of a mid, from its half-spread, which must be finite where there is a quote."""
    used = {"half_spread_vol"} & columns.keys() or columns.keys()
    for name, values in columns.items():
        if name in used and not np.all(np.isfinite(values if quoted is None else values[quoted])):
            raise InputError(f"{name} holds NaN or infinite values at quotes; fill them, drop them, or pass noise")
    if "half_spread_vol" in columns:
        half = columns["half_spread_vol"]
    elif "bid_vol" in columns and "ask_vol" in columns:
        half = (columns["ask_vol"] - columns["bid_vol"]) / 2
    else:
        return None
    if np.any(half < 0):
        raise InputError("half-spreads in vol must not be negative: some bid lies above its ask; drop those quotes")
    return np.asarray(np.hypot(half * _UNIFORM, _SPREAD_FLOOR))


def relative_noise(batch: Batch, scale: FloatArray) -> FloatArray:
    """Standard deviation of the error of ln(volatility) at every point, shape (n, P).

    Parameters
    ----------
    batch : Batch
    scale : ndarray, shape (n,)
        Level of each surface over that of the library's: usual errors are in proportion.
    """
    error = batch.noise
    if error is None:
        error = quote_noise(batch.tau, batch.k / scale[:, None]) * scale[:, None]
    vol = np.where(np.isnan(batch.vol), np.nanmedian(batch.vol, axis=1)[:, None], batch.vol)
    return np.asarray(np.maximum(error / vol, _LEAST_NOISE))
