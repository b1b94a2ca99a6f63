"""The verb of this package: units of each instrument to hold against a portfolio."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen.errors import InputError
from volscen.hedging._arguments import PerInstrument, build_options, check_applies
from volscen.hedging._base import SAME_EXPIRY, SAME_STRIKE, HedgeProblem, HedgeSolution, HedgeWarning, VolSlope
from volscen.hedging._problem import Valued
from volscen.hedging._registry import chosen_method, method_function
from volscen.hedging._result import result
from volscen.portfolio._contracts import one_date
from volscen.portfolio._instruments import Instrument
from volscen.portfolio._portfolio import Portfolio, as_portfolio

__all__ = ["hedge"]

_PARITY = ("warn", "allow")


def hedge(
    ds: xr.Dataset,
    portfolio: Portfolio | Instrument | Sequence[Instrument | tuple[Instrument, float]],
    instruments: Sequence[Instrument],
    *,
    method: str = "auto",
    alpha: float | str | None = None,
    noise: PerInstrument = None,
    noise_floor: float | None = None,
    vol_slope: VolSlope = None,
    tail: float | None = None,
    centre: bool | None = None,
    current: PerInstrument = None,
    half_spread: PerInstrument = None,
    half_spread_vol: PerInstrument = None,
    proportional_cost: PerInstrument = None,
    cost_weight: float | None = None,
    lower: PerInstrument = None,
    upper: PerInstrument = None,
    lot_size: PerInstrument = None,
    parity: str = "warn",
    step: int | None = None,
    elapsed_days: npt.ArrayLike | None = None,
    extrapolation: str = "flat_vol",
    num_threads: int | None = None,
) -> xr.Dataset:
    """Units of each instrument to hold against a portfolio.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date.
    portfolio : Portfolio, or a list of (instrument, quantity)
        What is to be hedged.
    instruments : sequence of Option or Underlying
        What may be traded.
    method : str
        From scenarios: ``"regression"``, weighted least squares of the portfolio's changes in value on the
        instruments'; ``"ridge"``, the same with the noise of quotes; ``"lasso"``, LASSO selects the instruments and
        least squares refits; ``"min-es"``, least expected shortfall. From sensitivities: ``"delta"``,
        ``"min-variance-delta"``; with one option ``"delta-vega"``, ``"delta-vega-sqrt"``; with several
        ``"vega-buckets"``, ``"neighbours"``. ``"auto"`` (default) is ``"ridge"`` where there are two or more options
        among the instruments and ``"regression"`` otherwise. See Notes.
    alpha : float, "grid" or "cv", optional
        Penalty of ``"lasso"`` on standardised changes, from 0 (keep all) to 1 (drop all). ``"cv"`` (default): by
        five-fold cross-validation with the one-standard-error rule. ``"grid"``: the largest of 0, .01, ...,
        .1 that costs at most .001 of the in-sample R-squared, after the paper's grid of eleven.
    noise : float or per instrument, optional
        Of ``"ridge"``: error of a quoted volatility, in decimals, .002 by default; the price of an option errs by
        that times its vega. The underlying has none.
    noise_floor : float, optional
        Of ``"ridge"``: least error of an option's price as a share of the spot, 2e-5 by default, so that nearly
        worthless options are not bought by the thousand. Where ``noise`` is 0 there is none.
    vol_slope : float or callable, optional
        Of the methods with a minimum-variance delta: change of volatility, in decimals, per unit of return (-1: one
        point up when the spot falls by 1%), for every option alike or as a function of arrays ``(tau, log_moneyness)``.
        By default each contract's own, by weighted regression over the scenarios; 0 gives Black deltas.
    tail : float, optional
        Of ``"min-es"``: tail probability in (0, 1), .05 by default.
    centre : bool, optional
        Of ``"min-es"``: whether to minimise the shortfall of the tracking error about its mean (default), which no
        drift of the scenarios can be traded for, or of the error as it is.
    current : per instrument, optional
        Units held now, such as the ``ratio`` of an earlier result; none by default.
    half_spread, half_spread_vol, proportional_cost : per instrument, optional
        Cost of trading one unit: in currency; in volatility (decimals, times vega); as a share of the value. They add
        up.
    cost_weight : float, optional
        Of the methods from scenarios: how much risk one unit of cost must save, .2 by default. A trade is paid for
        once and its risk is borne every step: if it is held for h steps, and the risk that matters is k standard
        deviations, take 1 / (h k). 0 only reports costs.
    lower, upper : per instrument, optional
        Limits of the units held, none by default.
    lot_size : per instrument, optional
        Units that trade together; holdings become multiples of it. 0, the default, is any fraction.
    parity : {"warn", "allow"}
        Whether to warn when an option hedges one of its own strike and expiry.
    step : int, optional
        Label of the step over which values change; the last by default.
    elapsed_days : float or array_like, shape (step,), optional
        Calendar days from ``as_of`` to each step, as for :func:`volscen.portfolio.revalue`.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the surface's grid, as for :func:`volscen.surface.interpolate_vol`.
    num_threads : int, optional
        Threads that value the instruments, all available by default. No number changes a value.

    Returns
    -------
    xarray.Dataset
        Per instrument: ``ratio`` (units held that replicate the portfolio: a long portfolio is neutralised by
        selling them), ``selected``, ``value0``, ``delta``, ``vega``, ``trade`` (ratio less ``current``),
        ``trade_cost``. Scalars: ``constant``, ``r_squared``, ``residual_mean``, ``residual_std``, and per probability
        ``tail`` (.05, .025, .01) ``residual_var`` and ``residual_es``; ``portfolio_value0``, ``portfolio_delta``,
        ``portfolio_vega``, and ``net_delta``, ``net_vega`` that the hedge leaves; ``cost`` and ``turnover`` of the
        trades; for methods from scenarios ``condition_number`` and ``effective_rank`` of the instruments used. Per
        scenario ``tracking_error`` and ``weight``. Coordinates of ``instrument`` as of
        :func:`volscen.portfolio.revalue`; ``extrapolated`` concerns the start and the one step. Attributes:
        ``method``, ``alpha`` (lasso), ``ess_fraction``, ``step``, ``elapsed_days``.

    Warns
    -----
    HedgeWarning
        If the instruments move nearly together, so that ratios are unstable; there are fewer than five effective
        scenarios (of the tail, for ``"min-es"``) for each instrument; limits keep sensitivities from being matched;
        or an option hedges one of its own strike and expiry.

    Raises
    ------
    InputError
        If the method is unknown or does not know a setting, the portfolio is worth the same in every scenario, there
        are fewer effective scenarios than instruments (but for ``"ridge"``), instruments are linearly dependent or do
        not move, what a method needs is missing, limits contradict each other, or ``ds`` holds several dates.

    Notes
    -----
    With weights w_j, regression minimises sum_j w_j e_j^2 where V_j - V_t = a + sum_i phi_i (H_ij - H_it) +
    e_j and a is free. R-squared is 1 - sum w_j e_j^2 / sum w_j (y_j - mean_w y)^2, with a = 0 for the methods
    without a regression. The residual statistics are those of the tracking error z_j = (V_j - V_t) - sum_i
    phi_i (H_ij - H_it), the profit of being long the portfolio and short the hedge; it includes a, which no
    instrument earns. Values are compared undiscounted and interest on the cash account over the step, (exp(r
    dt) - 1)(V_t - sum_i phi_i H_it), is left to the account: it is the same in every scenario and so moves no
    ratio. VaR and expected shortfall are losses, positive. Vuletic and Cont (2024), "VolGAN", section 5.

    Numbers *per instrument* are one number for all, a sequence in the order of ``instruments``, or a mapping or
    DataArray by the instruments' labels, in which those left out have the default.

    ``"ridge"`` minimises sum_j w_j e_j^2 + sum_i (noise_i phi_i)^2. Under costs the methods from scenarios minimise
    sqrt of that (``"min-es"``: the expected shortfall) plus ``cost_weight`` times the cost of the trade, exactly;
    what is held within a band about the best ratio is not traded. Methods from sensitivities report costs without
    heeding them, and meet limits and lots with the options first, then with the delta that is left.

    The minimum-variance delta is delta + vega d sigma/dS. ``"delta-vega-sqrt"`` matches vega / sqrt(tau), as
    volatilities that move in proportion to 1 / sqrt(tau) ask for, and then that delta; ``"vega-buckets"`` the vega of
    each maturity, with one option for each; ``"neighbours"`` hedges every option with those of its own expiry at the
    strikes on either side.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> straddle = volscen.Portfolio.straddle(moneyness=1.0, tau=91 / 365)
    >>> hedging = [volscen.Underlying(), volscen.Option("call", moneyness=1.0, tau=60 / 365)]
    >>> result = volscen.hedge(cube, straddle, hedging)
    >>> result.ratio.dims, result.attrs["method"], bool(result.r_squared > 0.9)
    (('instrument',), 'regression', True)
    """
    if not (isinstance(method, str) and method == "auto"):
        method_function(method)  # before anything is valued
    if isinstance(instruments, str) or not isinstance(instruments, Sequence):
        raise InputError("instruments must be a list of volscen.Option and volscen.Underlying")
    if not instruments:
        raise InputError("instruments is empty; give at least volscen.Underlying()")
    if parity not in _PARITY:
        raise InputError(f"parity must be 'warn' or 'allow', not {parity!r}")
    book = as_portfolio(portfolio)
    ds = one_date(ds)
    valued = Valued(
        ds,
        book,
        instruments,
        step=step,
        elapsed_days=elapsed_days,
        extrapolation=extrapolation,
        num_threads=num_threads,
    )
    problem = valued.problem
    chosen = chosen_method(method, problem.traded)
    settings = {
        "alpha": alpha,
        "noise": noise,
        "noise_floor": noise_floor,
        "vol_slope": vol_slope,
        "tail": tail,
        "centre": centre,
        "cost_weight": cost_weight,
    }
    check_applies(chosen, settings)
    market = {
        "current": current,
        "half_spread": half_spread,
        "half_spread_vol": half_spread_vol,
        "proportional_cost": proportional_cost,
        "lower": lower,
        "upper": upper,
        "lot_size": lot_size,
    }
    options = build_options(problem.traded, problem.spot, settings | market)
    solution = method_function(chosen)(problem, options)
    doubts = [*solution.doubts, *(_by_parity(problem, solution) if parity == "warn" else [])]
    for doubt in doubts:
        warnings.warn(doubt, HedgeWarning, stacklevel=2)
    out = result(valued, solution, options.trading)
    out.attrs.update(
        schema.base_attributes(
            schema.HEDGE,
            title="Hedge ratios",
            source=str(ds.attrs.get("source", "scenarios")),
            calendar=schema.calendar_of(ds),
            periods_per_year=float(ds.attrs.get("periods_per_year", 252)),
        ),
        method=chosen,
        ess_fraction=1 / float(problem.weight.size * (problem.weight @ problem.weight)),
        step=valued.step,
        elapsed_days=valued.elapsed_days,
    )
    if solution.alpha is not None:
        out.attrs["alpha"] = solution.alpha
    return out


def _by_parity(problem: HedgeProblem, solution: HedgeSolution) -> list[str]:
    """Doubt about the first instrument that hedges an option of its own strike and expiry."""
    book, traded = problem.book, problem.traded
    held = np.flatnonzero(book.is_option & (book.quantity != 0))
    for i in np.flatnonzero(traded.is_option & (solution.ratio != 0)):
        same = np.abs(np.log(book.strike[held] / traded.strike[i])) < SAME_STRIKE
        same &= np.abs(book.tau[held] - traded.tau[i]) < SAME_EXPIRY
        if same.any():
            return [
                f"{traded.labels[i]} has the strike and expiry of {book.labels[held[same][0]]} in the portfolio: with "
                "the underlying it replicates that by put-call parity, so the fit says nothing of the scenarios; drop "
                "it, or accept it with parity='allow'"
            ]
    return []
