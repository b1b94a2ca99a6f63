"""Scenarios of several assets that move together."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._dates import to_day
from volscen._numbers import whole_number
from volscen._reweight import (
    PAPER_NOTE,
    Beta,
    arbitrage_weights,
    set_weights,
    warn_of_few_effective,
    weighing_penalty,
)
from volscen._threads import resolve_num_threads, single_threaded_blas
from volscen.errors import FileFormatError, InputError
from volscen.generators import BLOCK_SIZE, Generator
from volscen.generators._joint import JointGenerator, check_assets
from volscen.generators._neural_options import CPU, check_device
from volscen.generators._placement import put_on
from volscen.history import State, state_at
from volscen.history._history import position
from volscen.scenarios._blocks import Plan, block_rng, finish_block, pieces
from volscen.scenarios._generate import (
    check_size,
    float_type,
    seed_of,
    set_draws,
    starting_dataset,
)
from volscen.scenarios._given import count_few_moves, warn_of_few_moves
from volscen.scenarios._implausible import Beyond, beyond, hold_against, known_of, tell, warn_of_long

__all__ = ["generate_joint", "stack_assets"]

#: Returns (n, steps) and surfaces (n, steps, tau, moneyness) of a block.
Paths = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

_WEEK = np.timedelta64(7, "D")


def generate_joint(
    joint: JointGenerator,
    histories: Mapping[str, xr.Dataset],
    *,
    as_of: Any = None,
    n_scenarios: int = 10_000,
    horizon: int = 1,
    seed: int | np.random.Generator | None = None,
    reweight: Literal["arbitrage"] | None = "arbitrage",
    beta: Beta = "auto",
    project: bool = False,
    num_threads: int | None = None,
    dtype: npt.DTypeLike = "float32",
    device: str = CPU,
) -> dict[str, xr.Dataset]:
    """Draw weighted scenarios of several assets: scenario i of one goes with scenario i of the others.

    Parameters
    ----------
    joint : JointGenerator
        From :func:`volscen.fit_joint` or :func:`volscen.load_joint`.
    histories : mapping of str to xarray.Dataset
        Of the same assets; give the starting states.
    as_of : date or mapping of str to date, optional
        Last date known, of all or of each asset: each starts from its last row on it or at most a week before. When
        omitted the last row of each, which must lie within a week of each other.
    n_scenarios, horizon, dtype, num_threads, project
        As of :func:`volscen.generate`. A step is the next trading day of each asset, whatever its date.
    seed : int, numpy.random.Generator or None
        Random numbers are keyed by (seed, as_of, block of 1,024 scenarios); threads change no bit, and fewer scenarios
        are a prefix of more, before weights.
    device : str
        As of :func:`volscen.generate`, for the assets whose generators have networks; the others are drawn as ever.
    reweight, beta
        As of :func:`volscen.generate`, of the penalties summed over assets: the product of the assets' weights at one
        beta.

    Returns
    -------
    dict of str to xarray.Dataset
        A scenario dataset of each asset, on its own grid, with the same scenarios and the same ``weight``; every verb
        takes each of them. Profits of books on several assets add up scenario by scenario. :func:`volscen.stack_assets`
        puts those of one grid into one dataset. Weights set later on one of them are no longer common.

    Raises
    ------
    InputError
        If assets, dates or grids do not fit, or an argument is out of range; if the device is not there, or no asset's
        generator has a network to evaluate on it.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> histories = {"A": history, "B": history.isel(date=slice(200, None))}
    >>> joint = volscen.fit_joint(histories, "pca")
    >>> cubes = volscen.generate_joint(joint, histories, n_scenarios=2000, seed=1)
    >>> bool(abs(cubes["A"].log_return - cubes["B"].log_return).mean() < 0.002), sorted(cubes)
    (True, ['A', 'B'])
    """
    if not isinstance(joint, JointGenerator):
        raise InputError(f"joint must be what volscen.fit_joint returns, not {joint!r}")
    names = list(joint.models)
    if isinstance(histories, xr.Dataset) and "asset" in histories.dims:
        histories = schema.split_assets(histories)
    check_assets(histories, names)
    n_scenarios, horizon = whole_number("n_scenarios", n_scenarios), whole_number("horizon", horizon)
    threads, kind, number = resolve_num_threads(num_threads), float_type(dtype), seed_of(seed)
    if reweight not in ("arbitrage", None):
        raise InputError(f"reweight must be 'arbitrage' or None, not {reweight!r}")
    if not isinstance(project, (bool, np.bool_)):
        raise InputError(f"project must be True or False, not {project!r}")
    models = _placed(joint, check_device(device))
    plans, states = {}, {}
    dates = _dates(histories, names, as_of)
    cells = 0
    for i, name in enumerate(names):
        model, history = models[name], histories[name]
        schema.validate(history, schema=schema.HISTORY)
        schema.check_same_grid(model.tau_, model.moneyness_, history, f"the generator of {name}")
        states[name] = state_at(history, dates[name], n_returns=model.n_returns, n_surfaces=model.n_surfaces)
        own = number if i == 0 or joint.coupling == "dates" else _other_seed(number, i)
        known = known_of(model, history, [position(history, dates[name])])
        plans[name] = Plan(model, own, n_scenarios, horizon, kind, bool(project), known=known)
        cells += model.tau_.size * model.moneyness_.size
    check_size(n_scenarios * horizon * cells * kind.itemsize, "ask for less")
    for plan in plans.values():
        warn_of_long(horizon, plan.known, stacklevel=2)
    drawn, found = _draw(joint, number, plans, states, threads)
    cubes = {}
    for name in names:
        ds = starting_dataset(plans[name], [states[name]], histories[name])
        set_draws(ds, {key: values[None] for key, values in drawn[name].items()})
        ds.attrs |= {
            "data_fingerprint": joint.models[name].fingerprint_,
            "assets": ", ".join(names),
            "coupling": joint.coupling + (f" ({joint.days_} common days)" if joint.days_ else ""),
        }
        cubes[name] = ds.isel(as_of=0).assign_coords(asset=name)
    phi = np.sum([drawn[name][weighing_penalty(drawn[name])].sum(axis=1) for name in names], axis=0)
    weight, used = arbitrage_weights(phi, beta if reweight else 0.0)
    for name, ds in cubes.items():
        set_weights(ds, weight[None])
        if name == names[0]:
            warn_of_few_effective(ds, stacklevel=2)
        ds.attrs["beta"] = used
        if reweight and beta == "paper":
            ds.attrs["beta_note"] = PAPER_NOTE
        text = hold_against(ds, plans[name].known, [found[name]], weighed=bool(reweight))
        tell(None if text is None else f"{name}: {text}", stacklevel=2)
        few = [count_few_moves(drawn[name]["log_return"], drawn[name]["implied_vol"])]
        warn_of_few_moves(few, n_scenarios, f"{plans[name].generator.name!r} of {name}", stacklevel=2)
        cubes[name] = schema.arrange(ds)
    return cubes


def _placed(joint: JointGenerator, device: str) -> dict[str, Generator]:
    """Generators of the assets, on the device where they have networks."""
    if device == CPU:
        return joint.models
    if not any(model._has_networks() for model in joint.models.values()):
        names = ", ".join(sorted({repr(model.name) for model in joint.models.values()}))
        raise InputError(f"no asset's generator ({names}) has a network to evaluate on device={device!r}; leave it out")
    return {name: put_on(model, device if model._has_networks() else CPU) for name, model in joint.models.items()}


def stack_assets(cubes: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Put joint scenarios on one grid into one dataset, with ``asset`` as the first dimension.

    Parameters
    ----------
    cubes : mapping of str to xarray.Dataset
        As :func:`generate_joint` returns, of the same grid.

    Returns
    -------
    xarray.Dataset
        ``weight`` has no asset; ``as_of`` and ``calendar`` are coordinates of the asset. ``.sel(asset="...")`` gives
        back the cube of one asset, as every verb takes it.

    Raises
    ------
    InputError
        If grids, scenarios, steps or weights differ.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> joint = volscen.fit_joint({"A": history, "B": history}, "bootstrap")
    >>> both = volscen.stack_assets(volscen.generate_joint(joint, {"A": history, "B": history}, n_scenarios=10, seed=1))
    >>> both.log_return.dims
    ('asset', 'scenario', 'step')
    """
    if not isinstance(cubes, Mapping) or isinstance(cubes, xr.Dataset) or len(cubes) < 2:
        raise InputError("cubes must map the names of two assets or more to their scenarios")
    names = list(cubes)
    first = cubes[names[0]]
    for name in names:
        cube = cubes[name]
        try:
            schema.validate(cube, schema=schema.SCENARIOS)
            schema.check_same_grid(first["tau"].values, first["moneyness"].values, cube, names[0])
        except (InputError, FileFormatError) as error:
            raise type(error)(f"{name}: {error}") from None
        if "as_of" in cube.dims:
            raise InputError(f"{name} holds several dates; choose one with isel(as_of=...)")
        # generate_joint notes the assets and their coupling in each cube; one drawn alone has neither.
        listed = str(cube.attrs.get("assets", "")).split(", ")
        if "coupling" not in cube.attrs or any(cube.attrs.get(k) != first.attrs.get(k) for k in ("assets", "coupling")):
            raise InputError(f"{name} was not drawn together with the others; draw them with volscen.generate_joint")
        if name not in listed:
            raise InputError(f"{name} is none of the assets drawn together ({', '.join(listed)}); keep their names")
        if not _same_seed(cubes[names[0]], names[0], cube, name, listed):
            raise InputError(f"{name} was drawn with another seed than {names[0]}; they must be drawn together")
        same = cube.sizes == first.sizes and np.array_equal(cube["weight"].values, first["weight"].values)
        if not same or set(cube.data_vars) != set(first.data_vars):
            raise InputError(
                f"{name} has other scenarios, steps or weights than {names[0]}; they must be drawn together"
            )
    out = xr.Dataset(
        {
            key: first[key]
            if key == "weight"
            else (("asset", *first[key].dims), np.stack([cubes[n][key].transpose(*first[key].dims) for n in names]))
            for key in map(str, first.data_vars)
        },
        coords={
            **{key: first[key] for key in ("scenario", "step", "tau", "moneyness")},
            "asset": names,
            "calendar": schema.calendar_coordinate({name: cubes[name] for name in names}),
            "as_of": ("asset", np.array([cubes[name]["as_of"].values for name in names]).astype("datetime64[ns]")),
        },
    )
    out["weight"] = ("scenario", first["weight"].values)
    for key in dict.fromkeys(key for name in names for key in cubes[name].attrs):
        each = {name: cubes[name].attrs.get(key, "cpu" if key == "device" else None) for name in names}
        alike = len({str(other) for other in each.values()}) == 1
        told = "; ".join(f"{name}: {v}" for name, v in each.items())
        if key == "implausible_share":
            out.attrs[key] = max(share for share in each.values() if share is not None)
        elif key == "implausible":  # of those that have it
            out.attrs[key] = "; ".join(f"{name}: {text}" for name, text in each.items() if text is not None)
        else:
            out.attrs[key] = first.attrs[key] if alike or key == "seed" else told
    return schema.validate(schema.arrange(out))


