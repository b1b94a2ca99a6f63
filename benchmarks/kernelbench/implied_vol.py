"""Black implied volatility: error in units of what the numbers allow, failures, times beside peers, scaling."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from volscen import black

from . import exact, timing
from .report import Options, Part

Array = np.ndarray[Any, np.dtype[Any]]
EPS = 2.0**-52
LOOPED = 2_000  # options given to peers that take one at a time
SETS = ("main", "deep out of the money", "near intrinsic", "tiny tau", "vol to 5", "wings")


def draw(name: str, count: int) -> tuple[Array, ...]:
    """Forward, strike, tau, vol, is_call of one workload, from a fixed seed."""
    rng = np.random.default_rng([7, SETS.index(name)])
    forward = 100 * np.exp(rng.normal(0, 0.3, count))
    tau, vol = rng.uniform(0.02, 3, count), rng.uniform(0.05, 1, count)
    out_of_money = np.ones(count, bool)
    if name == "main":
        x = rng.uniform(-3, 3, count) * vol * np.sqrt(tau)
    elif name == "deep out of the money":
        x = rng.choice([-1, 1], count) * rng.uniform(4, 36, count) * vol * np.sqrt(tau)  # prices down to 1e-300
    elif name == "near intrinsic":
        x = rng.choice([-1, 1], count) * rng.uniform(1, 6, count) * vol * np.sqrt(tau)
        out_of_money[:] = False
    elif name == "tiny tau":
        tau = 10 ** rng.uniform(-6, -4, count)
        x = rng.uniform(-4, 4, count) * vol * np.sqrt(tau)
    elif name == "vol to 5":
        vol = rng.uniform(1, 5, count)
        tau = rng.uniform(0.02, 1.5, count)
        x = rng.uniform(-2, 2, count)
    else:
        tau, vol = rng.uniform(0.25, 5, count), rng.uniform(0.3, 1.2, count)
        x = rng.choice([-1, 1], count) * rng.uniform(1, 5, count)
    strike = forward * np.exp(x)
    return forward, strike, tau, vol, (strike >= forward) == out_of_money


def workload(name: str, count: int) -> dict[str, Array]:
    """The operands of the inversion, and the start of the exact one; prices are exact ones, rounded."""
    forward, strike, tau, vol, is_call = draw(name, count)
    price = np.array([float(exact.black(*row)) for row in zip(forward, strike, tau, vol, is_call, strict=True)])
    return {"price": price, "forward": forward, "strike": strike, "tau": tau, "is_call": is_call, "start": vol}


def quick_workload(name: str, count: int) -> dict[str, Array]:
    """The same law with prices of the library itself, for timing, where the last digit does not matter."""
    forward, strike, tau, vol, is_call = draw(name, count)
    price = black.price(forward, strike, tau, vol, is_call)
    return {"price": price, "forward": forward, "strike": strike, "tau": tau, "is_call": is_call}


def truth(work: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Exact vols of the prices as given (head and tail), and price/(vega vol)."""
    keys = ("price", "forward", "strike", "tau", "is_call", "start")
    table = [exact.implied_vol(*row) for row in zip(*(work[key] for key in keys), strict=True)]
    head, tail, condition = (np.array(column) for column in zip(*table, strict=True))
    return head, tail, condition


Solver = Callable[[dict[str, Array]], Array]


def solvers() -> tuple[dict[str, Solver], dict[str, Solver], dict[str, str]]:
    """Vectorised peers, peers that take one option at a time, and those absent."""
    many: dict[str, Solver] = {}
    loops: dict[str, Solver] = {}
    absent = {"volfi": "no distribution that pip could find; not run"}
    try:
        from fast_vollib.jackel import jackel_iv_black

        many["fast-vollib (jackel)"] = lambda w: jackel_iv_black(
            w["price"], w["forward"], w["strike"], w["tau"], w["is_call"]
        )
    except ImportError as error:
        absent["fast-vollib"] = str(error)
    try:
        import pyfeng

        model = pyfeng.Bsm(0.2, is_fwd=True)
        many["pyfeng"] = lambda w: model.impvol(
            w["price"], w["strike"], w["forward"], w["tau"], cp=np.where(w["is_call"], 1, -1)
        )
    except ImportError as error:
        absent["pyfeng"] = str(error)
    try:
        from py_vollib_vectorized import vectorized_implied_volatility_black as vectorised

        many["py_vollib_vectorized"] = lambda w: vectorised(
            w["price"], w["forward"], w["strike"], 0.0, w["tau"], w["flag"], on_error="ignore", return_as="numpy"
        )
    except (ImportError, AttributeError) as error:
        absent["py_vollib_vectorized"] = str(error)
    try:
        from py_lets_be_rational import implied_volatility_from_a_transformed_rational_guess as rational

        def one_by_one(w: dict[str, Array]) -> Array:
            found = np.full(w["price"].size, np.nan)
            theta = np.where(w["is_call"], 1.0, -1.0)
            columns = (w["price"], w["forward"], w["strike"], w["tau"], theta)
            for i, row in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
                try:
                    found[i] = rational(*row)
                except Exception:  # below intrinsic, above the maximum: its own classes
                    continue
            return found

        loops["py_lets_be_rational, loop"] = one_by_one
    except ImportError as error:
        absent["py_lets_be_rational"] = str(error)
    try:
        import QuantLib as ql

        def quantlib(w: dict[str, Array]) -> Array:
            found = np.full(w["price"].size, np.nan)
            columns = (w["price"], w["forward"], w["strike"], w["is_call"])
            for i, (p, f, k, call) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
                try:
                    found[i] = ql.blackFormulaImpliedStdDev(ql.Option.Call if call else ql.Option.Put, k, f, p)
                except RuntimeError:
                    continue
            return found / np.sqrt(w["tau"])

        loops["QuantLib, loop"] = quantlib
    except ImportError as error:
        absent["QuantLib"] = str(error)
    return many, loops, absent


