"""Scoring the scenarios of one day against what happened the next, weighted and raw."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import arbitrage
from volscen.errors import InputError
from volscen.evaluation._scores import (
    _fair,
    energy_scores,
    pits,
    sort_scenarios,
    sorted_crps,
    sorted_tail_crps,
    variogram_scores,
)
from volscen.evaluation._surfaces import falling_variance, negative_density
from volscen.evaluation._yardstick import Yardstick

__all__ = ["ARMS", "FUNCTIONALS", "MEASURES", "TAILS", "collect_days", "score_day"]

FloatArray = npt.NDArray[np.float64]

#: Every figure is given for the weighted scenarios and for equal weights.
ARMS = ("weighted", "raw")
#: Groups of measures; the energy score and the PITs are always taken.
MEASURES = ("crps", "variogram", "portfolios", "arbitrage", "structure")
#: Tail probabilities of value at risk and expected shortfall.
TAILS = (0.01, 0.025, 0.05)
#: Joint moves whose PITs show what no single variable does: wrong dependence, first of all.
FUNCTIONALS = ("mean_increment", "size", "return_times_atm30")
#: Scenarios kept of every day, to see what moves together over the period.
N_DRAWS = 25
# A law without losses in its tail still gets finite measures.
_VAR_FLOOR, _ES_FLOOR = -1e-6, -1e-5
#: Spawn key of the draws kept; blocks of scenarios are numbered from 0.
_DRAW_KEY = 2**31


def score_day(
    yard: Yardstick,
    row: int,
    implied_vol: FloatArray,
    log_return: FloatArray,
    weight: FloatArray,
    *,
    measures: tuple[str, ...] = MEASURES,
    seed: int = 0,
) -> dict[str, npt.NDArray[Any]]:
    """Score scenarios issued at ``yard.date[row]`` against ``yard.date[row + 1]``.

    Parameters
    ----------
    yard : Yardstick
    row : int
        Of the last date known.
    implied_vol : ndarray, shape (n, tau, moneyness)
    log_return, weight : ndarray, shape (n,)
        Weights sum to 1.
    measures : tuple of str
        Groups of :data:`MEASURES` to take.
    seed : int
        Of the scenarios kept for the structure.

    Returns
    -------
    dict
        Arrays whose dimensions :data:`DIMS` names.
    """
    n = log_return.size
    if not (np.isfinite(implied_vol).all() and np.isfinite(log_return).all() and (implied_vol > 0).all()):
        raise InputError(
            f"scenarios of {yard.date[row]} hold a return that is not finite or a vol that is not positive; mend or "
            "drop them before scoring"
        )
    weights = np.stack([weight, np.full(n, 1 / n)])
    if np.allclose(weights[0], weights[1], rtol=1e-9, atol=0):
        weights = weights[:1]  # one arm stands for both
    share = _fair(weights)
    now, known = yard.implied_vol[row + 1], yard.implied_vol[row]
    x, y = yard.moves(row, implied_vol, log_return), yard.move[row]
    scaled, scaled_y = x[:, :-1] / yard.scale[:-1], y[:-1] / yard.scale[:-1]
    component_scale = np.r_[yard.scale[0], yard.component_scale]
    out: dict[str, npt.NDArray[Any]] = {
        "realised": y,
        "energy_score": energy_scores(scaled, scaled_y, weights),
        "energy_score_pc": energy_scores(
            np.column_stack([x[:, 0], x[:, 1:-1] @ yard.component]) / component_scale,
            np.r_[y[0], y[1:-1] @ yard.component] / component_scale,
            weights,
        ),
        "pit": pits(x, y, weights),
        "functional_pit": pits(
            _functionals(scaled, yard.named["atm30"]), _functionals(scaled_y[None], yard.named["atm30"])[0], weights
        ),
        "ess_fraction": np.asarray(1 / (n * (weights[0] @ weights[0]))),
        "volatility_state": known.ravel()[yard.named["atm30"] - 1],
    }
    if "crps" in measures:
        ordered, order = sort_scenarios(x)
        out["crps"] = np.stack([sorted_crps(ordered, y, w[order], s) for w, s in zip(weights, share, strict=True)])
        out["tail_crps"] = np.stack(
            [sorted_tail_crps(ordered, y, w[order], s, yard.threshold) for w, s in zip(weights, share, strict=True)]
        )
    if "variogram" in measures:
        chosen = yard.variogram
        out["variogram_score"] = variogram_scores(scaled[:, chosen], scaled_y[chosen], weights)
    if "portfolios" in measures:
        out |= _portfolios(yard, row, implied_vol, log_return, weights, share)
    if "arbitrage" in measures:
        out |= _arbitrage(yard, implied_vol, now, weights)
    if "structure" in measures:
        mean = weights @ x
        out["variance"] = np.stack([w @ (x - m) ** 2 for w, m in zip(weights, mean, strict=True)])
        out["draw"] = _draws(x, weights, seed, yard.date[row])
    return {
        name: np.repeat(array, 2, axis=0) if len(weights) == 1 and DIMS[name][:1] == ("arm",) else array
        for name, array in out.items()
    }


def _functionals(scaled: FloatArray, atm: int) -> FloatArray:
    """Joint moves (n, 3) of scaled moves (n, d), as :data:`FUNCTIONALS` names them.

    Pre-rank functions in the sense of Allen, Ziegel and Ginsbourger (2024), "Assessing the calibration of multivariate
    probabilistic forecasts".
    """
    return np.column_stack(
        [scaled[:, 1:].mean(axis=1), np.einsum("ij,ij->i", scaled, scaled), scaled[:, 0] * scaled[:, atm]]
    )


def _portfolios(
    yard: Yardstick, row: int, implied_vol: FloatArray, log_return: FloatArray, weights: FloatArray, share: FloatArray
) -> dict[str, npt.NDArray[Any]]:
    book, grid = yard.portfolios, (yard.tau, yard.moneyness)
    start, realised_return = yard.implied_vol[row], yard.move[row, 0] / yard.annualise
    profit = book.profit(start, implied_vol, log_return, *grid)
    realised = book.profit(start, yard.implied_vol[row + 1][None], np.array([realised_return]), *grid)[0]
    ordered, order = sort_scenarios(profit)
    score, var, es = [], [], []
    for w, s in zip(weights, share, strict=True):
        by_rank = w[order]
        score.append(sorted_crps(ordered, realised, by_rank, s))
        # What is sold loses where what is held gains.
        tails = [_tail(ordered, by_rank), _tail(-ordered[:, ::-1], by_rank[:, ::-1])]
        var.append(np.minimum(np.concatenate([v for v, _ in tails], axis=1), _VAR_FLOOR))
        es.append(np.minimum(np.concatenate([e for _, e in tails], axis=1), _ES_FLOOR))
    quantile, shortfall = np.stack(var), np.stack(es)
    both = np.concatenate([profit, -profit], axis=1)
    return {
        "profit": np.concatenate([realised, -realised]),
        "crps_profit": np.stack(score),
        "quantile": quantile,
        "shortfall": shortfall,
        "z2_moment": np.stack(
            [_z2_moments(both, w, q, e) for w, q, e in zip(weights, quantile, shortfall, strict=True)]
        ),
    }


def _tail(ordered: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Quantiles and shortfalls (tails, P), as profits, of sorted profits (P, n)."""
    cumulative = np.cumsum(weight, axis=1)
    quantile, shortfall = [], []
    for alpha in TAILS:
        rank = np.minimum((cumulative < alpha - 1e-12).sum(axis=1), ordered.shape[1] - 1)
        quantile.append(ordered[np.arange(len(ordered)), rank])
        part = np.clip(np.minimum(cumulative, alpha) - (cumulative - weight), 0, None)
        shortfall.append(np.einsum("pn,pn->p", part, ordered) / alpha)
    return np.stack(quantile), np.stack(shortfall)


