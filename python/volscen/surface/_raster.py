"""Dense rasters of surfaces: the pictures that convolutional models look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.surface._points import read_grid
from volscen.surface._regrid import regrid

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["raster", "raster_grid"]

FloatArray = npt.NDArray[np.float64]
Spacing = Literal["linear", "log", "sqrt"]

_SPACINGS = {
    "linear": (np.positive, np.positive),
    "log": (np.log, np.exp),
    "sqrt": (np.sqrt, np.square),
}


def raster_grid(
    tau_range: npt.ArrayLike,
    moneyness_range: npt.ArrayLike,
    n: int | tuple[int, int] = 64,
    *,
    tau_spacing: Spacing = "sqrt",
    moneyness_spacing: Spacing = "log",
) -> tuple[FloatArray, FloatArray]:
    """Axes of a raster.

    Parameters
    ----------
    tau_range, moneyness_range : pair of float
        First and last time to expiry in years (or tenors such as "3M"), and K/F.
    n : int or pair of int
        Number of times and of strikes, at least 2: 64 x 64 unless given.
    tau_spacing, moneyness_spacing : {"linear", "log", "sqrt"}
        In what the points are equally far apart. Surfaces are closest to even in the root of tau and in ln(K/F).

    Returns
    -------
    tau, moneyness : ndarray
        Increasing; the ends are those given, to the last bit.

    Raises
    ------
    InputError
        If a range is not two increasing positive numbers, or a number or spacing is wrong.

    Examples
    --------
    >>> from volscen.surface import raster_grid
    >>> tau, moneyness = raster_grid(["1M", "1Y"], [0.8, 1.25], 3)
    >>> tau.round(3).tolist(), moneyness.round(3).tolist()
    ([0.083, 0.415, 1.0], [0.8, 1.0, 1.25])
    """
    counts = [n, n] if isinstance(n, int | np.integer) else list(n) if isinstance(n, tuple | list) else []
    sound = [isinstance(c, int | np.integer) and not isinstance(c, bool) and 2 <= c <= 4096 for c in counts]
    if len(counts) != 2 or not all(sound):
        raise InputError(f"n must be a whole number of points from 2 to 4096, or two (times, strikes), not {n!r}")
    axes = []
    for name, ends, count, spacing in (
        ("tau", tau_range, counts[0], tau_spacing),
        ("moneyness", moneyness_range, counts[1], moneyness_spacing),
    ):
        if not isinstance(spacing, str) or spacing not in _SPACINGS:
            raise InputError(f"{name}_spacing must be one of {', '.join(_SPACINGS)}, not {spacing!r}")
        low_high = read_grid(_tenors(ends, name), f"{name}_range")
        if low_high.size != 2:
            raise InputError(f"{name}_range must be two numbers, first and last, not {ends!r}")
        there, back = _SPACINGS[spacing]
        first, last = there(low_high).tolist()
        axis = back(np.linspace(first, last, count))
        axis[0], axis[-1] = low_high
        axes.append(axis)
    return axes[0], axes[1]


def _tenors(ends: Any, name: str) -> Any:
    from volscen._tenors import to_years

    return to_years("tau_range", ends) if name == "tau" else ends


def raster(
    ds: xr.Dataset,
    n: int | tuple[int, int] = 64,
    *,
    tau_range: npt.ArrayLike | None = None,
    moneyness_range: npt.ArrayLike | None = None,
    tau_spacing: Spacing = "sqrt",
    moneyness_spacing: Spacing = "log",
    extrapolation: str = "flat_vol",
    num_threads: int | None = None,
) -> xr.Dataset:
    """Surfaces of a surface, a history or a scenario cube on a dense raster, 64 x 64 unless told otherwise.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``implied_vol(..., tau, moneyness)``; or by delta or scaled log-moneyness, and then with
        ``moneyness_range``.
    n, tau_spacing, moneyness_spacing
        As for :func:`raster_grid`.
    tau_range, moneyness_range : pair of float, optional
        First and last time to expiry and K/F; those of the grid of ``ds`` when omitted, so that nothing is
        extrapolated.
    extrapolation, num_threads
        As for :func:`regrid`.

    Returns
    -------
    xarray.Dataset
        As :func:`regrid` gives it, ``quality`` included: 2 marks what lies outside the grid of ``ds``.

    Raises
    ------
    InputError
        As for :func:`regrid` and :func:`raster_grid`.

    Notes
    -----
    A raster holds no more than the grid it is made of. From quotes, ``build_history(quotes, tau=tau,
    moneyness=moneyness)`` on the axes of :func:`raster_grid` reads the fitted smile itself off at every point.

    Examples
    --------
    >>> import volscen
    >>> from volscen.surface import raster
    >>> picture = raster(volscen.datasets.sample_history().isel(date=slice(0, 2)))
    >>> picture.implied_vol.shape, int(picture.quality.max())
    ((2, 64, 64), 1)
    """
    import xarray as xr

    for name, given in (("tau", tau_range), ("moneyness", moneyness_range)):
        if given is None and not (isinstance(ds, xr.Dataset) and ds.sizes.get(name, 0) > 1):
            raise InputError(f"ds must be a dataset with several points of {name}; or give {name}_range")
    if tau_range is None:
        tau_range = ds["tau"].values[[0, -1]]
    if moneyness_range is None:
        moneyness_range = ds["moneyness"].values[[0, -1]]
    tau, moneyness = raster_grid(
        tau_range, moneyness_range, n, tau_spacing=tau_spacing, moneyness_spacing=moneyness_spacing
    )
    return regrid(ds, tau, moneyness, extrapolation=extrapolation, num_threads=num_threads)
