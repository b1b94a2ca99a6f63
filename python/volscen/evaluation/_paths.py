"""Paths of several steps beside the paths that the market took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from volscen import schema
from volscen.errors import InputError
from volscen.evaluation._path_figures import FEWEST_STEPS, Figures, paths_of, windows_of
from volscen.history._history import position

__all__ = ["path_structure", "path_table"]

FloatArray = npt.NDArray[np.float64]

_FEWEST_PATHS = 10


def path_structure(
    history: xr.Dataset,
    cubes: xr.Dataset | Iterable[xr.Dataset] | Mapping[str, xr.Dataset | Iterable[xr.Dataset]],
    *,
    data: Literal["realised", "past"] = "realised",
    level: float = 0.95,
    block: int = 2,
    resamples: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compare the paths of scenarios with those of the data: dependence in time, persistence, extremes.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``; with ``data="realised"`` it goes on beyond the scenarios' dates.
    cubes : xarray.Dataset, iterable of xarray.Dataset, or mapping of names to either
        Scenarios of at least 10 steps, of one date or several. An iterable is drawn from once and only what is needed
        of each cube is kept, so that a generator expression over many dates needs the memory of one. Several
        generators, by name, must have the same dates and steps.
    data : {"realised", "past"}
        Compare with the paths that followed each ``as_of`` (at least 10 dates, which the horizon or more parts), so
        that both start from the same states; or, for one date, with all paths of as many steps before it.
    level : float
        Of intervals and bands, in (0, 1).
    block : int
        Neighbouring paths of the data that are resampled together.
    resamples, seed : int
        Of the bootstrap, and of the panels.

    Returns
    -------
    xarray.Dataset
        Over ``figure`` (its name, with coordinates ``kind`` and ``lag``: a lag, a span, or a level of quantiles):
        ``data`` with its bootstrap interval ``low``, ``high``. Over ``generator`` and ``figure``: ``model``, from all
        scenarios; ``model_low``, ``model_high``, the band of the figure of panels that hold as few paths as the data,
        one scenario of every date; ``p_value`` of the data's figure among the panels, two-sided; ``inside``, where it
        is above 1 - level. ``share_inside`` by generator.

    Raises
    ------
    InputError
        If steps or dates do not fit, paths overlap or are too few, or something never moves.

    Notes
    -----
    Figures are of the return, of log at-the-money vol at 30 days, and for persistence also of 91 and 365 days, the
    slope between 365 and 30 days and the skew at 91 days between K/F 0.9 and 1.05, each moved onto the grid where it
    lies beyond. Moments are pooled over paths and steps by weight, the same way for both. Persistence is the slope of
    the regression on the level 5 days before; 5 log(0.5) / log(persistence) days is the half-life. A variance ratio is
    the variance of sums of ``lag`` days over ``lag`` times that of one day (Lo and MacKinlay 1988).

    The bootstrap (circular blocks of paths, percentiles) says how well the data know the figure; with few paths it
    is too narrow. The band of panels says what the scenarios' law would have shown on as few paths from the same
    states, finite-sample bias included, and is the test: under the true law ``p_value`` is uniform.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import path_structure, path_table
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history.isel(date=slice(0, 1000)), "pca")
    >>> starts = history.date.values[1000:1470:21]
    >>> cube = volscen.generate(model, history, as_of=starts, n_scenarios=100, horizon=21, seed=1)
    >>> found = path_structure(history, cube, resamples=200)
    >>> bool(found.share_inside[0] > 0.5), path_table(found).columns.tolist()
    (True, ['data', 'low', 'high', 'model', 'p_value', 'inside'])
    """
    schema.validate(history, schema=schema.HISTORY)
    if data not in ("realised", "past"):
        raise InputError(f"data must be 'realised' or 'past', not {data!r}")
    if not 0 < level < 1 or isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 20:
        raise InputError(f"level must lie in (0, 1) and resamples be at least 20; got {level!r}, {resamples!r}")
    named: Mapping[Any, Any] = (
        cubes if isinstance(cubes, Mapping) and not isinstance(cubes, xr.Dataset) else {"": cubes}
    )
    models = {name: _Model.of(history, some, data, resamples, seed) for name, some in named.items()}
    if not models:
        raise InputError("cubes is empty; pass scenarios made by volscen.generate(..., horizon=21)")
    names = [str(name) or model.name for name, model in models.items()]
    first, *others = models.values()
    for name, other in zip(names[1:], others, strict=True):
        if (other.dates, other.horizon) != (first.dates, first.horizon):
            raise InputError(f"the scenarios of {name} have other dates or steps than those of {names[0]}")
    figures, starts = Figures(first.horizon), first.starts
    moments, features = figures.moments(windows_of(history, starts, first.horizon))
    length = _block(block, len(starts))
    weight = np.vstack([np.ones(len(starts)), _resample(len(starts), length, resamples, seed)])
    values = np.hstack([figures.values(weight @ moments), figures.quantiles(features, weight)])
    panels = np.stack([one.panels for one in models.values()])
    model = np.stack([one.values for one in models.values()])
    _check_finite(values, figures, "the data")
    _check_finite(np.concatenate([model[:, None], panels], axis=1).reshape(-1, model.shape[1]), figures, "scenarios")
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    model_low, model_high = np.quantile(panels, [(1 - level) / 2, (1 + level) / 2], axis=1)
    # Ranks among the panels and itself: never zero, uniform on independent paths.
    below, above = ((panels <= values[0]).sum(axis=1) + 1, (panels >= values[0]).sum(axis=1) + 1)
    p_value = np.minimum(2 * np.minimum(below, above) / (resamples + 1), 1.0)
    by_figure = {
        "data": (values[0], "figure of the data"),
        "low": (low, f"lower end of the data's {level:.0%} bootstrap interval"),
        "high": (high, f"upper end of the data's {level:.0%} bootstrap interval"),
    }
    by_generator = {
        "model": (model, "figure of the scenarios"),
        "model_low": (model_low, f"lower end of the {level:.0%} band of figures of as few paths as the data has"),
        "model_high": (model_high, f"upper end of the {level:.0%} band of figures of as few paths as the data has"),
        "p_value": (p_value, "two-sided p-value of the data's figure under the scenarios' law"),
        "inside": ((p_value > 1 - level).astype(np.int8), "1 where the data's figure lies inside the band"),
    }
    out = xr.Dataset(
        {name: ("figure", array, {"long_name": text, "units": "1"}) for name, (array, text) in by_figure.items()}
        | {
            name: (("generator", "figure"), array, {"long_name": text, "units": "1"})
            for name, (array, text) in by_generator.items()
        },
        coords={
            "figure": [kind if np.isnan(lag) else f"{kind} {lag:g}" for kind, lag in figures.names],
            "kind": ("figure", [kind for kind, _ in figures.names]),
            "lag": ("figure", np.array([lag for _, lag in figures.names])),
            "generator": names,
        },
        attrs={"paths": len(starts), "horizon": first.horizon, "block": length, "level": level, "data": data},
    )
    out["share_inside"] = out["inside"].mean("figure").assign_attrs(long_name="share of figures inside", units="1")
    return out