def _z2_moments(profit: FloatArray, weight: FloatArray, quantile: FloatArray, shortfall: FloatArray) -> FloatArray:
    """Mean, variance and third central moment (3, tails, positions) of a day's term of Z2 under its own forecast."""
    out = np.empty((3, *quantile.shape))
    for i, alpha in enumerate(TAILS):
        term = np.where(profit <= quantile[i], profit, 0.0) / (alpha * -shortfall[i])
        mean = weight @ term
        out[0, i] = mean
        out[1, i] = weight @ (term - mean) ** 2
        out[2, i] = weight @ (term - mean) ** 3
    return out


def _arbitrage(
    yard: Yardstick, implied_vol: FloatArray, now: FloatArray, weights: FloatArray
) -> dict[str, npt.NDArray[Any]]:
    return {
        "penalty": arbitrage.penalty(implied_vol, yard.tau, yard.moneyness),
        "weight": weights[0],
        "penalty_data": np.asarray(arbitrage.penalty(now, yard.tau, yard.moneyness)),
        "negative_density": weights @ negative_density(implied_vol, yard.tau, yard.moneyness),
        "falling_variance": weights @ falling_variance(implied_vol, yard.tau),
        "negative_density_data": negative_density(now[None], yard.tau, yard.moneyness)[0],
        "falling_variance_data": falling_variance(now[None], yard.tau)[0],
    }


def _draws(x: FloatArray, weights: FloatArray, seed: int, day: np.datetime64) -> npt.NDArray[np.float32]:
    """A few scenarios drawn by weight; both arms use the same uniform numbers."""
    key = int((day - np.datetime64("1900-01-01", "D")).astype(int))
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(key, _DRAW_KEY))))
    u = rng.random(N_DRAWS)
    chosen = [np.minimum(np.searchsorted(np.cumsum(w), u, side="right"), len(x) - 1) for w in weights]
    return np.stack([x[index] for index in chosen]).astype(np.float32)


