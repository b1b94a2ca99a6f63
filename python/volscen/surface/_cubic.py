"""A natural cubic spline of total variance per expiry, total variance linear in time between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen._threads import single_threaded_blas
from volscen.errors import InputError
from volscen.surface._rows import Rows, huber
from volscen.surface._slices import SlicedSurface
from volscen.surface._spline import NaturalSpline, SplineBasis, smooth

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["CubicSurface", "fit_cubic"]

FloatArray = npt.NDArray[np.float64]

#: Most knots of a slice whose smoothing is chosen by likelihood: some twenty follow any smile, and cost little.
_KNOTS = 24

#: A quote counts for at least this part of the heaviest one, or the spline's equations lose their digits.
_LEAST_WEIGHT = 1e-6

_ROBUST_PASSES = 5

#: Largest smoothing that may be asked for; any slice is a line long before.
_LINE = 1e100

#: Bound of R. Lee (2004) on the slope of total variance in the wings.
_STEEPEST = 2.0


@dataclass(frozen=True)
class CubicSurface(SlicedSurface):
    """Splines joined over time.

    Attributes
    ----------
    tau : ndarray, shape (E,)
        Times to expiry of the slices.
    splines : tuple of NaturalSpline
        Total variance of each by log-moneyness.
    """

    tau: FloatArray
    splines: tuple[NaturalSpline, ...]
    details: dict[str, Any] = field(default_factory=dict)

    def own_terms(self, log_moneyness: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Total variance, slope and second derivative of each slice, crossings and all: shapes (E, n)."""
        out = np.empty((3, len(self.splines), log_moneyness.size))
        for row, spline in enumerate(self.splines):
            w, slope, bend = spline(log_moneyness)
            first, last = spline.knots[0], spline.knots[-1]
            for outward, end, beyond in ((-1.0, first, log_moneyness < first), (1.0, last, log_moneyness > last)):
                if beyond.any():
                    at_end, own, _ = spline(np.array([end]))
                    kept = outward * np.clip(outward * own, 0.0, _STEEPEST)
                    w[beyond], slope[beyond] = at_end + kept * (log_moneyness[beyond] - end), kept
            out[:, row] = w, slope, bend
        return out[0], out[1], out[2]


def fit_cubic(
    chain: Chain,
    tau: FloatArray,
    moneyness: FloatArray,
    *,
    weights: Literal["auto", "vega", "spread", "uniform"] = "auto",
    robust: bool = True,
    smoothing: float | Literal["auto"] = "auto",
) -> CubicSurface:
    """Fit a natural cubic smoothing spline to the total variances of every expiry of a chain.

    Parameters
    ----------
    chain : Chain
        Its ``quotes`` are fitted.
    tau, moneyness : ndarray
        The grid, of no consequence here.
    weights : {"auto", "vega", "spread", "uniform"}
        Weight of a squared volatility error, as for method "svi"; no less than a millionth of the expiry's largest.
    robust : bool
        Refit with Huber weights so that stale or mistaken quotes do not bend a slice.
    smoothing : float or "auto"
        Weight of the integrated squared second derivative of total variance against the squared errors, whose
        weights are scaled to a mean of 1: 0 goes through every quote. "auto" takes the likeliest per expiry.

    Raises
    ------
    InputError
        If an option is unknown or ``smoothing`` is not a number from 0 to 1e100.
    """
    fixed = None if isinstance(smoothing, str) and smoothing == "auto" else _number(smoothing)
    rows = Rows.of(chain, weights)
    with single_threaded_blas():  # small matrices: threads cost far more than they save
        splines, parameters = _slices(rows, robust, fixed)
    return CubicSurface(
        tau=rows.tau, splines=tuple(splines), details={"mean_effective_parameters": float(np.mean(parameters))}
    )


def _slices(rows: Rows, robust: bool, fixed: float | None) -> tuple[list[NaturalSpline], list[float]]:
    splines, parameters = [], []
    for row, years in enumerate(rows.tau):
        used = rows.weight[row] > 0
        k, vol, weight = rows.k[row, used], rows.vol[row, used], rows.weight[row, used]
        w, per_variance = vol**2 * years, 1 / (2 * vol * years) ** 2
        strikes = np.unique(k)
        if fixed is None and strikes.size > _KNOTS:
            strikes = strikes[np.linspace(0, strikes.size - 1, _KNOTS).round().astype(int)]
        basis = SplineBasis.over(strikes)
        design = basis.at(k)
        factor = np.ones(k.size)
        for _ in range(_ROBUST_PASSES if robust else 1):
            asked = weight * factor * per_variance
            spline, _, free = smooth(basis, design, w, np.maximum(asked, _LEAST_WEIGHT * asked.max()), fixed)
            last, model = factor, np.maximum(spline(k)[0], 0.0)
            factor = huber((np.sqrt(model / years) - vol)[None], weight[None])[0]
            if np.abs(factor - last).max() < 0.01:
                break
        splines.append(spline)
        parameters.append(free)
    return splines, parameters


def _number(smoothing: object) -> float:
    ok = isinstance(smoothing, int | float | np.number) and not isinstance(smoothing, bool)
    if not ok or not 0 <= float(smoothing) <= _LINE:  # type: ignore[arg-type]
        raise InputError(f"smoothing must be 'auto' or a number from 0 to {_LINE:g}, not {smoothing!r}")
    return float(smoothing)  # type: ignore[arg-type]
