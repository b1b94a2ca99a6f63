"""One page of plain text about a scenario set and a book: what a risk manager reads first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import risk, schema
from volscen._elapsed import step_labels
from volscen._figures import by_date
from volscen._numbers import amount
from volscen._statistics import quantile
from volscen._summary import scenario_summary
from volscen.errors import InputError
from volscen.risk._measures import sole_share
from volscen.surface._interpolate import interpolate_vol

__all__ = ["report_text", "sole_text"]

_LEVELS = (0.05, 0.025, 0.01)
_FAN = (0.05, 0.25, 0.5, 0.75, 0.95)
_TENOR_DAYS = 91
#: Share of an expected shortfall that one scenario alone may bear without a word.
_SOLE = 0.5


def report_text(
    ds: xr.Dataset, portfolio: Any = None, *, elapsed_days: npt.ArrayLike | None = None, alpha: npt.ArrayLike = _LEVELS
) -> str:
    """Describe scenarios, and a book on them, on one page of text.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios (``volscen/scenarios/1``); several dates are reported one after the other.
    portfolio : Portfolio or list of instruments, optional
        Revalued on the scenarios of one date.
    elapsed_days : array_like, shape (step,), optional
        As for :func:`volscen.portfolio.revalue`.
    alpha : float or array_like
        Tail probabilities of the book's figures.

    Returns
    -------
    str
        Index VaR and ES, at-the-money vols by tenor and along the steps, penalties before and after weighting,
        effective sample size, where the weights come from, and of the book its value, VaR and ES, by the weights and
        beside them with equal ones.

    Raises
    ------
    InputError
        If ``ds`` is no scenario set, holds several dates with a portfolio, or the portfolio cannot be valued.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=2000, horizon=5, seed=1)
    >>> text = volscen.report_text(cube, volscen.Portfolio.straddle(moneyness=1.0, tau=0.25))
    >>> "book" in text and "effective sample size" in text
    True
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be a scenario dataset such as volscen.generate() returns, not {type(ds).__name__}")
    schema.validate(ds, schema=schema.SCENARIOS)
    if "beta" not in ds.attrs:
        raise InputError("the weights of a lazy cube are not known yet; pass volscen.reweight(ds) or a computed cube")
    if "as_of" not in ds.coords:
        raise InputError("ds has no coordinate as_of; assign the date the scenarios start from")
    lines = [scenario_summary(ds), *_weights(ds)]
    many = "as_of" in ds.dims
    if not many:
        lines += _fan(ds)
    if portfolio is not None:
        if many:
            raise InputError("a portfolio is reported on one date; choose it with ds.sel(as_of=...)")
        lines += _book(ds, portfolio, elapsed_days, alpha)
    return "\n".join(lines) + "\n"


def _weights(ds: xr.Dataset) -> list[str]:
    lines = []
    if "views" in ds.attrs:
        heads = ["  views                      ", *[" " * 29] * str(ds.attrs["views"]).count("; ")]
        lines += [head + view for head, view in zip(heads, str(ds.attrs["views"]).split("; "), strict=True)]
        kl, kept = (by_date(ds, name) for name in ("kl_divergence", "view_confidence"))
        if kl is not None and kept is not None:
            lines.append(
                f"                             relative entropy {', '.join(f'{k:.3g}' for k in kl)} nats, confidence "
                f"{', '.join(f'{c:.3g}' for c in kept)}"
            )
    if "resampled" in ds.attrs:
        ess, distinct = (by_date(ds, name) for name in ("resampled_ess_fraction", "distinct_scenarios"))
        made, before = f"  resampled ({ds.attrs['resampled']})    ", f"{ds.attrs['resampled_from']:,}"
        if ess is None or distinct is None:
            lines.append(f"{made} from {before} scenarios")
        else:
            lines.append(
                f"{made} {', '.join(f'{d:,}' for d in distinct)} different scenarios of {before}, whose effective "
                f"sample size was {', '.join(f'{e:.1%}' for e in ess)}"
            )
    return lines


def _fan(ds: xr.Dataset) -> list[str]:
    labels = step_labels(ds)
    if len(labels) == 1:
        return []
    tau, moneyness = ds["tau"].values, ds["moneyness"].values
    tenor = float(np.clip(_TENOR_DAYS / 365, tau[0], tau[-1]))
    chosen = sorted({int(i) for i in np.linspace(0, len(labels) - 1, min(len(labels), 6)).round()})
    lines = [
        f"  at-the-money vol of {365 * tenor:.0f} days along the path, %"
        + "".join(f"{f'q{100 * q:.0f}':>8}" for q in _FAN)
    ]
    weight = ds["weight"].values
    for position in chosen:
        surface = ds["implied_vol"].isel(step=position).transpose("scenario", "tau", "moneyness").values
        values = quantile(100 * interpolate_vol(surface, tau, moneyness, tenor, 1.0), weight, _FAN)
        lines.append(f"    day {labels[position]:<38}" + "".join(f"{v:>8.2f}" for v in values))
    return lines


def sole_text(share: float, alpha: float) -> str | None:
    """What to say where one scenario bears most of an expected shortfall."""
    if share <= _SOLE:
        return None
    return (
        f"one scenario alone bears {share:.0%} of the {100 * (1 - alpha):.4g}% expected shortfall, which says more of "
        "it than of the law; look at it with volscen.risk.tail, and draw more scenarios"
    )


def _book(ds: xr.Dataset, portfolio: Any, elapsed_days: npt.ArrayLike | None, alpha: npt.ArrayLike) -> list[str]:
    from volscen.portfolio import pnl
    from volscen.portfolio._portfolio import as_portfolio

    book = as_portfolio(portfolio)
    result = pnl(ds, book, lines=False, elapsed_days=elapsed_days)
    profit = result["total"].isel(step=-1).values
    weight = np.asarray(ds["weight"].values, dtype=np.float64)
    equal = np.full(weight.size, 1 / weight.size)
    levels = np.atleast_1d(np.asarray(alpha, dtype=np.float64))
    days = step_labels(ds)[-1]
    lines = [
        f"  book of {len(book)} position(s), value {amount(float(result['value0'].sum()))}, {days} day(s)",
        f"    {'':<14}{'mean':>12}{'std':>12}"
        + "".join(f"{f'VaR {100 * (1 - a):.4g}%':>14}{f'ES {100 * (1 - a):.4g}%':>14}" for a in levels),
    ]
    for label, w in (("weighted", weight), ("equal weights", equal)):
        mean = float(w @ profit)
        deviation = float(np.sqrt(w @ np.square(profit - mean)))
        tails = "".join(
            f"{amount(float(risk.value_at_risk(profit, w, alpha=a))):>14}"
            f"{amount(float(risk.expected_shortfall(profit, w, alpha=a))):>14}"
            for a in levels
        )
        lines.append(f"    {label:<14}{amount(mean):>12}{amount(deviation):>12}{tails}")
    for level in levels:
        if (text := sole_text(sole_share(profit, weight, alpha=float(level)), float(level))) is not None:
            lines.append(f"    warning: {text}")
    worst = int(np.argmin(np.where(weight > 0, profit, np.inf)))
    names = ds["scenario"].values if "scenario" in ds.coords else range(weight.size)
    move = 100 * (float(ds["spot"].values[worst, -1]) / float(ds["spot0"]) - 1)
    lines.append(
        f"    worst scenario {names[worst]}: {amount(float(profit[worst]))} at a spot move of {move:+.2f}%, "
        f"weight {weight[worst]:.2g}"
    )
    return lines
