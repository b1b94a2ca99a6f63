"""SVI slices to fit, reference fits by scipy, and an independent check for butterfly arbitrage."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares, minimize

from twins import svi_g, svi_variance
from volscen import svi

FAR = np.sinh(np.linspace(-12, 12, 4001))


def noisy_slices(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray, float, np.ndarray]]:
    """Strikes, total variances with 10-20 bp of noise in vol, tau, and the slice free of arbitrage behind them."""
    rng = np.random.default_rng(seed)
    found: list[tuple[np.ndarray, np.ndarray, float, np.ndarray]] = []
    while len(found) < count:
        tau = rng.uniform(0.05, 2.0)
        level = rng.uniform(0.1, 0.5) ** 2 * tau
        sigma, rho, m = rng.uniform(0.05, 0.5), rng.uniform(-0.9, 0.5), rng.uniform(-0.2, 0.2)
        b = rng.uniform(0.1, 1.5) * np.sqrt(level)
        truth = np.array([level - b * (np.hypot(m, sigma) - rho * m), b, rho, m, sigma])
        k_scan = m + sigma * FAR
        if b * (1 + abs(rho)) >= 2 or svi_variance(truth, k_scan).min() <= 0:
            continue
        if svi_g(truth, np.linspace(-3, 3, 1201)).min() < 1e-3:
            continue
        width = 3.5 * np.sqrt(level)
        k = np.sort(rng.uniform(-width, 0.7 * width, rng.integers(15, 41)))
        vol = np.sqrt(svi_variance(truth, k) / tau) + rng.normal(0, rng.uniform(0.001, 0.002), k.size)
        found.append((k, np.maximum(vol, 0.01) ** 2 * tau, tau, truth))
    return found


def padded(slices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = max(k.size for k, *_ in slices)
    k, w, weight = np.full((3, len(slices), size), np.nan)
    weight[:] = 0.0
    for i, (strikes, variances, *_) in enumerate(slices):
        n = strikes.size
        k[i, :n], w[i, :n], weight[i, :n] = strikes, variances, 1.0
    return k, w, weight


def scipy_rmse(k: np.ndarray, w: np.ndarray) -> float:
    """Best of nine starts of scipy's trust-region solver, in the box that the fit documents."""
    half, middle = np.ptp(k) / 2, (k.min() + k.max()) / 2
    slope = np.ptp(w) / (2 * half) + 1e-4
    best = np.inf
    for shift in (-0.8, 0.0, 0.8):
        for width in (0.1, 0.5, 2.0):
            result = least_squares(
                lambda p: (svi_variance(p, k) - w) / w.mean(),
                [w.min() / 2, slope, 0.0, middle + shift * half, width * half],
                bounds=(
                    [-np.inf, 0, -1, middle - 4 * half, 0.01 * half],
                    [np.inf, np.inf, 1, middle + 4 * half, 20 * half],
                ),
                x_scale=[w.mean(), slope, 1, half, half],
                max_nfev=300,
            )
            best = min(best, np.sqrt(np.mean(result.fun**2)) * w.mean())
    return best


def assert_free(parameters: np.ndarray) -> None:
    """No butterfly arbitrage: w > 0, g >= 0 far out on both sides, Lee's bound."""
    for p in np.atleast_2d(parameters):
        a, b, rho, m, sigma = p
        assert b >= 0
        assert -1 <= rho <= 1
        assert b * (1 + abs(rho)) < 2
        assert a + b * sigma * np.sqrt(1 - rho**2) > 0
        points = np.concatenate([m + sigma * FAR, np.linspace(-3, 3, 601)])
        assert svi.durrleman_g(p, points).min() >= 0


def constrained_rmse(k: np.ndarray, w: np.ndarray) -> float:
    """Least squares under the same conditions by SLSQP from several starts."""
    half, middle, level = np.ptp(k) / 2, (k.min() + k.max()) / 2, w.mean()
    far = np.sinh(np.linspace(-9, 9, 181))

    def slice_of(q):
        return np.array([q[0] * level, q[1] * level / half, q[2], middle + q[3] * half, np.exp(q[4]) * half])

    def conditions(q):
        p = slice_of(q)
        lowest = p[0] + p[1] * p[4] * np.sqrt(1 - q[2] ** 2)
        return np.r_[svi.durrleman_g(p, p[3] + p[4] * far), 2 - p[1] * (1 + abs(p[2])), lowest / level - 1e-3]

    best = np.inf
    for shift in (-1, 0, 1):
        for width in (0.3, 1.0, 3.0):
            with np.errstate(all="ignore"):
                result = minimize(
                    lambda q: 1e4 * np.mean((svi_variance(slice_of(q), k) / level - w / level) ** 2),
                    [0.3, 0.3, -0.3, shift, np.log(width)],
                    constraints={"type": "ineq", "fun": conditions},
                    method="SLSQP",
                    bounds=[(-50, 2), (0, 50), (-0.9999, 0.9999), (-4, 4), (-4.6, 3)],
                    options={"maxiter": 300, "ftol": 1e-12},
                )
                if np.nanmin(conditions(result.x)) > -1e-6:
                    best = min(best, np.sqrt(result.fun / 1e4) * level)
    return best
