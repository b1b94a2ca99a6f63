"""Hedges from sensitivities with options: against volatility moving in parallel, by maturity, or by strike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.hedging._base import SAME_EXPIRY, SAME_STRIKE, HedgeOptions, HedgeProblem, HedgeSolution, Positions
from volscen.hedging._sensitivities import check_vega, finish
from volscen.hedging._slopes import problem_slopes

__all__ = ["delta_vega", "delta_vega_sqrt", "neighbours", "vega_buckets"]

FloatArray = npt.NDArray[np.float64]


def delta_vega(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Match the portfolio's vega with one option, then its Black delta with the underlying."""
    option = _only_option(problem, "delta-vega")
    ratio = np.zeros(len(problem.labels))
    ratio[option] = problem.book.total("vega") / problem.traded.vega[option]
    return finish(problem, options, ratio, problem.book.delta, problem.traded.delta)


def delta_vega_sqrt(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Match vega / sqrt(tau) with one option, then the minimum-variance delta with the underlying.

    Volatilities that move in proportion to 1/sqrt(tau) are hedged exactly: the flat match takes a 91-day volatility to
    move as much as a 30-day one.
    """
    option = _only_option(problem, "delta-vega-sqrt")
    ratio = np.zeros(len(problem.labels))
    book = _maturities(problem.book)
    scaled = float(problem.book.quantity[book] @ (problem.book.vega[book] / np.sqrt(problem.book.tau[book])))
    _maturities(problem.traded)
    ratio[option] = scaled * np.sqrt(problem.traded.tau[option]) / problem.traded.vega[option]
    return _with_minimum_variance_delta(problem, options, ratio)


def vega_buckets(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Make every maturity bucket vega-neutral with the one option that stands for it.

    The maturities of the options are the pillars. A contract's volatility moves like the pillars on either side of it,
    linearly in time; before the first and after the last like that pillar, in proportion to 1/sqrt(tau).
    """
    problem.underlying()
    pillars = problem.options
    if pillars.size == 0:
        raise InputError("instruments must hold at least one option for method='vega-buckets', one for each bucket")
    _maturities(problem.traded)
    pillars = pillars[np.argsort(problem.traded.tau[pillars], kind="stable")]
    tau = problem.traded.tau[pillars]
    for i in np.flatnonzero(np.diff(tau) < SAME_EXPIRY):
        raise InputError(
            f"{problem.labels[pillars[i]]} and {problem.labels[pillars[i + 1]]} have the same maturity; "
            "method='vega-buckets' takes one option for each"
        )
    for option in pillars:
        check_vega(problem, int(option))
    vega = np.zeros(pillars.size)
    book = problem.book
    for i in _maturities(book):
        exposure = book.quantity[i] * book.vega[i]
        if book.tau[i] <= tau[0]:
            vega[0] += exposure * np.sqrt(tau[0] / book.tau[i])
        elif book.tau[i] >= tau[-1]:
            vega[-1] += exposure * np.sqrt(tau[-1] / book.tau[i])
        else:
            after = int(np.searchsorted(tau, book.tau[i]))
            share = (book.tau[i] - tau[after - 1]) / (tau[after] - tau[after - 1])
            vega[after] += exposure * share
            vega[after - 1] += exposure * (1 - share)
    ratio = np.zeros(len(problem.labels))
    ratio[pillars] = vega / problem.traded.vega[pillars]
    return _with_minimum_variance_delta(problem, options, ratio)


def neighbours(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Hedge every option with the options of its own expiry at the strikes next below and above it.

    Its vega is split so that volatilities moving linearly in log-strike between the two are hedged exactly; then the
    delta is matched with the underlying. Of a call and a put at a strike the first one named is used, and a strike that
    is the contract's own is passed over.
    """
    problem.underlying()
    book, traded = problem.book, problem.traded
    ratio = np.zeros(len(problem.labels))
    for i in np.flatnonzero(book.has_vega):
        if not book.is_option[i]:
            raise InputError(f"method='neighbours' hedges options; {book.labels[i]} has no strike of its own")
        same = [j for j in np.flatnonzero(traded.is_option) if abs(traded.tau[j] - book.tau[i]) < SAME_EXPIRY]
        distance = {int(j): float(np.log(traded.strike[j] / book.strike[i])) for j in same}
        below = [j for j in distance if distance[j] < -SAME_STRIKE]
        above = [j for j in distance if distance[j] > SAME_STRIKE]
        if not below or not above:
            raise InputError(
                f"instruments hold no option of the expiry of {book.labels[i]} with a strike "
                f"{'above' if below else 'below'} its own; method='neighbours' needs one on either side"
            )
        low, high = max(below, key=distance.__getitem__), min(above, key=distance.__getitem__)
        share = -distance[low] / (distance[high] - distance[low])
        for option, part in ((low, 1 - share), (high, share)):
            check_vega(problem, option)
            ratio[option] += part * book.quantity[i] * book.vega[i] / traded.vega[option]
    return _with_minimum_variance_delta(problem, options, ratio)


def _with_minimum_variance_delta(problem: HedgeProblem, options: HedgeOptions, ratio: FloatArray) -> HedgeSolution:
    book, traded = problem_slopes(problem, options.vol_slope)
    return finish(
        problem,
        options,
        ratio,
        problem.book.delta + problem.book.vega * book,
        problem.traded.delta + problem.traded.vega * traded,
    )


def _maturities(positions: Positions) -> npt.NDArray[np.intp]:
    """Contracts with vega, after checking that each has a maturity."""
    found = np.flatnonzero(positions.has_vega)
    for i in found:
        if np.isnan(positions.tau[i]):
            raise InputError(f"{positions.labels[i]} has vega of no one maturity; this method cannot place it")
    return found


def _only_option(problem: HedgeProblem, method: str) -> int:
    problem.underlying()
    if problem.options.size != 1:
        raise InputError(
            f"instruments must hold exactly one option beside the underlying for method={method!r}, not "
            f"{problem.options.size}; choose one"
        )
    option = int(problem.options[0])
    check_vega(problem, option)
    return option
