"""Natural cubic smoothing splines by restricted maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

__all__ = ["NaturalSpline", "SplineBasis", "smooth"]

FloatArray = npt.NDArray[np.float64]

#: Smoothing parameters tried, per factor of ten, and how far beyond the range of the penalty's eigenvalues.
_STEPS, _REACH = 4, 3.0


@dataclass(frozen=True)
class NaturalSpline:
    """A natural cubic spline: straight beyond its knots.

    Attributes
    ----------
    knots, values, bends : ndarray, shape (K,)
        Knots in increasing order, the values there and the second derivatives (0 at both ends).
    """

    knots: FloatArray
    values: FloatArray
    bends: FloatArray

    def __call__(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, slope and second derivative."""
        if self.knots.size == 1:
            return np.full(x.shape, self.values[0]), np.zeros(x.shape), np.zeros(x.shape)
        inside = np.clip(x, self.knots[0], self.knots[-1])
        i, h, a, b = _place(self.knots, inside)
        y0, y1, c0, c1 = self.values[i], self.values[i + 1], self.bends[i], self.bends[i + 1]
        value = a * y0 + b * y1 + ((a**3 - a) * c0 + (b**3 - b) * c1) * h**2 / 6
        slope = (y1 - y0) / h + ((3 * b**2 - 1) * c1 - (3 * a**2 - 1) * c0) * h / 6
        bend = np.where(x == inside, a * c0 + b * c1, 0.0)
        return value + slope * (x - inside), slope, bend


@dataclass(frozen=True)
class SplineBasis:
    """The natural splines over some knots, by their values there.

    Attributes
    ----------
    knots : ndarray, shape (K,)
    bends : ndarray, shape (K, K)
        Second derivatives at the knots per value.
    penalty : ndarray, shape (K, K)
        Integral of the squared second derivative, as a quadratic form of the values.

    Notes
    -----
    P. Green and B. Silverman (1994), "Nonparametric regression and generalized linear models", section 2.1.
    """

    knots: FloatArray
    bends: FloatArray
    penalty: FloatArray

    @classmethod
    def over(cls, knots: FloatArray) -> SplineBasis:
        """Basis over increasing knots."""
        n = knots.size
        bends = np.zeros((n, n))
        if n < 3:
            return cls(knots, bends, bends)
        h = np.diff(knots)
        # Continuous slopes at the inner knots: (h0 c0 + 2 (h0 + h1) c1 + h1 c2) / 6 = (y2 - y1)/h1 - (y1 - y0)/h0.
        inner = np.arange(n - 2)
        jumps = np.zeros((n - 2, n))
        jumps[inner, inner], jumps[inner, inner + 2] = 1 / h[:-1], 1 / h[1:]
        jumps[inner, inner + 1] = -1 / h[:-1] - 1 / h[1:]
        system = np.zeros((n - 2, n - 2))
        system[inner, inner] = (h[:-1] + h[1:]) / 3
        system[inner[1:], inner[:-1]] = system[inner[:-1], inner[1:]] = h[1:-1] / 6
        bends[1:-1] = np.linalg.solve(system, jumps)
        penalty = jumps.T @ bends[1:-1]
        return cls(knots, bends, (penalty + penalty.T) / 2)

    def at(self, x: FloatArray) -> FloatArray:
        """Spline values at points within the knots per value at the knots: shape (n, K)."""
        if self.knots.size == 1:
            return np.ones((x.size, 1))
        i, h, a, b = _place(self.knots, x)
        rows = np.arange(x.size)
        out = ((a**3 - a) * h**2 / 6)[:, None] * self.bends[i] + ((b**3 - b) * h**2 / 6)[:, None] * self.bends[i + 1]
        out[rows, i] += a
        out[rows, i + 1] += b
        return out

    def spline(self, values: FloatArray) -> NaturalSpline:
        """Spline with these values at the knots."""
        return NaturalSpline(self.knots, values, self.bends @ values)


