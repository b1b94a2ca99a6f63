"""How far hedge ratios depend on the random numbers behind the scenarios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from volscen.errors import InputError
from volscen.hedging._hedge import hedge
from volscen.portfolio import Portfolio
from volscen.portfolio._instruments import Instrument

__all__ = ["stability"]

_KEPT = ("r_squared", "residual_std", "residual_es", "condition_number", "effective_rank")


def stability(
    source: Any,
    portfolio: Portfolio | Instrument | Sequence[Instrument | tuple[Instrument, float]],
    instruments: Sequence[Instrument],
    *,
    seeds: Iterable[int] | None = None,
    history: xr.Dataset | None = None,
    generate: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Hedge ratios over several sets of scenarios: mean, standard deviation and range for each instrument.

    Parameters
    ----------
    source : generator, or iterable of xarray.Dataset
        A fitted generator (or the name of one, or None for the embedded default, as for :func:`volscen.generate`), from
        which one set of scenarios is drawn for each seed; or sets of scenarios of one date, such as those of models
        trained with different seeds.
    portfolio, instruments
        As for :func:`volscen.hedge`.
    seeds : iterable of int, optional
        With a generator: at least two different ones, 0 to 9 by default.
    history : xarray.Dataset, optional
        With a generator: history that gives the starting state.
    generate : mapping, optional
        With a generator: further arguments of :func:`volscen.generate`, such as ``as_of`` and ``n_scenarios``.
    **options
        Further arguments of :func:`volscen.hedge`.

    Returns
    -------
    xarray.Dataset
        Per instrument ``ratio_mean``, ``ratio_sd`` (with n - 1), ``ratio_min``, ``ratio_max``, ``selected_share``; per
        seed, or number of the set, ``ratio``, ``r_squared``, ``residual_std``, ``residual_es`` and what the method says
        of its design. Attribute ``method``.

    Raises
    ------
    InputError
        If there are fewer than two sets, they name different instruments, or arguments do not fit the source.

    Notes ----- This is the spread that the sampling of scenarios puts into the ratios, at the given number of them.
    The training of a network adds its own: pass cubes of models trained with different seeds.

    Examples
    --------
    >>> import volscen
    >>> straddle = volscen.Portfolio.straddle(moneyness=1.0, tau=91 / 365)
    >>> hedging = [volscen.Underlying(), volscen.Option("call", moneyness=1.0, tau=60 / 365)]
    >>> spread = volscen.hedging.stability(None, straddle, hedging, seeds=range(4), generate={"n_scenarios": 1000})
    >>> spread.ratio.dims, bool((spread.ratio_sd < 0.2).all())
    (('seed', 'instrument'), True)
    """
    cubes, labels = _sets(source, seeds, history, generate)
    results = [hedge(cube, portfolio, instruments, **options) for cube in cubes]
    if len(results) < 2:
        raise InputError(f"a spread needs at least two sets of scenarios, not {len(results)}; give more seeds or cubes")
    names = [tuple(result["instrument"].values) for result in results]
    if len(set(names)) > 1:
        raise InputError("the sets of scenarios name different instruments; name options by strike and expiry")
    ratio = np.array([result["ratio"].values for result in results])
    columns: dict[str, tuple[Any, str]] = {
        "ratio_mean": (ratio.mean(axis=0), "mean ratio over the seeds"),
        "ratio_sd": (ratio.std(axis=0, ddof=1), "standard deviation of the ratio over the seeds"),
        "ratio_min": (ratio.min(axis=0), "least ratio over the seeds"),
        "ratio_max": (ratio.max(axis=0), "largest ratio over the seeds"),
        "selected_share": (
            np.mean([result["selected"].values for result in results], axis=0),
            "share of the seeds that use the instrument",
        ),
    }
    out = xr.Dataset(
        {
            **{name: ("instrument", value, _units(text)) for name, (value, text) in columns.items()},
            "ratio": (("seed", "instrument"), ratio, dict(results[0]["ratio"].attrs)),
        },
        coords={"seed": ("seed", labels), "instrument": results[0]["instrument"]},
    )
    for name in _KEPT:
        if all(name in result for result in results):
            kept = [result[name].drop_vars("as_of", errors="ignore") for result in results]
            out[name] = xr.concat(kept, dim="seed").assign_attrs(kept[0].attrs)
    out.attrs["method"] = results[0].attrs["method"]
    return out


def _sets(
    source: Any, seeds: Iterable[int] | None, history: xr.Dataset | None, generate: Mapping[str, Any] | None
) -> tuple[Iterable[xr.Dataset], list[int]]:
    """Scenario sets, drawn one at a time, and their labels."""
    if isinstance(source, xr.Dataset):
        raise InputError(
            "source must be a generator or a list of scenario sets, not one set: ratios of one set vary not"
        )
    if isinstance(source, Iterable) and not isinstance(source, str):
        given = [name for name, value in (("seeds", seeds), ("history", history), ("generate", generate)) if value]
        if given:
            raise InputError(f"{' and '.join(given)} apply to a generator, not to sets of scenarios; drop them")
        cubes = list(source)
        return cubes, list(range(len(cubes)))
    from volscen.scenarios import generate as draw

    labels = list(range(10)) if seeds is None else list(seeds)
    if len(set(labels)) != len(labels):
        raise InputError("seeds must differ from each other; the same seed gives the same ratios")
    arguments = dict(generate or {})
    for name in ("seed", "history"):
        if name in arguments:
            raise InputError(
                f"generate holds {name}; give {'seeds' if name == 'seed' else 'history'} to stability itself"
            )
    return (draw(source, history, seed=seed, **arguments) for seed in labels), labels


def _units(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}
