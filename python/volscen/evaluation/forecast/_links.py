"""Links between volatility series: who leads whom, what they share in the long run, and who moves together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import norm

from volscen._numbers import bounded_number, whole_number
from volscen.errors import InputError, MissingExtraError
from volscen.evaluation._compare import holm
from volscen.evaluation.forecast._long_memory import LongMemory, fractional_difference, long_memory
from volscen.evaluation.forecast._series import series

__all__ = ["FractionalCointegration", "cluster", "fractional_cointegration", "granger"]

FloatArray = npt.NDArray[np.float64]


class FractionalCointegration(NamedTuple):
    """Memory of two series and of the combination with the least of it."""

    slope: float
    """b of y - b x."""
    memory: tuple[LongMemory, LongMemory]
    """Of y and of x."""
    residual: LongMemory
    """Of y - b x."""
    same_memory_p: float
    """p-value that y and x have the same memory, without which they cannot be cointegrated."""
    statistic: float
    """(mean memory of the two - memory of the residual) / standard error."""

    @property
    def is_cointegrated(self) -> bool:
        """Same memory not refused at 5%, and the residual's lower by more than 1.645 standard errors."""
        return bool(self.same_memory_p > 0.05 and self.statistic > norm.ppf(0.95))


def granger(panel: xr.DataArray, *, lags: int = 5, significance: float = 0.05) -> xr.Dataset:
    """Test whether the past of each series helps to forecast each other one, all others' past given.

    Parameters
    ----------
    panel : xarray.DataArray
        Dimensions ``date`` and one other, of stationary series such as changes of log volatilities; finite.
    lags : int
        Days of the past.
    significance : float
        In (0, 1): of ``is_link``, after Holm's correction over all pairs.

    Returns
    -------
    xarray.Dataset
        Dimensions ``cause`` and ``effect``: the F ``statistic``, ``p_value``, ``p_holm`` and ``is_link``. A series on
        itself has p-value 1.

    Raises
    ------
    InputError
        If the panel has no second series, too few dates, or values that are not finite.

    Notes
    -----
    A vector autoregression by least squares; F tests of all lags of one series in the equation of another
    (Luetkepohl 2005, section 3.6), by statsmodels.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from volscen.evaluation.forecast import granger
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=1500)
    >>> b = 0.5 * np.roll(a, 1) + rng.normal(size=1500)
    >>> panel = xr.DataArray(np.c_[a, b], dims=("date", "name"), coords={"name": ["a", "b"]})
    >>> links = granger(panel, lags=2).is_link
    >>> bool(links.sel(cause="a", effect="b")), bool(links.sel(cause="b", effect="a"))
    (True, False)
    """
    try:
        from statsmodels.tsa.api import VAR
    except ImportError:
        raise MissingExtraError("a test of Granger links", "forecast") from None

    significance = bounded_number("significance", significance, 0, 1)
    names, values = _panel(panel, 10 * whole_number("lags", lags, least=1))
    k = len(names)
    if len(values) <= 2 * (k * lags + 1):
        raise InputError(f"panel has {len(values)} dates for {k * lags + 1} coefficients of each series; lower lags")
    fitted = VAR(values).fit(int(lags), trend="c")
    statistic, p = np.zeros((k, k)), np.ones((k, k))
    for cause in range(k):
        for effect in range(k):
            if cause != effect:
                test = fitted.test_causality(effect, [cause], kind="f")
                statistic[cause, effect], p[cause, effect] = float(test.test_statistic), float(test.pvalue)
    corrected = np.ones((k, k))
    off = ~np.eye(k, dtype=bool)
    corrected[off] = holm(p[off])
    dims = ("cause", "effect")
    return xr.Dataset(
        {
            "statistic": (dims, statistic),
            "p_value": (dims, p),
            "p_holm": (dims, corrected),
            "is_link": (dims, corrected < significance),
        },
        coords={"cause": names, "effect": names},
    )


