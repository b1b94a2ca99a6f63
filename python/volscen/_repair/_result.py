"""The dataset that :func:`volscen.repair` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen._repair._inputs import Batch, Request
from volscen._repair._pipeline import Options, Repaired
from volscen._repair._prior import VERSION
from volscen.schema import REPAIR, annotate, base_attributes

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FLAGS", "make_dataset"]

FloatArray = npt.NDArray[np.float64]

#: Bits of ``surface_flag``.
FLAGS = {"few_quotes": 1, "out_of_distribution": 2, "out_of_range": 4, "rescaled": 8, "mistaken_quotes": 16}

#: Fewer quotes, or quotes at fewer times, are few; quotes with a larger score are mistaken.
_FEW_QUOTES, _FEW_TIMES, _MISTAKEN = 5, 2, 6.0

_QUOTED, _BETWEEN, _BEYOND = 0, 1, 2


def make_dataset(request: Request, blocks: list[Repaired], options: Options) -> xr.Dataset:
    """Put the results of all blocks together."""
    import xarray as xr

    shape = (request.tau.size, request.moneyness.size)
    lead, sizes = tuple(request.lead), tuple(request.lead.values())
    grid = (*lead, "tau", "moneyness")

    def over_grid(name: str) -> FloatArray:
        return np.concatenate([getattr(block, name) for block in blocks]).reshape(*sizes, *shape)

    def over_levels(name: str) -> FloatArray:
        whole = np.concatenate([getattr(block, name) for block in blocks], axis=1)
        return whole.reshape(len(options.levels), *sizes, *shape)

    def each(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(block, name) for block in blocks]).reshape(sizes)

    vol = over_grid("implied_vol")
    variance = vol**2 * request.tau[:, None]
    change = 100 * over_grid("change")
    quality, quotes, times = (
        np.concatenate(part) for part in zip(*map(_coverage(request), request.batches), strict=True)
    )
    scores = [np.abs(block.stale_score) for block in blocks]
    largest = np.concatenate([np.nanmax(score, axis=1) for score in scores]).reshape(sizes)
    inside = over_grid("inside").astype(bool)
    few = (quotes < _FEW_QUOTES) | (times < _FEW_TIMES)
    outside = ~inside.all(axis=(-2, -1)) | ~each("quotes_inside")
    bits = [few.reshape(sizes), each("unusual"), outside, each("rescaled"), largest > _MISTAKEN]
    flag = sum(np.asarray(bit, dtype=np.int8) * value for bit, value in zip(bits, FLAGS.values(), strict=True))
    ds = xr.Dataset(
        {
            "implied_vol": (grid, vol),
            "total_variance": (grid, variance),
            "implied_vol_sd": (grid, over_grid("sd")),
            "lower": (("level", *grid), over_levels("lower")),
            "upper": (("level", *grid), over_levels("upper")),
            "quality": (grid, quality.reshape(*sizes, *shape)),
            "out_of_range": (grid, (~inside).astype(np.int8)),
            "misfit": (lead, each("misfit")),
            "surface_flag": (lead, np.asarray(flag, dtype=np.int8)),
            "n_quotes": (lead, quotes.reshape(sizes)),
            "wing_slope_max": (lead, _wing_slope(variance, np.log(request.moneyness))),
        },
        coords={**request.coords, "tau": request.tau, "moneyness": request.moneyness, "level": list(options.levels)},
        attrs=base_attributes(
            REPAIR,
            title="Repaired implied-volatility surfaces",
            source=request.source,
            calendar="unspecified",
            periods_per_year=252,
        ),
    )
    if options.conditions != "none":
        ds["projection_status"] = (lead, each("status"))
        ds["projection_change_rms"] = (lead, np.sqrt((change**2).mean(axis=(-2, -1))))
    if request.moneyness.size >= 3:
        ds["durrleman_g_min"] = (lead, each("least_g"))
    _add_quotes(ds, request, blocks, lead, sizes)
    conditions = {
        "density": "static arbitrage on the grid, Durrleman's g at least 0.0002",
        "prices": "static arbitrage on the grid",
        "none": "",
    }[options.conditions]
    ds.attrs.update(
        method=options.method,
        method_version=VERSION,
        projected=int(options.conditions != "none"),
        projection=conditions,
        robust=int(options.robust),
    )
    return annotate(ds)


def _add_quotes(
    ds: xr.Dataset, request: Request, blocks: list[Repaired], lead: tuple[str, ...], sizes: tuple[int, ...]
) -> None:
    """Scores in the layout of the quotes."""
    if request.quoted is not None:
        inner = ("tau", "moneyness") if request.on_grid else ("quote_tau", "quote_moneyness")
        if not request.on_grid:
            ds.coords["quote_tau"], ds.coords["quote_moneyness"] = request.quoted
        shape = tuple(axis.size for axis in request.quoted)
        for name, values in (("stale_score", "stale_score"), ("repaired_at_quote", "at_quotes")):
            whole = np.concatenate([getattr(block, values) for block in blocks])
            quoted = ~np.isnan(request.batches[0].vol)
            kept = np.where(quoted, np.abs(whole) if name == "stale_score" else whole, np.nan)
            ds[name] = ((*lead, *inner), kept.reshape(*sizes, *shape))
        return
    parts = {
        "stale_score": [np.abs(block.stale_score[0]) for block in blocks],
        "repaired_at_quote": [block.at_quotes[0] for block in blocks],
        "quoted_vol": [batch.vol[0] for batch in request.batches],
    }
    for name, pieces in parts.items():
        ds[name] = ("quote", np.concatenate(pieces))
    ds.coords["quote_tau"] = ("quote", np.concatenate([batch.tau for batch in request.batches]))
    ds.coords["quote_moneyness"] = ("quote", np.exp(np.concatenate([batch.k for batch in request.batches])))
    if "date" in request.lead:
        dates = request.coords["date"][1]
        ds.coords["quote_date"] = ("quote", np.repeat(dates, [batch.tau.size for batch in request.batches]))


def _wing_slope(variance: FloatArray, k: FloatArray) -> FloatArray:
    """Largest slope, outwards, of total variance in log-moneyness at the ends of the grid."""
    if k.size < 2:
        return np.zeros(variance.shape[:-2])
    left = (variance[..., 0] - variance[..., 1]) / (k[1] - k[0])
    right = (variance[..., -1] - variance[..., -2]) / (k[-1] - k[-2])
    return np.asarray(np.maximum(left, right).max(axis=-1))


def _coverage(request: Request) -> Any:
    """Quality of every cell, and numbers of quotes and of times quoted, of each surface of a batch."""
    tau, k = request.tau, np.log(request.moneyness)

    def judge(batch: Batch) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        quoted = ~np.isnan(batch.vol)
        quality = np.full((len(quoted), tau.size, k.size), _BEYOND, dtype=np.int8)
        times = np.empty(len(quoted), dtype=np.int32)
        for i, own in enumerate(quoted):
            years, row = np.unique(batch.tau[own], return_inverse=True)
            times[i] = years.size
            low, high = np.full(years.size, np.inf), np.full(years.size, -np.inf)
            np.minimum.at(low, row, batch.k[own])
            np.maximum.at(high, row, batch.k[own])
            within = (tau >= years[0] * (1 - 1e-9)) & (tau <= years[-1] * (1 + 1e-9))
            left, right = np.interp(tau, years, low)[:, None], np.interp(tau, years, high)[:, None]
            quality[i, within[:, None] & (k >= left - 1e-9) & (k <= right + 1e-9)] = _BETWEEN
        if request.on_grid:
            quality.reshape(quoted.shape)[quoted] = _QUOTED
        else:
            _mark_near(quality, batch, quoted, tau, k)
        return quality, quoted.sum(axis=1).astype(np.int32), times

    return judge


def _mark_near(
    quality: npt.NDArray[np.int8], batch: Batch, quoted: npt.NDArray[np.bool_], tau: FloatArray, k: FloatArray
) -> None:
    """Mark the cells in which a quote lies: bounded halfway between neighbouring points."""
    edge_tau, edge_k = ((axis[1:] + axis[:-1]) / 2 for axis in (tau, k))
    row, column = np.searchsorted(edge_tau, batch.tau), np.searchsorted(edge_k, batch.k)
    for i, own in enumerate(quoted):
        between = quality[i, row[own], column[own]] == _BETWEEN
        quality[i, row[own][between], column[own][between]] = _QUOTED
