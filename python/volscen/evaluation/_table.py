"""The table of an evaluation, and the bands that a calibrated model keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from volscen._files import atomic_path, check_writable
from volscen.errors import InputError

__all__ = ["BANDS", "broken_bands", "check_evaluation_path", "format_table", "table", "write_evaluation"]

_SUFFIXES = (".csv", ".json", ".nc")

#: Bands of figures that good models keep on daily equity-index surfaces: lower and upper bound, None for none.
BANDS: dict[str, tuple[float | None, float | None]] = {
    "coverage_50": (0.46, 0.57),
    "coverage_90": (0.88, 0.935),
    "coverage_95": (0.935, 0.965),
    "coverage_99": (0.98, 0.994),
    "worst_cell_95": (None, 0.035),
    "ks_return": (None, 0.065),
    "ks_atm30": (None, 0.065),
    "ks_worst": (None, 0.12),
    "kupiec": (None, 12),
    "violations_2.5": (0.7, 1.25),
    "corr_error": (None, 0.06),
    "pc1": (0.99, None),
    "ess": (0.5 - 1e-6, None),
}


def table(evaluation: xr.Dataset) -> pd.DataFrame:
    """Headline figures, one row for every generator and arm; of several seeds the one of least skill.

    Parameters
    ----------
    evaluation : xarray.Dataset
        From :func:`volscen.evaluate`.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``generator`` and ``arm``. Columns, each where it was measured: ``energy_score``, ``skill`` with
        ``skill_low`` and ``skill_high``, ``dm_t``, ``holm_p``; skills of the variogram score and of the CRPS of
        return, ATM30 and portfolio profits (``skill_...``); coverage of central intervals (means over cells);
        ``worst_cell_95``, largest distance of a cell's coverage from .95; Kolmogorov-Smirnov distances; ``kupiec``,
        rejections at 5%, of ``tests``; ``violations_2.5``, violations of 2.5% value at risk over nominal;
        ``penalty``, ``penalty_data``; ``ess``, the least; ``pc1``; ``corr_error``, distance of the correlation of
        return and ATM30 from the data's; ``broken``, the bands that are not kept (:data:`BANDS`).

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> found = volscen.evaluate(["pca"], history, first=dates[1440], last=dates[1499], n_scenarios=200)
    >>> bool(volscen.evaluation.table(found).loc[("pca", "raw"), "skill"] > 0)
    True
    """
    if not isinstance(evaluation, xr.Dataset) or not {"skill", "coverage_mean"} <= set(evaluation.data_vars):
        raise InputError("evaluation must be the dataset that volscen.evaluate returns")
    if "seed" not in evaluation.dims:
        evaluation = evaluation.expand_dims("seed", axis=1)
    rows = {}
    for label in evaluation["generator"].values:
        for arm in evaluation["arm"].values:
            one = evaluation.sel(generator=label, arm=arm)
            # Seeds may stand for histories of their own, whose scores do not compare: skill does, and where it is equal
            # by definition, of a yardstick, the score decides.
            skill, score = one["skill"].sel(score="energy_score").values, one["energy_score"].values
            worst = one.isel(seed=int(np.lexsort((-score, skill))[0]))
            row = _row(worst)
            rows[str(label), str(arm)] = row | {"broken": broken_bands(row)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["generator", "arm"])


def _row(one: xr.Dataset) -> dict[str, Any]:
    """Figures of one generator, seed and arm."""
    row: dict[str, Any] = {"energy_score": float(one["energy_score"])}
    main = one.sel(score="energy_score")
    for name, source in (("skill", "skill"), ("skill_low", "skill_low"), ("skill_high", "skill_high"),
                         ("dm_t", "dm_t"), ("holm_p", "holm_p_value")):  # fmt: skip
        row[name] = float(main[source])
    for name, score in (("vs", "variogram_score"), ("return", "crps_return"), ("atm30", "crps_atm30"),
                        ("profit", "crps_profit")):  # fmt: skip
        if score in one["score"].values:
            row[f"skill_{name}"] = float(one["skill"].sel(score=score))
    for level in (0.5, 0.9, 0.95, 0.99):
        row[f"coverage_{100 * level:g}"] = float(one["coverage_mean"].sel(level=level))
    row["worst_cell_95"] = float(one["coverage_worst"].sel(level=0.95))
    ks = one["pit_ks"].values
    row["ks_return"] = float(ks[0])
    row["ks_atm30"] = float(ks[_atm30(one)])
    row["ks_worst"] = float(one["pit_ks_worst"])
    if "kupiec_rejections" in one:
        row["kupiec"] = int(one["kupiec_rejections"])
        row["tests"] = int(one["positions_tested"])
        row["violations_2.5"] = float(one["violation_ratio_mean"].sel(tail=0.025))
    if "penalty_mean" in one:
        row["penalty"] = float(one["penalty_mean"])
        row["penalty_data"] = float(one["penalty_mean_data"])
    row["ess"] = float(one["ess_fraction_min"])
    if "pc_inner" in one:
        row["pc1"] = float(one["pc_inner"].isel(component=0))
        pair = {"series": "return", "series_other": "atm30"}
        row["corr_error"] = abs(float(one["correlation"].sel(pair)) - float(one["correlation_data"].sel(pair)))
    return row


def _atm30(one: xr.Dataset) -> int:
    tau, moneyness = one["cell_tau"].values, one["cell_moneyness"].values
    distance = np.where(np.isfinite(tau), np.abs(tau - 30 / 365), np.inf)
    on_slice = np.flatnonzero(distance == distance.min())
    return int(on_slice[np.argmin(np.abs(moneyness[on_slice] - 1))])


def broken_bands(row: dict[str, Any]) -> str:
    """Names of the figures outside their bands, joined by spaces."""
    outside = []
    for name, (low, high) in BANDS.items():
        value = row.get(name)
        if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
            outside.append(name)
    return " ".join(outside)


def check_evaluation_path(path: str | Path) -> Path:
    """Refuse, before any work, a file that :func:`write_evaluation` could not write after it."""
    if Path(path).suffix not in _SUFFIXES:
        raise InputError(f"cannot write to {path}: the name must end in {', '.join(_SUFFIXES)}")
    check_writable(path)
    return Path(path)


def write_evaluation(evaluation: xr.Dataset, path: str | Path) -> Path:
    """Write the table of an evaluation, or all of it, whole or not at all.

    Parameters
    ----------
    evaluation : xarray.Dataset
        From :func:`volscen.evaluate`.
    path : str or Path
        Ends in ``.csv`` or ``.json`` (the rows of :func:`table`) or ``.nc`` (every figure).

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the path cannot be written to.

    Examples
    --------
    >>> import tempfile, volscen
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values
    >>> found = volscen.evaluate(["pca"], history, first=dates[1440], last=dates[1499], n_scenarios=200)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     volscen.evaluation.write_evaluation(found, folder + "/table.csv").name
    'table.csv'
    """
    path = check_evaluation_path(path)
    frame = table(evaluation)
    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            frame.to_csv(temporary)
        elif path.suffix == ".json":
            rows = [
                {"generator": label, "arm": arm, **row}
                for (label, arm), row in zip(frame.index, frame.to_dict(orient="records"), strict=True)
            ]
            temporary.write_text(json.dumps({"attributes": _plain(evaluation.attrs), "rows": rows}, indent=1))
        else:
            evaluation.to_netcdf(temporary, engine="netcdf4", format="NETCDF4")
    return path


def _plain(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in attributes.items()}


_FORMATS: dict[str, tuple[str, str]] = {
    "energy_score": ("ES", ".3f"),
    "skill": ("skill", ".1%"),
    "skill_low": ("low", ".1%"),
    "skill_high": ("high", ".1%"),
    "dm_t": ("DM t", ".1f"),
    "holm_p": ("Holm p", ".3f"),
    "skill_vs": ("VS", ".1%"),
    "skill_return": ("ret", ".1%"),
    "skill_atm30": ("ATM30", ".1%"),
    "skill_profit": ("P&L", ".1%"),
    "coverage_50": ("c50", ".3f"),
    "coverage_90": ("c90", ".3f"),
    "coverage_95": ("c95", ".3f"),
    "coverage_99": ("c99", ".3f"),
    "worst_cell_95": ("worst", ".3f"),
    "ks_return": ("KSret", ".3f"),
    "ks_atm30": ("KSatm", ".3f"),
    "ks_worst": ("KSmax", ".3f"),
    "kupiec": ("Kup", "d"),
    "violations_2.5": ("viol", ".2f"),
    "penalty": ("Phi", ".1e"),
    "penalty_data": ("data", ".1e"),
    "ess": ("ESS/N", ".2f"),
    "pc1": ("PC1", ".3f"),
    "corr_error": ("dcorr", ".3f"),
}


def format_table(frame: pd.DataFrame) -> str:
    """Text of :func:`table`, one line for every generator and arm."""
    columns = [name for name in _FORMATS if name in frame.columns]
    lines = [["generator", "arm", *(_FORMATS[name][0] for name in columns), "bands broken"]]
    for index, row in frame.iterrows():
        assert isinstance(index, tuple)
        cells = [format(row[name], _FORMATS[name][1]) if pd.notna(row[name]) else "-" for name in columns]
        lines.append([*map(str, index), *cells, str(row["broken"]) or "none"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    last = len(widths) - 1
    return "\n".join(
        "  ".join(
            text.ljust(width) if i in (0, 1) else text if i == last else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
