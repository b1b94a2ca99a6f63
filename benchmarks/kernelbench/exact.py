"""Black's formula to some sixty digits, by python-flint's ball arithmetic where present, else by mpmath."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np

try:
    import flint
except ImportError:
    flint = None

__all__ = ["NAME", "Exact", "black", "implied_vol", "time_value"]

NAME = "mpmath" if flint is None else f"python-flint {flint.__version__}"
Array = np.ndarray[Any, np.dtype[np.float64]]


class Exact:
    """The few functions needed, of one of the two libraries at 220 bits."""

    if flint is None:
        _mp = mp.mp.clone()
        _mp.prec = 220
        of = staticmethod(_mp.mpf)
        sqrt, log, exp, erfc = (staticmethod(f) for f in (_mp.sqrt, _mp.log, _mp.exp, _mp.erfc))
        pi = +_mp.pi

    else:
        flint.ctx.prec = 220
        of = staticmethod(lambda x: flint.arb(x))
        sqrt = staticmethod(lambda x: x.sqrt())
        log = staticmethod(lambda x: x.log())
        exp = staticmethod(lambda x: x.exp())
        erfc = staticmethod(lambda x: x.erfc())
        pi = flint.arb.pi()


def _cdf(x: Any) -> Any:
    return Exact.erfc(-x / Exact.sqrt(Exact.of(2))) / 2


def time_value(low: Any, high: Any, s: Any) -> tuple[Any, Any]:
    """Value of the out-of-the-money option on strikes low < high apart, and its derivative in s."""
    d1 = -Exact.log(high / low) / s + s / 2
    density = Exact.exp(-d1 * d1 / 2) / Exact.sqrt(2 * Exact.pi)
    return low * _cdf(d1) - high * _cdf(d1 - s), low * density


def black(forward: float, strike: float, tau: float, vol: float, is_call: bool) -> Any:
    """Undiscounted price of exactly the numbers given."""
    f, k = Exact.of(float(forward)), Exact.of(float(strike))
    s = Exact.of(float(vol)) * Exact.sqrt(Exact.of(float(tau)))
    low, high = (f, k) if forward < strike else (k, f)
    intrinsic = (f - k if is_call else k - f) if (forward > strike) == is_call and forward != strike else Exact.of(0)
    return time_value(low, high, s)[0] + intrinsic


def implied_vol(
    price: float, forward: float, strike: float, tau: float, is_call: bool, start: float
) -> tuple[float, float, float]:
    """Root of Black's price as two doubles (head and tail), and price/(vega vol) there.

    Newton's method on the logarithm of the time value, from a start that is right to a few digits.
    """
    f, k, t, p = (Exact.of(float(x)) for x in (forward, strike, tau, price))
    low, high = (f, k) if forward < strike else (k, f)
    intrinsic = (f - k if is_call else k - f) if (forward > strike) == is_call and forward != strike else Exact.of(0)
    value = p - intrinsic
    if float(value) <= 0:
        return np.nan, np.nan, np.inf
    s = Exact.of(float(start)) * Exact.sqrt(t)
    upper = float(value / low) > 0.5
    target = Exact.log(low - value) if upper else Exact.log(value)
    for _ in range(40):
        v, slope = time_value(low, high, s)
        rest = low - v
        step = (Exact.log(rest) - target) * rest / slope if upper else (target - Exact.log(v)) * v / slope
        if flint is not None:
            step, s = step.mid(), s.mid()  # a start, not a bound: without it the balls grow
        s = s + step
        if abs(float(step / s)) < 1e-25:
            break
    vol = s / Exact.sqrt(t)
    head = float(vol)
    _, slope = time_value(low, high, s)
    return head, float(vol - Exact.of(head)), float(p / (slope * s))
