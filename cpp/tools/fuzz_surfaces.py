"""Fuzz of the kernels of slices and surfaces: SVI, SSVI, penalty, projection, revaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from fuzz_inputs import SPECIAL, Array, Run, laid_out, numbers, refused, same

from volscen import _core, arbitrage, revaluation, ssvi, svi
from volscen.surface import interpolate_vol

__all__ = ["fuzz_penalty", "fuzz_projection", "fuzz_revaluation", "fuzz_revalue", "fuzz_ssvi", "fuzz_svi"]


def fuzz_svi(rng: np.random.Generator, size: int) -> Run:
    quotes = int(rng.integers(0, 40))
    shape = (max(size // (3 * max(quotes, 1)), 1) if rng.random() > 0.05 else 0, quotes)
    k = rng.normal(0, 10 ** rng.uniform(-4, 2.5), shape)
    w = 10 ** rng.uniform(-8, 3, (shape[0], 1)) * np.exp(rng.normal(0, 10 ** rng.uniform(-4, 1), shape))
    weight = rng.choice([0.0, 1.0, 0.1, 1e-300, 1e300], shape)
    if rng.random() < 0.3:
        k, w = np.round(k, 1), np.round(w, 3) + 1e-3  # ties
    if rng.random() < 0.2 and k.size:
        for x in (k, w, weight):
            hit = rng.random(shape) < 0.01
            x[hit] = rng.choice(SPECIAL, hit.sum())
    used = weight > 0
    sound = np.isfinite(weight).all() and (weight >= 0).all()
    sound = sound and (np.abs(k[used]) <= 1e3).all() and ((w[used] >= 1e-30) & (w[used] <= 1e6)).all()
    butterfly = bool(rng.random() < 0.5)
    given = [laid_out(rng, x) for x in (k, w, weight)]
    if not sound:
        if not refused(lambda: svi.fit(*given, butterfly=butterfly)):
            raise AssertionError("svi.fit took a quote out of range")
        return 3 * k.size, []
    fit = svi.fit(*given, butterfly=butterfly, num_threads=int(rng.integers(1, 4)))
    again = svi.fit(k, w, weight, butterfly=butterfly)
    for name in ("parameters", "rmse", "status"):
        same(getattr(fit, name), getattr(again, name), f"{name} of svi.fit")
    empty = fit.status == svi.SVIStatus.NO_DATA
    if not (np.isnan(fit.parameters).all(-1) == empty).all() or not (np.isfinite(fit.rmse) == ~empty).all():
        raise AssertionError("svi.fit gives NaN without the status NO_DATA")
    return 3 * k.size, [fit.parameters, fit.rmse, fit.status]


def fuzz_penalty(rng: np.random.Generator, size: int) -> Run:
    taus, columns = (int(x) for x in rng.integers(1, 20, 2))
    if rng.random() < 0.1:
        taus, columns = 64, 64
    tau = np.cumsum(10 ** rng.uniform(-4, 1, taus))
    moneyness = np.cumsum(10 ** rng.uniform(-6, 0.5, columns))
    dtype = rng.choice([np.float32, np.float64])
    count = max(size // (taus * columns), 1) if rng.random() > 0.05 else 0
    vol = np.exp(rng.normal(-1.5, rng.uniform(0, 3), (count, taus, columns))).astype(dtype)
    weight = rng.normal(size=(count, 3)).astype(dtype)
    given, threads = laid_out(rng, vol), int(rng.integers(1, 4))
    phi, gradient = arbitrage.penalty_gradient(given, tau, moneyness, num_threads=threads)
    parts = arbitrage.penalty(given, tau, moneyness, parts=True, num_threads=threads)
    again = arbitrage.penalty_gradient(vol, tau, moneyness)
    same(phi, again[0], "penalty")
    same(gradient, again[1], "penalty_gradient")
    pullback = _core.arbitrage_pullback_float if dtype is np.float32 else _core.arbitrage_pullback_double
    pulled = pullback(vol, tau, moneyness, weight, threads)
    whole = pullback(vol, tau, moneyness, np.ones_like(weight), 1)
    same(whole + 0, gradient + 0, "the pullback of weights one")
    if not (np.isfinite(parts).all() and np.isfinite(gradient).all() and (parts >= 0).all()):
        raise AssertionError("the penalty of sound surfaces is not finite and positive")
    if vol.size:
        bad = vol.copy()
        bad.flat[rng.integers(vol.size)] = rng.choice([np.nan, 0.0, -0.0, -1.0, np.inf, -np.inf])
        for function in (arbitrage.penalty, arbitrage.penalty_gradient):
            if not refused(lambda f=function: f(laid_out(rng, bad), tau, moneyness)):
                raise AssertionError("a vol that is no positive number slipped through the penalty")
    return 4 * vol.size, [phi, gradient, parts, pulled]


def fuzz_projection(rng: np.random.Generator, size: int) -> Run:
    taus, columns = (int(x) for x in rng.integers(1, 11, 2))
    tau = np.cumsum(10 ** rng.uniform(-2, 0.3, taus))
    moneyness = 10 ** rng.uniform(-1, 0) + np.cumsum(10 ** rng.uniform(-2, -0.5, columns))
    dtype = rng.choice([np.float32, np.float64])
    count = max(size // (20 * taus * columns), 1) if rng.random() > 0.05 else 0
    vol = np.exp(rng.normal(-1.5, 10 ** rng.uniform(-3, 0.3), (count, taus, columns))).astype(dtype)
    bad = np.zeros(count, bool)
    if rng.random() < 0.3 and vol.size:
        bad = rng.random(count) < 0.3
        for n in np.flatnonzero(bad):
            vol[n].flat[rng.integers(taus * columns)] = rng.choice([np.nan, 0.0, -1.0, np.inf, -np.inf])
    found, status = arbitrage.project(laid_out(rng, vol), tau, moneyness, num_threads=int(rng.integers(1, 4)))
    again = arbitrage.project(vol, tau, moneyness)
    same(found, again[0], "arbitrage.project")
    same(status, again[1], "the status of arbitrage.project")
    codes = arbitrage.ProjectionStatus
    if not ((status == codes.INVALID) == bad).all():
        raise AssertionError("arbitrage.project judges vols wrongly")
    lost = (status == codes.INVALID) | (status == codes.FAILED)
    if not (np.isnan(found).all((-2, -1)) == lost).all() or not np.isfinite(found[~lost]).all():
        raise AssertionError("arbitrage.project gives NaN without a status, or a status without NaN")
    free = status == codes.FREE
    if found[free].tobytes() != vol[free].tobytes():
        raise AssertionError("arbitrage.project changes surfaces that are free of arbitrage")
    if (~lost).any() and (arbitrage.penalty(found[~lost].astype(np.float64), tau, moneyness) > 1e-12).any():
        raise AssertionError("arbitrage.project leaves arbitrage")
    return 20 * vol.size, [found, status]


def fuzz_ssvi(rng: np.random.Generator, size: int) -> Run:
    quotes, maturities = int(rng.integers(0, 30)), int(rng.integers(0, 15))
    count = max(size // (3 * max(quotes * maturities, 1)), 1) if rng.random() > 0.05 else 0
    shape = (count, maturities, quotes)
    k = rng.normal(0, 10 ** rng.uniform(-4, 2.5), shape)
    w = 10 ** rng.uniform(-8, 3, (*shape[:2], 1)) * np.exp(rng.normal(0, 10 ** rng.uniform(-4, 1), shape))
    weight = rng.choice([0.0, 1.0, 0.1, 1e-300, 1e300], shape)
    if rng.random() < 0.3:
        k, w = np.round(k, 1), np.round(w, 3) + 1e-3  # ties
    if rng.random() < 0.2 and k.size:
        for x in (k, w, weight):
            hit = rng.random(shape) < 0.01
            x[hit] = rng.choice(SPECIAL, hit.sum())
    used = weight > 0
    sound = np.isfinite(weight).all() and (weight >= 0).all()
    sound = sound and (np.abs(k[used]) <= 1e3).all() and ((w[used] >= 1e-30) & (w[used] <= 1e6)).all()
    model: Any = rng.choice(["essvi", "ssvi"])
    given = [laid_out(rng, x) for x in (k, w, weight)]
    if not sound:
        if not refused(lambda: ssvi.fit(*given, model=model)):
            raise AssertionError("ssvi.fit took a quote out of range")
        return 3 * k.size, []
    fit = ssvi.fit(*given, model=model, num_threads=int(rng.integers(1, 4)))
    again = ssvi.fit(k, w, weight, model=model)
    for name in ("parameters", "rmse", "status", "power_law"):
        same(getattr(fit, name), getattr(again, name), f"{name} of ssvi.fit")
    empty = fit.status == ssvi.SSVIStatus.NO_DATA
    if not (np.isnan(fit.parameters).all(-1) == empty).all() or not (np.isfinite(fit.rmse) == ~empty).all():
        raise AssertionError("ssvi.fit gives NaN without the status NO_DATA")
    for slices in fit.parameters:
        theta, rho, psi = slices[np.isfinite(slices[:, 0])].T
        sides = np.array([psi * (1 + rho), psi * (1 - rho)])
        crossing = (np.diff(sides) < 0).any() or (np.diff(psi / theta) > 1e-15 * (psi / theta)[1:]).any()
        if crossing or not ((theta > 0) & (psi > 0) & (np.abs(rho) < 1) & (sides < 4)).all():
            raise AssertionError("ssvi.fit gives a surface with arbitrage")
    return 3 * k.size, [fit.parameters, fit.rmse, fit.status, fit.power_law]


def fuzz_revalue(rng: np.random.Generator, size: int) -> Run:
    taus, columns = (int(x) for x in rng.integers(1, 14, 2))
    tau = np.cumsum(10 ** rng.uniform(-4, 1, taus))
    moneyness = np.exp(rng.normal(0, 1)) * np.cumsum(10 ** rng.uniform(-6, 0.5, columns))
    count = max(size // (2 * taus * columns), 1) if rng.random() > 0.05 else 0
    width = int(rng.integers(0, 1 + size // (4 * max(count, 1)))) if rng.random() < 0.9 else 300
    decades = rng.choice([0.1, 1.0, 30.0])
    wild = rng.choice([0.0, 0.0, 0.01])
    dtype = rng.choice([np.float32, np.float64])
    vol = np.exp(rng.normal(-1.5, rng.uniform(0, 3), (count, taus, columns))).astype(dtype)
    spot, strike = numbers(rng, (count,), wild, decades), numbers(rng, (width,), wild, decades)
    rest, carry, df = (numbers(rng, (width,), wild, d) for d in (min(decades, 5.0), 0.2, 0.2))
    offset = rng.choice([0.0, 1e-3, 1.0]) * rng.normal(size=width)
    if rng.random() < 0.3:
        rest = rng.choice([0.0, -1.0, *tau], width)
    sound = all((np.isfinite(x) & (x > 0)).all() for x in (spot, carry, df))
    sound = sound and np.isfinite(rest).all() and (np.isfinite(strike) & (strike >= 0)).all()
    options: dict[str, Any] = {
        "extrapolation": str(rng.choice(["flat_vol", "flat_total_variance", "linear"])),
        "greeks": bool(rng.random() < 0.5),
        "vol_floor": float(rng.choice([1e-3, 0.2, 5e-324])),
    }
    calls = rng.random(width) < 0.5

    def run(operands: list[Array], **more: Any) -> revaluation.Values:
        surfaces, s, k, t, c, d = operands
        return revaluation.price(
            surfaces, tau, moneyness, s, k, t, calls, carry=c, discount_factor=d, vol_offset=offset, **options, **more
        )

    dense = [vol, spot, strike, rest, carry, df]
    given = [laid_out(rng, x) for x in dense]
    if not sound:
        if not refused(lambda: run(given)):
            raise AssertionError("revaluation.price took a number out of range")
        return vol.size + 5 * width, []
    found, again = run(given, num_threads=int(rng.integers(1, 4))), run(dense)
    results = [x for x in found if x is not None]
    for one, other in zip(results, (x for x in again if x is not None), strict=True):
        same(one, other, "revaluation.price")
    # Forwards beyond the largest number overflow; nothing is NaN.
    if any(np.isnan(x).any() for x in results) or (found.price < 0).any():
        raise AssertionError("revaluation.price is NaN or negative")
    total = run(given, quantity=np.ones(width), num_threads=2).price
    summed = np.zeros(count)
    for column in range(width):
        summed += found.price[:, column]
    same(total, summed, "the sum over contracts")
    query = moneyness[rng.integers(0, columns, width)] * np.exp(rng.choice([0.0, 0.5]) * rng.normal(size=width))
    t = tau[rng.integers(0, taus, width)] * np.exp(rng.choice([0.0, 1.0]) * rng.normal(size=width))
    between = interpolate_vol(given[0], tau, moneyness, t, query, extrapolation=options["extrapolation"])
    same(
        between, interpolate_vol(vol, tau, moneyness, t, query, extrapolation=options["extrapolation"]), "interpolation"
    )
    if not np.isfinite(between).all():
        raise AssertionError("interpolate_vol of sound surfaces is not finite")
    if vol.size:
        bad = vol.copy()
        bad.flat[rng.integers(vol.size)] = rng.choice([np.nan, 0.0, -0.0, -1.0, np.inf, -np.inf])
        if not refused(lambda: run([laid_out(rng, bad), *given[1:]])):
            raise AssertionError("a vol that is no positive number slipped through revaluation.price")
    return vol.size + 5 * width, [*results, total, between]


def fuzz_revaluation(rng: np.random.Generator, size: int) -> Run:
    taus, columns, contracts = (int(x) for x in rng.integers(1, 14, 3))
    contracts = contracts if rng.random() > 0.05 else 0
    count = max(size // (taus * columns), 1) if rng.random() > 0.05 else 0
    tau = np.cumsum(10 ** rng.uniform(-4, 0.5, taus))
    moneyness = 10 ** rng.uniform(-2, 0.2) + np.cumsum(10 ** rng.uniform(-4, 0, columns))
    vol = np.exp(rng.normal(-1.5, rng.uniform(0, 3), (count, taus, columns)))
    vol = vol.astype(rng.choice([np.float32, np.float64]))
    spot = 10 ** rng.uniform(-3, 6) * np.exp(rng.normal(0, rng.uniform(0, 2), count))
    middle = np.median(spot) if count else 1.0
    book = {
        "strike": middle * np.exp(rng.normal(0, rng.uniform(0, 3), contracts)) * (rng.random(contracts) > 0.05),
        "remaining": rng.choice([0.0, -1.0, 5e-324, tau[0], tau[-1], 1e3, *rng.uniform(0, tau[-1], 4)], contracts),
        "is_call": rng.random(contracts) < 0.5,
        "carry": np.exp(rng.normal(0, 0.1, contracts)),
        "discount_factor": np.exp(rng.normal(-0.05, 0.1, contracts)),
        "vol_offset": rng.normal(0, rng.choice([0, 0.1, 10]), contracts),
    }
    options = {
        "extrapolation": str(rng.choice(["flat_vol", "flat_total_variance", "linear"])),
        "greeks": bool(rng.random() < 0.5),
        "quantity": rng.normal(size=contracts) if rng.random() < 0.3 else None,
    }
    used = vol.size + count * contracts
    if rng.random() < 0.1 and vol.size and contracts:
        name = str(rng.choice(["implied_vol", "spot", *(n for n in book if n != "is_call")]))
        broken = {"implied_vol": vol.copy(), "spot": spot.copy(), **{n: x.copy() for n, x in book.items()}}
        broken[name].flat[rng.integers(broken[name].size)] = rng.choice([np.nan, np.inf, -np.inf])
        if not refused(lambda: revaluation.price(tau=tau, moneyness=moneyness, **broken, **options)):
            raise AssertionError(f"{name} that is not finite slipped through revaluation.price")
        return used, []
    given = {name: laid_out(rng, x) for name, x in book.items()}
    found = revaluation.price(
        laid_out(rng, vol), tau, moneyness, laid_out(rng, spot), **given, **options, num_threads=int(rng.integers(1, 4))
    )
    again = revaluation.price(vol, tau, moneyness, spot, **book, **options)
    results: list[Array] = [found.floored]
    for name in ("price", "delta", "vega"):
        one, other = getattr(found, name), getattr(again, name)
        if one is not None:
            same(one, other, f"{name} of revaluation.price")
            results.append(one)
            if not np.isfinite(one).all():
                raise AssertionError(f"{name} of revaluation.price is not finite for sound inputs")
    same(found.floored, again.floored, "floored of revaluation.price")
    return used, results
