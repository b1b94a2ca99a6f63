"""Black prices and greeks: exact prices, times beside NumPy and QuantLib."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from volscen import black

from . import exact, timing
from .implied_vol import Array, draw
from .report import Options, Part


def in_numpy(forward: Array, strike: Array, tau: Array, vol: Array, is_call: Array) -> Array:
    s = vol * np.sqrt(tau)
    d1 = np.log(forward / strike) / s + s / 2
    sign = np.where(is_call, 1.0, -1.0)
    return np.asarray(sign * (forward * ndtr(sign * d1) - strike * ndtr(sign * (d1 - s))))


def run(options: Options) -> Part:
    part = Part("Black prices and greeks")
    few = draw("main", options.count(4_000, 400))
    true = np.array([float(exact.black(*row)) for row in zip(*few, strict=True)])
    error = float((np.abs(black.price(*few) - true) / np.minimum(few[0], few[1])).max())
    part.check(f"prices lie within 1e-15 of the smaller of forward and strike ({exact.NAME})", error < 1e-15)
    deep = draw("deep out of the money", options.count(4_000, 400))
    true = np.array([float(exact.black(*row)) for row in zip(*deep, strict=True)])
    part.tables["Error"] = [
        {"set": "main, of min(F, K)", "largest": error, "scipy ndtr": float((np.abs(in_numpy(*few) - np.array(
            [float(exact.black(*row)) for row in zip(*few, strict=True)])) / np.minimum(few[0], few[1])).max())},
        {"set": "deep out of the money, of the price", "largest": float(np.abs(black.price(*deep) / true - 1).max()),
         "scipy ndtr": float(np.abs(in_numpy(*deep) / true - 1).max())},
    ]  # fmt: skip
    count = options.count(100_000, 10_000)
    args = draw("main", count)
    contenders = [timing.Contender("volscen price", lambda: black.price(*args), count, own=True)]
    for name in ("delta", "gamma", "vega", "theta"):
        greek = getattr(black, name)
        contenders.append(timing.Contender(f"volscen {name}", lambda g=greek: g(*args), count, own=True))
    contenders.append(timing.Contender("NumPy and scipy ndtr, price", lambda: in_numpy(*args), count))
    try:
        import QuantLib as ql

        some = [x[:2_000].tolist() for x in args]

        def quantlib() -> list[float]:
            return [
                ql.blackFormula(ql.Option.Call if call else ql.Option.Put, k, f, v * math.sqrt(t))
                for f, k, t, v, call in zip(*some, strict=True)
            ]

        contenders.append(timing.Contender("QuantLib price, loop", quantlib, 2_000))
    except ImportError:
        pass
    part.tables[f"{count:,} options, one thread, CPU time"] = timing.rows(contenders, options.seconds / 2, "ns/option")
    return part
