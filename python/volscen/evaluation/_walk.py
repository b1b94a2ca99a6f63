"""Walking a generator forward through days it has not seen, as a user would run it, and scoring every day."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from tqdm import tqdm

from volscen import schema
from volscen._dates import to_day
from volscen._doubts import told_together
from volscen._numbers import whole_number
from volscen._reweight import Beta
from volscen._threads import single_threaded_blas
from volscen._version import __version__
from volscen._workers import check_workers, map_in_order
from volscen.errors import FitError, InputError
from volscen.evaluation._archive import Archive
from volscen.evaluation._day import MEASURES, collect_days, score_day
from volscen.evaluation._yardstick import Yardstick
from volscen.generators import Generator, unfitted
from volscen.generators._neural_options import CPU, check_device
from volscen.generators._placement import look_for
from volscen.history._history import check_daily
from volscen.scenarios import generate

__all__ = ["walk_forward"]

#: Days of a block: what one process scores, and what one file of an archive holds.
_BLOCK_DAYS = 42
Refit = int | Literal["year", "quarter", "month"] | None


def walk_forward(
    generator: Generator | str,
    history: xr.Dataset,
    *,
    first: Any,
    last: Any = None,
    train_end: Any = None,
    options: Mapping[str, Any] | None = None,
    refit_every: Refit = "year",
    update_every: int | None = 1,
    window: int | None = None,
    n_scenarios: int = 1000,
    seed: int = 0,
    beta: Beta = "auto",
    measures: tuple[str, ...] = MEASURES,
    device: str = CPU,
    num_workers: int | None = None,
    client: Any = None,
    folder: str | Path | None = None,
) -> xr.Dataset:
    """Score one-day-ahead scenarios on every date of a period, refitting and updating on the way.

    The scenarios of a date are drawn from a generator that was fitted and updated on earlier dates only.

    Parameters
    ----------
    generator : str or Generator
        Name in the registry, fitted on the dates before ``first``; or a generator fitted before ``first``, which
        stays as it is: copies of it are walked.
    history : xarray.Dataset
        Holds the period and the days before it.
    first, last : date
        First and last realised date to score; the dates of the history inside the period are used. The history's last
        when omitted.
    train_end : date, optional
        Moves are divided by their standard deviation over dates before this one; ``first`` when omitted.
    options : mapping, optional
        Constructor arguments, where ``generator`` is a name.
    refit_every : {"year", "quarter", "month"}, int or None
        Refit on all that is known at the first date of each calendar period, or every so many dates; never when
        None.
    update_every : int or None
        Update with the days known (:meth:`Generator.update`) every so many dates since the last fit; never when
        None.
    window : int, optional
        Fit on the last ``window`` dates known only; on all when omitted.
    n_scenarios : int
        Scenarios per date.
    seed : int
        Passed to :func:`volscen.generate`.
    beta : float, "auto" or "paper"
        Strength of the arbitrage weights.
    measures : tuple of str
        Groups to take besides the energy score and the PITs: "crps", "variogram", "portfolios", "arbitrage",
        "structure".
    device : str
        Where the scenarios' networks are evaluated; as for :func:`volscen.generate`.
    num_workers : int, optional
        Processes that score blocks of 42 days; the result is the same to the bit for any number. When omitted, the
        cluster whose ``dask.distributed`` client is active, if one is, else this process.
    client : distributed.Client, optional
        Of the cluster to use, in place of ``num_workers``.
    folder : str or Path, optional
        Keep fitted models and scored blocks here, each written whole or not at all; a walk that was interrupted goes
        on from them. One folder belongs to one walk.

    Returns
    -------
    xarray.Dataset
        Over the realised ``date`` and, where a score depends on weights, the ``arm`` ("weighted", "raw"):
        ``energy_score``, ``energy_score_pc``, ``variogram_score``, ``crps``, ``tail_crps``, ``pit``, ``realised`` by
        variable; ``crps_profit``, ``profit``, ``quantile``, ``shortfall``, ``z2_moment`` of portfolios;
        ``penalty``, ``weight``, ``penalty_data``, ``negative_density``, ``falling_variance``; ``variance``, ``draw``;
        ``ess_fraction``, ``state_clipped``. :func:`summarise` makes figures of them.

    Raises
    ------
    InputError
        If the period is empty, the generator saw part of it when fitted, ``folder`` holds another walk, or the device
        is not there or of no use to the generator.
    FitError
        If a generator could not be fitted, or its law explodes; the date is named.

    Notes
    -----
    A block starts from the generator as fitted and is updated with the last scheduled days known, so that blocks do
    not depend on one another. Fits are made one after the other in the calling process.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import walk_forward
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> days = walk_forward("bootstrap", history, first=dates[1400], last=dates[1419], n_scenarios=200)
    >>> days.sizes["date"], days.energy_score.dims
    (20, ('date', 'arm'))
    """
    rows = _period(history, first, last)
    plan = _Plan(
        n_scenarios=whole_number("n_scenarios", n_scenarios, least=2),
        seed=int(seed),
        beta=beta,
        measures=check_measures(measures),
        update_every=None if update_every is None else whole_number("update_every", update_every),
        device=check_device(device),
    )
    workers, cluster = check_workers(num_workers, client)
    start = history["date"].values[rows[0] + 1].astype("datetime64[D]")
    end = start if train_end is None else min(to_day(train_end, "train_end"), start)
    yard = Yardstick.of(history, end)
    template = _template(generator, options, start)
    look_for(device, template, elsewhere=cluster is not None)
    segments = list(_segments(yard.date, rows, refit_every))
    attributes = {
        "title": "daily scores of one-day-ahead scenarios",
        "generator": template.name,
        "parameters": json.dumps(template.parameters(), sort_keys=True),
        "first": str(yard.date[rows[0] + 1]),
        "last": str(yard.date[rows[-1] + 1]),
        "train_end": str(end),
        "refit_every": str(refit_every).lower(),
        "update_every": str(update_every).lower(),
        "window": str(window).lower(),
        "n_scenarios": plan.n_scenarios,
        "seed": plan.seed,
        "beta": str(beta),
        "measures": ",".join(plan.measures),
        "fitted": _fingerprint(template),
        "data_fingerprint": schema.fingerprint(history.isel(date=slice(0, int(rows[-1]) + 2))),
        "volscen_version": __version__,
    }
    if device != CPU:  # the same up to rounding is not the same
        attributes["device"] = device
    archive = None if folder is None else Archive(folder, attributes)
    blocks = [block for number, segment in enumerate(segments) for block in _blocks(segment, number, plan.update_every)]
    todo = [i for i in range(len(blocks)) if archive is None or not archive.has(i)]
    done: dict[int, xr.Dataset] = {}
    bar = tqdm(total=rows.size, desc=template.name, unit="day", disable=None, delay=1.0, leave=False)
    with bar, single_threaded_blas(), told_together():
        bar.update(sum(blocks[i].rows.size for i in range(len(blocks)) if i not in todo))
        tasks = _tasks(todo, blocks, template, history, yard, window, plan, archive)
        found = map_in_order(_score_block, tasks, num_workers=workers, client=cluster)
        for i, days in zip(todo, found, strict=True):
            bar.update(blocks[i].rows.size)
            if archive is None:
                done[i] = days
            else:
                archive.put(i, days)
    parts = [done[i] if archive is None else archive.get(i) for i in range(len(blocks))]
    whole = xr.concat(parts, dim="date", data_vars="minimal", coords="minimal", compat="override", join="override")
    return whole.assign_attrs(attributes)


# ---------------------------------------------------------------------------------------------- the schedule
@dataclass(frozen=True)
class _Plan:
    """What every block of one walk shares."""

    n_scenarios: int
    seed: int
    beta: Beta
    measures: tuple[str, ...]
    update_every: int | None
    device: str = CPU


@dataclass(frozen=True)
class _Block:
    """Consecutive dates scored from one fit."""

    segment: int
    fit_row: int  # last row known when the segment was fitted
    rows: np.typing.NDArray[np.intp]  # last rows known of its dates


def _period(history: xr.Dataset, first: Any, last: Any) -> np.typing.NDArray[np.intp]:
    """Last rows known of the realised dates of a period."""
    schema.validate(history, schema=schema.HISTORY)
    check_daily(history, "the evaluation")
    dates = history["date"].values.astype("datetime64[D]")
    start = to_day(first, "first")
    stop = history["date"].values[-1].astype("datetime64[D]") if last is None else to_day(last, "last")
    realised = np.flatnonzero((dates >= start) & (dates <= stop))
    realised = realised[realised > 1]  # the first date has no move, and the second nothing to be scaled by
    if realised.size == 0:
        raise InputError(
            f"no date of the history ({dates[0]} to {dates[-1]}) lies between first {start} and last {stop}"
        )
    return np.asarray(realised - 1)


def _segments(
    date: np.typing.NDArray[np.datetime64], rows: np.typing.NDArray[np.intp], every: Refit
) -> Iterator[np.typing.NDArray[np.intp]]:
    """Rows between two fits."""
    if every is None:
        yield rows
        return
    realised = date[rows + 1]
    if isinstance(every, str):
        months = realised.astype("datetime64[M]").astype(int)
        length = {"year": 12, "quarter": 3, "month": 1}.get(every)
        if length is None:
            raise InputError(
                f"refit_every must be 'year', 'quarter', 'month', a number of dates or None, not {every!r}"
            )
        label = months // length
    else:
        label = np.arange(rows.size) // whole_number("refit_every", every)
    yield from np.split(rows, np.flatnonzero(np.diff(label)) + 1)


def _blocks(rows: np.typing.NDArray[np.intp], number: int, update_every: int | None) -> Iterator[_Block]:
    """Parts of a segment, each beginning with a scheduled update."""
    step = update_every or 1
    length = -(-_BLOCK_DAYS // step) * step
    for first in range(0, rows.size, length):
        yield _Block(number, int(rows[0]), rows[first : first + length])


# ------------------------------------------------------------------------------------------------- the work
def _tasks(
    todo: list[int],
    blocks: list[_Block],
    template: Generator,
    history: xr.Dataset,
    yard: Yardstick,
    window: int | None,
    plan: _Plan,
    archive: Archive | None,
) -> Iterator[tuple[Any, ...]]:
    """Blocks with the generator each starts from; fitted when the first block of a segment is reached."""
    current, fitted = -1, template
    for i in todo:
        block = blocks[i]
        if block.segment != current:
            current = block.segment
            fitted = _fitted(template, history, block, window, archive)
        yield fitted, history, yard, block, plan


def _fitted(
    template: Generator, history: xr.Dataset, block: _Block, window: int | None, archive: Archive | None
) -> Generator:
    """Generator at the start of a segment: as given, from the archive, or fitted on what was known."""
    if block.segment == 0 and template.is_fitted:
        return template
    stored = None if archive is None else archive.model(block.segment, template)
    if stored is not None:
        return stored
    begin = 0 if window is None else max(0, block.fit_row + 1 - whole_number("window", window))
    fresh = copy.deepcopy(template)
    try:
        fresh.fit(history.isel(date=slice(begin, block.fit_row + 1)))
    except FitError as error:
        known = history["date"].values[block.fit_row].astype("datetime64[D]")
        raise FitError(f"{template.name} fitted on dates up to {known}: {error}") from None
    if archive is not None:
        archive.keep(block.segment, fresh)
    return fresh


def _score_block(fitted: Generator, history: xr.Dataset, yard: Yardstick, block: _Block, plan: _Plan) -> xr.Dataset:
    # Updated through the period it would carry later days into whatever it is used for next.
    generator = copy.deepcopy(fitted)
    fitted_to = np.datetime64(generator.period_[1])
    days = []
    with single_threaded_blas(), told_together():  # which is this block's alone in a process of its own
        for count, row in enumerate(block.rows):
            known = int(row)
            if plan.update_every and count % plan.update_every == 0 and yard.date[known] != fitted_to:
                generator.update(history.isel(date=slice(0, known + 1)))
            cube = generate(
                generator, history, as_of=yard.date[known], n_scenarios=plan.n_scenarios, seed=plan.seed,
                beta=plan.beta, num_threads=1, device=plan.device,
            )  # fmt: skip
            day = score_day(
                yard, known, cube["implied_vol"].values[:, 0].astype(np.float64),
                cube["log_return"].values[:, 0].astype(np.float64), cube["weight"].values.astype(np.float64),
                measures=plan.measures, seed=plan.seed,
            )  # fmt: skip
            days.append(day | {"state_clipped": cube["state_clipped"].values})
    return collect_days(days, yard, [int(row) for row in block.rows], {})


# ------------------------------------------------------------------------------------------------- arguments
def _template(generator: Generator | str, options: Mapping[str, Any] | None, start: np.datetime64) -> Generator:
    if isinstance(generator, str):
        return unfitted(generator, options or {})
    if not isinstance(generator, Generator):
        raise InputError(f"generator must be a name or a generator, not {generator!r}")
    if options:
        raise InputError("options go with the name of a generator; a fitted one has its own")
    if generator.is_fitted and np.datetime64(generator.period_[1]) >= start:
        raise InputError(
            f"generator {generator.name!r} was fitted up to {generator.period_[1]}, inside the period to score; "
            "fit it on dates before first"
        )
    return generator


def _fingerprint(template: Generator) -> str:
    """Hash of what a fitted generator holds; empty for one that the walk fits itself."""
    if not template.is_fitted:
        return ""
    digest = hashlib.sha256()
    for name, array in sorted(template.arrays().items()):
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_measures(measures: tuple[str, ...]) -> tuple[str, ...]:
    """Return the groups in their own order after checking their names."""
    unknown = {measures} if isinstance(measures, str) else set(measures) - set(MEASURES)
    if unknown:
        raise InputError(f"measures must be a sequence of {', '.join(MEASURES)}; got {', '.join(map(repr, unknown))}")
    return tuple(name for name in MEASURES if name in measures)
