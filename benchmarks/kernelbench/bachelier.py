"""Normal (Bachelier) implied vol, and total vol from normalised prices: error against exact prices, times."""

from __future__ import annotations

import warnings
from typing import Any

import mpmath as mp
import numpy as np

from volscen import bachelier, black

from . import exact, timing
from .report import Options, Part

Array = np.ndarray[Any, np.dtype[Any]]
EPS = 2.0**-52


def normal_set(count: int) -> tuple[Array, ...]:
    """Forward, strike, tau, vol, is_call: strikes and forwards of both signs, up to six deviations apart."""
    rng = np.random.default_rng(11)
    forward, tau, vol = rng.normal(0, 3, count), rng.uniform(0.02, 5, count), rng.uniform(0.1, 2, count)
    strike = forward + rng.uniform(-6, 6, count) * vol * np.sqrt(tau)
    return forward, strike, tau, vol, strike >= forward


def normal_price(forward: float, strike: float, tau: float, vol: float) -> tuple[mp.mpf, mp.mpf]:
    """Exact price of the out-of-the-money option, and its derivative in vol."""
    with mp.workdps(60):
        f, k, t, v = (mp.mpf(float(x)) for x in (forward, strike, tau, vol))
        s = v * mp.sqrt(t)
        h = -abs(f - k) / s
        density = mp.exp(-h * h / 2) / mp.sqrt(2 * mp.pi)
        return s * (density + h * mp.erfc(-h / mp.sqrt(2)) / 2), density * mp.sqrt(t)


def error_of_normal(count: int) -> float:
    """Largest error of the vol in units of eps (1 + p/(vega vol)), by one Newton step from the answer."""
    forward, strike, tau, vol, is_call = normal_set(count)
    price = np.array([float(normal_price(*row)[0]) for row in zip(forward, strike, tau, vol, strict=True)])
    found, status = bachelier.implied_vol(price, forward, strike, tau, is_call)
    worst = np.inf if (status != 0).any() else 0.0
    for row in zip(price, forward, strike, tau, found, strict=True):
        value, vega = normal_price(*row[1:])
        error = abs(value - mp.mpf(float(row[0]))) / vega / mp.mpf(float(row[4]))
        worst = max(worst, float(error / (EPS * (1 + value / (vega * mp.mpf(float(row[4])))))))
    return worst


def normalised_set(count: int) -> tuple[Array, Array, Array]:
    """Draw k = ln(K/F) and the total vol; exact prices over sqrt(F K) of the options out of the money."""
    rng = np.random.default_rng(12)
    total = rng.uniform(0.02, 1.5, count)
    k = rng.uniform(-4, 4, count) * total
    return k, total, np.array([float(normalised(*row)[0]) for row in zip(k, total, strict=True)])


def normalised(k: float, total: float) -> tuple[Any, Any]:
    of = exact.Exact.of
    half = of(abs(float(k))) / 2
    return exact.time_value(exact.Exact.exp(-half), exact.Exact.exp(half), of(float(total)))


def error_of_normalised(count: int) -> float:
    """As above."""
    k, _, price = normalised_set(count)
    found, status = black.implied_total_vol(price, k, k >= 0)
    worst = np.inf if (status != 0).any() else 0.0
    for p, x, s in zip(price, k, found, strict=True):
        value, vega = normalised(x, s)
        away = (value - exact.Exact.of(float(p))) / vega / exact.Exact.of(float(s))
        bound = EPS * (1 + float(value / vega) / s)
        worst = max(worst, abs(float(away)) / bound)
    return worst


def run(options: Options) -> Part:
    part = Part("Normal (Bachelier) vol and total vol from normalised prices")
    few, many = options.count(4_000, 250), options.count(100_000, 10_000)
    normal, total = error_of_normal(few), error_of_normalised(few)
    part.check("neither error exceeds a hundred units of eps (1 + p/(vega vol))", max(normal, total) < 100)
    part.target("largest error, units of the bound: at most 2", max(normal, total), max(normal, total) <= 2)
    forward, strike, tau, vol, is_call = normal_set(many)
    price = bachelier.price(forward, strike, tau, vol, is_call)
    contenders = [
        timing.Contender("volscen", lambda: bachelier.implied_vol(price, forward, strike, tau, is_call), many, own=True)
    ]
    try:
        import pyfeng

        model, sign = pyfeng.Norm(1.0, is_fwd=True), np.where(is_call, 1, -1)
        contenders.append(timing.Contender("pyfeng", lambda: model.impvol(price, strike, forward, tau, cp=sign), many))
    except ImportError as error:
        part.tables["Absent"] = [{"by": "pyfeng", "note": str(error)}]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        part.tables[f"Normal vol, {many:,} options, one thread, CPU time"] = timing.rows(
            contenders, options.seconds / 3, "ns/option"
        )
    rng = np.random.default_rng(12)
    s = rng.uniform(0.02, 1.5, many)
    k = rng.uniform(-4, 4, many) * s
    beta = black.price(np.exp(-k / 2), np.exp(k / 2), 1.0, s, k >= 0)
    clock = timing.single(lambda: black.implied_total_vol(beta, k, k >= 0), many, options.seconds / 6)
    part.tables["Total vol from normalised prices"] = [{"by": "volscen", "ns/option, minimum": clock}]
    part.tables["Largest error, units of the bound"] = [{"normal vol": normal, "total vol": total}]
    return part