#: Dimensions of what :func:`score_day` returns, for one day.
DIMS: dict[str, tuple[str, ...]] = {
    "energy_score": ("arm",),
    "energy_score_pc": ("arm",),
    "variogram_score": ("arm",),
    "crps": ("arm", "variable"),
    "tail_crps": ("arm", "side", "variable"),
    "pit": ("arm", "variable"),
    "functional_pit": ("arm", "functional"),
    "realised": ("variable",),
    "volatility_state": (),
    "profit": ("position",),
    "crps_profit": ("arm", "portfolio"),
    "quantile": ("arm", "tail", "position"),
    "shortfall": ("arm", "tail", "position"),
    "z2_moment": ("arm", "moment", "tail", "position"),
    "ess_fraction": (),
    "penalty": ("scenario",),
    "weight": ("scenario",),
    "penalty_data": (),
    "negative_density": ("arm",),
    "falling_variance": ("arm",),
    "negative_density_data": (),
    "falling_variance_data": (),
    "variance": ("arm", "variable"),
    "draw": ("arm", "draw", "variable"),
    "state_clipped": (),
}

_LABELS: dict[str, tuple[str, str]] = {
    "energy_score": ("fair energy score of return and log-vol moves, each in training standard deviations", "1"),
    "energy_score_pc": ("fair energy score of the return and five component scores, in standard deviations", "1"),
    "variogram_score": ("variogram score, power 0.5, of the return and cells over the grid", "1"),
    "crps": ("fair CRPS of the annualised return, of log-vol increments and of the log strip volatility", "1"),
    "tail_crps": ("CRPS beyond the 10% and 90% training quantiles", "1"),
    "pit": ("weight below what happened", "1"),
    "functional_pit": ("weight below what happened, of joint moves", "1"),
    "realised": ("what happened: annualised return, log-vol increments, log change of the strip volatility", "1"),
    "volatility_state": ("at-the-money vol nearest 30 days on the last day known", "1"),
    "profit": ("profit that each position made, per unit of index", "1"),
    "crps_profit": ("fair CRPS of the profit of each portfolio, per unit of index", "1"),
    "quantile": ("forecast quantile of the profit (minus value at risk)", "1"),
    "shortfall": ("forecast mean profit below the quantile (minus expected shortfall)", "1"),
    "z2_moment": ("mean, variance and third central moment of the day's term of Z2 under the forecast", "1"),
    "ess_fraction": ("effective sample size over number of scenarios", "1"),
    "penalty": ("static-arbitrage penalty of each scenario's surface", "1"),
    "weight": ("weight of each scenario", "1"),
    "penalty_data": ("static-arbitrage penalty of the surface that came", "1"),
    "negative_density": ("share of surfaces with Durrleman's g < 0", "1"),
    "falling_variance": ("share of surfaces whose total variance falls with maturity", "1"),
    "negative_density_data": ("whether the surface that came has Durrleman's g < 0", "1"),
    "falling_variance_data": ("whether total variance of the surface that came falls with maturity", "1"),
    "variance": ("forecast variance", "1"),
    "draw": ("a few scenarios drawn by weight", "1"),
    "state_clipped": ("whether the starting state lay outside what the generator was fitted on", "1"),
}


def collect_days(
    days: list[dict[str, npt.NDArray[Any]]], yard: Yardstick, rows: list[int], attributes: dict[str, Any]
) -> xr.Dataset:
    """Dataset over realised dates of what :func:`score_day` gave on each."""
    book = yard.portfolios
    variables = {
        name: (
            ("date", *DIMS[name]),
            np.stack([day[name] for day in days]),
            dict(zip(("long_name", "units"), text, strict=True)),
        )
        for name, text in _LABELS.items()
        if name in days[0]
    }
    cell_tau, cell_moneyness = yard.cell_coordinates()
    ds = xr.Dataset(
        variables,
        coords={
            "date": yard.date[np.array(rows) + 1].astype("datetime64[ns]"),
            "arm": list(ARMS),
            "variable": list(yard.variable),
            "cell_tau": ("variable", cell_tau, {"long_name": "time to expiry of the cell", "units": "year"}),
            "cell_moneyness": ("variable", cell_moneyness, {"long_name": "K/F of the cell", "units": "1"}),
        },
        attrs=attributes,
    )
    ds["scale"] = ("variable", yard.scale, {"long_name": "standard deviation of the move in training", "units": "1"})
    sides: dict[str, list[Any]] = {
        "functional": list(FUNCTIONALS),
        "portfolio": list(book.names),
        "position": [f"{side} {name}" for side in ("long", "short") for name in book.names],
        "tail": list(TAILS),
        "side": ["lower", "upper"],
        "moment": ["mean", "variance", "third"],
    }
    return ds.assign_coords({name: labels for name, labels in sides.items() if name in ds.dims})
