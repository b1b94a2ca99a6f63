"""Figures of a period from its daily scores: means, calibration, risk, arbitrage, structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import kstwo

from volscen._statistics import quantile
from volscen.errors import InputError
from volscen.evaluation._day import TAILS
from volscen.evaluation._structure import CORRELATED, component_figures
from volscen.evaluation._tests_of_risk import christoffersen, fissler_ziegel, kupiec, z2_p_value, z2_statistic
from volscen.evaluation._yardstick import NAMED_CELLS

__all__ = ["COVERAGE_LEVELS", "check_days", "daily_scores", "named_variables", "summarise"]

FloatArray = npt.NDArray[np.float64]

COVERAGE_LEVELS = (0.5, 0.9, 0.95, 0.99)
_EXCEEDANCE = (0.01, 0.025, 0.975, 0.99)
_TERCILES = ("calm", "middle", "stormy")
#: A penalty above this counts as arbitrage.
_ARBITRAGE = 1e-6
_REJECTED = 0.05


def named_variables(days: xr.Dataset) -> dict[str, int]:
    """Positions of the return, the named cells and the strip volatility among the variables."""
    tau, moneyness = days["cell_tau"].values, days["cell_moneyness"].values
    cells = np.flatnonzero(np.isfinite(tau))
    found = {"return": 0}
    for name, (target_days, m) in NAMED_CELLS.items():
        nearest = np.abs(tau[cells] - target_days / 365)
        on_slice = cells[nearest == nearest.min()]
        found[name] = int(on_slice[np.argmin(np.abs(moneyness[on_slice] - m))])
    return found | {"vix30": days.sizes["variable"] - 1}


def check_days(days: Any) -> xr.Dataset:
    """Refuse what :func:`walk_forward` or :func:`score_scenarios` did not make."""
    if not isinstance(days, xr.Dataset) or not {"energy_score", "pit", "realised"} <= set(days.data_vars):
        raise InputError("days must be the dataset that walk_forward or score_scenarios returns")
    if days.sizes["date"] < 10:
        raise InputError(f"days holds {days.sizes['date']} dates; figures of a period need at least 10")
    return days


def daily_scores(days: xr.Dataset) -> xr.Dataset:
    """Every proper score as one series a day, lower is better.

    Parameters
    ----------
    days : xarray.Dataset
        From :func:`walk_forward` or :func:`score_scenarios`.

    Returns
    -------
    xarray.Dataset
        Over ``date`` and ``arm``: ``energy_score``, ``energy_score_pc``, ``variogram_score``; CRPS of the return, the
        strip volatility and named cells (``crps_return``, ``crps_atm30``, ...) in their own units; ``crps_cells`` and
        ``tail_crps_lower``/``_upper``, means over cells (the tails: over all variables) in training standard
        deviations; ``crps_profit``, the mean over portfolios in standard deviations of what they made in the period;
        ``fissler_ziegel_1``, ``_2.5``, ``_5``, means over positions. Scores that were not taken are absent.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import daily_scores, walk_forward
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> days = walk_forward("bootstrap", history, first=dates[1400], last=dates[1419], n_scenarios=200)
    >>> daily_scores(days)["crps_atm30"].dims
    ('date', 'arm')
    """
    check_days(days)
    out: dict[str, tuple[FloatArray, str]] = {}
    for name in ("energy_score", "energy_score_pc", "variogram_score"):
        if name in days:
            out[name] = days[name].values, str(days[name].attrs["long_name"])
    if "crps" in days:
        score, scale = days["crps"].values, days["scale"].values
        for name, i in named_variables(days).items():
            out[f"crps_{name}"] = score[..., i], f"CRPS of {days['variable'].values[i]}"
        out["crps_cells"] = (score[..., 1:-1] / scale[1:-1]).mean(axis=-1), "mean CRPS of the cells, in training sd"
        tails = (days["tail_crps"].values / scale).mean(axis=-1)
        for i, side in enumerate(("lower", "upper")):
            out[f"tail_crps_{side}"] = tails[..., i], f"mean CRPS of the {side} tails, in training sd"
    if "crps_profit" in days:
        made = days["profit"].values[:, : days.sizes["portfolio"]].std(axis=0)
        out["crps_profit"] = (days["crps_profit"].values / made).mean(axis=-1), "mean CRPS of portfolio profits, in sd"
        joint = fissler_ziegel(
            days["profit"].values[:, None, None], days["quantile"].values, days["shortfall"].values,
            np.array(TAILS)[:, None],
        ).mean(axis=-1)  # fmt: skip
        for i, alpha in enumerate(TAILS):
            out[f"fissler_ziegel_{100 * alpha:g}"] = joint[..., i], f"Fissler-Ziegel score at {100 * alpha:g}%"
    return xr.Dataset(
        {name: (("date", "arm"), values, {"long_name": text, "units": "1"}) for name, (values, text) in out.items()},
        coords={"date": days["date"], "arm": days["arm"]},
    )


def summarise(days: xr.Dataset) -> xr.Dataset:
    """Figures of a period.

    Parameters
    ----------
    days : xarray.Dataset
        From :func:`walk_forward` or :func:`score_scenarios`, at least 10 dates; a part of it by ``sel(date=...)``
        gives the figures of that part.

    Returns
    -------
    xarray.Dataset
        By ``arm`` ("weighted", "raw"), each variable with ``long_name`` and ``units``: means of
        :func:`daily_scores`; ``coverage`` of central intervals by ``level`` and ``variable``, its mean over cells
        and ``coverage_worst`` (largest distance from the level among cells), ``coverage_by_volatility`` in
        terciles of the starting at-the-money vol; ``pit_ks`` and its p-value by variable, ``pit_ks_worst`` over
        cells; ``exceedance``, observed over nominal rate; for portfolios ``violation_ratio``, p-values of Kupiec,
        Christoffersen and Z2 by ``tail`` and ``position`` and the number of rejections at 5%; penalties of scenarios
        and data; ``ess_fraction``; components and correlations; ``sd_ratio``, forecast over realised.

    Raises
    ------
    InputError
        If ``days`` is something else, or too short.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import summarise, walk_forward
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> days = walk_forward("pca", history, first=dates[1400], last=dates[1419], n_scenarios=200)
    >>> figures = summarise(days)
    >>> figures.coverage_mean.dims, float(figures.ess_fraction) > 0.49
    (('arm', 'level'), True)
    """
    check_days(days)
    means = daily_scores(days).mean("date", keep_attrs=True)
    out: dict[str, tuple[tuple[str, ...], Any, str]] = _calibration(days)
    if "profit" in days:
        out |= _risk(days)
    if "penalty" in days:
        out |= _arbitrage(days)
    ess = days["ess_fraction"].values
    out["ess_fraction"] = (), ess.mean(), "mean effective sample size over number of scenarios"
    out["ess_fraction_min"] = (), ess.min(), "least effective sample size over number of scenarios"
    if "state_clipped" in days:
        out["state_clipped"] = (), days["state_clipped"].values.mean(), "share of days whose starting state was clipped"
    if "draw" in days:
        out |= _structure(days)
    figures = xr.Dataset(
        {
            name: (dims, np.asarray(values), {"long_name": text, "units": "1"})
            for name, (dims, values, text) in out.items()
        },
        coords={
            name: days[name] for name in ("arm", "variable", "functional", "tail", "position") if name in days.coords
        }
        | {"level": list(COVERAGE_LEVELS), "volatility": list(_TERCILES), "probability": list(_EXCEEDANCE)},
    )
    if "pc_inner" in figures:
        figures = figures.assign_coords(series=list(CORRELATED), series_other=list(CORRELATED))
    kept = ("generator", "parameters", "first", "last", "train_end", "refit_every", "update_every", "n_scenarios",
            "seed", "beta", "data_fingerprint", "volscen_version")  # fmt: skip
    attributes = {name: days.attrs[name] for name in kept if name in days.attrs}
    return xr.merge([means, figures]).assign_attrs(attributes | {"days": days.sizes["date"]})


Figures = dict[str, tuple[tuple[str, ...], Any, str]]


def _calibration(days: xr.Dataset) -> Figures:
    pit = days["pit"].values  # (date, arm, variable)
    cells = slice(1, -1)
    levels = np.array(COVERAGE_LEVELS)
    low, high = ((1 + sign * levels[:, None, None]) / 2 for sign in (-1, 1))
    inside = (pit[:, None] >= low) & (pit[:, None] <= high)  # (date, level, arm, variable)
    coverage = np.moveaxis(inside.mean(axis=0), 0, 1)  # (arm, level, variable)
    # Ranks rather than values split the days evenly where the starting vol repeats.
    state = days["volatility_state"].values
    tercile = np.argsort(np.argsort(state, kind="stable"), kind="stable") * len(_TERCILES) // state.size
    by_volatility = np.stack(
        [np.moveaxis(inside[tercile == i][..., cells].mean(axis=(0, 3)), 0, 1) for i in range(len(_TERCILES))], axis=1
    )
    nominal = np.array(_EXCEEDANCE)
    beyond = np.where(
        (nominal < 0.5)[:, None, None], pit[:, None] < nominal[:, None, None], pit[:, None] > nominal[:, None, None]
    )
    rate = np.minimum(nominal, 1 - nominal)
    ks = _kolmogorov(pit)
    return {
        "coverage": (("arm", "level", "variable"), coverage, "share of days inside the central interval"),
        "coverage_mean": (("arm", "level"), coverage[..., cells].mean(axis=-1), "mean coverage over cells"),
        "coverage_worst": (
            ("arm", "level"),
            np.abs(coverage[..., cells] - levels[:, None]).max(axis=-1),
            "largest distance of a cell's coverage from the level",
        ),
        "coverage_p_value": (
            ("arm", "level", "variable"),
            np.moveaxis(kupiec(~inside, (1 - levels)[:, None, None]), 0, 1),
            "p-value of the test that the coverage is right",
        ),
        "coverage_by_volatility": (
            ("arm", "volatility", "level"),
            by_volatility,
            "mean coverage over cells on days that began calm, middling and stormy",
        ),
        "pit_ks": (("arm", "variable"), ks, "Kolmogorov-Smirnov distance of the PIT from uniform"),
        "pit_ks_p_value": (("arm", "variable"), kstwo.sf(ks, len(pit)), "its p-value for independent days"),
        "pit_ks_mean": (("arm",), ks[:, cells].mean(axis=1), "mean Kolmogorov-Smirnov distance over cells"),
        "pit_ks_worst": (("arm",), ks[:, cells].max(axis=1), "largest Kolmogorov-Smirnov distance among cells"),
        "exceedance": (
            ("arm", "probability", "variable"),
            np.moveaxis(beyond.mean(axis=0) / rate[:, None, None], 0, 1),
            "days below the probability (above it, from the middle on) over the nominal number",
        ),
        **_functionals(days),
    }


def _functionals(days: xr.Dataset) -> Figures:
    if "functional_pit" not in days:
        return {}
    ks = _kolmogorov(days["functional_pit"].values)
    return {
        "functional_ks": (("arm", "functional"), ks, "Kolmogorov-Smirnov distance of the PIT of joint moves"),
        "functional_ks_p_value": (("arm", "functional"), kstwo.sf(ks, days.sizes["date"]), "its p-value"),
    }


def _kolmogorov(pit: FloatArray) -> FloatArray:
    """Distance from uniform of PITs (date, ...) by column."""
    n = len(pit)
    ordered = np.sort(pit, axis=0)
    step = (np.arange(1, n + 1) / n).reshape(-1, *[1] * (pit.ndim - 1))
    return np.asarray(np.maximum((step - ordered).max(axis=0), (ordered - step + 1 / n).max(axis=0)))


def _risk(days: xr.Dataset) -> Figures:
    profit, var, es = days["profit"].values, days["quantile"].values, days["shortfall"].values
    alpha = np.array(TAILS)[:, None]
    hit = profit[:, None, None] <= var  # (date, arm, tail, position)
    z2 = z2_statistic(profit[:, None, None], var, es, alpha)
    independence, conditional = christoffersen(hit, alpha)
    p_values = {
        "kupiec": (kupiec(hit, alpha), "Kupiec's test of the rate of violations"),
        "christoffersen": (conditional, "Christoffersen's test of rate and independence"),
        "z2": (z2_p_value(z2, np.moveaxis(days["z2_moment"].values, 2, 1)), "Acerbi-Szekely Z2, one-sided"),
    }
    by = ("arm", "tail", "position")
    ratio = hit.mean(axis=0) / alpha
    out: Figures = {
        "violation_ratio": (by, ratio, "violations of value at risk over the nominal number"),
        "violation_ratio_mean": (
            ("arm", "tail"),
            ratio.mean(axis=-1),
            "mean over positions of violations over nominal",
        ),
        "independence_p_value": (by, independence, "Christoffersen's test of independence"),
        "z2": (by, z2, "Acerbi-Szekely Z2: 0 is right, negative understates risk"),
        "positions_tested": ((), ratio[0].size, "tests of each kind: positions by tail probabilities"),
    }
    for name, (p, text) in p_values.items():
        out[f"{name}_p_value"] = by, p, f"p-value: {text}"
        out[f"{name}_rejections"] = ("arm",), (p < _REJECTED).sum(axis=(1, 2)), f"rejections at 5%: {text}"
    return out


def _arbitrage(days: xr.Dataset) -> Figures:
    penalty, weight = days["penalty"].values.ravel(), days["weight"].values
    data = days["penalty_data"].values
    raw = np.full(weight.size, 1 / weight.size)
    weighted = weight.ravel() / weight.sum()
    arms = [weighted, raw]
    out: Figures = {
        "penalty_mean": (("arm",), [w @ penalty for w in arms], "mean penalty"),
        "penalty_median": (("arm",), [quantile(penalty, w, 0.5)[0] for w in arms], "median penalty"),
        "penalty_p95": (("arm",), [quantile(penalty, w, 0.95)[0] for w in arms], "95% quantile of the penalty"),
        "penalty_share": (("arm",), [w @ (penalty > _ARBITRAGE) for w in arms], "share with a penalty above 1e-6"),
        "penalty_mean_data": ((), data.mean(), "mean penalty of the data"),
        "penalty_median_data": ((), np.median(data), "median penalty of the data"),
        "penalty_p95_data": ((), np.quantile(data, 0.95), "95% quantile of the data's penalty"),
        "penalty_share_data": ((), (data > _ARBITRAGE).mean(), "share of the data with a penalty above 1e-6"),
    }
    for name in ("negative_density", "falling_variance"):
        text = str(days[name].attrs["long_name"])
        out[name] = ("arm",), days[name].values.mean(axis=0), text
        out[f"{name}_data"] = (), days[f"{name}_data"].values.mean(), f"{text}, data"
    return out


def _structure(days: xr.Dataset) -> Figures:
    realised = days["realised"].values
    atm = named_variables(days)["atm30"]
    found = component_figures(days["draw"].values, realised, atm)
    spread = np.sqrt(days["variance"].values.mean(axis=0)) / realised.std(axis=0)
    return {
        "pc_inner": (("arm", "component"), found["pc_inner"], "inner product of components with the data's"),
        "pc_share": (("arm", "component"), found["pc_share"], "share of variance of components"),
        "pc_share_data": (("component",), found["pc_share_data"], "share of variance of the data's components"),
        "correlation": (("arm", "series", "series_other"), found["correlation"], "correlation of moves"),
        "correlation_data": (("series", "series_other"), found["correlation_data"], "correlation of the data's moves"),
        "sd_ratio": (("arm", "variable"), spread, "forecast over realised standard deviation"),
    }