def own(work: dict[str, Array], num_threads: int = 1) -> Array:
    vol, _ = black.implied_vol(
        work["price"], work["forward"], work["strike"], work["tau"], work["is_call"], num_threads=num_threads
    )
    return np.asarray(vol)


def quietly(solver: Solver, work: dict[str, Array]) -> Array:
    work = {**work, "flag": np.where(work["is_call"], "c", "p")}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            # Copies: one of the peers writes into its operands.
            return np.asarray(solver({key: value.copy() for key, value in work.items()}), float).reshape(-1)
        except Exception as error:
            print(f"    a peer stopped at {type(error).__name__}: {error}")
            return np.full(work["price"].size, np.nan)


def accuracy(part: Part, options: Options, all_solvers: dict[str, Solver]) -> None:
    table: dict[str, dict[str, Any]] = {name: {"by": name} for name in all_solvers}
    worst, failed = 0.0, 0
    for name in SETS:
        work = workload(name, options.count(4_000, 250))
        head, tail, condition = truth(work)
        bound = EPS * (1 + condition)
        fair = np.isfinite(head) & (bound < 1e-3)  # beyond, the price holds no digit of the vol
        for by, solver in all_solvers.items():
            found = quietly(solver, work)[fair]
            with np.errstate(invalid="ignore"):
                error = np.abs(((found - head[fair]) - tail[fair]) / head[fair])
                # Not a number, or further off than a thousand times what the numbers allow and 1e-6.
                lost = ~np.isfinite(found) | (error > np.maximum(1e-6, 1e3 * bound[fair]))
            units = (error / bound[fair])[~lost]
            table[by][name] = f"{units.max():,.1f}" if units.size else "-"
            table[by]["failures"] = table[by].get("failures", 0) + int(lost.sum())
            if by == "volscen":
                worst, failed = max(worst, units.max()), failed + int(lost.sum())
    part.tables["Largest error on each set, in units of eps (1 + p/(vega vol)), and failures"] = list(table.values())
    part.check(f"against {exact.NAME} no vol of the six sets fails", failed == 0)
    part.check("no error exceeds a hundred units", worst < 100)
    part.target("largest error on any set, units of the bound: at most 2", worst, worst <= 2)


def statuses(part: Part) -> None:
    good = {"price": 8.0, "forward": 100.0, "strike": 100.0, "tau": 1.0, "is_call": True, "discount_factor": 1.0}
    bad: list[dict[str, Any]] = [{"price": 100.0}, {"price": 101.0}, {"strike": 90.0, "price": 9.0}, {"price": -1.0}]
    bad += [{name: value} for name in good if name != "is_call" for value in (np.nan, np.inf, -np.inf, -1.0)]
    bad += [{"forward": 0.0}, {"strike": 0.0}, {"discount_factor": 0.0}, {"tau": 0.0}]
    for change in bad:
        vol, status = black.implied_vol(**{**good, **change})
        if not (np.isnan(vol) and status > 1):
            raise SystemExit(f"{part.name}: NOT TRUE: {change} gives {vol} and the status {status}")
    part.check(f"{len(bad)} unattainable or meaningless inputs give NaN and a status", True)


def scaling(part: Part, options: Options) -> None:
    table = []
    for count in (100, 1_000, 10_000, 100_000, 1_000_000, *(() if options.quick else (10_000_000,))):
        work = quick_workload("main", count)
        one = timing.single(lambda w=work: own(w), count, options.seconds / 4)
        both = timing.wall({"1": lambda w=work: own(w), "2": lambda w=work: own(w, 2)}, count, options.seconds / 4)
        table.append(
            {"options": count, "ns, one thread": one, "wall ns, 1": both["1"], "wall ns, 2 threads": both["2"]}
        )
    part.tables["Scaling"] = table


def run(options: Options) -> Part:
    part = Part("Implied volatility (Black)")
    many, loops, absent = solvers()
    accuracy(part, options, {"volscen": own, **many, **loops})
    statuses(part)
    count = options.count(100_000, 10_000)
    work = quick_workload("main", count)
    work["flag"] = np.where(work["is_call"], "c", "p")
    few = {key: value[:LOOPED] for key, value in work.items()}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        contenders = [timing.Contender("volscen", lambda: own(work), count, own=True)]
        contenders += [timing.Contender(name, lambda s=s: s(work), count) for name, s in many.items()]
        contenders += [timing.Contender(name, lambda s=s: s(few), few["price"].size) for name, s in loops.items()]
        table = timing.rows(contenders, options.seconds, "ns/option")
    table += [{"by": name, "note": f"absent: {why}"} for name, why in absent.items()]
    part.tables[f"Main set, {count:,} options, one thread, CPU time"] = table
    hard = []
    for name in SETS:
        each = quick_workload(name, count)
        hard.append({"set": name, "ns/option": timing.single(lambda w=each: own(w), count, options.seconds / 6)})
    part.tables["Time of volscen on each set"] = hard
    ours = table[0]["ns/option, minimum"]
    part.target("ns/option on the main set: at most 25", ours, ours <= 25)
    ratio = timing.ratio_to_best_peer(table, contenders)
    part.target("times faster than the fastest peer of this run: at least 20", ratio, ratio >= 20)
    scaling(part, options)
    return part
