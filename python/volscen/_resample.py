"""Equally weighted scenarios drawn by their weights, for systems that know no weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import seed_number, whole_number
from volscen._reweight import OTHER_WEIGHTS
from volscen.errors import InputError

__all__ = ["METHODS", "draw", "resample"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

METHODS = ("systematic", "stratified", "multinomial")


def draw(weight: FloatArray, n: int, rng: np.random.Generator, method: str = "systematic") -> IntArray:
    """Indices of n scenarios drawn by weights, in ascending order.

    Parameters
    ----------
    weight : ndarray, shape (N,)
        Non-negative, summing to 1.
    n : int
        How many to draw.
    rng : numpy.random.Generator
        The only source of randomness.
    method : {"systematic", "stratified", "multinomial"}
        See :func:`resample`.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen._resample import draw
    >>> draw(np.array([0.5, 0.0, 0.25, 0.25]), 4, np.random.default_rng(0))
    array([0, 0, 2, 3])
    """
    if method == "multinomial":
        position = np.sort(rng.random(n))
    elif method == "stratified":
        position = (np.arange(n) + rng.random(n)) / n
    else:
        position = (np.arange(n) + rng.random()) / n
    cumulative = np.cumsum(weight)
    # side="right": a scenario without weight owns no position. The last place may round up to the end.
    index = np.searchsorted(cumulative / cumulative[-1], position, side="right")
    chosen: IntArray = np.minimum(index, np.flatnonzero(weight)[-1])
    return chosen


def resample(
    ds: xr.Dataset, n: int | None = None, *, seed: int | np.random.Generator = 0, method: str = "systematic"
) -> xr.Dataset:
    """Draw scenarios by their weights, so that those drawn are equally likely.

    Parameters
    ----------
    ds : xarray.Dataset
        Weighted scenarios (``volscen/scenarios/1``).
    n : int, optional
        How many to draw per date; as many as there are when omitted.
    seed : int or numpy.random.Generator
        Random numbers are keyed by (seed, as_of): other dates in the set change nothing.
    method : {"systematic", "stratified", "multinomial"}
        ``"systematic"``: one random number; every scenario is drawn n w times, rounded up or down. ``"stratified"``:
        one random number in each of n equal strata. ``"multinomial"``: independent draws. All are unbiased; the
        first adds least noise.

    Returns
    -------
    xarray.Dataset
        n scenarios of weight 1/n, in the order of the original; the coordinate ``source_scenario`` says which each was.
        Attributes ``resampled`` (the method), ``resampled_from`` (how many there were),
        ``resampled_ess_fraction`` (their ESS/N) and ``distinct_scenarios`` (how many different ones were drawn, per
        date); ``beta`` is 0 and ``ess_fraction`` 1, since weights are equal now. Repeated scenarios carry
        no new information: statistics are no more precise than before.

    Raises
    ------
    InputError
        If ``n`` is no positive integer, the method is unknown, or the weights are none.

    Notes
    -----
    Kitagawa (1996); Douc and Cappe (2005), "Comparison of resampling schemes for particle filtering".

    Do not reweight what has been resampled by the same criterion: it would count twice.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=2000, seed=1)
    >>> crash = volscen.entropy_pool(cube, [volscen.views.mean("log_return", equals=-0.005)])
    >>> equal = volscen.resample(crash, 1000, seed=7)
    >>> equal.sizes["scenario"], float(equal.weight[0])
    (1000, 0.001)
    >>> abs(float(equal.log_return.mean()) + 0.005) < 1e-3
    True
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be a scenario dataset such as volscen.generate() returns, not {type(ds).__name__}")
    schema.validate(ds, schema=schema.SCENARIOS)
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    size = ds.sizes["scenario"] if n is None else whole_number("n", n)
    number = seed_number(seed)
    weight = np.atleast_2d(schema.check_weights(ds["weight"].transpose(..., "scenario").values, ds.sizes["scenario"]))
    days = np.atleast_1d(ds["as_of"].values) if "as_of" in ds.coords else [None]
    index = np.stack(
        [draw(w, size, np.random.default_rng(_key(day, number)), method) for w, day in zip(weight, days, strict=True)]
    )
    return _finish(_taken(ds, index), ds, index, weight, method)


def _key(day: Any, seed: int) -> np.random.SeedSequence:
    if day is None:
        return np.random.SeedSequence(seed)
    since = day.astype("datetime64[D]") - np.datetime64("1900-01-01", "D")
    return np.random.SeedSequence(seed, spawn_key=(int(since.astype(int)),))


def _taken(ds: xr.Dataset, index: IntArray) -> xr.Dataset:
    many = "as_of" in ds.dims
    dims = ("as_of", "scenario") if many else ("scenario",)
    chosen = xr.DataArray(index if many else index[0], dims=dims)
    numbers = ds["scenario"].values if "scenario" in ds.coords else np.arange(ds.sizes["scenario"])
    # Of what has been resampled before, the original stays the source.
    known = "source_scenario" in ds.coords
    source = ds["source_scenario"] if known else xr.DataArray(numbers, dims="scenario")
    plain = ds.drop_vars(["scenario", "source_scenario"], errors="ignore").assign(
        source_scenario=source.drop_vars(list(source.coords))
    )
    where = {"scenario": chosen}
    if many:  # pointwise: each date has rows of its own
        where["as_of"] = xr.DataArray(np.arange(len(index)), dims="as_of")
        plain["source_scenario"] = (
            plain["source_scenario"].broadcast_like(plain["as_of"]).transpose("as_of", "scenario")
        )
    out = plain.isel(where).set_coords("source_scenario")
    out["source_scenario"].attrs.update({"long_name": "scenario that was drawn", "units": "1"})
    return out.assign_coords(scenario=("scenario", np.arange(index.shape[1]), schema.VARIABLES["scenario"]))


def _finish(out: xr.Dataset, ds: xr.Dataset, index: IntArray, weight: FloatArray, method: str) -> xr.Dataset:
    many, n = "as_of" in ds.dims, out.sizes["scenario"]
    out["weight"] = (
        ("as_of", "scenario") if many else ("scenario",),
        np.full((len(index), n) if many else (n,), 1 / n),
        schema.VARIABLES["weight"],
    )
    ess = 1 / np.sum(weight * weight, axis=-1) / weight.shape[-1]
    distinct = np.array([np.unique(i).size for i in index])
    for name in (*OTHER_WEIGHTS, "beta_note", "beta_requested"):
        out.attrs.pop(name, None)
    out.attrs |= {
        "beta": np.zeros(len(index)) if many else 0.0,
        "ess_fraction": np.ones(len(index)) if many else 1.0,
        "resampled": method,
        "resampled_from": int(weight.shape[-1]),
        "resampled_ess_fraction": ess if many else float(ess[0]),
        "distinct_scenarios": distinct if many else int(distinct[0]),
    }
    out = out.transpose("as_of", "scenario", "step", "tau", "moneyness", ..., missing_dims="ignore")
    return schema.arrange(out)
