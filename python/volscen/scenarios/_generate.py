"""Scenario cubes: the one call a risk system makes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from volscen import datasets, schema
from volscen._numbers import seed_number, whole_number
from volscen._registry import DEFAULT
from volscen._reweight import Beta, warn_of_few_effective, weight_dataset
from volscen._threads import resolve_num_threads, single_threaded_blas
from volscen.errors import InputError
from volscen.generators import Generator, generator_class, load
from volscen.generators import fit as fit_generator
from volscen.generators._neural_options import CPU, check_device
from volscen.generators._placement import look_for, put_on
from volscen.history._history import State, position, state_at
from volscen.scenarios._blocks import Plan, draw_block, pieces
from volscen.scenarios._given import (
    Given,
    count_distinct,
    count_few_moves,
    path_keys,
    warn_of_few,
    warn_of_few_moves,
)
from volscen.scenarios._implausible import Beyond, beyond, hold_against, known_of, tell, warn_of_long
from volscen.scenarios._lazy import fill_lazily

__all__ = ["generate"]

Array = npt.NDArray[Any]


def generate(
    model: Generator | str | Path | None = None,
    history: xr.Dataset | None = None,
    *,
    as_of: Any = None,
    n_scenarios: int = 10_000,
    horizon: int = 1,
    given: Mapping[Any, Any] | None = None,
    seed: int | np.random.Generator | None = None,
    reweight: Literal["arbitrage"] | None = "arbitrage",
    beta: Beta = "auto",
    project: bool = False,
    chunks: int | Mapping[str, int] | None = None,
    num_threads: int | None = None,
    dtype: npt.DTypeLike = "float32",
    device: str = CPU,
) -> xr.Dataset:
    """Draw weighted scenarios of returns and implied-volatility surfaces.

    Parameters
    ----------
    model : Generator or path, optional
        Fitted generator, or the file of one. When omitted and a history is given, the default of
        :func:`volscen.fit` is fitted on the history up to the first ``as_of``. When both are omitted, the embedded
        default: a model and history that are simulated, and say so.
    history : xarray.Dataset, optional
        Gives the starting states (``volscen/history/1``).
    as_of : date or sequence of dates, optional
        Last date known; the last of the history when omitted. A sequence gives a dimension ``as_of``.
        Nothing after ``as_of`` enters its scenarios.
    n_scenarios : int
        Scenarios per ``as_of``.
    horizon : int
        Steps (trading days) of each path. The simulated return and surface of a step are the state of the next.
    given : mapping, optional
        What is known of the outcome: from a variable's name or a quantity of :mod:`volscen.views` (the last step's,
        where it names none) to a pair ``(low, high)``, None for an open end, or to a number. See the notes.
    seed : int, numpy.random.Generator or None
        Random numbers are keyed by (seed, as_of, block of 1,024 scenarios): neither chunks, nor threads, nor
        other dates change a bit, and fewer scenarios are a prefix of more (before weights). None draws a seed
        and records it in the attribute ``seed``.
    reweight : {"arbitrage", None}
        Weigh scenarios by their arbitrage penalty, or equally.
    beta : float, "auto" or "paper"
        Strength of the weights; see :func:`volscen.reweight`.
    project : bool
        Replace every surface by the nearest one without static arbitrage on the grid
        (:func:`volscen.arbitrage.project`); a surface without stays bit for bit what it is with ``project=False``. See
        the notes for penalties and weights.
    chunks : int or mapping, optional
        Scenarios per chunk of a lazy, dask-backed cube (or ``{"scenario": n}``); needs ``volscen[distributed]``.
        Multiples of 1,024 avoid drawing a block twice. The attribute ``beta_requested`` stands in place of
        ``beta`` and ``ess_fraction``, which :func:`volscen.write` and :func:`volscen.reweight` set.
    num_threads : int, optional
        Threads; all available processors when omitted. Results do not depend on it.
    dtype : {"float32", "float64"}
        Of the surfaces.
    device : str
        Where the model's networks are evaluated: ``"cpu"``, by NumPy, or by torch on a GPU, ``"cuda"`` (the first) or
        ``"cuda:1"``. The scenarios are the same up to the networks' rounding; see the notes.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/scenarios/1``.

    Raises
    ------
    InputError
        If an argument is out of range, a date is absent from the history, or its grid is not the generator's; if the
        device is not there, or the generator has no network to evaluate on it.
    FitError
        If the generator draws values that are not finite, or a surface that is not positive; or, with ``project``,
        a surface for which none without arbitrage was found.

    Warns
    -----
    ScenarioWarning
        If 1% of the weight has vols beyond twice their known range, or daily returns beyond twice the largest known (or
        0.1% goes twice as far again); if paths are longer than half of the known dates, weights leave under 1% of the
        scenarios effective, or the scenarios are a few moves redrawn.

    Notes
    -----
    With ``given`` pairs, scenarios are drawn from the generator's law given that all lie in their bands, exactly, by
    rejection. With ``given`` numbers, the nearest eighth of the draws are moved onto them along their local linear
    regression on the quantities (Beaumont, Zhang and Balding 2002): the condition holds in every scenario up to the
    rounding of ``dtype``, the law of the rest is a model, exact where it is linear with errors of one size. What
    hardly ever happens under the law (less than one draw in a thousand, or far from all draws) is refused; such is for
    :mod:`volscen.stress`. The attribute ``given`` records the condition and, in memory, ``distinct_scenarios`` counts
    the different paths: generators that draw past days may hold few in a band.

    Known is what the history given, up to ``as_of``, and the one fitted on hold. The attribute ``implausible_share`` is
    the share of weight beyond it, ``implausible`` what the warning says. :func:`volscen.write` judges lazy cubes.

    Where the scenarios take under a hundred different first steps, each ten times or more on average, a
    warning says that they are a few past days redrawn: a tail of 1% is then a single one of them.

    Penalties are taken, in float64, of the surfaces as delivered (after rounding to ``dtype``).

    With ``project`` the surfaces are free of arbitrage as delivered, in either ``dtype``, so that their
    ``arbitrage_penalty`` is zero. ``arbitrage_penalty_raw`` keeps the penalty of the surface drawn, and weights go by
    that: a draw that was far from any market stays unlikely. ``projection_status`` says of each surface what was done
    (:class:`volscen.arbitrage.ProjectionStatus`); where the projection did not converge, the surface is free of
    arbitrage but may not be the nearest. Paths are drawn as without ``project``: the surface drawn, not the one
    projected, is the state of the next step.

    On a GPU, random numbers, filters, residuals, penalties and weights stay what and where they are: NumPy's, on the
    CPU. Networks are evaluated in the precision that NumPy evaluates them in, without TF32, by deterministic
    algorithms, one thread at a time: chunks and threads change no bit on one kind of GPU with one version of torch and
    CUDA, and the attribute ``device`` says that the cube was drawn there. With ``chunks`` on a cluster every worker
    looks for the device itself. What ``"cuda"`` is worth by generator is on the page "Beyond one machine"; generators
    without networks (such as ``"har"`` and ``"pca"``) refuse it. ``state_clipped`` is always judged on the CPU.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "pca")
    >>> cube = volscen.generate(model, history, n_scenarios=2000, horizon=5, seed=7)
    >>> cube.implied_vol.dims, cube.implied_vol.shape
    (('scenario', 'step', 'tau', 'moneyness'), (2000, 5, 8, 10))
    """
    n_scenarios = whole_number("n_scenarios", n_scenarios)
    horizon = whole_number("horizon", horizon)
    threads = resolve_num_threads(num_threads)
    kind, device = float_type(dtype), check_device(device)
    if reweight not in ("arbitrage", None):
        raise InputError(f"reweight must be 'arbitrage' or None, not {reweight!r}")
    if not isinstance(project, (bool, np.bool_)):
        raise InputError(f"project must be True or False, not {project!r}")
    condition = None if given is None else Given.of(given)
    if condition and project:
        raise InputError("given is of surfaces as drawn; project the result instead, with volscen.project_arbitrage")
    if isinstance(model, xr.Dataset):
        raise InputError(
            "model must be a fitted generator, and a dataset was given first: volscen.generate(model, history), or "
            "volscen.generate(history=history), which fits the default generator"
        )
    if model is not None and history is None:
        raise InputError("history is needed for the starting state; pass the history that precedes as_of")
    if history is None:
        model, history = datasets.default_generator(), datasets.sample_history()
    schema.validate(history, schema=schema.HISTORY)
    rows, many = _rows(history, as_of)
    if model is None:
        look_for(device, generator_class(DEFAULT))  # rather than after the fit
        model = fit_generator(history.isel(date=slice(None, min(rows) + 1)))
    elif isinstance(model, (str, Path)):
        model = load(model)
    if not isinstance(model, Generator):
        raise InputError(f"model must be a fitted generator or the path of one, not {model!r}")
    if not model.is_fitted:
        raise InputError(f"model {model.name!r} is not fitted; call fit(history) first")
    schema.check_same_grid(model.tau_, model.moneyness_, history, f"model {model.name!r}")
    generator = put_on(model, device, lazily=chunks is not None)
    dates = history["date"].values[rows]
    states = [state_at(history, date, n_returns=generator.n_returns, n_surfaces=generator.n_surfaces) for date in dates]
    number = seed_of(seed)
    if chunks is None:
        check_size(len(rows) * n_scenarios * horizon * history["implied_vol"][0].size * kind.itemsize)
    known = known_of(generator, history, rows)
    warn_of_long(horizon, known, stacklevel=2)
    plan = Plan(generator, number, n_scenarios, horizon, kind, bool(project), condition, known)
    ds = starting_dataset(plan, states, history)
    if condition:
        ds.attrs["given"] = str(condition)
    found = _fill(ds, plan, states, threads) if chunks is None else []
    ds.attrs["data_fingerprint"] = generator.fingerprint_
    if not many:
        ds = ds.isel(as_of=0)
    if chunks is None:
        weight_dataset(ds, beta if reweight else 0.0)
        warn_of_few_effective(ds, stacklevel=2)
        tell(hold_against(ds, known, found, weighed=bool(reweight)), stacklevel=2)
    else:
        fill_lazily(ds, plan, states, _chunk_size(chunks, n_scenarios), beta if reweight else 0.0)
    return schema.arrange(ds)


# ---------------------------------------------------------------------------------------------- arguments
def float_type(dtype: Any) -> np.dtype[Any]:
    kind: np.dtype[Any]
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype("float32"), np.dtype("float64")):
        raise InputError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
    return kind


def _rows(history: xr.Dataset, as_of: Any) -> tuple[list[int], bool]:
    """Rows of the as-of dates in the history, and whether several were asked for."""
    if as_of is None:
        return [history.sizes["date"] - 1], False
    if isinstance(as_of, (xr.Dataset, Mapping)):
        raise InputError("as_of must be a date or a sequence of dates, not a dataset")
    many = np.ndim(as_of) > 0  # a list, an array, a pandas index
    rows = [position(history, date) for date in (as_of if many else [as_of])]
    if not rows:
        raise InputError("as_of is an empty sequence; give at least one date")
    if any(b <= a for a, b in pairwise(rows)):
        raise InputError("as_of must be strictly increasing; sort it and drop duplicates")
    return rows, many


def check_size(n_bytes: int, remedy: str = "ask for less, or pass chunks= for a lazy cube") -> None:
    """Refuse a cube that no memory could hold before anything is drawn."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**43
    if n_bytes > pages:
        raise InputError(
            f"n_scenarios, horizon and as_of ask for {n_bytes / 1e9:,.0f} GB, more than this machine's memory; {remedy}"
        )


