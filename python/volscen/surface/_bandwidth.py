"""The kernel's bandwidths by the smallest arbitrage penalty on a grid, for one day or over many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from volscen import arbitrage
from volscen._threads import single_threaded_blas
from volscen.errors import InputError
from volscen.surface._kernel import kernel_weights

if TYPE_CHECKING:
    import xarray as xr

    from volscen.chain import Chain

__all__ = ["BANDWIDTHS", "search_bandwidth"]

FloatArray = npt.NDArray[np.float64]

#: Candidates of the search, for each of the two.
BANDWIDTHS = np.arange(1, 51) * 0.002

#: Digits of a penalty that count. Equal up to rounding is equal: otherwise errors of 1e-17 would choose.
_DIGITS = 12


def search_bandwidth(
    chains: Chain | Iterable[Chain],
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    *,
    weights: Literal["vega", "auto", "spread", "uniform"] = "vega",
) -> xr.Dataset:
    """Bandwidths of the kernel smoother with the smallest mean arbitrage penalty over some days.

    Parameters
    ----------
    chains : Chain or iterable of Chain
        The days, one after the other; those of training only, or the choice knows the future.
    tau, moneyness : array_like
        The grid on which arbitrage is judged, as for :func:`volscen.build_surface`.
    weights : {"vega", "auto", "spread", "uniform"}
        As for ``build_surface(..., method="kernel")``.

    Returns
    -------
    xarray.Dataset
        ``penalty(bandwidth_tau, bandwidth_moneyness)``, the mean over days for both bandwidths in .002, .004, .., .1;
        NaN where the kernel of some day does not reach every grid point. Attributes: ``bandwidth`` (the two numbers
        to pass on as ``bandwidth=``: moneyness, tau), ``bandwidth_on_border`` ("none", "moneyness", "tau" or
        "both": whether an end of the range was chosen, so that the best may lie beyond it), ``smallest_penalty``,
        ``n_days``, and ``n_equal``, the number of pairs with that penalty, of which the one with the least smoothing
        (smallest product, then smallest in moneyness) is taken.

    Raises
    ------
    InputError
        If there is no chain, the grid is wrong, or no pair reaches every grid point on every day.

    Notes
    -----
    R. Cont and M. Vuletic (2023), "Simulation of arbitrage-free implied volatility surfaces", Applied Mathematical
    Finance 30. Gaussian kernels are products, so the numerators and denominators of all 2,500 pairs are two matrix
    products.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from volscen import Chain, black
    >>> from volscen.surface import search_bandwidth
    >>> strike, is_call = np.repeat(np.arange(80.0, 125, 5), 2), np.tile([True, False], 9)
    >>> chain = Chain(pd.DataFrame({
    ...     "date": "2024-01-02", "expiry": "2024-02-02", "strike": strike, "option_type": np.tile(["C", "P"], 9),
    ...     "price": black.price(100.0, strike, 31 / 365, 0.2, is_call)}))
    >>> found = search_bandwidth(chain, ["1M"], [0.9, 1.0, 1.1])
    >>> found.attrs["bandwidth"].tolist(), found.attrs["bandwidth_on_border"]
    ([0.002, 0.002], 'both')
    """
    import xarray as xr

    from volscen.chain import Chain
    from volscen.surface._points import read_grid

    tau, moneyness = read_grid(tau, "tau"), read_grid(moneyness, "moneyness")
    if not isinstance(chains, Iterable | Chain):
        raise InputError(f"chains must be a volscen.Chain or several, not {type(chains).__name__}")
    total, n_days = np.zeros((BANDWIDTHS.size, BANDWIDTHS.size)), 0
    for chain in [chains] if isinstance(chains, Chain) else chains:
        if not isinstance(chain, Chain):
            raise InputError(f"chains must hold volscen.Chain objects, not {type(chain).__name__}")
        total += penalties(chain, tau, moneyness, kernel_weights(chain, weights))
        n_days += 1
    if not n_days:
        raise InputError("chains holds none; give the chains of the training days")
    mean = total / n_days
    pair = smallest(mean, f"{n_days} days" if n_days > 1 else str(chain.date))
    least = np.round(np.nanmin(mean), _DIGITS)
    return xr.Dataset(
        {
            "penalty": (
                ("bandwidth_tau", "bandwidth_moneyness"),
                mean,
                {"long_name": "mean Cont-Vuletic static-arbitrage penalty", "units": "1"},
            )
        },
        coords={
            "bandwidth_tau": ("bandwidth_tau", BANDWIDTHS, {"long_name": "variance in tau", "units": "year2"}),
            "bandwidth_moneyness": (
                "bandwidth_moneyness",
                BANDWIDTHS,
                {"long_name": "variance in moneyness", "units": "1"},
            ),
        },
        attrs={
            "bandwidth": np.array(pair),
            "bandwidth_on_border": border(pair),
            "smallest_penalty": float(np.nanmin(mean)),
            "n_equal": int(np.count_nonzero(np.round(mean, _DIGITS) == least)),
            "n_days": n_days,
        },
    )


def penalties(chain: Chain, tau: FloatArray, moneyness: FloatArray, weight: FloatArray) -> FloatArray:
    """Penalty for every pair: shape (tau's bandwidths, moneyness's); NaN where a grid point is not reached."""
    quotes = chain.quotes
    n = len(BANDWIDTHS)
    in_moneyness = _kernels(moneyness, quotes["moneyness"].to_numpy(dtype=np.float64))
    in_tau = _kernels(tau, quotes["tau"].to_numpy(dtype=np.float64))
    weighted = in_moneyness * weight
    with single_threaded_blas():  # sums may differ in the last bit with the number of threads
        numerator = in_tau @ (weighted * quotes["implied_vol"].to_numpy(dtype=np.float64)).T
        denominator = in_tau @ weighted.T
    reached = denominator > np.finfo(float).tiny * 1e6  # below that sums of denormal numbers have lost their digits
    vol = np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=reached)
    vol = vol.reshape(n, tau.size, n, moneyness.size).transpose(0, 2, 1, 3).reshape(n * n, tau.size, moneyness.size)
    sound = np.all(vol > 0, axis=(1, 2))
    out = np.full(n * n, np.nan)
    if sound.any():
        out[sound] = arbitrage.penalty(np.ascontiguousarray(vol[sound]), tau, moneyness)
    return out.reshape(n, n)


def _kernels(points: FloatArray, quotes: FloatArray) -> FloatArray:
    """Kernels of every bandwidth at every point, over their largest: shape (bandwidths x points, quotes)."""
    squares = (points[:, None] - quotes) ** 2
    squares -= squares.min(axis=1, keepdims=True)  # a common factor of numerator and denominator
    return np.exp(-squares / (2 * BANDWIDTHS[:, None, None])).reshape(-1, quotes.size)


def smallest(penalty: FloatArray, days: str) -> tuple[float, float]:
    """Bandwidths in moneyness and tau with the smallest penalty, the least smoothing among equals."""
    if np.isnan(penalty).all():
        raise InputError(
            f"no bandwidth up to {BANDWIDTHS[-1]:g} reaches every grid point from the quotes of {days}; "
            "narrow the grid or give bandwidth="
        )
    h2, h1 = (x.ravel() for x in np.meshgrid(BANDWIDTHS, BANDWIDTHS, indexing="ij"))
    rounded = np.where(np.isnan(penalty), np.inf, np.round(penalty, _DIGITS)).ravel()
    best = np.lexsort((h1, np.round(h1 * h2, _DIGITS), rounded))[0]
    return float(h1[best]), float(h2[best])


def border(pair: tuple[float, float]) -> str:
    """Whether either bandwidth is the first or last candidate: "none", "moneyness", "tau" or "both"."""
    at_end = [h in (BANDWIDTHS[0], BANDWIDTHS[-1]) for h in pair]
    return {(True, True): "both", (True, False): "moneyness", (False, True): "tau"}.get(tuple(at_end), "none")  # type: ignore[arg-type]
