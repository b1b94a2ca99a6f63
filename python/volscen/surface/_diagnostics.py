"""What finished surfaces imply: arbitrage cell by cell, risk-neutral densities, local volatility."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen import arbitrage, black
from volscen._threads import resolve_num_threads
from volscen.errors import InputError
from volscen.surface._derivatives import check_total_variance, durrleman_on_grid, parabola_slopes
from volscen.surface._surfaces import GRID, map_surfaces, surfaces_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["diagnose"]

FloatArray = npt.NDArray[np.float64]

#: Relative error of a volatility as stored, with its square: falls of total variance below it are rounding.
_ROUNDING = {4: 1e-6, 8: 1e-14}
#: Relative error of an option price.
_PRICE_ROUNDING = 2e-15

_REAL: np.dtype[Any] = np.dtype(np.float64)
_COUNT: np.dtype[Any] = np.dtype(np.int64)
_FLAG: np.dtype[Any] = np.dtype(np.int8)
_FLAGS: dict[str, Any] = {
    "flag_values": np.arange(4, dtype=np.int8),
    "flag_meanings": "positive variance_falls density_negative both",
}

_CELLS: dict[str, tuple[str, str]] = {
    "durrleman_g": ("Durrleman's function g, negative where the density is", "1"),
    "density": ("risk-neutral density of S/F at expiry", "1"),
    "probability_below": ("risk-neutral probability that S/F at expiry is below the moneyness", "1"),
    "forward_variance": ("slope of total variance in time since the maturity before", "year-1"),
    "local_vol": ("Dupire local volatility, 0 where flagged", "1"),
}
_FLAGGED: dict[str, tuple[str, str]] = {"local_vol_flag": ("whether local variance is positive", "1")}
_SURFACE: dict[str, tuple[str, str]] = {
    "calendar_violations": ("cells whose total variance is below that of the maturity before", "1"),
    "call_spread_violations": (
        "neighbouring strikes whose call spread is worth less than 0 or more than its payoff",
        "1",
    ),
    "butterfly_violations": ("inner strikes whose butterfly is worth less than 0", "1"),
    "durrleman_violations": ("inner cells with g < 0", "1"),
    "local_vol_violations": ("cells without positive local variance", "1"),
}


def diagnose(source: xr.Dataset | xr.DataArray, *, cells: bool = True, num_threads: int | None = None) -> xr.Dataset:
    """Arbitrage, densities and local volatility of surfaces, cell by cell and counted.

    Parameters
    ----------
    source : xarray.Dataset or xarray.DataArray
        With ``implied_vol(..., tau, moneyness)``: a surface, a history, a scenario cube (also lazy), or such a
        variable; at least three moneyness points.
    cells : bool
        Whether to return what belongs to cells; without, large cubes need little memory.
    num_threads : int, optional
        Threads; all available processors when omitted. The result is the same for any number.

    Returns
    -------
    xarray.Dataset
        Of every surface (leading dimensions of ``source``): ``calendar_violations``, ``call_spread_violations``,
        ``butterfly_violations``, ``durrleman_violations``, ``local_vol_violations`` (counts), ``arbitrage_penalty``
        (:func:`volscen.arbitrage.penalty`), and ``density_mass(..., tau)``, 1 up to the coarseness of the grid.

        Of every cell: ``durrleman_g``; ``density`` of S/F at expiry and ``probability_below``; ``forward_variance``
        since the maturity before, the first since today; ``local_vol``, zero where ``local_vol_flag`` is not 0 (1
        total variance falls, 2 the density is not positive, 3 both). Nothing is NaN.

    Raises
    ------
    InputError
        If there is no implied_vol, fewer than three moneyness points, or a volatility that is not positive.

    Notes
    -----
    With w = sigma^2 tau the total variance at k = ln(K/F), derivatives in k are those of the parabola through a point
    and its neighbours, at the ends of the grid through the three points there:

    - g = (1 - k w'/(2 w))^2 - w'^2/4 (1/w + 1/4) + w''/2, and the density of ln(S/F) is g phi(d2)/sqrt(w),
      d2 = -k/sqrt(w) - sqrt(w)/2 (Gatheral and Jacquier 2014); that of S/F is this over K/F;
    - ``probability_below`` is N(-d2) + phi(d2) (sqrt w)';
    - local variance is (dw/dtau)/g at fixed k (Dupire 1994; Gatheral 2006, eq. 1.10), the slope in time that of the
      parabola through neighbouring maturities, with w = 0 today.

    Errors fall with the square of the spacing, at the ends of the grid with the spacing. ``density_mass`` is the
    probability below the first strike, the integral of the density by trapezoids, and the probability above the last.

    Counts forgive rounding alone. Call spreads and butterflies are judged on prices at the grid's strikes, as
    the penalty does; g < 0 is counted at inner strikes, where its derivatives are central.

    B. Dupire (1994), "Pricing with a smile", Risk 7; J. Gatheral (2006), "The Volatility Surface"; J. Gatheral and A.
    Jacquier (2014), "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> vol = np.full((1, 2, 41), 0.2)
    >>> history = volscen.make_history(["2024-01-02"], [0.5, 1.0], np.linspace(0.5, 2.1, 41), vol, spot=[100.0])
    >>> found = volscen.surface.diagnose(history)
    >>> found.local_vol.round(6).values.ravel()[:3].tolist(), int(found.local_vol_violations[0])
    ([0.2, 0.2, 0.2], 0)
    >>> found.density_mass.round(3).values.tolist()
    [[1.0, 1.0]]
    """
    import xarray as xr

    surfaces = surfaces_of(source, "source")
    if not isinstance(cells, (bool, np.bool_)):
        raise InputError(f"cells must be True or False, not {cells!r}")
    if surfaces.sizes["moneyness"] < 3:
        raise InputError(f"moneyness holds {surfaces.sizes['moneyness']} points; derivatives need at least 3")
    threads = resolve_num_threads(num_threads)
    judge = _Judge(surfaces, bool(cells), threads)
    names = [*_SURFACE, "arbitrage_penalty", "density_mass", *(_CELLS | _FLAGGED if cells else ())]
    dims = [(), (), (), (), (), (), ("tau",), *([GRID] * (len(names) - 7))]
    dtypes = [_COUNT] * 5 + [_REAL] * 2 + ([_REAL] * 5 + [_FLAG] if cells else [])
    found = xr.Dataset(dict(zip(names, map_surfaces(judge, surfaces, dims, dtypes), strict=True)))
    about = _SURFACE | _CELLS | _FLAGGED
    about["arbitrage_penalty"] = ("Cont-Vuletic static-arbitrage penalty", "1")
    about["density_mass"] = ("integral of the density with both tails, 1 on a fine grid", "1")
    for name, variable in found.data_vars.items():
        long_name, units = about[str(name)]
        variable.attrs = {"long_name": long_name, "units": units, **(_FLAGS if name == "local_vol_flag" else {})}
    return found


class _Judge:
    """Diagnostics of surfaces (n, J, I) on one grid."""

    def __init__(self, surfaces: xr.DataArray, cells: bool, threads: int) -> None:
        self.tau = np.asarray(surfaces["tau"].values, dtype=np.float64)
        self.moneyness = np.asarray(surfaces["moneyness"].values, dtype=np.float64)
        self.cells = cells
        self.threads = threads
        self.rounding = _ROUNDING.get(surfaces.dtype.itemsize, _ROUNDING[8])

    def __call__(self, implied_vol: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        tau, moneyness = self.tau, self.moneyness
        vol = implied_vol.astype(np.float64)
        k, w = np.log(moneyness), vol**2 * tau[:, None]
        check_total_variance(w)
        g, in_k = durrleman_on_grid(k, w)
        rise = self._rise(w)
        mass, density, below = self._law(k, w, g, in_k)
        flag = ((rise <= 0) + 2 * (g <= 0)).astype(np.int8)
        spreads, butterflies = self._price_violations(vol)
        per_surface = (
            np.count_nonzero(w[:, 1:] < w[:, :-1] * (1 - self.rounding), axis=(1, 2)),
            spreads,
            butterflies,
            np.count_nonzero(g[..., 1:-1] < 0, axis=(1, 2)),
            np.count_nonzero(flag, axis=(1, 2)),
            np.asarray(arbitrage.penalty(vol, tau, moneyness, num_threads=self.threads)),
            mass,
        )
        if not self.cells:
            return per_surface
        forward_variance = np.diff(w, axis=1, prepend=0) / np.diff(tau, prepend=0)[:, None]
        sound = flag == 0
        local = np.sqrt(np.divide(rise, g, out=np.zeros_like(g), where=sound))
        return (*per_surface, g, density, below, forward_variance, local, flag)

    def _rise(self, w: FloatArray) -> FloatArray:
        """Slope of total variance in time, which starts at zero today."""
        times = np.concatenate([[0.0], self.tau])
        from_today = np.concatenate([np.zeros((len(w), 1, w.shape[2])), w], axis=1)
        slope, _ = parabola_slopes(times, from_today.swapaxes(1, 2))
        return np.asarray(slope.swapaxes(1, 2)[:, 1:])

    def _law(
        self, k: FloatArray, w: FloatArray, g: FloatArray, in_k: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mass (n, J), density and distribution (n, J, I) of S/F."""
        from scipy.special import ndtr

        root = np.sqrt(w)
        d2 = -k / root - root / 2
        normal = np.exp(-(d2**2) / 2) / np.sqrt(2 * np.pi)
        density = g * normal / root / self.moneyness
        below = ndtr(-d2) + normal * in_k / (2 * root)
        mass = below[..., 0] + np.trapezoid(density, self.moneyness, axis=-1) + 1 - below[..., -1]
        return mass, density, below

    def _price_violations(self, vol: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Counts of call spreads and butterflies with a price that invites arbitrage, per surface."""
        m = self.moneyness
        # Time values keep their relative accuracy in the wings, where calls do not; their intrinsic part is exact.
        value = black.price(1.0, m, self.tau[:, None], vol, m >= 1, num_threads=self.threads)
        step = np.diff(m)
        slope, intrinsic = np.diff(value, axis=-1) / step, np.diff(np.maximum(1 - m, 0)) / step
        intrinsic[m[1:] <= 1] = -1.0
        noise = _PRICE_ROUNDING * (value[..., 1:] + value[..., :-1]) / step
        # The call's slope lies in [-1, 0] if the time value's lies between -1 and 0 less the intrinsic one.
        spreads = (slope > -intrinsic + noise) | (slope < -1 - intrinsic - noise)
        bend, kink = np.diff(slope, axis=-1), np.diff(intrinsic)
        butterflies = bend + kink < -(noise[..., 1:] + noise[..., :-1])
        return np.count_nonzero(spreads, axis=(1, 2)), np.count_nonzero(butterflies, axis=(1, 2))