def path_table(found: xr.Dataset) -> pd.DataFrame:
    """Table of :func:`path_structure`: a row per figure; columns of each generator where there are several.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import path_structure, path_table
    >>> history = volscen.datasets.sample_history()
    >>> cube = volscen.generate(n_scenarios=500, horizon=21, seed=1)
    >>> table = path_table(path_structure(history, cube, data="past", resamples=100))
    >>> float(table.data["clustering, absolute 1"].round(2))
    -0.03
    """
    if not isinstance(found, xr.Dataset) or not {"data", "low", "high", "model", "inside"} <= set(found.data_vars):
        raise InputError("found must be what evaluation.path_structure returns")
    table = found[["data", "low", "high"]].to_dataframe()[["data", "low", "high"]]
    names = found["generator"].values.tolist()
    for name in names:
        one = found.sel(generator=name)
        suffix = "" if len(names) == 1 else f" {name}"
        table[f"model{suffix}"] = one["model"].values
        table[f"p_value{suffix}"] = one["p_value"].values
        table[f"inside{suffix}"] = one["inside"].values.astype(bool)
    return table


def _each(cubes: xr.Dataset | Iterable[xr.Dataset]) -> Iterator[xr.Dataset]:
    """Cubes of one date each."""
    for cube in [cubes] if isinstance(cubes, xr.Dataset) else cubes:
        if not isinstance(cube, xr.Dataset):
            raise InputError(f"cubes must hold scenario datasets, not {type(cube).__name__}")
        schema.validate(cube, schema=schema.SCENARIOS)
        yield from (cube.isel(as_of=i) for i in range(cube.sizes["as_of"])) if "as_of" in cube.dims else (cube,)


