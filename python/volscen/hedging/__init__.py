"""Hedge ratios of option portfolios from scenarios.

Adding a method means adding a file here and a line to the registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import risk, schema
from volscen._contracts import one_date
from volscen._instruments import Instrument
from volscen._revalue import Revaluation, contract_coordinates, step_labels, warn_floored
from volscen.errors import InputError
from volscen.hedging._base import HedgeProblem, HedgeSolution, HedgeWarning, Method
from volscen.portfolio import Portfolio, as_portfolio

__all__ = ["REGISTRY", "HedgeWarning", "hedge", "method_function"]

FloatArray = npt.NDArray[np.float64]

#: Name of each method -> module and function, imported on first use.
REGISTRY: dict[str, tuple[str, str]] = {
    "delta": ("volscen.hedging._delta", "delta"),
    "delta-vega": ("volscen.hedging._delta", "delta_vega"),
    "lasso": ("volscen.hedging._lasso", "lasso"),
    "regression": ("volscen.hedging._regression", "regression"),
}

#: A portfolio whose changes have a standard deviation below this share of the spot price does not move.
_NO_MOVE = 1e-12


def method_function(name: str) -> Method:
    """Return the function registered under a name.

    Examples
    --------
    >>> from volscen.hedging import method_function
    >>> method_function("delta-vega").__name__
    'delta_vega'
    """
    if not isinstance(name, str) or name not in REGISTRY:
        raise InputError(f"unknown method {name!r}; the registered ones are {', '.join(sorted(REGISTRY))}")
    module, attribute = REGISTRY[name]
    found: Method = getattr(import_module(module), attribute)
    return found


def hedge(
    ds: xr.Dataset,
    portfolio: Portfolio | Instrument | Sequence[Instrument | tuple[Instrument, float]],
    instruments: Sequence[Instrument],
    *,
    method: str = "regression",
    alpha: float | str | None = None,
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
    method : {"regression", "lasso", "delta", "delta-vega"}
        ``"regression"``: weighted least squares of the portfolio's changes in value on the instruments'.
        ``"lasso"``: LASSO selects the instruments, least squares refits. ``"delta"``: the Black delta in the
        underlying; other instruments stay unused. ``"delta-vega"``: one option against vega, the underlying
        against the remaining delta.
    alpha : float, "grid" or "cv", optional
        LASSO penalty on standardised changes, from 0 (keep all) to 1 (drop all). ``"cv"`` (default): by
        five-fold cross-validation with the one-standard-error rule. ``"grid"``: the largest of 0, .01, ...,
        .1 that costs at most .001 of the in-sample R-squared, after the paper's grid of eleven.
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
        selling them), ``selected``, ``value0``, ``delta``, ``vega``. Scalars: ``constant``, ``r_squared``,
        ``residual_mean``, ``residual_std``, and per probability ``tail`` (.05, .025, .01)
        ``residual_var`` and ``residual_es``; ``portfolio_value0``, ``portfolio_delta``, ``portfolio_vega``;
        ``condition_number`` for regressions. Coordinates of ``instrument`` as of
        :func:`volscen.portfolio.revalue`; ``extrapolated`` concerns the start and the one step. Attributes:
        ``method``, ``alpha`` (lasso), ``ess_fraction``, ``step``, ``elapsed_days``.

    Warns
    -----
    HedgeWarning
        If the instruments move nearly together, so that ratios are unstable, or there are fewer than five
        effective scenarios for each instrument of a regression.

    Raises
    ------
    InputError
        If the method is unknown, the portfolio is worth the same in every scenario, there are fewer effective
        scenarios than instruments, instruments are linearly dependent or do not move, the underlying or the
        option that a method needs is missing, or ``ds`` holds several dates.

    Notes
    -----
    With weights w_j, regression minimises sum_j w_j e_j^2 where V_j - V_t = a + sum_i phi_i (H_ij - H_it) +
    e_j and a is free. R-squared is 1 - sum w_j e_j^2 / sum w_j (y_j - mean_w y)^2, with a = 0 for the methods
    without a regression. The residual statistics are those of the tracking error z_j = (V_j - V_t) - sum_i
    phi_i (H_ij - H_it), the profit of being long the portfolio and short the hedge; it includes a, which no
    instrument earns. Values are compared undiscounted and interest on the cash account over the step, (exp(r
    dt) - 1)(V_t - sum_i phi_i H_it), is left to the account: it is the same in every scenario and so moves no
    ratio. VaR and expected shortfall are losses, positive. Vuletic and Cont (2024), "VolGAN", section 5.

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
    solve = method_function(method)
    if isinstance(instruments, str) or not isinstance(instruments, Sequence):
        raise InputError("instruments must be a list of volscen.Option and volscen.Underlying")
    if not instruments:
        raise InputError("instruments is empty; give at least volscen.Underlying()")
    book = as_portfolio(portfolio)
    ds = one_date(ds)
    position = _position(ds, step)
    own, other = (
        Revaluation(ds, held, elapsed_days=elapsed_days, extrapolation=extrapolation, num_threads=num_threads)
        for held in (book.instruments, instruments)
    )
    quantity = np.asarray(book.quantities)
    value0, delta, vega = other.at_start()
    book_value0, book_delta, book_vega = (float(quantity @ unit) for unit in own.at_start())
    values, extrapolated = _all(other, position)
    problem = HedgeProblem(
        labels=other.contracts.labels,
        is_underlying=~other.contracts.is_option,
        portfolio_change=_total(own, position, quantity) - book_value0,
        instrument_change=values - value0,
        weight=own.weight,
        portfolio_delta=book_delta,
        portfolio_vega=book_vega,
        delta=delta,
        vega=vega,
        value_scale=own.start.spot,
    )
    variance = _variance(problem)
    solution = solve(problem, alpha)
    out = _result(problem, solution, variance)
    out = out.assign(
        value0=("instrument", value0, {"long_name": "value of one unit at the start", "units": "currency"}),
        portfolio_value0=(
            (),
            book_value0,
            {"long_name": "value of the portfolio at the start", "units": "currency"},
        ),
    ).assign_coords(contract_coordinates(other.contracts))
    out = out.assign_coords(
        extrapolated=("instrument", extrapolated, {"long_name": "off the surface's grid at the start or on the step"})
    )
    if own.start.as_of is not None:
        out = out.assign_coords(as_of=own.start.as_of.astype("datetime64[ns]"))
    out.attrs.update(
        schema.base_attributes(
            schema.HEDGE,
            title="Hedge ratios",
            source=str(ds.attrs.get("source", "scenarios")),
            calendar=str(ds.attrs.get("calendar", "unspecified")),
            periods_per_year=float(ds.attrs.get("periods_per_year", 252)),
        ),
        method=method,
        ess_fraction=1 / float(own.weight.size * (own.weight @ own.weight)),
        step=step_labels(ds)[position],
        elapsed_days=float(own.elapsed[position]),
    )
    if solution.alpha is not None:
        out.attrs["alpha"] = solution.alpha
    return out


def _position(ds: xr.Dataset, step: int | None) -> int:
    labels = step_labels(ds)
    if step is None:
        return len(labels) - 1
    if np.ndim(step) or step not in labels:
        raise InputError(f"step {step!r} is not one of the scenarios' steps {labels[0]} to {labels[-1]}")
    return labels.index(step)


def _total(work: Revaluation, step: int, quantity: FloatArray) -> FloatArray:
    total, floored = work.total(step, quantity)
    warn_floored(work.contracts, floored, stacklevel=4)
    return total


def _all(work: Revaluation, step: int) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Values of the instruments, and which of them lie off the surface's grid at the start or on the step."""
    values, floored = work.values(step)
    warn_floored(work.contracts, floored, stacklevel=4)
    return values, work.contracts.off_grid | (work.off_grid_weight(step) > 0)