def _place(knots: FloatArray, x: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray, FloatArray, FloatArray]:
    """Interval of each point, its width, and the weights of its two ends."""
    i = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, knots.size - 2)
    h = knots[i + 1] - knots[i]
    return i, h, (knots[i + 1] - x) / h, (x - knots[i]) / h


def smooth(
    basis: SplineBasis, design: FloatArray, y: FloatArray, weight: FloatArray, smoothing: float | None
) -> tuple[NaturalSpline, float, float]:
    """Spline s with the smallest sum of weight (y - s)^2 + smoothing times the integral of s''^2.

    Parameters
    ----------
    basis : SplineBasis
    design : ndarray, shape (n, K)
        The basis at the data.
    y, weight : ndarray, shape (n,)
        Data, and positive weights, which are scaled to a mean of 1.
    smoothing : float or None
        Zero or more; by restricted maximum likelihood when None.

    Returns
    -------
    spline : NaturalSpline
    smoothing : float
    parameters : float
        Effective number of parameters, from 2 (a line) to K.

    Notes
    -----
    A smoothing spline is the posterior mean of a line plus an integrated Wiener process seen with noise of variance
    sigma^2/weight, whose own variance is sigma^2/smoothing. In the basis that makes both quadratic forms diagonal
    (Demmler and Reinsch, 1975) the components z_i off the line are independent with variance sigma^2 (1 + 1/a_i), a_i
    = smoothing times the penalty's eigenvalue; with sigma profiled out, twice the negative restricted likelihood is
    (n - 2) ln(rss0 + sum a_i z_i^2 / (1 + a_i)) + sum ln(1 + 1/a_i), rss0 being what no spline over the knots explains
    (G. Wahba, 1985; more stable on few data than cross-validation).
    """
    v = weight * (y.size / weight.sum())
    k = basis.knots.size
    gram = design.T @ (v[:, None] * design)
    factor = np.linalg.cholesky(gram)
    half = solve_triangular(factor, basis.penalty, lower=True)
    rough, vectors = np.linalg.eigh(solve_triangular(factor, half.T, lower=True))
    rough[: min(2, k)] = 0.0  # lines are not penalised
    rough = np.maximum(rough, 0.0)
    back = solve_triangular(factor, vectors, lower=True, trans="T")  # values at the knots per component
    z = back.T @ (design.T @ (v * y))
    if smoothing is None:
        unexplained = float(np.sum(v * (y - design @ (back @ z)) ** 2))
        smoothing = _likeliest(rough[2:], z[2:], unexplained, y.size, float(np.sum(v * y**2)))
    kept = 1 / (1 + smoothing * rough)
    return basis.spline(back @ (kept * z)), smoothing, float(kept.sum())


def _likeliest(rough: FloatArray, z: FloatArray, unexplained: float, n: int, scale: float) -> float:
    used = rough > 0
    rough, z = rough[used], z[used]
    if not rough.size:
        return 0.0
    floor = scale * np.finfo(float).eps ** 2  # rounding of the data: no closer fit means anything

    def criterion(log_smoothing: FloatArray) -> FloatArray:
        a = 10 ** log_smoothing[:, None] * rough
        rss = unexplained + np.sum(z**2 * (a / (1 + a)), axis=1) + floor
        return np.asarray((n - 2) * np.log(rss) + np.sum(np.log1p(1 / a), axis=1))

    low, high = -np.log10(rough.max()) - _REACH, -np.log10(rough.min()) + _REACH
    tried = np.linspace(low, high, int(np.ceil((high - low) * _STEPS)) + 1)
    for _ in range(2):  # once over the whole range, once between the neighbours of the best
        best = int(np.argmin(criterion(tried)))
        around = tried[max(best - 1, 0)], tried[min(best + 1, tried.size - 1)]
        last, tried = tried[best], np.linspace(*around, 17)
    values = criterion(np.append(tried, last))
    return float(10 ** np.append(tried, last)[int(np.argmin(values))])
