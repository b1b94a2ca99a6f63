"""Value at risk, expected shortfall and expectiles of weighted scenarios.

Values are profits (gains positive, losses negative); risk measures are losses, positive when money is lost.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._statistics import quantile
from volscen.errors import InputError
from volscen.schema import check_weights

__all__ = [
    "LEVELS",
    "check",
    "expected_shortfall",
    "expectile",
    "one_level",
    "sole_share",
    "summary",
    "tail_weight",
    "tied",
    "value_at_risk",
]

FloatArray = npt.NDArray[np.float64]

#: Tail probabilities reported by default.
LEVELS = (0.05, 0.025, 0.01)

#: From here on a tail probability can only be meant as a confidence level; 1 asks for the mean.
_CONFIDENCE = 0.9


def value_at_risk(
    values: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, alpha: npt.ArrayLike = 0.05
) -> FloatArray:
    """Loss exceeded with probability at most alpha: minus the alpha-quantile of the profits.

    Parameters
    ----------
    values : array_like, shape (n, ...)
        Profit and loss per scenario, gains positive; scenarios on the first axis.
    weight : array_like, shape (n,), optional
        Non-negative, summing to 1; equal weights when omitted.
    alpha : float or array_like, shape (A,)
        Tail probability in (0, 1]: .05 is the 95% value at risk.

    Returns
    -------
    ndarray, shape (...) or (A, ...)
        Positive where money is lost, in the unit of ``values``.

    Raises
    ------
    InputError
        If ``values`` hold NaN or infinities, weights do not sum to 1, or ``alpha`` lies outside (0, 1].

    Notes
    -----
    The quantile is the smallest order statistic whose cumulative weight reaches alpha, as in
    :func:`volscen.weighted_quantile`; nothing is interpolated.

    Examples
    --------
    >>> import volscen
    >>> pnl = [-10.0, -4.0, 0.0, 3.0]
    >>> float(volscen.risk.value_at_risk(pnl, [0.02, 0.08, 0.5, 0.4], alpha=0.05))
    4.0
    """
    x, w, levels = check(values, weight, alpha)
    result = -quantile(x, w, levels)
    return np.asarray(result[0] if np.ndim(alpha) == 0 else result)


def expected_shortfall(
    values: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, alpha: npt.ArrayLike = 0.05
) -> FloatArray:
    """Mean loss of the worst alpha of the probability.

    Parameters
    ----------
    values : array_like, shape (n, ...)
        Profit and loss per scenario, gains positive; scenarios on the first axis.
    weight : array_like, shape (n,), optional
        Non-negative, summing to 1; equal weights when omitted.
    alpha : float or array_like, shape (A,)
        Tail probability in (0, 1].

    Returns
    -------
    ndarray, shape (...) or (A, ...)
        Positive where money is lost, in the unit of ``values``; never below the value at risk.

    Raises
    ------
    InputError
        If ``values`` hold NaN or infinities, weights do not sum to 1, or ``alpha`` lies outside (0, 1].

    Notes
    -----
    The scenario at the value at risk enters with the part of its weight that completes alpha exactly, which
    keeps the measure coherent on discrete laws (Acerbi and Tasche 2002, "On the coherence of expected
    shortfall", definition 2.6).

    Examples
    --------
    >>> import volscen
    >>> pnl = [-10.0, -4.0, 0.0, 3.0]  # worst 5%: all of the first scenario and .03 of the second
    >>> round(float(volscen.risk.expected_shortfall(pnl, [0.02, 0.08, 0.5, 0.4], alpha=0.05)), 12)
    6.4
    """
    x, w, levels = check(values, weight, alpha)
    order = np.argsort(x, axis=0, kind="stable")
    ordered = np.take_along_axis(x, order, axis=0)
    mass = w[order]
    before = np.cumsum(mass, axis=0) - mass
    result = np.stack([-(np.clip(level - before, 0, mass) * ordered).sum(axis=0) / level for level in levels], axis=0)
    return np.asarray(result[0] if np.ndim(alpha) == 0 else result)


def tail_weight(values: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, alpha: float = 0.05) -> FloatArray:
    """Weight of every scenario in the worst alpha of the probability: what expected shortfall is a mean over.

    Parameters
    ----------
    values : array_like, shape (n,)
        Profit and loss per scenario.
    weight : array_like, shape (n,), optional
        Non-negative, summing to 1; equal weights when omitted.
    alpha : float
        Tail probability in (0, 1].

    Returns
    -------
    ndarray, shape (n,)
        Summing to 1; zero above the value at risk. ``-(values * tail_weight)`` sums to the expected shortfall.

    Raises
    ------
    InputError
        As for :func:`expected_shortfall`, and unless ``values`` are one-dimensional.

    Notes
    -----
    Scenarios at the value at risk share what completes alpha in proportion to their weights, so that their order has
    no influence.

    Examples
    --------
    >>> import volscen
    >>> volscen.risk.tail_weight([-10.0, -4.0, -4.0, 3.0], [0.02, 0.04, 0.02, 0.92], alpha=0.05).round(6).tolist()
    [0.4, 0.4, 0.2, 0.0]
    """
    x, w, _ = check(values, weight, alpha)
    level = one_level(alpha)
    if x.ndim != 1:
        raise InputError(f"values must be one-dimensional here, not shape {x.shape}; pass the portfolio's total")
    edge = quantile(x, w, [level])[0]
    equal = tied(x, edge)
    below, at = np.where((x < edge) & ~equal, w, 0.0), np.where(equal, w, 0.0)
    rest = np.clip(level - below.sum(), 0, at.sum())
    if at.sum() > 0:
        below += at * (rest / at.sum())
    return np.asarray(below / level)


def sole_share(values: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, alpha: float = 0.05) -> float:
    """Share of the expected shortfall that the scenario with the largest part of it bears; 0 where nothing is lost."""
    x = np.asarray(values, dtype=np.float64)
    lost = -x * tail_weight(x, weight, alpha=alpha)
    return float(lost.max() / lost.sum()) if lost.sum() > 0 else 0.0


def expectile(
    values: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, alpha: npt.ArrayLike = 0.00145
) -> FloatArray:
    """Expectile value at risk: minus the alpha-expectile of the profits.

    Parameters
    ----------
    values : array_like, shape (n, ...)
        Profit and loss per scenario, gains positive; scenarios on the first axis.
    weight : array_like, shape (n,), optional
        Non-negative, summing to 1; equal weights when omitted.
    alpha : float or array_like, shape (A,)
        In (0, 1); a coherent measure of risk up to 1/2, where it is minus the mean. The default is, for a normal
        law, as large as the 99% value at risk.

    Returns
    -------
    ndarray, shape (...) or (A, ...)
        Positive where money is lost, in the unit of ``values``.

    Raises
    ------
    InputError
        If ``values`` hold NaN or infinities, weights do not sum to 1, or ``alpha`` lies outside (0, 1).

    Notes
    -----
    The number e with alpha E[(X - e)+] = (1 - alpha) E[(e - X)+]: gains above it are 1/alpha - 1 times losses below.
    Solved exactly, between two order statistics. The only measure that is coherent and elicitable. Newey and Powell
    (1987); Bellini and Di Bernardino (2017), "Risk management with expectiles".

    Examples
    --------
    >>> import volscen
    >>> round(float(volscen.risk.expectile([-10.0, 0.0, 20.0], [0.1, 0.4, 0.5], alpha=0.1)), 12)
    -0.2
    """
    x, w, levels = check(values, weight, alpha)
    if np.any(levels >= 1):
        raise InputError("alpha must lie in (0, 1) for an expectile")
    order = np.argsort(x, axis=0, kind="stable")
    ordered, mass = np.take_along_axis(x, order, axis=0), w[order]
    mass_to, sum_to = np.cumsum(mass, axis=0), np.cumsum(mass * ordered, axis=0)
    result = []
    for level in levels:
        # Gains above an order statistic less losses below it, as alpha weighs them: falling along the order.
        gain = (sum_to[-1] - sum_to) - ordered * (mass_to[-1] - mass_to)
        excess = level * gain - (1 - level) * (ordered * mass_to - sum_to)
        last = np.maximum((excess >= 0).sum(axis=0) - 1, 0)[None]
        p, s = np.take_along_axis(mass_to, last, axis=0)[0], np.take_along_axis(sum_to, last, axis=0)[0]
        top = level * (sum_to[-1] - s) + (1 - level) * s
        result.append(-top / (level * (mass_to[-1] - p) + (1 - level) * p))
    return np.asarray(result[0] if np.ndim(alpha) == 0 else np.stack(result))


def summary(ds: xr.Dataset, *, alpha: npt.ArrayLike = LEVELS) -> xr.Dataset:
    """Value at risk and expected shortfall of the underlying's simple return since ``as_of``, at every step.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios.
    alpha : float or array_like
        Tail probabilities in (0, 1].

    Returns
    -------
    xarray.Dataset
        ``value_at_risk`` and ``expected_shortfall`` with dimensions ``tail``, ``step`` (and last
        ``as_of``), as fractions of the starting spot, losses positive.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> index_risk = volscen.risk.summary(cube)
    >>> bool((index_risk.expected_shortfall >= index_risk.value_at_risk).all())
    True
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be a scenario dataset such as volscen.generate() returns, not {type(ds).__name__}")
    schema.validate(ds, schema=schema.SCENARIOS)
    levels = _levels(alpha)
    if "as_of" in ds.dims:
        dates = [summary(ds.isel(as_of=i), alpha=levels) for i in range(ds.sizes["as_of"])]
        return xr.concat(dates, dim=ds["as_of"]).transpose("tail", "step", "as_of")
    spot = ds["spot"].transpose("scenario", "step").values.astype(np.float64)
    simple_return = spot / float(ds["spot0"]) - 1
    weight = ds["weight"].values
    out = xr.Dataset(
        {
            "value_at_risk": (("tail", "step"), value_at_risk(simple_return, weight, alpha=levels)),
            "expected_shortfall": (
                ("tail", "step"),
                expected_shortfall(simple_return, weight, alpha=levels),
            ),
        },
        coords={"tail": levels, **({"step": ds["step"].values} if "step" in ds.coords else {})},
    )
    out["value_at_risk"].attrs.update(long_name="value at risk of the underlying, losses positive", units="1")
    out["expected_shortfall"].attrs.update(long_name="expected shortfall of the underlying, losses positive", units="1")
    out["tail"].attrs.update(long_name="tail probability", units="1")
    return out


def check(
    values: npt.ArrayLike, weight: npt.ArrayLike | None, alpha: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    try:
        x = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("values must be an array of numbers, scenarios on the first axis") from None
    if x.ndim == 0 or x.shape[0] == 0:
        raise InputError("values must hold at least one scenario on the first axis")
    if not np.all(np.isfinite(x)):
        raise InputError("values hold NaN or infinities; a risk measure of them is not defined")
    n = x.shape[0]
    w = np.full(n, 1 / n) if weight is None else check_weights(weight, n)
    if w.ndim != 1:
        raise InputError(f"weight must be one-dimensional, not shape {w.shape}")
    return x, w, _levels(alpha)


def _levels(alpha: npt.ArrayLike) -> FloatArray:
    try:
        levels = np.asarray(alpha, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"alpha must be numbers in (0, 1], not {alpha!r}") from None
    if levels.ndim > 1 or levels.size == 0:
        raise InputError("alpha must be a number or a one-dimensional list of numbers")
    levels = np.atleast_1d(levels)
    if np.any(~(levels > 0)) or np.any(levels > 1):
        raise InputError("alpha must lie in (0, 1]: .05 asks for the worst 5%")
    if np.any((levels >= _CONFIDENCE) & (levels < 1)):  # the other convention, whose answer would be near the mean
        level = float(levels[(levels >= _CONFIDENCE) & (levels < 1)][0])
        raise InputError(
            f"alpha is the probability of the tail, and {level:g} looks like a confidence: give {1 - level:.6g} "
            f"for the worst {1 - level:.4g} of outcomes"
        )
    return levels


def tied(values: FloatArray, edge: float) -> npt.NDArray[np.bool_]:
    """Whether values are the one given, up to the rounding that sums over lines leave."""
    return np.asarray(np.abs(values - edge) <= 1e-13 * np.abs(values).max())


def one_level(alpha: npt.ArrayLike) -> float:
    """Return a tail probability that must be a single number in (0, 1]."""
    if np.ndim(alpha):
        raise InputError("alpha must be one number in (0, 1] here")
    return float(_levels(alpha)[0])
