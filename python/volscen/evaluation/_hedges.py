"""Judging hedges by their tracking errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen import risk
from volscen.errors import InputError
from volscen.evaluation._compare import bootstrap_interval, diebold_mariano, holm

__all__ = ["tracking_table"]

FloatArray = npt.NDArray[np.float64]


def tracking_table(errors: Mapping[str, npt.ArrayLike], *, baseline: str) -> pd.DataFrame:
    """Tracking errors of hedging methods side by side.

    Parameters
    ----------
    errors : mapping of str to array_like, shape (T,)
        Label -> profit and loss of the hedged position of the same days, at least 20, gains positive.
    baseline : str
        Label that the others are compared with: delta-vega, or a regression on historical simulation.

    Returns
    -------
    pandas.DataFrame
        One row a label: ``mean``, ``sd``, ``rmse`` and value at risk and expected shortfall at 5, 2.5 and 1% (losses
        positive), in the unit of the errors; ``rmse_ratio`` to the baseline with a block bootstrap interval
        ``ratio_low``, ``ratio_high``; ``dm_t`` of the squared errors against the baseline's and ``holm_p``, adjusted
        over the methods.

    Raises
    ------
    InputError
        If the baseline is absent, series differ in length or are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import tracking_table
    >>> rng = np.random.default_rng(0)
    >>> common = rng.standard_normal(250)
    >>> found = tracking_table({"delta": common, "better": 0.5 * common}, baseline="delta")
    >>> float(found.loc["better", "rmse_ratio"]), bool(found.loc["better", "dm_t"] < -5)
    (0.5, True)
    """
    if baseline not in errors:
        raise InputError(f"baseline {baseline!r} is not among the errors: {', '.join(errors)}")
    series = {label: np.asarray(values, dtype=np.float64) for label, values in errors.items()}
    shape = series[baseline].shape
    if len(shape) != 1 or shape[0] < 20 or any(one.shape != shape for one in series.values()):
        raise InputError("errors must be series of the same days, at least 20")
    if not all(np.isfinite(one).all() for one in series.values()):
        raise InputError("errors must be finite; drop the days that are not in all")
    base = series[baseline] ** 2
    if not base.any():
        raise InputError(f"baseline {baseline!r} never errs; nothing compares with it")
    rows = {}
    for label, e in series.items():
        low, high = bootstrap_interval(lambda own, other: np.sqrt(own / other), e**2, base)
        test = diebold_mariano(e**2, base)
        row = {"mean": e.mean(), "sd": e.std(ddof=1), "rmse": np.sqrt(np.mean(e**2))}
        for alpha in risk.LEVELS:
            row[f"var_{100 * alpha:g}"] = risk.value_at_risk(e, alpha=alpha)
            row[f"es_{100 * alpha:g}"] = risk.expected_shortfall(e, alpha=alpha)
        row |= {"rmse_ratio": np.sqrt(np.mean(e**2) / base.mean()), "ratio_low": low, "ratio_high": high}
        rows[label] = {name: float(value) for name, value in row.items()} | {"dm_t": test.t, "holm_p": test.p_value}
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    others = [label for label in rows if label != baseline]
    if others:
        frame.loc[others, "holm_p"] = holm(frame.loc[others, "holm_p"].to_numpy())
    return frame
