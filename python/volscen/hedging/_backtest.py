"""Hedging a rolled position through a history, by several methods at once, as it would have been done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from volscen import schema
from volscen._doubts import told_together
from volscen._numbers import whole_number
from volscen._threads import single_threaded_blas
from volscen._version import __version__
from volscen._workers import check_workers, map_in_order
from volscen.errors import InputError
from volscen.evaluation._archive import Archive
from volscen.evaluation._walk import Refit, _Block, _fingerprint, _fitted, _period, _segments, _template
from volscen.generators import Generator
from volscen.generators._neural_options import CPU, check_device
from volscen.generators._placement import look_for, with_networks
from volscen.hedging._backtest_account import Block, run_block
from volscen.hedging._backtest_market import MarketDay, QuoteDay, QuoteTape, SurfaceDay, VolFunction, key_of
from volscen.hedging._backtest_plan import Costs, HedgeArm, HedgeInstruments, OpenPosition, RolledPosition, described
from volscen.hedging._backtest_result import assemble
from volscen.hedging._registry import method_function
from volscen.portfolio._instruments import Option

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["backtest_hedge"]

Candidate = str | Generator | tuple[str, Mapping[str, Any]]
Rows = npt.NDArray[np.intp]


def backtest_hedge(
    history: xr.Dataset,
    position: RolledPosition,
    arms: Mapping[str, HedgeArm],
    *,
    instruments: Mapping[str, HedgeInstruments] | HedgeInstruments | Sequence[Any],
    first: Any,
    last: Any = None,
    generators: Mapping[str, Candidate] | Sequence[str] = ("bootstrap",),
    market: pd.DataFrame | xr.Dataset | VolFunction | None = None,
    costs: Costs | None = None,
    refit_every: Refit = None,
    update_every: int | None = 1,
    window: int | None = None,
    n_scenarios: int = 1000,
    seed: int = 0,
    extrapolation: str = "flat_vol",
    device: str = CPU,
    num_workers: int | None = None,
    client: Any = None,
    folder: str | Path | None = None,
) -> xr.Dataset:
    """Hedge a rolled position every day of a period, by every arm, and account for it.

    Parameters
    ----------
    history : xarray.Dataset
        Surfaces that the generators learn from, with the days before the period.
    position : RolledPosition
        What is hedged.
    arms : mapping of str to HedgeArm
        The ways to hedge it, by label.
    instruments : mapping of str to HedgeInstruments, or one, or a list of instruments
        What may be traded, by the label that arms name.
    first, last : date
        First and last realised date; every date of the history inside is used. The history's last when omitted.
    generators : mapping, or sequence of str
        Label -> name in the registry, (name, options), or a generator fitted before ``first``; or names.
    market : pandas.DataFrame, xarray.Dataset or callable, optional
        What contracts really cost. A table of closing prices (:func:`volscen.quotes.check_quotes`): real contracts at
        their closes. Another history of the same dates, on a finer grid: surfaces. A callable ``f(date, tau,
        moneyness)``: volatilities. ``history`` when omitted. In every case a contract keeps its own volatility, and
        scenarios move it by the increments of the surface.
    costs : Costs, optional
        :class:`Costs` with its defaults when omitted.
    refit_every, update_every, window
        As for :func:`volscen.evaluation.walk_forward`, reckoned at each opening: a position is hedged with the
        generator of its opening, updated on the way.
    n_scenarios : int
        Scenarios per date and generator.
    seed : int
        Passed to :func:`volscen.generate`.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the grid of surfaces.
    device : str
        As for :func:`volscen.generate`, of the generators with networks; the others are drawn on the CPU as ever.
    num_workers : int, optional
        Processes, each with positions of its own; the result is the same to the bit for any number. When omitted, the
        cluster whose ``dask.distributed`` client is active, if one is, else this process.
    client : distributed.Client, optional
        Of the cluster to use, in place of ``num_workers``.
    folder : str or Path, optional
        Keep fitted models and finished positions here; a run that was interrupted goes on from them. Rules that are
        callables are known by their names and by what they choose on the first evening.

    Returns
    -------
    xarray.Dataset
        By ``arm`` and realised ``date``, in basis points of the spot price at which the position was opened:
        ``error`` (gross) and ``net_error``, the profit of the day of being long the portfolio and short the hedge;
        ``cumulative_error`` and ``net_cumulative_error`` since opening, with interest; ``cost``; ``turnover`` and
        ``option_turnover``, the value traded; ``n_options`` held, ``largest_ratio`` among them, ``r_squared`` in
        sample. ``ratio`` by ``slot``, and by ``instruments`` what the slots are: ``kind`` (0 underlying, 1 call, 2
        put, -1 empty), ``strike``, ``expiry``. By date: ``portfolio_value`` and ``portfolio_change`` in currency,
        ``entry_spot``, ``position`` (its number), ``as_of`` (the evening of the hedge). :func:`backtest_table`
        makes a table of it.

    Raises
    ------
    InputError
        If an argument is out of range, a label is unknown, the period is empty, no position could be opened, the device
        is not there or of no use to any generator, or a method refuses a day's instruments; the arm and date are named.

    Notes
    -----
    The hedger is long the portfolio, worth V, and holds -phi_i of the instruments in an account A, financed at the
    rate of the shortest maturity known that evening: after trading at t,

        A_{t+1} = -sum phi_i H_i(t+1) + exp(r dt) (A_t - c_t + sum phi_i H_i(t)),    A_0 = -V_0,

    where c_t is what trading cost. With Pi = -A this is the self-financing account of Vuletic and Cont (2024,
    section 5), and Z = V - Pi = V + A is its tracking error, here ``net_cumulative_error`` (``cumulative_error``
    with c = 0). The error of one day is Z_{t+1} - exp(r dt) Z_t: the hedge as if set up anew each evening. Hedges
    are unwound, at a cost, when the position is closed; trading the position itself is free.

    Nothing after the evening of a hedge enters it, with two exceptions that look at whether a quote exists, never at
    its price: a real contract that the next date does not quote cannot be valued then and is not traded on this one
    (and a position of such contracts is closed), and the number of calendar days to the next date is known.

    Examples
    --------
    >>> import volscen
    >>> from volscen import Option, Portfolio, Underlying
    >>> from volscen.hedging import HedgeArm, RolledPosition, backtest_table
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> found = volscen.backtest_hedge(
    ...     history,
    ...     RolledPosition(Portfolio.straddle(strike_over_spot=1.0, tau=91 / 365), until_days=60),
    ...     {"delta-vega": HedgeArm("delta-vega"), "regression": HedgeArm("regression")},
    ...     instruments=[Underlying(), Option("call", strike_over_spot=1.0, tau=61 / 365)],
    ...     first=dates[1440], last=dates[1469], n_scenarios=200)
    >>> found.error.dims, found.sizes["date"]
    (('arm', 'date'), 30)
    >>> backtest_table(found, baseline="delta-vega").index.tolist()
    ['delta-vega', 'regression']
    """
    rows = _period(history, first, last)
    dates = history["date"].values.astype("datetime64[D]")
    sets = _sets(instruments)
    chosen = _arms(arms, sets)
    start = dates[rows[0] + 1]
    templates = _generators(generators, start, seed)
    for label, arm in chosen.items():
        for name in arm.generators:
            if name not in templates:
                raise InputError(f"arm {label!r}: no generator {name!r} among {', '.join(templates)}")
    if not isinstance(position, RolledPosition):
        raise InputError(f"position must be a RolledPosition, not {position!r}")
    charge = Costs() if costs is None else costs
    if not isinstance(charge, Costs):
        raise InputError(f"costs must be volscen.hedging.Costs, not {charge!r}")
    workers, cluster = check_workers(num_workers, client)
    placed = with_networks(check_device(device), templates)
    for label in placed:
        look_for(device, templates[label], elsewhere=cluster is not None)
    updates = None if update_every is None else whole_number("update_every", update_every)
    days = _Days(history, market, extrapolation)
    blocks = list(_positions(position, rows, dates, days))
    if not blocks:
        raise InputError("no position could be opened and held for a day; look at the rule, or widen the period")
    settings = {
        "title": "daily hedging of a rolled position",
        "arms": "; ".join(f"{label}: {arm}" for label, arm in chosen.items()),
        "position": described(position),
        "instruments_available": "; ".join(f"{label}: {described(one)}" for label, one in sets.items()),
        "instruments_first": _first_choice(sets, blocks[0], days),
        "market": days.description,
        "generators": "; ".join(f"{k}: {t.name} {t.parameters()} {_fingerprint(t)}" for k, t in templates.items()),
        "costs": str(charge),
        "first": str(start),
        "last": str(dates[rows[-1] + 1]),
        "refit_every": str(refit_every).lower(),
        "update_every": str(update_every).lower(),
        "window": str(window).lower(),
        "n_scenarios": whole_number("n_scenarios", n_scenarios, least=2),
        "seed": int(seed),
        "extrapolation": extrapolation,
        "positions": ", ".join(str(dates[block_rows[0]]) for _, block_rows in blocks),
        "data_fingerprint": schema.fingerprint(history.isel(date=slice(0, int(rows[-1]) + 2))),
        "volscen_version": __version__,
    }
    if device != CPU:  # the same up to rounding is not the same
        settings["device"] = device
    archive = None if folder is None else Archive(Path(folder), settings)
    todo = [i for i in range(len(blocks)) if archive is None or not archive.has(i)]
    fits = _Fits(templates, history, dates, blocks, refit_every, window, folder, settings)
    done: dict[int, xr.Dataset] = {}
    common: dict[str, Any] = {
        "arms": chosen, "sets": sets, "costs": charge, "history": history, "update_every": updates,
        "n_scenarios": settings["n_scenarios"], "seed": settings["seed"], "extrapolation": extrapolation,
        "devices": dict.fromkeys(placed, device),
    }  # fmt: skip
    tasks = (
        Block(
            number=i, position=blocks[i][0], rows=blocks[i][1], generators=fits.at(i),
            days=[days.at(int(row)) for row in [*blocks[i][1], blocks[i][1][-1] + 1]],
            followed=[days.followed(int(row)) for row in blocks[i][1]], **common,
        )
        for i in todo
    )  # fmt: skip
    bar = tqdm(total=sum(r.size for _, r in blocks), desc="hedging", unit="day", disable=None, delay=1.0, leave=False)
    with bar, single_threaded_blas(), told_together():
        bar.update(sum(blocks[i][1].size for i in range(len(blocks)) if i not in set(todo)))
        found = map_in_order(run_block, ((task,) for task in tasks), num_workers=workers, client=cluster)
        for i, part in zip(todo, found, strict=True):
            bar.update(blocks[i][1].size)
            if archive is None:
                done[i] = part
            else:
                archive.put(i, part)
    parts = [done[i] if archive is None else archive.get(i) for i in range(len(blocks))]
    return assemble(parts, settings | {"days_without_position": rows.size - sum(r.size for _, r in blocks)})


# ----------------------------------------------------------------------------------------------- the market
class _Days:
    """Evenings of the market, made when they are needed."""

    def __init__(self, history: xr.Dataset, market: Any, extrapolation: str) -> None:
        self._history, self._extrapolation = history, extrapolation
        self._vol: VolFunction | None = None
        self._tape: QuoteTape | None = None
        self._dates = history["date"].values.astype("datetime64[D]")
        self._made: dict[int, MarketDay] = {}
        self.description = "surfaces of the history"
        if market is None:
            return
        if isinstance(market, xr.Dataset):
            schema.validate(market, schema=schema.HISTORY)
            absent = np.setdiff1d(history["date"].values, market["date"].values)
            if absent.size:
                raise InputError(f"market lacks {absent.size} dates of the history, the first {str(absent[0])[:10]}")
            self._history = market
            self.description = f"surfaces {schema.fingerprint(market)}"
        elif callable(market):
            self._vol = market
            self.description = described(market)
        elif hasattr(market, "columns"):
            self._tape = QuoteTape(market)
            self.description = f"closes {self._tape.fingerprint}, rows dropped: {self._tape.dropped}"
        else:
            raise InputError(
                "market must be a table of closing prices, a history or a function of date, tau and moneyness, not "
                f"{type(market).__name__}"
            )

    def at(self, row: int) -> MarketDay:
        date = self._dates[row]
        if self._tape is None:
            return SurfaceDay(self._history, date, self._extrapolation, self._vol)
        if row not in self._made:
            table, followed = self._tape.table(date), self.followed(row) if row + 1 < self._dates.size else None
            self._made[row] = QuoteDay(self._history, date, self._extrapolation, table, followed)
        return self._made[row]

    def followed(self, row: int) -> set[Any] | None:
        """Contracts that the next date quotes too; None where every contract can be had."""
        if self._tape is None:
            return None
        return self._tape.followed(self._dates[row], self._dates[row + 1])

    def can_hold(self, position: OpenPosition, row: int) -> bool:
        """Whether the contracts of a position can be valued on a date and the next."""
        followed = self.followed(row)
        if followed is None:
            return True
        day = self.at(row)
        assert isinstance(day, QuoteDay)
        held = [i for i in position.portfolio.instruments if isinstance(i, Option)]
        return all(day.has(i) and key_of(i) in followed for i in held)


def _positions(
    rule: RolledPosition, rows: Rows, dates: npt.NDArray[np.datetime64], days: _Days
) -> Iterator[tuple[OpenPosition, Rows]]:
    """Positions in the order of time, with the last rows known of the days they are held."""
    held: OpenPosition | None = None
    since: list[int] = []
    for row in rows.tolist():
        if held is not None and (rule.remaining(held, dates[row]) <= rule.until_days or not days.can_hold(held, row)):
            yield held, np.array(since, dtype=np.intp)
            held, since = None, []
        if held is None:
            opened = rule.open(days.at(row))
            if opened is None or not days.can_hold(opened, row):
                continue
            held = opened
        since.append(row)
    if held is not None:
        yield held, np.array(since, dtype=np.intp)


# --------------------------------------------------------------------------------------------- the generators
class _Fits:
    """Generators as fitted at the opening of each position."""

    def __init__(
        self,
        templates: dict[str, Generator],
        history: xr.Dataset,
        dates: npt.NDArray[np.datetime64],
        blocks: list[tuple[OpenPosition, Rows]],
        refit_every: Refit,
        window: int | None,
        folder: str | Path | None,
        settings: dict[str, Any],
    ) -> None:
        self._templates, self._history, self._window = templates, history, window
        openings = np.array([int(rows[0]) for _, rows in blocks], dtype=np.intp)
        self._segments: list[Any] = []
        for number, segment in enumerate(_segments(dates, openings, refit_every)):
            self._segments += [_Block(number, int(segment[0]), np.array([row])) for row in segment]
        self._archives = {
            label: None if folder is None else Archive(Path(folder) / label, settings) for label in templates
        }
        self._now: tuple[int, dict[str, Generator]] = (-1, {})

    def at(self, number: int) -> dict[str, Generator]:
        """Generators for the position of this number."""
        block = self._segments[number]
        if block.segment != self._now[0]:
            fitted = {
                label: _fitted(template, self._history, block, self._window, self._archives[label])
                for label, template in self._templates.items()
            }
            self._now = block.segment, fitted
        return self._now[1]


def _generators(
    generators: Mapping[str, Candidate] | Sequence[str], start: np.datetime64, seed: int
) -> dict[str, Generator]:
    from volscen.evaluation._evaluate import _seeded

    if isinstance(generators, str):
        generators = [generators]
    pairs = generators.items() if isinstance(generators, Mapping) else [(name, name) for name in generators]
    out: dict[str, Generator] = {}
    for label, what in pairs:
        if isinstance(what, Generator):
            out[label] = _template(what, None, start)
            continue
        if isinstance(what, tuple) and len(what) != 2:
            raise InputError(f"generator {label!r} must be a name, (name, options) or a fitted generator")
        name, options = what if isinstance(what, tuple) else (what, {})
        out[label] = _template(*_seeded(name, dict(options), seed), start)
    if not out:
        raise InputError("generators is empty; give at least one, which 'delta' and its like do not look at")
    return out


# ------------------------------------------------------------------------------------------------- arguments
def _sets(instruments: Any) -> dict[str, HedgeInstruments]:
    pairs = dict(instruments) if isinstance(instruments, Mapping) else {"all": instruments}
    if not pairs:
        raise InputError("instruments is empty; give at least [volscen.Underlying()]")
    return {
        str(label): one if isinstance(one, HedgeInstruments) else HedgeInstruments(one) for label, one in pairs.items()
    }


def _first_choice(sets: dict[str, HedgeInstruments], block: tuple[OpenPosition, Rows], days: _Days) -> str:
    """What rules chose on the first evening: a rule that is a callable is not known by its name alone."""
    position, rows = block
    day = days.at(int(rows[0]))
    chosen = {label: [i.label for i in rule.choose(day, position)] for label, rule in sets.items()}
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in chosen.items())


def _arms(arms: Mapping[str, HedgeArm], sets: dict[str, HedgeInstruments]) -> dict[str, HedgeArm]:
    if not isinstance(arms, Mapping) or not arms:
        raise InputError("arms must be a mapping of label to HedgeArm, with at least one")
    for label, arm in arms.items():
        if not isinstance(arm, HedgeArm):
            raise InputError(f"arm {label!r} must be a HedgeArm, not {arm!r}")
        for method in (arm.method, arm.select):
            if method not in (None, "none", "auto"):
                method_function(str(method))
        if arm.instruments is not None and arm.instruments not in sets:
            raise InputError(f"arm {label!r}: no instruments {arm.instruments!r} among {', '.join(sets)}")
    return {str(label): arm for label, arm in arms.items()}
