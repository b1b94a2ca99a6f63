"""Many single names under common factors: each name's next day has a known law, and so have all together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from volscen._numbers import whole_number
from volscen.errors import InputError
from volscen.sources._market import DAYS_A_YEAR, FloatArray, Market
from volscen.sources._market_ssvi import SSVIMarket

__all__ = ["Name", "NameMarket", "NamesMarket", "names_market"]

_DEGREES_OF_FREEDOM = 5
# Shocks of the return, the level, the term structure and the skew: of the market, and of a name alone.
_COMMON = np.array([[1.0, -0.7, -0.7, 0.25], [-0.7, 1.0, 0.55, -0.1], [-0.7, 0.55, 1.0, -0.2], [0.25, -0.1, -0.2, 1.0]])
_OWN = np.array([[1.0, -0.35, -0.45, 0.1], [-0.35, 1.0, 0.4, 0.0], [-0.45, 0.4, 1.0, 0.0], [0.1, 0.0, 0.0, 1.0]])
_COMMON_ROOT, _OWN_ROOT = np.linalg.cholesky(_COMMON), np.linalg.cholesky(_OWN)

#: Means, reversions a day and sizes of the market's level (log long variance), term (log short less log long
#: variance) and skew; and bounds, which are part of the law.
_MEAN = np.array([np.log(0.045), np.log(0.03 / 0.045), -0.9])
_REVERSION = np.array([0.008, 0.02, 0.03])
_SIZE = np.array([0.03, 0.075, 0.03])
_BOUNDS = np.array([[np.log(0.012), np.log(0.4)], [-2.0, 2.0], [-2.0, 0.0]])
#: Of a name's own deviations.
_OWN_REVERSION = np.array([0.03, 0.05, 0.03])
_OWN_BOUND = np.array([1.2, 1.2, 0.6])
#: Log variances of a name, long and short, are kept within.
_LOG_VARIANCE = (np.log(0.008), np.log(2.0))
_DRIFT, _SHARE = 0.0002, 0.85


@dataclass(frozen=True)
class Name:
    """Parameters of one name.

    Attributes
    ----------
    label : str
    mean : tuple of 3 floats
        Long-run level (log long variance), term (log short less log long variance) and skew (rho = tanh of it).
    beta : tuple of 3 floats
        Of level, term and skew to the market's deviations from their means.
    loading : float
        Correlation of the return's shock with the market's, between -1 and 1.
    own_size : tuple of 3 floats
        Standard deviation of a day's own shock of level, term and skew; the first two grow with the name's variance.
    noise : float
        Of the observed log vols, cell by cell.
    listed : float
        Share of the days that are over when its history begins: 0 from the start.
    kept : float
        Probability that a day since then is observed.
    """

    label: str
    mean: tuple[float, float, float]
    beta: tuple[float, float, float]
    loading: float
    own_size: tuple[float, float, float]
    noise: float = 0.002
    listed: float = 0.0
    kept: float = 1.0

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.beta, self.loading, *self.own_size, self.noise, self.listed, self.kept)
        if not np.all(np.isfinite(numbers)):
            raise InputError(f"name {self.label}: its parameters must be finite numbers")
        if not -1 < self.loading < 1:
            raise InputError(f"name {self.label}: loading must lie between -1 and 1, not {self.loading!r}")
        if min(*self.own_size, self.noise) < 0:
            raise InputError(f"name {self.label}: own_size and noise must not be negative")
        if not (0 <= self.listed < 1 and 0 < self.kept <= 1):
            raise InputError(f"name {self.label}: listed must lie in [0, 1) and kept in (0, 1]")

    @property
    def is_sparse(self) -> bool:
        """Whether days of its history are missing."""
        return self.listed > 0 or self.kept < 1


@dataclass(frozen=True)
class NamesMarket:
    """Market of many names that share factors of return, level, term structure and skew.

    Attributes
    ----------
    names : tuple of Name
    tau, moneyness : tuple of float
        Grid of all: years, and K/F.

    Notes
    -----
    The market's level L, term T and skew s revert to their means, moved by shocks of correlation C with Student-t tails
    of five degrees of freedom; those of L and T grow with the market's short variance, by exp(clip(log ratio to its
    mean, -1.5, 1.5) / 2). A name's own deviations do the same with shocks of their own, of correlation D: its level is
    mean + beta (L - mean of L) + deviation, likewise term and skew. Its return is
    .0002 + .85 sqrt(short variance / 252) (loading z + sqrt(1 - loading^2) e), z and e being the market's and its own
    shock. Both C and D have leverage. Surfaces are SSVI as those of :class:`SSVIMarket`, free of static arbitrage but
    for the noise.

    Names are independent given the market's shocks, so that
    cov(move a of i, move b of j) = A_ia C_ab A_jb + [i = j] B_ia D_ab B_ib: see :meth:`covariance`.

    Examples
    --------
    >>> from volscen.sources.simulate import names_market
    >>> law = names_market()
    >>> len(law.names), law.names[29].is_sparse
    (30, True)
    """

    names: tuple[Name, ...]
    tau: tuple[float, ...]
    moneyness: tuple[float, ...]
    factors: ClassVar[tuple[str, ...]] = (
        "market_level", "market_term", "market_skew", "own_level", "own_term", "own_skew",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.names or len({name.label for name in self.names}) < len(self.names):
            raise InputError("names must hold at least one name, and each label once")

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the names, in order."""
        return tuple(name.label for name in self.names)

    def one(self, label: str) -> NameMarket:
        """The market of one name: what it does by itself, with the market's state as part of its own.

        Two names drawn with the same random numbers have the market's shocks in common, so that ``volscen.generate``
        with their oracles and one seed draws them jointly.

        Raises
        ------
        InputError
            If there is no such name.
        """
        if label not in self.labels:
            raise InputError(f"label {label!r} is none of {', '.join(self.labels)}")
        i = self.labels.index(label)
        return NameMarket(self.tau, self.moneyness, self.names[i].noise, label, self.names[i], i)

    @property
    def initial_state(self) -> FloatArray:
        """State of the first date: (names, 6), every factor at its mean."""
        return np.tile(np.r_[_MEAN, np.zeros(3)], (len(self.names), 1))

    def step(self, state: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the next day of all names.

        Parameters
        ----------
        state : ndarray, shape (n, names, 6)
            In the order of ``factors``; the market's three are the same for all names.
        rng : numpy.random.Generator

        Returns
        -------
        log_return : ndarray, shape (n, names)
        next_state : ndarray, shape (n, names, 6)
        """
        z = _shocks(_COMMON_ROOT, (len(state), 1), rng)
        e = _shocks(_OWN_ROOT, state.shape[:2], rng)
        return _step(_stack(self.names), state, z, e)

    def sample(self, state: npt.ArrayLike, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n outcomes of the next day of all names given the true state: the joint oracle.

        Parameters
        ----------
        state : array_like, shape (names, 6)
        n : int
        rng : numpy.random.Generator

        Returns
        -------
        log_return : ndarray, shape (n, names)
        implied_vol : ndarray, shape (n, names, tau, moneyness)
        """
        given = np.asarray(state, dtype=np.float64)
        if given.shape != (len(self.names), 6) or not np.all(np.isfinite(given)):
            raise InputError(f"state must be finite and of shape ({len(self.names)}, 6), not {given.shape}")
        log_return, after = self.step(np.broadcast_to(given, (n, *given.shape)), rng)
        vol = np.stack([self.one(one).observe(after[:, i], rng) for i, one in enumerate(self.labels)], axis=1)
        return log_return, vol

    def covariance(self, state: npt.ArrayLike) -> FloatArray:
        """Covariance of the next day's moves of (return, level, term, skew) of all names given the state.

        Parameters
        ----------
        state : array_like, shape (names, 6)

        Returns
        -------
        ndarray, shape (names, 4, names, 4)
            Away from the bounds, where it is exact.
        """
        given = np.asarray(state, dtype=np.float64)[None]
        common, own = (scale[0] for scale in _scales(_stack(self.names), given))
        cov = np.einsum("ia,ab,jb->iajb", common, _COMMON, common)
        rows = np.arange(len(self.names))
        cov[rows, :, rows, :] += np.einsum("ia,ab,ib->iab", own, _OWN, own)
        return np.asarray(cov)


@dataclass(frozen=True)
class NameMarket(Market):
    """One name of a :class:`NamesMarket`; made by its method ``one``.

    Attributes
    ----------
    tau, moneyness, noise, name
        As for every market.
    parameters : Name
    number : int
        Position among the names, which keys the random numbers that are its own.
    """

    parameters: Name = field(default_factory=lambda: names_market().names[0])
    number: int = 0

    description: ClassVar[str] = "SSVI single name under common factors"
    factors: ClassVar[tuple[str, ...]] = NamesMarket.factors

    @property
    def initial_state(self) -> tuple[float, ...]:
        """Every factor at its mean."""
        return (*map(float, _MEAN), 0.0, 0.0, 0.0)

    def surface(self, state: FloatArray) -> FloatArray:
        """Implied vols of states (n, 6), without noise."""
        long, short, skew = (part[:, 0] for part in _levels(_stack((self.parameters,)), state[:, None]))
        return SSVIMarket(self.tau, self.moneyness, 0.0).surface(np.stack([short, long, skew], axis=1))

    def observe(self, state: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Surfaces of states with observation noise of its own, shape (n, tau, moneyness)."""
        return super().observe(state, self._own_rng(rng))

    def step(self, state: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the next day: log returns (n,) and states (n, 6) from states (n, 6).

        The market's shocks are drawn from ``rng``, the name's own from a stream keyed by it and the name's number.
        """
        z = _shocks(_COMMON_ROOT, (len(state), 1), rng)
        e = _shocks(_OWN_ROOT, (len(state), 1), self._own_rng(rng))
        log_return, after = _step(_stack((self.parameters,)), state[:, None], z, e)
        return log_return[:, 0], after[:, 0]

    def _own_rng(self, rng: np.random.Generator) -> np.random.Generator:
        return np.random.default_rng([int(rng.integers(2**63)), self.number])


def names_market(n_names: int = 30, n_sparse: int = 10, *, seed: int = 0) -> NamesMarket:
    """Market of names drawn at random: a month to a year, K/F from .7 to 1.3.

    Parameters
    ----------
    n_names : int
        At least 2, labelled "N01", "N02", ...
    n_sparse : int
        The last so many have little history and noisier surfaces (.006 in place of .002): by turns one is listed when
        80% of the days are over, and one is seen on three days of ten.
    seed : int
        Of the parameters.

    Returns
    -------
    NamesMarket

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> from volscen.sources.simulate import names_market
    >>> [name.label for name in names_market(4, 1).names if name.is_sparse]
    ['N04']
    """
    for label, value, least in (("n_names", n_names, 2), ("n_sparse", n_sparse, 0), ("seed", seed, 0)):
        whole_number(label, value, least=least)
    if n_sparse > n_names:
        raise InputError(f"n_sparse must be at most n_names, {n_names}, not {n_sparse}")
    names = []
    for i in range(n_names):
        u = np.random.default_rng([seed, i]).random(10)
        sparse = i - (n_names - n_sparse)
        names.append(
            Name(
                label=f"N{i + 1:02d}",
                mean=(float(2 * np.log(0.2 + 0.25 * u[0])), float(-0.3 + 0.3 * u[1]), float(-0.7 + 0.4 * u[2])),
                beta=(float(0.6 + 0.5 * u[3]), float(0.5 + 0.5 * u[4]), float(0.3 + 0.6 * u[5])),
                loading=float(0.45 + 0.3 * u[6]),
                own_size=(float(0.012 + 0.012 * u[7]), float(0.04 + 0.04 * u[8]), float(0.015 + 0.015 * u[9])),
                noise=0.002 if sparse < 0 else 0.006,
                listed=0.8 if sparse >= 0 and sparse % 2 == 0 else 0.0,
                kept=0.3 if sparse >= 0 and sparse % 2 == 1 else 1.0,
            )
        )
    tau = tuple(days / 365 for days in (30, 60, 91, 122, 152, 182, 273, 365))
    return NamesMarket(tuple(names), tau, (0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3))


@dataclass(frozen=True)
class _Stack:
    """Parameters of names as arrays."""

    mean: FloatArray  # (names, 3)
    beta: FloatArray  # (names, 3)
    loading: FloatArray  # (names,)
    own_size: FloatArray  # (names, 3)


@lru_cache(maxsize=256)
def _stack(names: tuple[Name, ...]) -> _Stack:
    return _Stack(*(np.array([getattr(one, key) for one in names]) for key in ("mean", "beta", "loading", "own_size")))


def _shocks(root: FloatArray, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Unit-variance Student-t shocks (..., 4), one chi-square for all four."""
    nu = _DEGREES_OF_FREEDOM
    normal = rng.standard_normal((*shape, 4)) @ root.T
    return np.asarray(normal * np.sqrt((nu - 2) / rng.chisquare(nu, shape))[..., None])


def _levels(names: _Stack, state: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log long and log short variance and skew (n, names) from states (n, names, 6)."""
    found = names.mean + names.beta * (state[..., :3] - _MEAN) + state[..., 3:]
    long = np.clip(found[..., 0], *_LOG_VARIANCE)
    return long, np.clip(long + found[..., 1], *_LOG_VARIANCE), found[..., 2]


def _scales(names: _Stack, state: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What the market's and the own shocks of (return, level, term, skew) are multiplied by: (n, names, 4) each."""
    _, short, _ = _levels(names, state)
    market = _growth(state[..., 0] + state[..., 1] - _MEAN[:2].sum())
    own = _growth(short - names.mean[:, :2].sum(axis=1))
    vol = _SHARE * np.exp(short / 2) / np.sqrt(DAYS_A_YEAR)
    ones = np.ones_like(vol)
    common = names.beta * _SIZE * np.stack([market, market, ones], axis=-1)
    alone = names.own_size * np.stack([own, own, ones], axis=-1)
    rest = np.sqrt(1 - names.loading**2)
    return (
        np.concatenate([(vol * names.loading)[..., None], common], axis=-1),
        np.concatenate([(vol * rest)[..., None], alone], axis=-1),
    )


def _growth(log_ratio: FloatArray) -> FloatArray:
    return np.asarray(np.exp(0.5 * np.clip(log_ratio, -1.5, 1.5)))


def _step(names: _Stack, state: FloatArray, z: FloatArray, e: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Next day of states (n, names, 6) from the market's shocks (n, 1, 4) and the names' own (n, names, 4)."""
    common, own = _scales(names, state)
    log_return = _DRIFT + common[..., 0] * z[..., 0] + own[..., 0] * e[..., 0]
    market, deviation = state[..., :3], state[..., 3:]
    # Names have no say in the market: its growth is taken without their betas.
    growth = _growth(market[..., 0] + market[..., 1] - _MEAN[:2].sum())
    size = _SIZE * np.stack([growth, growth, np.ones_like(growth)], axis=-1)
    market = np.clip(market + _REVERSION * (_MEAN - market) + size * z[..., 1:], _BOUNDS[:, 0], _BOUNDS[:, 1])
    deviation = np.clip((1 - _OWN_REVERSION) * deviation + own[..., 1:] * e[..., 1:], -_OWN_BOUND, _OWN_BOUND)
    return log_return, np.concatenate([market, deviation], axis=-1)
