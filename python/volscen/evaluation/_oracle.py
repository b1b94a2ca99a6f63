"""The oracle of a simulated market: its true conditional law, behind the protocol of generators; alone and jointly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen.errors import InputError
from volscen.generators import Generator
from volscen.generators._joint import JointGenerator, check_assets
from volscen.history import State
from volscen.sources.simulate import Market, NamesMarket, market

__all__ = ["JointOracle", "Oracle"]

FloatArray = npt.NDArray[np.float64]


class Oracle(Generator):
    """Draws from the law that a simulated history came from, given its true state: the best any model can do.

    It cannot be saved, and is no generator of the registry: no real market tells its state.

    Parameters
    ----------
    law : str or Market
        Market that was simulated, or its name.

    Notes
    -----
    The state of a date is known once :meth:`fit` or :meth:`update` has seen it; :func:`walk_forward` updates daily by
    default.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import Oracle
    >>> from volscen.sources.simulate import simulate_market
    >>> history = simulate_market("A", 50, seed=1)
    >>> cube = volscen.generate(Oracle("A").fit(history), history, n_scenarios=100, horizon=3, seed=1)
    >>> cube.attrs["generator"]
    'oracle'
    """

    name: ClassVar[str] = "oracle"

    def __init__(self, law: str | Market = "A") -> None:
        self.law = market(law)

    def parameters(self) -> dict[str, Any]:
        """Name of the market."""
        return {"law": self.law.name}

    def fit(self, history: xr.Dataset) -> Self:
        """Take the true states of a simulated history."""
        self._check_history(history, 1)
        return self._learn(history)

    def update(self, history: xr.Dataset) -> Self:
        """Take the true states of a longer history."""
        self._check_update(history, 1)
        return self._learn(history)

    def _learn(self, history: xr.Dataset) -> Self:
        if "state" not in history:
            raise InputError("history has no state(date, factor); an oracle needs one made by simulate_market")
        schema.check_same_grid(np.array(self.law.tau), np.array(self.law.moneyness), history, f"market {self.law.name}")
        self.date_ = history["date"].values.astype("datetime64[D]")
        self.state_ = history["state"].values.astype(np.float64)
        if self.state_.shape[1] != len(self.law.initial_state):
            raise InputError(f"history's state is not that of market {self.law.name}; name the market it came from")
        self._remember(history)
        return self

    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths from the true state of ``state.as_of``; see :meth:`Generator.sample`."""
        row = int(np.searchsorted(self.date_, state.as_of))
        if row == self.date_.size or self.date_[row] != state.as_of:
            raise InputError(
                f"the true state of {state.as_of} is not known; update the oracle with a history that holds it"
            )
        factors = np.broadcast_to(self.state_[row], (n, self.state_.shape[1]))
        log_return = np.empty((n, horizon))
        implied_vol = np.empty((n, horizon, len(self.law.tau), len(self.law.moneyness)))
        for step in range(horizon):
            log_return[:, step], factors = self.law.step(factors, rng)
            implied_vol[:, step] = self.law.observe(factors, rng)
        return log_return, implied_vol

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Dates and true states."""
        return {"date": self.date_.astype(np.int64), "state": self.state_}

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.date_ = arrays["date"].astype("datetime64[D]")
        self.state_ = arrays["state"]


class JointOracle(JointGenerator):
    """The true law of many names together, for :func:`volscen.generate_joint`: the best any joint model can do.

    Parameters
    ----------
    law : NamesMarket
    histories : mapping of str to xarray.Dataset, or xarray.Dataset
        With the true states, of any of the names: the ``aligned`` or ``histories`` of
        :func:`volscen.sources.simulate.simulate_names`.

    Raises
    ------
    InputError
        If a name is none of the market's, or a history has no states.

    Notes
    -----
    All names are drawn from the same random numbers, which are the market's shocks; their own come from streams keyed
    by these and the name. Start them from one date: the market's state is that of each name's last date.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import JointOracle
    >>> from volscen.sources.simulate import names_market, simulate_names
    >>> names = simulate_names(100, law=names_market(3, 0), seed=1)
    >>> cubes = volscen.generate_joint(JointOracle(names.law, names.aligned), names.aligned, n_scenarios=2000, seed=1)
    >>> both = volscen.stack_assets(cubes)
    >>> both.log_return.dims
    ('asset', 'scenario', 'step')
    """

    def __init__(self, law: NamesMarket, histories: Mapping[str, xr.Dataset] | xr.Dataset) -> None:
        if not isinstance(law, NamesMarket):
            raise InputError(f"law must be a NamesMarket, not {law!r}")
        by_name = _by_name(histories)
        if not by_name or not set(by_name) <= set(law.labels):
            raise InputError(f"histories must be of names of the market: {', '.join(law.labels)}")
        models: dict[str, Generator] = {name: Oracle(law.one(name)).fit(one) for name, one in by_name.items()}
        super().__init__(models, "dates", dict.fromkeys(models, 0))

    def update(self, histories: Mapping[str, xr.Dataset] | xr.Dataset) -> Self:
        """Take the true states of longer histories."""
        by_name = _by_name(histories)
        check_assets(by_name, list(self.models))
        for name, model in self.models.items():
            model.update(by_name[name])
        return self

    def save(self, path: str | Path) -> NoReturn:
        """An oracle cannot be saved."""
        raise InputError("an oracle cannot be saved: it is made from the market and its true states")


def _by_name(histories: Mapping[str, xr.Dataset] | xr.Dataset) -> dict[str, xr.Dataset]:
    if isinstance(histories, xr.Dataset):
        if "asset" not in histories.dims:
            raise InputError("histories has no dimension asset; give a mapping of names to histories")
        return schema.split_assets(histories)
    return dict(histories)