def seed_of(seed: Any) -> int:
    """A seed, a new one for None."""
    return secrets.randbits(62) if seed is None else seed_number(seed)


def _chunk_size(chunks: Any, n_scenarios: int) -> int:
    if isinstance(chunks, Mapping):
        if set(chunks) != {"scenario"}:
            raise InputError(f"chunks may split the dimension 'scenario' only, not {sorted(map(str, chunks))}")
        chunks = chunks["scenario"]
    return n_scenarios if chunks == -1 else whole_number("chunks", chunks)


# ------------------------------------------------------------------------------------------------ drawing
def starting_dataset(plan: Plan, states: list[State], history: xr.Dataset) -> xr.Dataset:
    generator = plan.generator
    attributes = schema.base_attributes(
        schema.SCENARIOS,
        title=("SIMULATED scenarios" if "simulated" in str(history.attrs["source"]) else "Scenarios")
        + " of returns and implied-volatility surfaces",
        source=f"generator {generator.name} fitted on {generator.period_[0]} to {generator.period_[1]}; history: "
        f"{history.attrs['source']}",
        calendar=schema.calendar_of(history),
        periods_per_year=float(history.attrs["periods_per_year"]),
    )
    attributes |= {"generator": generator.name, "seed": plan.seed, "projected": int(plan.project)}
    if generator._device is not None:
        attributes["device"] = generator._device
    judge = generator._plain or generator
    return xr.Dataset(
        {
            "spot0": ("as_of", np.array([s.spot for s in states])),
            "implied_vol0": (("as_of", "tau", "moneyness"), np.exp(np.stack([s.log_iv[-1] for s in states]))),
            "forward0": (("as_of", "tau"), np.stack([s.forward for s in states])),
            "discount_factor0": (("as_of", "tau"), np.stack([s.discount_factor for s in states])),
            "state_clipped": ("as_of", np.array([judge.is_outside(s) for s in states], dtype=np.int8)),
        },
        coords={
            "as_of": np.array([s.as_of for s in states]).astype("datetime64[ns]"),
            "scenario": np.arange(plan.n_scenarios),
            "step": np.arange(1, plan.horizon + 1),
            "tau": generator.tau_,
            "moneyness": generator.moneyness_,
        },
        attrs=attributes,
    )


