"""Prices and implied vols of the Heston model by one Fourier integral, and its fit to surfaces, many at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen.errors import FitError
from volscen.generators._batch_fit import fit_batch

__all__ = ["HIGH", "LOW", "HestonGrid"]

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

#: Limits of (log v0, log theta, log kappa, log xi, atanh rho).
LOW = np.array([np.log(4e-4), np.log(4e-4), np.log(0.1), np.log(0.05), -2.5])
HIGH = np.array([np.log(4.0), np.log(4.0), np.log(20.0), np.log(5.0), 2.5])
#: A prior, with weights in log vols: two hundredths for one standard deviation of each. Surfaces up to a year hardly
#: tell a faster reversion from a nearer long-run variance, nor either from a larger vol of variance.
_PRIOR_MEAN = np.array([np.log(0.04), np.log(0.05), np.log(4.0), np.log(1.0), -0.7])
_PRIOR_WEIGHT = 0.02 / np.array([3.0, 1.0, 0.5, 1.0, 1.0])
#: Weight of kappa where it is held: left free it moves from day to day with noise that is the remainder's business.
_HELD_WEIGHT = 0.02 / 0.05
#: Below this share of the forward a price says nothing about the vol but the rounding and truncation of the integral.
_LEAST_PRICE = 1e-8
#: Prices far from the money count as much as one with this share of the vega at the money.
_LEAST_VEGA = 0.05
_BUMP = 1e-5
#: Surfaces priced at a time, so that the arrays of one maturity stay in the cache.
_CHUNK = 128


class HestonGrid:
    """Quadrature for one grid of times and moneyness.

    Parameters
    ----------
    tau : ndarray, shape (J,)
    moneyness : ndarray, shape (I,)
    density : float
        Multiplies the number of nodes: 64 for each maturity, and 2.5 for each oscillation at the farthest strike.

    Notes
    -----
    Lewis (2001): call / F = 1 - sqrt(m) / pi * integral over u > 0 of Re[exp(-i u ln m) phi(u - i/2)] / (u^2 + 1/4),
    with phi(z) = E exp(i z ln(S_T / F)) of Heston (1993) on one branch (Albrecher, Mayer, Schoutens
    and Tistaert 2007). Gauss-Legendre in t with u = 10 sinh(t), from 0 to 200 / sqrt(tau) within 200 and 1,000.
    """

    def __init__(self, tau: FloatArray, moneyness: FloatArray, density: float = 1.0) -> None:
        self.tau, self.moneyness = tau, moneyness
        self._u: list[FloatArray] = []
        self._project: list[FloatArray] = []
        farthest = float(np.abs(np.log(moneyness)).max())
        for last in np.clip(200 / np.sqrt(tau), 200, 1000):
            n_nodes = int(np.ceil(density * (64 + 2.5 * farthest * last / (2 * np.pi))))
            x, weight = np.polynomial.legendre.leggauss(n_nodes)
            end = np.arcsinh(last / 10)
            t = (x + 1) / 2 * end
            u = 10 * np.sinh(t)
            factor = weight * end / 2 * 10 * np.cosh(t) / (u**2 + 0.25) / np.pi
            angle = -u[:, None] * np.log(moneyness)
            scaled = factor[:, None] * np.sqrt(moneyness)
            self._u.append(u)
            # Re(exp(i angle) phi) as one real product with (Re phi, Im phi)
            self._project.append(np.concatenate([scaled * np.cos(angle), -scaled * np.sin(angle)]))

    # ------------------------------------------------------------------------------------------ prices
    def calls(self, parameters: FloatArray) -> FloatArray:
        """Undiscounted calls per unit of forward (n, J, I) of transformed parameters (n, 5)."""
        out = np.empty((len(parameters), self.tau.size, self.moneyness.size))
        for first in range(0, len(parameters), _CHUNK):
            part = parameters[first : first + _CHUNK]
            for j, tau in enumerate(self.tau):
                exponent, _, _ = _exponent(self._u[j], part, tau)
                out[first : first + _CHUNK, j] = 1 - self._integral(_exp(exponent), j)
        return out

    def calls_and_slopes(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Calls (n, J, I) and their derivatives (n, J, I, 5) in the transformed parameters."""
        n = len(parameters)
        call = np.empty((n, self.tau.size, self.moneyness.size))
        slope = np.empty((*call.shape, 5))
        for first in range(0, n, _CHUNK):
            rows = slice(first, first + _CHUNK)
            part = parameters[rows]
            for j, tau in enumerate(self.tau):
                exponent, of_start, of_mean = _exponent(self._u[j], part, tau)
                phi = _exp(exponent)
                call[rows, j] = 1 - self._integral(phi, j)
                # The exponent is linear in v0 and theta.
                slope[rows, j, :, 0] = -self._integral(phi * of_start, j)
                slope[rows, j, :, 1] = -self._integral(phi * of_mean, j)
                for p in (2, 3, 4):
                    bumped = part.copy()
                    bumped[:, p] += _BUMP
                    change = _exponent(self._u[j], bumped, tau)[0] - exponent
                    slope[rows, j, :, p] = -self._integral(phi * change, j) / _BUMP
        return call, slope

    def _integral(self, phi: ComplexArray, j: int) -> FloatArray:
        return np.asarray(np.hstack([phi.real, phi.imag]) @ self._project[j])

    def log_vols(self, parameters: FloatArray) -> FloatArray:
        """Log Black vols (n, J * I); prices below 1e-8 of the forward count as that."""
        m = self.moneyness
        otm = np.maximum(self.calls(parameters) - np.maximum(1 - m, 0), _LEAST_PRICE)
        vol, status = black.implied_vol(otm, 1.0, m, self.tau[:, None], m >= 1, num_threads=1)
        if np.any(status != black.ImpliedVolStatus.OK):
            raise FitError("a price of the Heston model has no implied volatility; the moneyness grid reaches too far")
        return np.asarray(np.log(vol).reshape(len(parameters), -1))

    # ------------------------------------------------------------------------------------------ calibration
    def fit(self, log_iv: FloatArray, kappa: float | None = None) -> FloatArray:
        """Transformed parameters (n, 5) of log surfaces (n, J * I), by least squares with a prior; kappa held if given.

        The errors are those of prices over vega and vol, which are errors in log vols near the money and less far
        from it.
        """
        vol = np.exp(log_iv).reshape(-1, self.tau.size, self.moneyness.size)
        root = np.sqrt(self.tau)[:, None]
        d1 = -np.log(self.moneyness) / (vol * root) + 0.5 * vol * root
        density = np.exp(-0.5 * d1**2)
        weight = 1 / (vol * root / np.sqrt(2 * np.pi) * np.maximum(density, _LEAST_VEGA))
        market = np.asarray(black.price(1.0, self.moneyness, self.tau[:, None], vol))
        centre, prior = _PRIOR_MEAN.copy(), np.diag(_PRIOR_WEIGHT)
        if kappa is not None:
            centre[2], prior[2, 2] = np.log(kappa), _HELD_WEIGHT

        def evaluate(x: FloatArray, rows: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
            call, slope = self.calls_and_slopes(x)
            n = len(x)
            error = ((call - market[rows]) * weight[rows]).reshape(n, -1)
            slope = (slope * weight[rows][..., None]).reshape(n, -1, 5)
            residual = np.hstack([error, (x - centre) @ prior])
            return residual, np.concatenate([slope, np.broadcast_to(prior, (n, 5, 5))], axis=1)

        at_money = int(np.argmin(np.abs(np.log(self.moneyness))))
        start = np.broadcast_to(centre, (len(vol), 5)).copy()
        start[:, 0] = 2 * np.log(vol[:, 0, at_money])
        start[:, 1] = 2 * np.log(vol[:, -1, at_money])
        return fit_batch(evaluate, start, LOW, HIGH, tolerance=1e-4, max_iterations=25)


def _exponent(u: FloatArray, parameters: FloatArray, tau: float) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
    """Logarithm of phi(u - i/2), (n, nodes), and its parts in v0 and in theta."""
    start, mean, kappa, xi = np.exp(parameters[:, :4]).T[:, :, None]
    rho = np.tanh(parameters[:, 4, None])
    beta = (kappa - 0.5 * rho * xi) - 1j * (rho * xi) * u
    d = np.sqrt(beta * beta + xi**2 * (u * u + 0.25))
    minus = beta - d
    g = minus / (beta + d)
    decay = _exp(-tau * d)
    below = 1 - g * decay
    minus /= xi**2
    of_start = minus * (1 - decay)
    of_start /= below
    of_start *= start
    below /= 1 - g
    of_mean = minus * tau - (2 / xi**2) * _log(below)
    of_mean *= kappa * mean
    return of_start + of_mean, of_start, of_mean


def _exp(x: ComplexArray) -> ComplexArray:
    """Complex exponential by real ones, which NumPy vectorises."""
    out = np.empty_like(x)
    size = np.exp(x.real)
    out.real = size * np.cos(x.imag)
    out.imag = size * np.sin(x.imag)
    return out


def _log(x: ComplexArray) -> ComplexArray:
    """Complex logarithm by real ones."""
    out = np.empty_like(x)
    out.real = 0.5 * np.log(x.real**2 + x.imag**2)
    out.imag = np.arctan2(x.imag, x.real)
    return out
