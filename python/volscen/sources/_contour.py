"""Heston prices far from the money: Fourier inversion along a contour through the saddle point.

A series on the real line knows a price to about 1e-14 of the forward, which is no volatility ten standard deviations
out. Shifted through the saddle point the integrand is of the size of the price itself, whatever that is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["HestonParameters", "heston_prices", "log_moment"]

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

#: Contours tried on each side of the strip where moments exist, evenly spaced in the logit of their place in it.
_LOGITS = np.linspace(-10.0, 7.0, 44)
#: Contours tried besides between the best and each of its neighbours.
_FINER = 4
#: No saddle point lies farther than this times that of a Gaussian law with the smaller variance, plus this.
_FARTHEST = 10.0
_NODES = 40
#: Up to this time the variance moves little and tails are long: more nodes.
_SHORT, _SHORT_NODES = 0.05, 100
#: Standard deviations of a Gaussian beyond which an integral leaves out nothing that counts.
_TAILS = 8.0
#: Slope at most with which a contour leaves the vertical.
_STEEPEST = 3.0
_BISECTIONS = 60


class HestonParameters(NamedTuple):
    """Parameters of n laws, each of shape (n,): see :class:`volscen.sources.simulate.BatesMarket`."""

    variance: FloatArray
    reversion: FloatArray
    mean: FloatArray
    vol_of_variance: FloatArray
    correlation: FloatArray

    def stacked(self, extra: int) -> HestonParameters:
        """The same with axes of length one behind."""
        return HestonParameters(*(column.reshape(column.shape + (1,) * extra) for column in self))


def log_moment(law: HestonParameters, p: ComplexArray, tau: FloatArray) -> ComplexArray:
    """Logarithm of E (S_T/F)^p, finite where the moment of the real part of p is.

    Notes
    -----
    Heston (1993), written so that the logarithm stays continuous (Albrecher, Mayer, Schoutens and Tistaert 2007; Lord
    and Kahl 2010 for complex p).
    """
    xi2 = law.vol_of_variance**2
    beta = law.reversion - law.correlation * law.vol_of_variance * p
    d = np.sqrt(beta * beta - xi2 * p * (p - 1))
    g = (beta - d) / (beta + d)
    decay = np.exp(-d * tau)
    b = (beta - d) / xi2 * (1 - decay) / (1 - g * decay)
    a = law.reversion * law.mean / xi2 * ((beta - d) * tau - 2 * np.log((1 - g * decay) / (1 - g)))
    return np.asarray(a + b * law.variance)


def _explosion_time(law: HestonParameters, p: FloatArray) -> FloatArray:
    """Time at which the moment p, outside [0, 1], becomes infinite (Andersen and Piterbarg 2007, proposition 3.1)."""
    chi = law.correlation * law.vol_of_variance * p - law.reversion
    delta = chi * chi - law.vol_of_variance**2 * p * (p - 1)
    root = np.sqrt(np.abs(delta))
    with np.errstate(divide="ignore", invalid="ignore"):
        real = np.where(chi > 0, np.log((chi + root) / (chi - root)) / root, np.inf)
        complex_ = 2 / root * (np.arctan2(root, chi))
    return np.asarray(np.where(delta >= 0, real, complex_))


def _critical_moments(law: HestonParameters, tau: FloatArray, farthest: float, sign: int) -> FloatArray:
    """Distance from 1 (sign 1) or from 0 (sign -1) to the moment that is infinite at tau, cut at a far one."""
    start = 1.0 if sign > 0 else 0.0
    low = np.zeros(tau.shape)
    high = _FARTHEST * (1 + farthest / (np.minimum(law.variance, law.mean) * tau))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        finite = _explosion_time(law, start + sign * middle) > tau
        low, high = np.where(finite, middle, low), np.where(finite, high, middle)
    return low


def heston_prices(law: HestonParameters, tau: FloatArray, log_moneyness: FloatArray) -> FloatArray:
    """Out-of-the-money prices per unit of forward: puts for k < 0, calls from 0 on.

    Parameters
    ----------
    law : HestonParameters
        n laws.
    tau : ndarray, shape (J,)
        Times to expiry in years.
    log_moneyness : ndarray, shape (I,)
        k = ln(K/F).

    Returns
    -------
    ndarray, shape (n, J, I)
        Relative error mostly 1e-10, also where the price is 1e-70; implied vols within 2e-6 from a month to ten
        years, else within 5e-5.

    Notes
    -----
    Lord and Kahl (2007), "Optimal Fourier inversion in semi-analytical option pricing", with the best of 52 contours
    and the trapezoidal rule after a hyperbolic-sine substitution, whose scale is the curvature there.
    """
    out = np.empty((law.variance.size, tau.size, log_moneyness.size))
    for sign, columns in ((-1, log_moneyness < 0), (1, log_moneyness >= 0)):
        if columns.any():
            for j, years in enumerate(tau):
                out[:, j, columns] = _one_side(law, np.full(law.variance.shape, years), log_moneyness[columns], sign)
    return out


def _one_side(law: HestonParameters, tau: FloatArray, k: FloatArray, sign: int) -> FloatArray:
    contours, width = _contours(law, tau, k, sign)
    three, years = law.stacked(2), tau[:, None, None]
    # Far out ln M(p) - k p tends to -(P + Q/i) p: bent towards P/Q a contour decays fastest and does not oscillate.
    spread = (law.variance + law.reversion * law.mean * tau) / law.vol_of_variance
    p_slope = k + (law.correlation * spread)[:, None]
    q_slope = (np.sqrt(1 - law.correlation**2) * spread)[:, None]
    bend = np.clip(p_slope / q_slope, -_STEEPEST, _STEEPEST)
    fall = p_slope * bend + q_slope
    # The integrand is Gaussian up to where its fall is the tail's.
    turn = fall * width**2
    reach = np.where(turn > _TAILS * width, _TAILS * width, _TAILS**2 / 2 / fall + turn / 2)
    scale = np.minimum(np.maximum(width, turn), reach)
    last = np.arcsinh(reach / scale)[..., None]
    nodes = _SHORT_NODES if float(tau[0]) < _SHORT else _NODES
    t = last * ((np.arange(nodes) + 0.5) / nodes)
    y, dy = scale[..., None] * np.sinh(t), scale[..., None] * np.cosh(t)
    # The bend starts where the tail does.
    p = contours[..., None] + bend[..., None] * (dy - scale[..., None]) + 1j * y
    slope = bend[..., None] * y + 1j * dy
    exponent = log_moment(three, p, years) + k[:, None] * (1 - p)
    value = (np.exp(exponent) / (p * (p - 1)) * slope).imag
    return np.asarray(value.sum(axis=-1) * last[..., 0] / (nodes * np.pi))


def _contours(law: HestonParameters, tau: FloatArray, k: FloatArray, sign: int) -> tuple[FloatArray, FloatArray]:
    """Real parts (n, I) near the saddle points, and the widths of the integrands there."""
    start = 1.0 if sign > 0 else 0.0
    farthest = _critical_moments(law, tau, float(np.abs(k).max()), sign)

    def sizes(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Contours (n, I or 1, logits), and the logarithm of the integrand on the real line, (n, I, logits)."""
        p = start + sign * farthest[:, None, None] / (1 + np.exp(-logits))
        moment = log_moment(law.stacked(2), p.astype(np.complex128), tau[:, None, None]).real
        return p, moment - np.log(np.abs(p * (p - 1))) - k[:, None] * p

    coarse = np.argmin(sizes(_LOGITS)[1], axis=2)
    step = (_LOGITS[1] - _LOGITS[0]) / _FINER
    p, size = sizes(_LOGITS[coarse][..., None] + step * np.arange(-_FINER, _FINER + 1))
    best = np.clip(np.argmin(size, axis=2), 1, 2 * _FINER - 1)[..., None]
    (left, middle, right), (before, least, after) = (
        [np.take_along_axis(values, best + shift, axis=2)[..., 0] for shift in (-1, 0, 1)] for values in (p, size)
    )
    curvature = ((after - least) / (right - middle) - (least - before) / (middle - left)) / ((right - left) / 2)
    return middle, 1 / np.sqrt(curvature)