def _same_seed(first: xr.Dataset, name: str, cube: xr.Dataset, other: str, listed: list[str]) -> bool:
    """Whether one call drew both, as far as their seeds tell: those of later assets follow from the first's."""
    if name != listed[0]:
        return True
    seed, own, place = int(first.attrs["seed"]), int(cube.attrs["seed"]), listed.index(other)
    # Cubes taken out of one dataset all bear the first seed.
    return own == seed or own == _other_seed(seed, place)


def _other_seed(seed: int, i: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(i,)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _dates(histories: Mapping[str, xr.Dataset], names: list[str], as_of: Any) -> dict[str, Any]:
    """The last date of each asset that is known."""
    if isinstance(as_of, Mapping) and not isinstance(as_of, xr.Dataset):
        if set(as_of) != set(names):
            raise InputError(f"as_of must be a date, or map each of {', '.join(names)} to one")
        wanted = {name: to_day(as_of[name], f"as_of of {name}") for name in names}
    elif as_of is not None:
        if np.ndim(as_of) > 0:
            raise InputError("as_of must be one date, or one of each asset; draw several dates one after the other")
        wanted = dict.fromkeys(names, to_day(as_of, "as_of"))
    else:
        wanted = {name: histories[name]["date"].values[-1].astype("datetime64[D]") for name in names}
        if max(wanted.values()) - min(wanted.values()) > _WEEK:
            told = ", ".join(f"{name} {day}" for name, day in wanted.items())
            raise InputError(f"the histories end on different dates ({told}); pass as_of")
    found = {}
    for name, day in wanted.items():
        days = histories[name]["date"].values.astype("datetime64[D]")
        row = int(np.searchsorted(days, day, side="right")) - 1
        if row < 0 or day - days[row] > _WEEK:
            raise InputError(f"the history of {name} holds no date in the week up to {day}")
        found[name] = days[row]
    return found


def _draw(
    joint: JointGenerator, seed: int, plans: dict[str, Plan], states: dict[str, State], threads: int
) -> tuple[dict[str, dict[str, npt.NDArray[Any]]], dict[str, list[Beyond]]]:
    """All scenarios of all assets, matched, and what of each asset lies beyond what is known of it."""
    n = next(iter(plans.values())).n_scenarios
    day = max(state.as_of for state in states.values())
    drawn = {
        name: {key: np.empty((n, *tail), kind) for key, (tail, kind) in plan.variables.items()}
        for name, plan in plans.items()
    }
    found: dict[str, list[Beyond]] = {name: [] for name in plans}

    def fill(piece: tuple[int, slice, slice]) -> None:
        block, part, place = piece
        paths: dict[str, Paths] = {}
        for name, plan in plans.items():
            # The same numbers of the same day draw the same past days of all assets.
            when = day if joint.coupling == "dates" else states[name].as_of
            rng = block_rng(plan.seed, when, block)
            paths[name] = plan.generator.sample(states[name], BLOCK_SIZE, plan.horizon, rng)
        if joint.dependence_ is not None:
            paths = _match(joint, seed, day, block, states, paths)
        for name, plan in plans.items():
            block_drawn = finish_block(plan, states[name], *paths[name], part)
            for key, values in block_drawn.items():
                drawn[name][key][place] = values
            for known in plan.known:
                far = beyond(known, block_drawn["log_return"], block_drawn["implied_vol"])
                found[name].append(far.moved(place.start))

    with single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, pieces(0, n)))
    return drawn, found


def _match(
    joint: JointGenerator, seed: int, day: np.datetime64, block: int, states: dict[str, State], paths: dict[str, Paths]
) -> dict[str, Paths]:
    """Scenarios of a block in the order in which they go together; those of the first asset keep theirs."""
    dependence = joint.dependence_
    assert dependence is not None
    since = int((day - np.datetime64("1900-01-01", "D")).astype(int))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(since, block, 1)))
    rounds = -(-BLOCK_SIZE // dependence.n_days)
    chosen = np.concatenate([rng.permutation(dependence.n_days) for _ in range(rounds)])[:BLOCK_SIZE]
    orders = {name: dependence.order(name, states[name], r, vol, chosen) for name, (r, vol) in paths.items()}
    first = np.argsort(next(iter(orders.values())))
    return {name: (r[orders[name][first]], vol[orders[name][first]]) for name, (r, vol) in paths.items()}