def fractional_cointegration(y: npt.ArrayLike, x: npt.ArrayLike, *, power: float = 0.65) -> FractionalCointegration:
    """Whether two series with long memory share it: whether a combination of them has less.

    Parameters
    ----------
    y, x : array_like, shape (T,)
        On the same dates, such as log volatilities of two markets, or implied and realised.
    power : float
        The T^power lowest frequencies are used, as in :func:`long_memory`.

    Returns
    -------
    FractionalCointegration

    Raises
    ------
    InputError
        If the series do not fit each other or are too short.

    Notes
    -----
    The slope is that of narrow-band least squares (Robinson 1994; Christensen and Nielsen 2006), over the frequencies
    used, which short-lived differences do not bias as they do ordinary least squares. Memories are exact local Whittle;
    the standard error of their difference, sqrt(1 / (4 m) + 1 / (8 m)), takes the three estimates as independent, which
    is a guide and no exact test. Equality of the two memories is tested with the coherence at low frequencies (Robinson
    and Yajima 2002).

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation.forecast import fractional_cointegration, fractional_difference
    >>> rng = np.random.default_rng(0)
    >>> common = fractional_difference(rng.normal(size=3000), -0.6)
    >>> found = fractional_cointegration(2 * common + rng.normal(size=3000), common + rng.normal(size=3000))
    >>> found.is_cointegrated, round(found.slope, 1)
    (True, 2.0)
    """
    one, other = series("y", y, 100), series("x", x, 100)
    if one.size != other.size:
        raise InputError(f"y and x must be on the same dates, not {one.size} and {other.size} of them")
    memory = (long_memory(one, power=power), long_memory(other, power=power))
    m = memory[0].n_frequencies
    transforms = np.fft.rfft(np.column_stack([one, other]), axis=0)[1 : m + 1]
    slope = float((transforms[:, 0] * transforms[:, 1].conj()).real.sum() / (np.abs(transforms[:, 1]) ** 2).sum())
    residual = long_memory(one - slope * other, power=power)
    # Of the fractional differences, whose spectrum is flat at low frequencies.
    flat = np.column_stack([fractional_difference(s - s[0], e.d) for s, e in zip((one, other), memory, strict=True)])
    g = np.fft.rfft(flat, axis=0)[1 : m + 1]
    cross = (g.T @ g.conj()).real / m
    coherence = cross[0, 1] ** 2 / (cross[0, 0] * cross[1, 1])
    spread = np.sqrt(max(1 - coherence, 1e-12) / (2 * m))
    p = 2 * norm.sf(abs(memory[0].d - memory[1].d) / spread)
    mean = (memory[0].d + memory[1].d) / 2
    statistic = (mean - residual.d) / np.sqrt(1 / (4 * m) + 1 / (8 * m))
    return FractionalCointegration(slope, memory, residual, float(p), float(statistic))


def cluster(panel: xr.DataArray, *, n_clusters: int | None = None, most: int = 8) -> xr.DataArray:
    """Group series that move together, by the distance sqrt((1 - correlation) / 2).

    Parameters
    ----------
    panel : xarray.DataArray
        Dimensions ``date`` and one other; changes of log volatilities rather than their levels, which drift together.
    n_clusters : int, optional
        The number from 2 to ``most`` with the best mean silhouette when omitted.
    most : int
        Largest number tried.

    Returns
    -------
    xarray.DataArray
        Cluster of each series, numbered from 0 in the order of first members; the attribute ``silhouette`` is the mean
        silhouette, below 0.25 of which clusters say little.

    Raises
    ------
    InputError
        If there are fewer than three series, values that are not finite, or more clusters than series less one.

    Notes
    -----
    Agglomerative clustering with average linkage (scikit-learn); the distance is Mantegna's (1999) over 2.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from volscen.evaluation.forecast import cluster
    >>> rng = np.random.default_rng(0)
    >>> common = rng.normal(size=(500, 2))
    >>> values = common[:, [0, 0, 1, 1, 1]] + 0.5 * rng.normal(size=(500, 5))
    >>> cluster(xr.DataArray(values, dims=("date", "name"))).values.tolist()
    [0, 0, 1, 1, 1]
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    names, values = _panel(panel, 20)
    k = len(names)
    if k < 3:
        raise InputError(f"panel has {k} series; clusters need at least three")
    upper = min(whole_number("most", most, least=2), k - 1)
    numbers = range(2, upper + 1) if n_clusters is None else [whole_number("n_clusters", n_clusters, least=2)]
    if n_clusters is not None and n_clusters > k - 1:
        raise InputError(f"n_clusters must be at most {k - 1} for {k} series, not {n_clusters}")
    distance = np.sqrt(np.clip((1 - np.corrcoef(values.T)) / 2, 0, 1))
    np.fill_diagonal(distance, 0.0)
    best: tuple[float, npt.NDArray[np.intp]] | None = None
    for number in numbers:
        labels = AgglomerativeClustering(number, metric="precomputed", linkage="average").fit_predict(distance)
        score = float(silhouette_score(distance, labels, metric="precomputed"))
        if best is None or score > best[0]:
            best = (score, labels)
    assert best is not None
    order = {int(label): i for i, label in enumerate(dict.fromkeys(best[1].tolist()))}
    other = next(dim for dim in panel.dims if dim != "date")
    coords = {other: panel[other]} if other in panel.coords else {}
    return xr.DataArray(
        np.array([order[int(label)] for label in best[1]]), dims=(other,), coords=coords, name="cluster",
        attrs={"silhouette": best[0]},
    )  # fmt: skip


def _panel(panel: xr.DataArray, least: int) -> tuple[list[str], FloatArray]:
    if not isinstance(panel, xr.DataArray) or "date" not in panel.dims or panel.ndim != 2:
        raise InputError("panel must be a DataArray with the dimension date and one other")
    other = next(dim for dim in panel.dims if dim != "date")
    values = panel.transpose("date", other).values.astype(np.float64)
    if values.shape[1] < 2:
        raise InputError("panel has one series; links need two")
    names = [str(name) for name in (panel[other].values if other in panel.coords else range(values.shape[1]))]
    for i, name in enumerate(names):
        series(f"panel[{name}]", values[:, i], least)
    return names, values
