"""Reverse stress: the likeliest scenario in which a portfolio loses a given amount."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.optimize import minimize
from scipy.special import chdtrc, logsumexp

from volscen._elapsed import step_labels, step_position
from volscen._numbers import positive_number, whole_number
from volscen.errors import InputError
from volscen.portfolio._profit import prepare
from volscen.portfolio._revalue import Revaluation
from volscen.stress._assemble import assemble, start_of

if TYPE_CHECKING:
    from volscen.portfolio._profit import Book

__all__ = ["reverse"]

FloatArray = npt.NDArray[np.float64]

#: Directions tried from, beside the factors' own; distance searched, in standard deviations; points on each ray.
_STARTS, _REACH, _POINTS = 8, 12.0, 48

#: Step of the difference quotients, in standard deviations, and how nearly the loss is met, as a share.
_STEP, _TOLERANCE = 1e-3, 1e-6

Density = Literal["gaussian", "kernel"]


def reverse(
    ds: xr.Dataset,
    portfolio: Book,
    loss: float,
    *,
    density: Density = "gaussian",
    search: Literal["factors", "scenarios"] = "factors",
    n_factors: int = 3,
    step: int | None = None,
    project: bool = False,
    elapsed_days: npt.ArrayLike | None = None,
    extrapolation: str = "flat_vol",
    num_threads: int | None = None,
) -> xr.Dataset:
    """Find the most likely scenario in which a portfolio loses at least an amount.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date; their weighted law says what is likely.
    portfolio : Portfolio, or a list of (instrument, quantity)
        What is held.
    loss : float
        Positive amount in currency.
    density : {"gaussian", "kernel"}
        Likelihood of a point in factor space: of the normal law with the scenarios' weighted mean and covariance, or
        their weighted Gaussian kernel density.
    search : {"factors", "scenarios"}
        Among all points of the factor space, each revalued in full; or among the given scenarios only.
    n_factors : int
        Principal components of the surface beside the return, at least 1.
    step : int, optional
        Label of the step; the last by default. The move to it is taken as one.
    project : bool
        Replace the surface found by the nearest one without static arbitrage; ``profit`` is then that of the projected
        surface, and may differ from what was asked for.
    elapsed_days, extrapolation, num_threads
        As for :func:`volscen.portfolio.revalue`.

    Returns
    -------
    xarray.Dataset
        One scenario following ``volscen/scenarios/1``, with the coordinate ``name``. Besides: ``profit`` on it;
        ``score(factor)``, its coordinates in standard deviations of the scenarios' factors (``return``, ``PC1``, ...);
        ``distance``, their Mahalanobis distance from the mean; ``tail_probability`` that a normal draw lies as far out
        or farther; ``log_density`` by the chosen density, up to a constant.

    Raises
    ------
    InputError
        If no scenario, or no point within 12 standard deviations, loses so much: the largest loss found is named.

    Notes
    -----
    Factors are the log return to the step and the scores of the first principal components of the increments of log
    volatility, by the scenarios' weights. In factor space the likeliest point that loses the amount is found by
    sequential quadratic programming on the exact revaluation, from several starts: along the factors and towards the
    likeliest losing scenarios. The best is taken, which no method guarantees to be the global one. For the normal law
    it is the design point of structural reliability (Hasofer and Lind 1974), the plausible and severe scenario of
    Breuer, Jandacka, Rheinberger and Summer (2009). The kernel has the bandwidth of Scott (1992) for the effective
    number of scenarios.

    With ``search="scenarios"`` the surface is the scenario's own; from the factors it is the mean surface and the
    components alone, so that what they leave out stands at its mean.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> short = volscen.Portfolio.straddle(moneyness=1, tau=0.25, quantity=-100)
    >>> worst = volscen.stress.reverse(cube, short, loss=200)
    >>> round(float(worst.profit), 3), worst.sizes["scenario"]
    (-200.0, 1)
    """
    ds, book, work = prepare(ds, portfolio, elapsed_days, extrapolation, num_threads)
    loss = positive_number("loss", loss)
    if density not in ("gaussian", "kernel"):
        raise InputError(f"density must be 'gaussian' or 'kernel', not {density!r}")
    if search not in ("factors", "scenarios"):
        raise InputError(f"search must be 'factors' or 'scenarios', not {search!r}")
    position = step_position(ds, step)
    quantity = np.asarray(book.quantities)
    value0 = float(quantity @ work.greeks_at_start().value)
    surfaces = ds["implied_vol"].transpose("scenario", "step", "tau", "moneyness").values[:, position]
    space = _Space.of(np.log(work.spot[:, position] / work.start.spot), surfaces, work, n_factors)
    log_density, gradient = _density(space, density)
    profit = work.total(position, quantity)[0] - value0
    losing = np.flatnonzero((profit <= -loss) & (work.weight > 0))
    losing = losing[np.argsort(-log_density(space.points[losing]), kind="stable")]
    if search == "scenarios":
        if not losing.size:
            raise InputError(f"no scenario loses {loss:g}; the largest loss is {-profit.min():g}")
        best = losing[0]
        point, vol = space.points[best], surfaces[best].astype(np.float64)
        log_return = float(np.log(work.spot[best, position] / work.start.spot))
    else:

        def profit_at(points: FloatArray) -> FloatArray:
            log_returns, vols = space.scenarios(points)
            spot = work.start.spot * np.exp(log_returns)
            return work.on(position, spot, vols).total(0, quantity)[0] - value0

        starts = np.concatenate([np.eye(space.size), -np.eye(space.size), space.points[losing[:_STARTS]]])
        if not losing.size:
            starts = np.concatenate([starts, space.points[np.argsort(profit)[:_STARTS]]])
        point = _likeliest(profit_at, log_density, gradient, starts, loss)
        found = space.scenarios(point[None])
        log_return, vol = float(found[0][0]), found[1][0]
    out = assemble(
        start_of(ds),
        [f"likeliest loss of {loss:g}"],
        np.array([[log_return]]),
        vol[None, None],
        kind="reverse",
        project=project,
        steps=[step_labels(ds)[position]],
    )
    at_loss = work.on(position, out["spot"].values[:, 0], out["implied_vol"].values[:, 0].astype(np.float64))
    distance = float(np.sqrt(point @ point))
    out["profit"] = ((), float(at_loss.total(0, quantity)[0][0]) - value0, _text("profit and loss", "currency"))
    out["score"] = ("factor", space.standardise(point), _text("factor in standard deviations"))
    out["distance"] = ((), distance, _text("Mahalanobis distance from the mean"))
    out["tail_probability"] = (
        (),
        float(chdtrc(space.size, distance**2)),
        _text("probability that a normal draw lies as far out"),
    )
    out["log_density"] = ((), float(log_density(point[None])[0]), _text("log density, up to a constant"))
    names = ["return", *(f"PC{i}" for i in range(1, space.size))]
    out.attrs |= {"density": density, "search": search, "elapsed_days": float(work.elapsed[position])}
    return out.assign_coords(factor=names)


@dataclass(frozen=True)
class _Space:
    """Returns and principal components of surfaces, whitened: points (n, size) have mean 0 and covariance 1."""

    points: FloatArray
    weight: FloatArray
    mean: FloatArray
    root: FloatArray
    surface: FloatArray
    components: FloatArray

    @classmethod
    def of(
        cls, log_return: FloatArray, surfaces: npt.NDArray[np.floating], work: Revaluation, n_factors: int
    ) -> _Space:
        n, w = log_return.size, work.weight
        cells = int(np.prod(surfaces.shape[1:]))
        n_factors = whole_number("n_factors", n_factors, most=cells)
        moves = (np.log(surfaces.astype(np.float64)) - np.log(work.start.implied_vol)).reshape(n, cells)
        centre = w @ moves
        spread = (moves - centre) * np.sqrt(w)[:, None]
        _, vectors = np.linalg.eigh(spread.T @ spread)
        components = vectors[:, ::-1][:, :n_factors].T
        # The sign that makes most volatilities rise: eigenvectors have none of their own.
        components *= np.where(components.sum(axis=1) < 0, -1.0, 1.0)[:, None]
        factors = np.column_stack([log_return, (moves - centre) @ components.T])
        mean = w @ factors
        deviation = factors - mean
        covariance = (deviation * w[:, None]).T @ deviation
        try:
            root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            root = None
        if root is None or np.diag(root).min() <= 1e-8 * np.sqrt(np.diag(covariance)).max():
            raise InputError(
                f"the scenarios do not move in {n_factors + 1} independent ways; take fewer n_factors or more scenarios"
            )
        points = np.linalg.solve(root, deviation.T).T
        return cls(
            points, w, mean, root, np.log(work.start.implied_vol) + centre.reshape(surfaces.shape[1:]), components
        )

    @property
    def size(self) -> int:
        return int(self.mean.size)

    def scenarios(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log returns (n,) and surfaces (n, J, I) of points."""
        factors = self.mean + points @ self.root.T
        moves = (factors[:, 1:] @ self.components).reshape(-1, *self.surface.shape)
        return factors[:, 0], np.exp(self.surface + moves)

    def standardise(self, point: FloatArray) -> FloatArray:
        return np.asarray(self.root @ point / np.sqrt(np.square(self.root).sum(axis=1)))


