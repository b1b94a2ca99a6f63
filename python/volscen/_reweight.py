"""Scenario weights from the static-arbitrage penalty (Cont and Vuletic 2023; Vuletic and Cont 2024).

w_i = p_i exp(-beta Phi_i) / sum_j p_j exp(-beta Phi_j), computed relative to the smallest penalty so that none,
however large, gives NaN; the prior p is equal weights unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._doubts import warn_of_scenarios
from volscen._numbers import bounded_number, finite_number
from volscen.errors import InputError

__all__ = [
    "BETA_MAX",
    "ESS_FLOOR",
    "arbitrage_weights",
    "effective_sample_size",
    "forget_projection",
    "reweight",
    "warn_of_few_effective",
    "weighing_penalty",
    "weight_attributes",
    "weight_dataset",
]

FloatArray = npt.NDArray[np.float64]
Beta = float | Literal["auto", "paper"]

#: Largest beta that ``beta="auto"`` considers.
BETA_MAX = 1e4

#: Share of the scenarios that ``beta="auto"`` keeps effective.
ESS_FLOOR = 0.5

#: Scenarios summed at once in the search for beta.
_PART = 8192


def effective_sample_size(weight: npt.ArrayLike) -> FloatArray:
    """Number of equally weighted scenarios that carry the same information, 1 / sum w^2.

    Parameters
    ----------
    weight : array_like, shape (..., n)
        Weights summing to 1 over the last axis.

    Returns
    -------
    ndarray, shape (...)
        In [1, n].

    Notes
    -----
    Kish (1965).

    Examples
    --------
    >>> import volscen
    >>> float(volscen.effective_sample_size([0.5, 0.5, 0.0, 0.0]))
    2.0
    """
    w = schema.check_weights(weight)
    return np.asarray(1 / np.sum(w * w, axis=-1))


def _tilted(penalty: FloatArray, beta: float, prior: FloatArray | None) -> FloatArray:
    # Relative to the smallest penalty that has weight the largest factor is 1: nothing overflows, and the sum is
    # never 0. A scenario without weight may have a smaller penalty.
    weight = np.asarray(penalty - (penalty if prior is None else penalty[prior > 0]).min())
    np.maximum(weight, 0.0, out=weight)
    np.multiply(weight, -beta, out=weight)
    np.exp(weight, out=weight)
    if prior is not None:
        weight *= prior
    weight /= weight.sum()
    return weight


def largest_beta(
    penalty: FloatArray, ess_floor: float = ESS_FLOOR, *, prior: FloatArray | None = None, kl_limit: float | None = None
) -> float:
    """Largest beta in [0, BETA_MAX] that keeps to a floor of the effective sample size or a limit of KL, by bisection.

    Both are monotone in beta. With R = sum p (w/p)^2, the floor is on 1/R, which is ESS/N for equal prior weights:
    d ln(1/R) / d beta = 2 (E_{2 beta}[Phi] - E_beta[Phi]) <= 0. KL(w | p) grows at the rate beta Var_beta[Phi].
    """
    p, phi = (None, penalty) if prior is None else (prior[prior > 0], penalty[prior > 0])
    least = phi.min()

    def sums(beta: float) -> tuple[float, float]:
        # In parts that stay in the cache, and that BLAS gives to one thread: millions of scenarios take little memory,
        # and their order of summation is always the same.
        mass = other = 0.0
        for start in range(0, phi.size, _PART):
            part = phi[start : start + _PART] - least
            factor = np.exp(-beta * part)
            weighed = factor / phi.size if p is None else factor * p[start : start + _PART]
            mass += float(weighed.sum())
            other += float(weighed @ (factor if kl_limit is None else part))
        return mass, other

    def fits(beta: float) -> bool:
        mass, other = sums(beta)
        if kl_limit is None:
            return mass * mass >= ess_floor * other
        return bool(-beta * other / mass - np.log(mass) <= kl_limit)

    if fits(BETA_MAX):
        return BETA_MAX
    low, high = 0.0, BETA_MAX
    # In relative terms: with penalties of 1e6 the answer is of order 1e-6.
    while high - low > 1e-10 * high and high > 1e-300:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def arbitrage_weights(
    penalty: npt.ArrayLike,
    beta: Beta = "auto",
    *,
    ess_floor: float = ESS_FLOOR,
    kl_limit: float | None = None,
    prior: FloatArray | None = None,
) -> tuple[FloatArray, float]:
    """Weights of scenarios from their path penalties.

    Parameters
    ----------
    penalty : array_like, shape (n,)
        Non-negative and finite.
    beta : float, "auto" or "paper"
        See :func:`reweight`.
    ess_floor : float
        In (0, 1]; used by ``beta="auto"`` only.
    kl_limit : float, optional
        In nats, non-negative; replaces the floor.
    prior : ndarray, shape (n,), optional
        Weights to start from; equal ones when omitted.

    Returns
    -------
    weight : ndarray, shape (n,)
    beta : float
        The number used.
    """
    phi = np.asarray(penalty, dtype=np.float64)
    if phi.ndim != 1 or phi.size == 0:
        raise InputError(f"penalty must have shape (scenario,), not {phi.shape}")
    if not np.all(np.isfinite(phi)) or np.any(phi < 0):
        raise InputError("penalty must be finite and non-negative")
    if np.ndim(beta):
        raise InputError(f"beta must be a single number, 'auto' or 'paper', not {beta!r}")
    ess_floor = bounded_number("ess_floor", ess_floor, 0, 1, ends="(]")
    if kl_limit is not None:
        kl_limit = finite_number("kl_limit", kl_limit, least=0)
        if beta != "auto":
            raise InputError(f"kl_limit chooses beta: leave beta='auto', not {beta!r}")
    if beta == "auto":
        used = largest_beta(phi, ess_floor, prior=prior, kl_limit=kl_limit)
    elif beta == "paper":
        used = 500 / float(_tilted(phi, 500.0, prior).max())
    elif isinstance(beta, (int, float, np.number)) and not isinstance(beta, bool) and 0 <= beta < np.inf:
        used = float(beta)
    else:
        raise InputError(f"beta must be a non-negative number, 'auto' or 'paper', not {beta!r}")
    return _tilted(phi, used, prior), used


def prior_weights(ds: xr.Dataset, prior: Any) -> FloatArray:
    """Weights to start from, checked: shape (dates, scenarios).

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios.
    prior : {"equal", "current"} or array_like, shape (scenario,) or (as_of, scenario)
        The last may be an ``xarray.DataArray``, as the functions of :mod:`volscen.priors` return.
    """
    n = ds.sizes["scenario"]
    dates = ds.sizes.get("as_of", 1)
    if isinstance(prior, str):
        if prior == "equal":
            return np.full((dates, n), 1 / n)
        if prior == "current":
            if "weight" not in ds:
                raise InputError("prior='current' needs the variable weight, which ds has not; use prior='equal'")
            current = ds["weight"].transpose(..., "scenario").values
            return schema.check_weights(np.broadcast_to(current, (dates, n)))
        raise InputError(f"prior must be 'equal', 'current' or an array of weights, not {prior!r}")
    if isinstance(prior, xr.DataArray):
        if "scenario" not in prior.dims or not set(prior.dims) <= {"as_of", "scenario"}:
            raise InputError(f"prior must have the dimensions scenario, or as_of and scenario, not {prior.dims}")
        prior = prior.transpose(..., "scenario").values
    try:
        weight = schema.check_weights(prior, n)
    except InputError as error:
        raise InputError(f"prior: {error}") from None
    if weight.ndim > 2 or (weight.ndim == 2 and weight.shape[0] != dates):
        raise InputError(f"prior must have shape ({n},) or ({dates}, {n}), not {weight.shape}")
    rows = np.broadcast_to(weight, (dates, n))
    return np.asarray(rows / rows.sum(axis=-1, keepdims=True))


def weighing_penalty(names: Container[Hashable]) -> str:
    """Name of the penalty that weights go by: of projected surfaces the one before projection."""
    return "arbitrage_penalty_raw" if "arbitrage_penalty_raw" in names else "arbitrage_penalty"


#: What is said of surfaces that were projected, beside the penalty before.
_PROJECTION = (
    "projection_status",
    "projection_change_rms",
    "projection_change_max",
    "durrleman_g_min",
    "durrleman_g_min_raw",
)


def forget_projection(ds: xr.Dataset) -> xr.Dataset:
    """The dataset without what is said of surfaces projected, once others have taken their place."""
    if not ds.attrs.get("projected"):
        return ds
    out = ds.drop_vars(_PROJECTION, errors="ignore").assign_attrs(projected=0)
    out.attrs.pop("projection", None)
    return out


def weight_attributes(penalty: FloatArray, weight: FloatArray, requested: Beta) -> tuple[Any, Any]:
    """Attributes ``beta`` and ``ess_fraction`` of a cube: numbers, or arrays over ``as_of`` where it has several.

    Parameters
    ----------
    penalty : ndarray, shape (..., n, steps)
    weight : ndarray, shape (..., n)
    requested : float, "auto" or "paper"
        See :func:`reweight`.
    """
    beta = np.array([arbitrage_weights(row, requested)[1] for row in np.atleast_2d(penalty.sum(axis=-1))])
    return beta if weight.ndim == 2 else float(beta[0]), effective_sample_size(weight) / weight.shape[-1]


def weight_dataset(
    ds: xr.Dataset,
    beta: Beta,
    ess_floor: float = ESS_FLOOR,
    *,
    kl_limit: float | None = None,
    prior: FloatArray | None = None,
) -> xr.Dataset:
    """Set ``weight``, ``beta`` and ``ess_fraction`` of an in-memory dataset from its penalties, in place."""
    penalty = ds[weighing_penalty(ds)]
    # Of one step there is nothing to add up, and of millions of scenarios no copy to spare.
    path = penalty.isel(step=0) if penalty.sizes["step"] == 1 else penalty.sum("step", skipna=False)
    path_penalty = path.transpose(..., "scenario").values.astype(np.float64, copy=False)
    rows = np.atleast_2d(path_penalty)
    priors = [None] * len(rows) if prior is None else list(prior)
    pairs = [
        arbitrage_weights(row, beta, ess_floor=ess_floor, kl_limit=kl_limit, prior=p)
        for row, p in zip(rows, priors, strict=True)
    ]
    set_weights(ds, pairs[0][0][None] if len(pairs) == 1 else np.stack([w for w, _ in pairs]))
    betas = np.array([b for _, b in pairs])
    ds.attrs["beta"] = betas if "as_of" in ds.dims else float(betas[0])
    if beta == "paper":
        ds.attrs["beta_note"] = PAPER_NOTE
    else:
        ds.attrs.pop("beta_note", None)
    return ds


def set_weights(ds: xr.Dataset, rows: FloatArray) -> None:
    """Set ``weight`` and ``ess_fraction`` from weights of shape (dates, scenarios), in place."""
    many = "as_of" in ds.dims
    weight = rows if many else rows[0]
    ds["weight"] = (("as_of", "scenario") if many else ("scenario",), weight, schema.VARIABLES["weight"])
    ess = effective_sample_size(weight) / ds.sizes["scenario"]
    ds.attrs["ess_fraction"] = ess if many else float(ess)
    ds.attrs.pop("beta_requested", None)  # of a lazy cube, whose weights are now known


def warn_of_few_effective(ds: xr.Dataset, *, stacklevel: int) -> None:
    """Warn where weights leave next to nothing of the scenarios."""
    n, least = ds.sizes["scenario"], float(np.min(ds.attrs["ess_fraction"]))
    if n >= _JUDGED and least < _DEGENERATE:
        warn_of_scenarios(
            f"the weights leave an effective sample size of {least * n:,.1f} of {n:,} scenarios: tails rest on those "
            "few; take beta='auto', which keeps half, or a smaller beta",
            stacklevel=stacklevel + 1,
        )


#: Least ESS/N without a word, and the least N of which it is judged.
_DEGENERATE, _JUDGED = 0.01, 200

#: What is said of beta="paper".
PAPER_NOTE = "one reading of equation (20) of Vuletic and Cont (2024), unverified"

#: Attributes of weights that came from elsewhere than the penalty.
OTHER_WEIGHTS = ("views", "kl_divergence", "view_confidence", "weight_prior", "condition")


def _known(ds: xr.Dataset) -> xr.Dataset:
    """The dataset with its penalties in memory and, of a lazy cube with ``given``, its different paths counted."""
    name = weighing_penalty(ds)
    if ds[name].chunks is None:
        return ds
    if "given" not in ds.attrs or "distinct_scenarios" in ds.attrs:
        return ds.assign({name: ds[name].compute()})
    from volscen.scenarios._given import count_distinct, path_keys

    # Drawn once, for all three.
    wanted = xr.Dataset({name: ds[name], "r": ds["log_return"], "corner": ds["implied_vol"][..., :1, :1]}).compute()
    lead = ds.sizes.get("as_of", 1), ds.sizes["scenario"], -1
    rows = zip(wanted["r"].values.reshape(lead), wanted["corner"].values.reshape(*lead, 1, 1), strict=True)
    counts = np.array([count_distinct([path_keys(*row)]) for row in rows])
    ds = ds.assign({name: wanted[name]})
    return ds.assign_attrs(distinct_scenarios=counts if counts.size > 1 else int(counts[0]))


def reweight(
    ds: xr.Dataset,
    *,
    beta: Beta = "auto",
    ess_floor: float = ESS_FLOOR,
    kl_limit: float | None = None,
    prior: Any = "equal",
) -> xr.Dataset:
    """Weigh scenarios by their static-arbitrage penalty.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios (``volscen/scenarios/1``). A lazy cube's penalties are computed, and with ``given`` its
        ``distinct_scenarios`` counted; the rest stays lazy.
    beta : float, "auto" or "paper"
        Strength. ``0`` gives the prior; ``"auto"`` the largest number in [0, 1e4] that keeps the
        effective sample size at or above ``ess_floor`` times N; ``"paper"`` 500 / max_i w_i with w taken at
        beta = 500, one unverified reading of equation (20) of the paper: on arbitrage-bearing days it keeps
        a handful of scenarios.
    ess_floor : float
        In (0, 1]. Of a prior with unequal weights it is the share of the prior's information that is kept,
        1 / sum_i (w_i^2 / p_i), which is ESS/N where they are equal.
    kl_limit : float, optional
        Another criterion in place of ``ess_floor``: the largest beta with KL(w | prior) at most this many nats; for
        equal prior weights that is ln N - H(w), with H the entropy of the weights.
    prior : {"equal", "current"} or array_like, shape (scenario,) or (as_of, scenario)
        Weights that are multiplied by exp(-beta Phi). The default replaces whatever weights the cube has; with
        ``"current"`` weights compose, so that reweighting at 30 and again at 20 is reweighting at 50. A generated
        cube has arbitrage weights already: ``"current"`` counts the penalty twice. Arrays come from
        :mod:`volscen.priors`.

    Returns
    -------
    xarray.Dataset
        A copy with new ``weight`` and attributes ``beta`` (of this call) and ``ess_fraction``. With several steps the
        penalty of a path is the sum over its steps. Of a projected cube it is the penalty before projection,
        ``arbitrage_penalty_raw``. Where the penalty differs between scenarios and beta > 0, its weighted mean
        falls below the prior's.

    Raises
    ------
    InputError
        If ``ds`` has no penalties, an argument is out of range, or the prior is no set of weights.

    Notes
    -----
    Vuletic and Cont (2024), section 4; Cont and Vuletic (2023).

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> round(volscen.reweight(cube, beta=0.0).attrs["ess_fraction"], 12)
    1.0
    """
    if not isinstance(ds, xr.Dataset) or not {"scenario", "step"} <= set(
        ds["arbitrage_penalty"].dims if "arbitrage_penalty" in ds else ()
    ):
        raise InputError("ds has no arbitrage_penalty(scenario, step); pass a dataset made by volscen.generate")
    out = _known(ds.copy())
    if isinstance(prior, str) and prior == "equal":
        for name in OTHER_WEIGHTS:
            out.attrs.pop(name, None)
        weight_dataset(out, beta, ess_floor, kl_limit=kl_limit)
        warn_of_few_effective(out, stacklevel=2)
        return out
    rows = prior_weights(ds, prior)
    out.attrs["weight_prior"] = prior if isinstance(prior, str) else "given"
    weight_dataset(out, beta, ess_floor, kl_limit=kl_limit, prior=rows)
    warn_of_few_effective(out, stacklevel=2)
    return out
