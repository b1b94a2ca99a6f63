"""Small priors and quotes for the tests of repairing."""

from __future__ import annotations

import numpy as np

from volscen._repair._base import Observations, quote_noise
from volscen._repair._prior import Prior, compress
from volscen.sources.simulate import simulate_smiles

TAU = np.linspace(0.08, 2.0, 13)
K = np.linspace(-0.45, 0.45, 17)


def small_prior(n: int = 60, components: int = 5, seed: int = 0) -> Prior:
    """Prior of random smooth surfaces over few nodes."""
    rng = np.random.default_rng(seed)
    x, u = np.sqrt(np.array([0.05, 0.1, 0.3, 1.0, 2.0])), np.linspace(-1.2, 1.2, 7)
    level, slope, bend, term = (rng.standard_normal((n, 1, 1)) for _ in range(4))
    log_vol = -1.5 + 0.3 * level + 0.2 * slope * u + 0.1 * bend * u**2 + 0.2 * term * x[:, None]
    log_vol = log_vol + 0.02 * rng.standard_normal((n, x.size, u.size))
    return compress(log_vol, x, u, components, np.ones((x.size, u.size)))


def pattern(n: int, share: float, rng: np.random.Generator, wing: int = 0) -> np.ndarray:
    """Random quotes on the usual grid, the first strikes without any."""
    mask = rng.random((n, TAU.size, K.size)) < share
    mask[:, :, :wing] = False
    mask[:, 6, 8] = True
    return mask


def simulated(n: int, share: float, seed: int, wing: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True vols, quotes (NaN where none) and the standard deviations of their errors, shape (n, 13, 17)."""
    rng = np.random.default_rng(seed)
    w = simulate_smiles(n, tau=TAU, log_moneyness=K, seed=seed).total_variance.values
    truth = np.sqrt(w / TAU[:, None])
    error = np.broadcast_to(quote_noise(TAU[:, None], K), truth.shape)
    quotes = np.where(pattern(n, share, rng, wing), truth + error * rng.standard_normal(truth.shape), np.nan)
    return truth, quotes, error


def observations(log_vol: np.ndarray, noise: np.ndarray, tau: np.ndarray, k: np.ndarray) -> Observations:
    """Observations at scattered points, of which the first is the grid."""
    return Observations(tau, k, (1, 1), np.atleast_2d(log_vol), np.atleast_2d(noise))
