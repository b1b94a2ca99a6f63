"""The nearest surfaces without static arbitrage, for whole datasets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen import arbitrage
from volscen._projection import ProjectionStatus
from volscen._threads import resolve_num_threads
from volscen._version import __version__
from volscen.errors import FitError, InputError, MissingExtraError
from volscen.schema import annotate
from volscen.surface._derivatives import check_total_variance
from volscen.surface._regrid import regrid
from volscen.surface._sqp import LEAST_G, project_with_density, smallest_g
from volscen.surface._surfaces import GRID, map_surfaces, surfaces_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["project_arbitrage"]

FloatArray = npt.NDArray[np.float64]

_REAL, _FLAG = np.dtype(np.float64), np.dtype(np.int8)

#: Results of every surface, beside its vols: type, meaning, unit.
_RESULTS: dict[str, tuple[np.dtype[Any], str, str]] = {
    "projection_status": (_FLAG, "what the projection made of each surface", "1"),
    "arbitrage_penalty_raw": (_REAL, "static-arbitrage penalty before projection", "1"),
    "arbitrage_penalty": (_REAL, "Cont-Vuletic static-arbitrage penalty", "1"),
    "projection_change_rms": (_REAL, "root mean square change of volatility by projection", "vol point"),
    "projection_change_max": (_REAL, "largest change of volatility by projection", "vol point"),
    "durrleman_g_min_raw": (_REAL, "smallest Durrleman's g at inner grid points before projection", "1"),
    "durrleman_g_min": (_REAL, "smallest Durrleman's g at inner grid points", "1"),
}

#: How attributes begin that say how a fitted surface stands to its quotes and to arbitrage.
_STALE = ("fit_rm", "fit_max", "fit_share", "durrleman_g", "calendar_violations")


def project_arbitrage(
    ds: xr.Dataset,
    *,
    durrleman: bool = False,
    refine: int = 1,
    vega_floor: float = 1e-3,
    num_threads: int | None = None,
) -> xr.Dataset:
    """Replace every surface of a dataset by the nearest one without static arbitrage on its grid.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``implied_vol(..., tau, moneyness)``: a surface, a history or a scenario cube (also lazy).
    durrleman : bool
        Whether Durrleman's g must be at least 2e-4 at inner grid points as well, so that densities are positive there
        by the derivatives of :func:`volscen.surface.diagnose` too. Needs clarabel and three
        moneyness points, and takes some milliseconds for a surface of which this does not hold already.
    refine : int
        Parts into which every interval of tau and of log-moneyness is divided first; above 1 the surfaces are
        interpolated (:func:`volscen.surface.regrid`), and projected and returned on the denser grid.
    vega_floor : float
        In (0, 1]; as for :func:`volscen.arbitrage.project`.
    num_threads : int, optional
        Threads; all available processors when omitted. The result is the same for any number. The programmes
        of ``durrleman`` run in one.

    Returns
    -------
    xarray.Dataset
        Like ``ds``, ``implied_vol`` projected, in its own floating-point type. Surfaces that keep all conditions
        already are returned bit for bit. New, for each surface:

        - ``projection_status``: 0 free already, 1 projected, 2 free but perhaps not the nearest;
        - ``projection_change_rms`` and ``projection_change_max`` over the grid, in vol points;
        - ``arbitrage_penalty``, and ``arbitrage_penalty_raw`` of the surface given on its own grid (a cube that was
          projected before keeps its own, by which weights go);
        - ``durrleman_g_min`` and ``durrleman_g_min_raw``, where there are three moneyness points.

        The attribute ``projected`` is 1, and ``projection`` says which conditions hold; figures of the fit are dropped
        from the attributes where a surface changed. Scenario weights and starting states are left as they are.

    Raises
    ------
    InputError
        If there is no implied_vol, a volatility is not positive, or an option is out of range.
    FitError
        If no surface without arbitrage was found for some surface.
    MissingExtraError
        If ``durrleman`` is set without clarabel.

    Notes
    -----
    The conditions on prices and the distance, sum of vega^2 (sigma' - sigma)^2, are those of
    :func:`volscen.arbitrage.project`, which does all the work where ``durrleman`` is False. The surfaces it returns
    with too small a g are projected again, from there, by sequential quadratic programming in s = sigma sqrt(tau):
    the distance is quadratic and calendar order linear in s, the conditions on prices and g are linearised, and every
    programme is solved by clarabel (P. Goulart and Y. Chen 2024) in a trust region, under an exact penalty. The
    conditions are not convex, so the minimum is a local one.

    The guarantee is on the grid. A surface free there may have arbitrage between grid points, by how it is
    interpolated; ``refine`` narrows the gaps. Beyond the grid nothing is promised.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history().isel(date=slice(0, 3))
    >>> history["implied_vol"][1, 6, 4] += 0.05
    >>> free = volscen.project_arbitrage(history, durrleman=True)
    >>> free.projection_status.values.tolist()
    [0, 1, 0]
    >>> bool(free.arbitrage_penalty_raw[1] > 0), float(free.arbitrage_penalty.max())
    (True, 0.0)
    """
    import xarray as xr

    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be a dataset with implied_vol(..., tau, moneyness), not {type(ds).__name__}")
    surfaces_of(ds, "ds")
    if not isinstance(durrleman, (bool, np.bool_)):
        raise InputError(f"durrleman must be True or False, not {durrleman!r}")
    if isinstance(refine, bool) or not isinstance(refine, (int, np.integer)) or refine < 1:
        raise InputError(f"refine must be a whole number of at least 1, not {refine!r}")
    if durrleman and ds.sizes["moneyness"] < 3:
        raise InputError(f"moneyness holds {ds.sizes['moneyness']} points; durrleman needs at least 3")
    if durrleman:
        _need_clarabel()
    whole = _refined(ds, int(refine), num_threads) if refine > 1 else ds
    surfaces = surfaces_of(whole, "ds")
    work = _Projection(surfaces, bool(durrleman), vega_floor, resolve_num_threads(num_threads))
    names = [name for name in _RESULTS if surfaces.sizes["moneyness"] >= 3 or not name.startswith("durrleman")]
    projected, *results = map_surfaces(
        work, surfaces, [GRID, *[()] * len(names)], [work.dtype, *(_RESULTS[name][0] for name in names)]
    )
    out = whole.copy()
    out["implied_vol"] = projected.transpose(*whole["implied_vol"].dims).assign_attrs(whole["implied_vol"].attrs)
    for name, values in zip(names, results, strict=True):
        if name == "arbitrage_penalty_raw" and name in ds:
            continue
        if name == "arbitrage_penalty_raw" and refine > 1:
            values = _penalties(surfaces_of(ds, "ds"), work.threads)
        _, long_name, units = _RESULTS[name]
        out[name] = values.assign_attrs(long_name=long_name, units=units)
    conditions = "static arbitrage on the grid" + (f", Durrleman's g at least {LEAST_G:g}" if durrleman else "")
    entry = f"{datetime.now(UTC).isoformat(timespec='seconds')} projected by volscen {__version__}"
    if surfaces.chunks is not None or bool((out["projection_status"] != 0).any()):
        # They were said of the surface before, and are no longer true.
        out.attrs = {name: value for name, value in out.attrs.items() if not name.startswith(_STALE)}
    out.attrs |= {"projected": 1, "projection": conditions}
    out.attrs["history"] = "; ".join(filter(None, [str(ds.attrs.get("history", "")), entry]))
    return annotate(out)


def _refined(ds: xr.Dataset, parts: int, num_threads: int | None) -> xr.Dataset:
    """Dataset on a grid with every interval divided; the points it had are kept exactly."""
    tau, moneyness = (np.asarray(ds[name].values, dtype=np.float64) for name in GRID)
    share = np.arange(parts) / parts

    def divide(points: FloatArray) -> FloatArray:
        return np.append((points[:-1, None] + np.diff(points)[:, None] * share).ravel(), points[-1])

    new_moneyness = np.exp(divide(np.log(moneyness)))
    new_moneyness[::parts] = moneyness
    return regrid(ds, divide(tau), new_moneyness, num_threads=num_threads)


def _penalties(surfaces: xr.DataArray, threads: int) -> xr.DataArray:
    """Penalties of surfaces on their own grid."""
    grid = [np.asarray(surfaces[name].values, dtype=np.float64) for name in GRID]

    def penalties(vol: npt.NDArray[Any]) -> tuple[FloatArray]:
        return (np.asarray(arbitrage.penalty(vol.astype(np.float64), *grid, num_threads=threads)),)

    return map_surfaces(penalties, surfaces, [()], [_REAL])[0]


def _need_clarabel() -> None:
    """Fail before any work is done."""
    try:
        import clarabel  # noqa: F401
    except ImportError:
        raise MissingExtraError("project_arbitrage(durrleman=True)", "projection") from None


class _Projection:
    """Projection of surfaces (n, J, I) on one grid, with what is reported of each."""

    def __init__(self, surfaces: xr.DataArray, durrleman: bool, vega_floor: float, threads: int) -> None:
        self.tau = np.asarray(surfaces["tau"].values, dtype=np.float64)
        self.moneyness = np.asarray(surfaces["moneyness"].values, dtype=np.float64)
        self.dtype = np.dtype(np.float32 if surfaces.dtype == np.float32 else np.float64)
        self.durrleman = durrleman
        self.vega_floor = vega_floor
        self.threads = threads
        # Refuses a bad vega_floor before work is done on a lazy cube.
        arbitrage.project(np.ones((1, 1)), [1.0], [1.0], vega_floor=vega_floor)

    def __call__(self, implied_vol: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        grid = (self.tau, self.moneyness)
        vol = implied_vol.astype(self.dtype, copy=False)
        check_total_variance(vol.astype(np.float64) ** 2 * self.tau[:, None])
        found, status = arbitrage.project(vol, *grid, vega_floor=self.vega_floor, num_threads=self.threads)
        if self.durrleman:
            for i in np.flatnonzero(~(smallest_g(found, *grid) >= LEAST_G)):
                found[i], status[i] = project_with_density(
                    vol[i].astype(np.float64), *grid, single=self.dtype == np.float32, vega_floor=self.vega_floor
                )
        lost = int((status >= ProjectionStatus.FAILED).sum())
        if lost:
            raise FitError(
                f"{lost} surfaces could not be projected: none without arbitrage was found near them; look at them "
                "with volscen.surface.diagnose, and drop those or mend their outliers"
            )
        change = 100 * np.abs(found.astype(np.float64) - vol.astype(np.float64))
        before, after = (
            np.asarray(arbitrage.penalty(x.astype(np.float64), *grid, num_threads=self.threads)) for x in (vol, found)
        )
        report = [status, before, after, np.sqrt((change**2).mean(axis=(1, 2))), change.max(axis=(1, 2))]
        if self.moneyness.size >= 3:
            report += [smallest_g(vol, *grid), smallest_g(found, *grid)]
        return found, *report