def _variance(problem: HedgeProblem) -> float:
    y, w = problem.portfolio_change, problem.weight
    variance = float(w @ np.square(y - w @ y))
    if variance <= (_NO_MOVE * problem.value_scale) ** 2:
        raise InputError("the portfolio is worth the same in every scenario; there is nothing to hedge")
    return variance


def _result(problem: HedgeProblem, solution: HedgeSolution, variance: float) -> xr.Dataset:
    tracking = problem.portfolio_change - problem.instrument_change @ solution.ratio
    w = problem.weight
    mean = float(w @ tracking)
    error = tracking - solution.constant
    levels = np.asarray(risk.LEVELS)
    scalars = {
        "constant": (solution.constant, "intercept of the regression", "currency"),
        "r_squared": (1 - float(w @ np.square(error)) / variance, "share of the variance hedged", "1"),
        "residual_mean": (mean, "mean tracking error", "currency"),
        "residual_std": (
            np.sqrt(w @ np.square(tracking - mean)),
            "standard deviation of the tracking error",
            "currency",
        ),
        "portfolio_delta": (problem.portfolio_delta, "portfolio value per unit of spot", "1"),
        "portfolio_vega": (problem.portfolio_vega, "portfolio value per 1.00 of volatility", "currency"),
    }
    if solution.condition_number is not None:
        scalars["condition_number"] = (
            solution.condition_number,
            "condition of the standardised changes",
            "1",
        )
    return xr.Dataset(
        {
            "ratio": (
                "instrument",
                solution.ratio,
                {"long_name": "units that replicate the portfolio", "units": "1"},
            ),
            "selected": ("instrument", solution.selected, {"long_name": "used by the hedge"}),
            "delta": ("instrument", problem.delta, {"long_name": "value per unit of spot", "units": "1"}),
            "vega": (
                "instrument",
                problem.vega,
                {"long_name": "value per 1.00 of volatility", "units": "currency"},
            ),
            **{name: ((), value, {"long_name": text, "units": unit}) for name, (value, text, unit) in scalars.items()},
            "residual_var": (
                "tail",
                risk.value_at_risk(tracking, w, alpha=levels),
                {"long_name": "value at risk of the tracking error, losses positive", "units": "currency"},
            ),
            "residual_es": (
                "tail",
                risk.expected_shortfall(tracking, w, alpha=levels),
                {
                    "long_name": "expected shortfall of the tracking error, losses positive",
                    "units": "currency",
                },
            ),
        },
        coords={"tail": ("tail", levels, {"long_name": "tail probability", "units": "1"})},
    )