def _fill(ds: xr.Dataset, plan: Plan, states: list[State], threads: int) -> list[list[Beyond]]:
    """Draw everything into memory; return what of each date lies beyond what is known of it."""
    n = plan.n_scenarios
    found: list[list[Beyond]] = [[] for _ in states]
    drawn = {name: np.empty((len(states), n, *tail), kind) for name, (tail, kind) in plan.variables.items()}

    def draw(task: tuple[int, int, slice, slice]) -> None:
        row, block, part, place = task
        block_drawn = draw_block(plan, states[row], block, part)
        for name, values in block_drawn.items():
            drawn[name][row, place] = values
        if plan.known:
            far = beyond(plan.known[row], block_drawn["log_return"], block_drawn["implied_vol"])
            found[row].append(far.moved(place.start))

    tasks = [(row, *piece) for row in range(len(states)) for piece in pieces(0, n)]
    # Silent when piped, and for anything shorter than a second.
    bar = tqdm(total=len(tasks), desc="generate", unit="block", disable=None, delay=1.0, leave=False)
    with single_threaded_blas(), ThreadPoolExecutor(min(threads, len(tasks))) as pool, bar:
        for _ in pool.map(draw, tasks):
            bar.update()
    set_draws(ds, drawn)
    if plan.given is not None:
        pairs = zip(drawn["log_return"], drawn["implied_vol"], strict=True)
        counts = np.array([count_distinct([path_keys(*pair)]) for pair in pairs])
        ds.attrs["distinct_scenarios"] = counts if len(counts) > 1 else int(counts[0])
        warn_of_few(counts, n, plan.given, plan.generator.name, stacklevel=3)
    else:
        few = [count_few_moves(*pair) for pair in zip(drawn["log_return"], drawn["implied_vol"], strict=True)]
        warn_of_few_moves(few, n, repr(plan.generator.name), stacklevel=3)
    return found


def set_draws(ds: xr.Dataset, drawn: dict[str, Any]) -> None:
    path = ("as_of", "scenario", "step")
    growth = np.exp(np.cumsum(drawn["log_return"], axis=-1))
    drawn = drawn | {"spot": ds["spot0"].values[:, None, None] * growth}
    # All at once: every assignment aligns the whole dataset anew.
    ds.update({n: ((*path, "tau", "moneyness") if n == "implied_vol" else path, v) for n, v in drawn.items()})
