"""What moves together: components, correlations, and the stylised facts of paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen.errors import InputError

__all__ = ["CORRELATED", "N_COMPONENTS", "component_figures", "principal_components", "stylised_facts"]

FloatArray = npt.NDArray[np.float64]

N_COMPONENTS = 3
#: What is correlated with what, component scores on the data's components.
CORRELATED = ("return", "PC1", "PC2", "PC3", "atm30", "vix30")
_LAGS = 5


def component_figures(draw: FloatArray, realised: FloatArray, atm: int) -> dict[str, FloatArray]:
    """Components and correlations of panels of scenarios beside the data's.

    Parameters
    ----------
    draw : ndarray, shape (T, arm, B, variable)
        B panels: one scenario of every day each.
    realised : ndarray, shape (T, variable)
    atm : int
        Position of the at-the-money 30-day cell.

    Returns
    -------
    dict
        ``pc_inner`` (arm, 3): mean absolute inner product of a panel's components with the data's; ``pc_share`` (arm,
        3) and ``pc_share_data`` (3,): shares of variance; ``correlation`` (arm, 6, 6) and ``correlation_data`` (6,
        6).
    """
    vectors, share_data = _components(realised)

    def correlation(x: FloatArray) -> FloatArray:
        columns = np.column_stack([x[:, 0], x[:, 1:-1] @ vectors, x[:, atm], x[:, -1]])
        with np.errstate(invalid="ignore", divide="ignore"):  # a scenario law may not move something at all
            return np.asarray(np.nan_to_num(np.corrcoef(columns.T)))

    arms: list[list[FloatArray]] = [[], [], []]
    for arm in range(draw.shape[1]):
        panels = [draw[:, arm, b].astype(np.float64) for b in range(draw.shape[2])]
        found = [_components(panel) for panel in panels]
        arms[0].append(np.mean([np.abs((v * vectors).sum(axis=0)) for v, _ in found], axis=0))
        arms[1].append(np.mean([share for _, share in found], axis=0))
        arms[2].append(np.mean([correlation(panel) for panel in panels], axis=0))
    return {
        "pc_inner": np.stack(arms[0]),
        "pc_share": np.stack(arms[1]),
        "pc_share_data": share_data,
        "correlation": np.stack(arms[2]),
        "correlation_data": correlation(realised),
    }


def _components(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First components (cells, 3) of the increments of (T, variable), and their shares of variance."""
    return principal_components(x[:, 1:-1])