@dataclass(frozen=True)
class _Model:
    """Figures of one generator's paths: pooled over everything, and of panels of as few paths as the data has."""

    name: str
    dates: list[np.datetime64]
    horizon: int
    starts: npt.NDArray[np.int64]
    values: FloatArray
    panels: FloatArray

    @classmethod
    def of(
        cls, history: xr.Dataset, cubes: xr.Dataset | Iterable[xr.Dataset], data: str, n_panels: int, seed: int
    ) -> Self:
        """Walk through cubes of one date each, keeping sums."""
        dates: list[np.datetime64] = []
        features: list[FloatArray] = []
        weights: list[FloatArray] = []
        drawn: list[FloatArray] = []
        sums: Any = 0.0
        panel_sums: Any = 0.0
        name, horizon, count, figures = "", 0, 1, Figures(FEWEST_STEPS)
        for cube in _each(cubes):
            if not dates:
                schema.check_same_grid(cube["tau"].values, cube["moneyness"].values, history, "the scenarios")
                horizon, name = cube.sizes["step"], str(cube.attrs["generator"])
                if horizon < FEWEST_STEPS:
                    raise InputError(
                        f"cubes have {horizon} steps and {FEWEST_STEPS} are needed; pass horizon=21 to generate"
                    )
                figures = Figures(horizon)
            if cube.sizes["step"] != horizon:
                raise InputError(f"cubes have {horizon} and {cube.sizes['step']} steps; take one number")
            date: Any = cube["as_of"].values.astype("datetime64[D]")
            dates.append(date)
            if data == "past":
                if len(dates) > 1:
                    raise InputError("data='past' takes scenarios of one date; choose it with isel(as_of=...)")
                count = len(_starts(history, dates, horizon, data))
            weight = schema.check_weights(cube["weight"].values)
            summands, feature = figures.moments(paths_of(cube))
            sums = sums + weight @ summands
            features.append(feature)
            weights.append(weight)
            rng = np.random.default_rng([seed, len(dates)])
            chosen = rng.choice(weight.size, size=(n_panels, count), p=weight / weight.sum())
            panel_sums = panel_sums + _counts(chosen, weight.size) @ summands
            drawn.append(feature[chosen])
        if not dates:
            raise InputError("cubes is empty; pass scenarios made by volscen.generate(..., horizon=21)")
        if any(b <= a for a, b in pairwise(dates)):
            raise InputError("cubes must be of increasing dates, each once")
        starts = _starts(history, dates, horizon, data)
        pooled = figures.quantiles(np.concatenate(features), np.concatenate(weights)[None])
        values = np.concatenate([figures.values(sums[None])[0], pooled[0]])
        few = figures.panel_quantiles(np.concatenate(drawn, axis=1))
        return cls(name, dates, horizon, starts, values, np.hstack([figures.values(panel_sums), few]))


def _starts(history: xr.Dataset, dates: list[np.datetime64], horizon: int, data: str) -> npt.NDArray[np.int64]:
    """Rows of the history from which its paths are taken; no two of them overlap."""
    rows = np.array([position(history, date) for date in dates])
    if data == "past":
        starts = np.arange(rows[0] % horizon, rows[0] - horizon + 1, horizon)
        remedy = "pass a longer history"
    else:
        starts = rows
        remedy = "pass scenarios of more dates, or take data='past'"
        if rows[-1] + horizon >= history.sizes["date"]:
            raise InputError(f"the history ends before the {horizon} steps from {dates[-1]} do; leave out such dates")
        if np.any(np.diff(rows) < horizon):
            raise InputError(
                f"dates must be at least {horizon} rows of the history apart, so that its paths do not overlap; take "
                f"as_of=history.date[first:last:{horizon}]"
            )
    if len(starts) < _FEWEST_PATHS:
        raise InputError(
            f"{len(starts)} paths of the data can be compared with and {_FEWEST_PATHS} are needed; {remedy}"
        )
    return starts.astype(np.int64)


def _block(block: int, n: int) -> int:
    if isinstance(block, bool) or not isinstance(block, (int, np.integer)) or not 1 <= block <= n:
        raise InputError(f"block must be a whole number from 1 to {n}, not {block!r}")
    return int(block)


def _resample(n: int, length: int, resamples: int, seed: int) -> FloatArray:
    """How often each path is drawn in each resample of circular blocks (Politis and Romano 1992): (resamples, n)."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(n, size=(resamples, -(-n // length)))
    drawn = ((starts[..., None] + np.arange(length)) % n).reshape(resamples, -1)[:, :n]
    return _counts(drawn, n)


def _counts(drawn: npt.NDArray[np.int64], n: int) -> FloatArray:
    """How often each of n things is in each row: (rows, n)."""
    counts = np.zeros((len(drawn), n))
    np.add.at(counts, (np.arange(len(drawn))[:, None], drawn), 1.0)
    return counts


def _check_finite(values: FloatArray, figures: Figures, what: str) -> None:
    bad = ~np.isfinite(values).all(axis=0)
    if bad.any():
        raise InputError(f"{figures.names[int(np.argmax(bad))][0]} of {what} is not a number: something never moves")