def _density(
    space: _Space, kind: Density
) -> tuple[Callable[[FloatArray], FloatArray], Callable[[FloatArray], FloatArray]]:
    """Log density of points (n, size), and its gradient at one."""
    if kind == "gaussian":
        return (lambda points: -np.square(points).sum(axis=1) / 2), (lambda point: -point)
    used = space.weight > 0
    centres, log_weight = space.points[used], np.log(space.weight[used])
    effective = 1 / float(space.weight @ space.weight)
    width = effective ** (-1 / (space.size + 4))

    def exponents(point: FloatArray) -> FloatArray:
        return np.asarray(log_weight - np.square(centres - point).sum(axis=1) / (2 * width**2))

    def log_density(points: FloatArray) -> FloatArray:
        return np.array([logsumexp(exponents(point)) for point in points])

    def gradient(point: FloatArray) -> FloatArray:
        e = exponents(point)
        return np.asarray(np.exp(e - logsumexp(e)) @ (centres - point) / width**2)

    return log_density, gradient


def _likeliest(
    profit: Callable[[FloatArray], FloatArray],
    log_density: Callable[[FloatArray], FloatArray],
    gradient: Callable[[FloatArray], FloatArray],
    starts: FloatArray,
    loss: float,
) -> FloatArray:
    """Point of the highest density whose profit is at most -loss."""
    size = starts.shape[1]
    shifts = _STEP * np.concatenate([np.eye(size), -np.eye(size)])

    def slope(point: FloatArray) -> FloatArray:
        around = profit(point + shifts)
        return np.asarray((around[:size] - around[size:]) / (2 * _STEP))

    lengths = np.linalg.norm(starts, axis=1, keepdims=True)
    directions = starts / np.where(lengths > 0, lengths, 1)
    radii = np.linspace(0, _REACH, _POINTS + 1)[1:]
    rays = radii[None, :, None] * directions[:, None, :]
    values = profit(rays.reshape(-1, size)).reshape(len(directions), -1)
    first = np.argmax(values <= -loss, axis=1)
    candidates = [rays[i, first[i]] for i in np.flatnonzero((values <= -loss).any(axis=1))]
    if profit(np.zeros((1, size)))[0] <= -loss:
        candidates.append(np.zeros(size))
    # No ray reaches the loss, but a point between them may: start where most is lost.
    candidates = candidates or [rays.reshape(-1, size)[int(np.argmin(values))]]

    def objective(point: FloatArray) -> float:
        return -float(log_density(point[None])[0])

    rules: Any = {
        "method": "SLSQP",
        "jac": lambda point: -gradient(point),
        "bounds": [(-_REACH, _REACH)] * size,
        "constraints": {
            "type": "ineq",
            "fun": lambda point: (-loss - float(profit(point[None])[0])) / loss,
            "jac": lambda point: -slope(point) / loss,
        },
        "options": {"maxiter": 200, "ftol": 1e-12},
    }
    best: FloatArray | None = None
    deepest = float(values.min())
    for candidate in candidates:
        with warnings.catch_warnings():  # a step that rounding puts beyond a bound is put back there
            warnings.filterwarnings("ignore", "Values in x were outside bounds", RuntimeWarning)
            found = minimize(objective, candidate, **rules)
        for point in (found.x, candidate):  # the start itself, where the search fails
            reached = float(profit(point[None])[0])
            deepest = min(deepest, reached)
            if reached <= -loss * (1 - _TOLERANCE) and (
                best is None or log_density(point[None])[0] > log_density(best[None])[0]
            ):
                best = np.asarray(point)
    if best is None:
        raise InputError(
            f"no move within {_REACH:g} standard deviations loses {loss:g}; the largest loss found is {-deepest:g}"
        )
    return best


def _text(long_name: str, units: str = "1") -> dict[str, str]:
    return {"long_name": long_name, "units": units}
