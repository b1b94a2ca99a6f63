"""Weighted second moments of the scenarios' changes in value: all that least squares asks of them.

The moments are taken once, of changes that are centred and scaled, with the weights folded in. They square the
condition number; where instruments move nearly together, a triangular factor of the changes themselves takes their
place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import blas, solve_triangular

from volscen.errors import InputError
from volscen.hedging._base import HedgeProblem

__all__ = ["RANK_TOLERANCE", "Design", "Moments", "gram"]

FloatArray = npt.NDArray[np.float64]
Columns = npt.NDArray[np.intp]

#: Singular values of the standardised changes below this share of the largest count as zero.
RANK_TOLERANCE = 1e-8

#: Eigenvalues of the moments below this share of the largest ask for the factor of the changes: coefficients from the
#: moments alone would keep fewer than some eight digits.
_TRUSTED = 1e-8

#: A standard deviation below this share of the spot price is rounding, not a move.
_NO_MOVE = 1e-12


@dataclass(frozen=True)
class Design:
    """Least squares of the standardised portfolio on k instruments: minimise |root z - target|^2 + rest.

    ``root`` (k, k) is triangular, ``target`` (k,) and ``rest`` the part of the variance that no ratio reaches.
    ``singular`` values of ``root``, falling, where they are known and none is small.
    """

    root: FloatArray
    target: FloatArray
    rest: float
    singular: FloatArray | None = None


@dataclass(frozen=True)
class Moments:
    """Scenarios that have weight, and the moments of their standardised changes.

    Attributes
    ----------
    rows : ndarray, shape (N, n + 2)
        sqrt(w) [1, X - mean, y - mean], not scaled.
    gram : ndarray, shape (n + 1, n + 1)
        Correlations of the instruments, and last of the portfolio.
    x_mean, x_scale : ndarray, shape (n,)
        Weighted means and standard deviations of the changes.
    y_mean, y_scale : float
        The same of the portfolio.
    effective : float
        Effective number of scenarios, 1 / sum w^2.
    noise : ndarray, shape (n,), optional
        Errors of the instruments' prices, independent of everything; part of ``x_scale`` and of the diagonal of
        ``gram``.
    """

    rows: FloatArray
    gram: FloatArray
    x_mean: FloatArray
    x_scale: FloatArray
    y_mean: float
    y_scale: float
    effective: float
    noise: FloatArray | None = None

    @classmethod
    def of(cls, problem: HedgeProblem, *, few: bool = False) -> Moments:
        """Take the moments of a problem after checking that it can be solved; ``few`` scenarios may be allowed."""
        n = len(problem.labels)
        used = problem.weight > 0
        weight, x, y = problem.weight, problem.instrument_change, problem.portfolio_change
        if not used.all():
            weight, x, y = weight[used], x[used], y[used]
        weight = weight / weight.sum()
        effective = 1 / float(weight @ weight)
        if effective < n + 1 and not few:
            raise InputError(
                f"the weights leave {effective:.1f} effective scenarios (ESS) for {n} instruments and a constant; use "
                "more scenarios, milder weights, fewer instruments or method='ridge'"
            )
        root = np.sqrt(weight)
        x_mean, y_mean = weight @ x, float(weight @ y)
        rows = np.empty((weight.size, n + 2))
        rows[:, 0] = root
        np.subtract(x, x_mean, out=rows[:, 1:-1])
        rows[:, -1] = y - y_mean
        rows[:, 1:] *= root[:, None]
        moments = gram(rows)
        scale = np.sqrt(np.diag(moments)[1:])
        still = [problem.labels[i] for i in np.flatnonzero(scale[:-1] <= _NO_MOVE * problem.spot)]
        if still:
            raise InputError(f"these instruments are worth the same in every scenario: {', '.join(still)}; drop them")
        moments = moments[1:, 1:] / (scale[:, None] * scale)
        return cls(rows, moments, x_mean, scale[:-1], y_mean, float(scale[-1]), effective)

    def with_noise(self, noise: FloatArray) -> Moments:
        """Moments of the changes with independent errors of this deviation, in currency, added to each instrument's."""
        scale = np.hypot(self.x_scale, noise)
        share = np.append(self.x_scale / scale, 1.0)
        moments = self.gram * share[:, None] * share
        np.fill_diagonal(moments[:-1, :-1], 1.0)
        return replace(self, gram=moments, x_scale=scale, noise=noise)

    @property
    def scale(self) -> FloatArray:
        """Standard deviations of instruments and portfolio together, shape (n + 1,)."""
        return np.append(self.x_scale, self.y_scale)

    def design(self, columns: Columns) -> Design:
        """Least squares on some of the instruments, as accurate as their condition allows."""
        k = columns.size
        sub = self.gram[np.ix_(columns, columns)]
        values = np.linalg.eigvalsh(sub)
        if values[0] > _TRUSTED * values[-1]:
            lower = np.asarray(np.linalg.cholesky(sub), dtype=np.float64)
            target = solve_triangular(lower, self.gram[columns, -1], lower=True, check_finite=False)
            rest = max(float(self.gram[-1, -1] - target @ target), 0.0)
            return Design(lower.T, target, rest, np.sqrt(values[::-1]))
        chosen = np.append(columns, self.x_scale.size)
        scaled = self.rows[:, 1 + chosen] / self.scale[chosen]
        if self.noise is not None:
            errors = np.zeros((k, k + 1))
            np.fill_diagonal(errors, self.noise[columns] / self.x_scale[columns])
            scaled = np.vstack([scaled, errors])
        factor = np.zeros((k + 1, k + 1))
        found = np.asarray(np.linalg.qr(scaled, mode="r"))
        factor[: found.shape[0]] = found  # fewer scenarios than instruments leave rows out
        return Design(factor[:k, :k], factor[:k, k], float(factor[k, k] ** 2))

    def folds(self, count: int) -> list[FloatArray]:
        """Moments (n + 2, n + 2) of every ``count``-th scenario, the constant first, on the scale of them all."""
        scale = np.append(1.0, self.scale)
        return [gram(self.rows[fold::count]) / (scale[:, None] * scale) for fold in range(count)]


def gram(rows: FloatArray) -> FloatArray:
    """rows.T @ rows, exactly symmetric."""
    upper = blas.dsyrk(1.0, np.ascontiguousarray(rows).T)
    return np.asarray(np.triu(upper) + np.triu(upper, 1).T)