def principal_components(moves: FloatArray, weight: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
    """First components (cells, 3) of moves (n, cells), by weights (n,) or equal ones, and their shares of variance."""
    value, vector = np.linalg.eigh(np.atleast_2d(np.cov(moves.T, aweights=weight, ddof=0)))
    vector = vector * np.where(vector.sum(axis=0) < 0, -1.0, 1.0)  # an axis has no sign of its own: fix one
    return vector[:, ::-1][:, :N_COMPONENTS], value[::-1][:N_COMPONENTS] / value.sum()


def stylised_facts(paths: xr.Dataset) -> xr.Dataset:
    """Autocorrelation, leverage, clustering and mean reversion of a history, or of the paths of a scenario cube.

    Parameters
    ----------
    paths : xarray.Dataset
        A history, or scenarios of one date with at least 10 steps.

    Returns
    -------
    xarray.Dataset
        Over ``lag`` 1 to 5: ``return_autocorrelation``; ``clustering``, the autocorrelation of absolute returns;
        ``leverage``, the correlation of a return with the square of the one ``lag`` later; ``vol_autocorrelation`` of
        the changes of at-the-money log vol (nearest 30 days). Besides: ``return_vol_correlation`` of the same day;
        ``kurtosis`` of the returns; ``half_life`` [day] of that log vol, log 0.5 / log(b), b its first-order
        autocorrelation, infinite where b >= 1 and 0 where b <= 0.

    Raises
    ------
    InputError
        If the paths are shorter than 10 steps or never move.

    Notes
    -----
    Moments of scenarios are pooled over paths and steps by weight, around the pooled mean; for ``half_life`` the
    regression is pooled with each date's own history as one path. Facts of 21-day paths and of years of data differ
    even where the law is right (short paths see little of slow mean reversion): compare like with like, by cutting
    the history into windows.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import stylised_facts
    >>> facts = stylised_facts(volscen.datasets.sample_history())
    >>> bool(facts.return_vol_correlation < -0.5)
    True
    """
    kind = str(paths.attrs.get("schema", "")) if isinstance(paths, xr.Dataset) else ""
    if kind not in (schema.HISTORY, schema.SCENARIOS):
        raise InputError("paths must be a history or a scenario dataset")
    schema.validate(paths)
    tau, moneyness = paths["tau"].values, paths["moneyness"].values
    cell = {"tau": int(np.argmin(np.abs(tau - 30 / 365))), "moneyness": int(np.argmin(np.abs(moneyness - 1)))}
    if kind == schema.HISTORY:
        r = paths["log_return"].values[None, 1:].astype(np.float64)
        level = np.log(paths["implied_vol"].isel(cell).values[None].astype(np.float64))
        weight = np.ones(1)
    else:
        if "as_of" in paths.dims:
            raise InputError("paths hold several dates; choose one with isel(as_of=...)")
        r = paths["log_return"].transpose("scenario", "step").values.astype(np.float64)
        after = np.log(paths["implied_vol"].isel(cell).transpose("scenario", "step").values.astype(np.float64))
        start = np.log(float(paths["implied_vol0"].isel(cell)))
        level = np.column_stack([np.full(len(after), start), after])
        weight = schema.check_weights(paths["weight"].values)
    if r.shape[1] < 10:
        raise InputError(f"paths have {r.shape[1]} steps; stylised facts need at least 10")
    change = np.diff(level, axis=1)

    def pooled(a: FloatArray, b: FloatArray, lag: int) -> float:
        """Correlation of a now with b ``lag`` later."""
        x, y = a[:, : a.shape[1] - lag], b[:, lag:]
        w = np.broadcast_to(weight[:, None], x.shape)
        mean_x, mean_y = np.average(x, weights=w), np.average(y, weights=w)
        covariance = np.average((x - mean_x) * (y - mean_y), weights=w)
        spread = np.sqrt(np.average((x - mean_x) ** 2, weights=w) * np.average((y - mean_y) ** 2, weights=w))
        if not spread > 0:
            raise InputError("paths never move; they have no stylised facts")
        return float(covariance / spread)

    lags = range(1, _LAGS + 1)
    series: dict[str, tuple[list[float], str]] = {
        "return_autocorrelation": ([pooled(r, r, k) for k in lags], "autocorrelation of returns"),
        "clustering": ([pooled(np.abs(r), np.abs(r), k) for k in lags], "autocorrelation of absolute returns"),
        "leverage": ([pooled(r, r**2, k) for k in lags], "correlation of a return with a later squared return"),
        "vol_autocorrelation": ([pooled(change, change, k) for k in lags], "autocorrelation of changes of log vol"),
    }
    persistence = pooled(level, level, 1)
    w = np.broadcast_to(weight[:, None], r.shape)
    centred = r - np.average(r, weights=w)
    scalars: dict[str, tuple[float, str, str]] = {
        "return_vol_correlation": (pooled(r, change, 0), "correlation of returns and changes of log vol", "1"),
        "kurtosis": (
            float(np.average(centred**4, weights=w) / np.average(centred**2, weights=w) ** 2),
            "kurtosis of returns",
            "1",
        ),
        "half_life": (_half_life(persistence), "half-life of at-the-money log vol", "day"),
    }
    variables: dict[str, Any] = {
        name: ("lag", np.array(values), {"long_name": text, "units": "1"}) for name, (values, text) in series.items()
    }
    variables |= {
        name: ((), value, {"long_name": text, "units": units}) for name, (value, text, units) in scalars.items()
    }
    return xr.Dataset(variables, coords={"lag": ("lag", np.array(lags), {"long_name": "lag", "units": "day"})})


def _half_life(persistence: float) -> float:
    if persistence >= 1:
        return float("inf")
    return float(np.log(0.5) / np.log(persistence)) if persistence > 0 else 0.0
