"""Several assets together: a generator each, and what makes their scenarios move together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._files import write_safetensors
from volscen._registry import DEFAULT
from volscen._version import __version__
from volscen.errors import FileFormatError, InputError
from volscen.generators import JOINT, Generator, fit, generator_class, read_model
from volscen.generators._base import MODEL_FORMAT
from volscen.generators._coupling import Dependence, common_rows, draws_of
from volscen.history import state_at

__all__ = ["JointGenerator", "fit_joint", "load_joint"]

Coupling = Literal["dates", "ranks", "none"]

#: Arrays of generators whose rows are past days, in order, that are drawn by number.
_POOLS = ("residual", "rest", "log_return", "increment")
_FEWEST_DAYS = 50


class JointGenerator:
    """Generators of several assets and their coupling; made by :func:`fit_joint`.

    Attributes
    ----------
    models : dict of str to Generator
        The generator of each asset. With ``coupling="dates"`` their pools hold the common days only.
    coupling : {"dates", "ranks", "none"}
    lag : dict of str to int
        Of each asset, 0 or 1.
    days_ : int
        Common days that the coupling rests on; 0 with "none".
    """

    def __init__(self, models: dict[str, Generator], coupling: Coupling, lag: dict[str, int]) -> None:
        self.models = models
        self.coupling: Coupling = coupling
        self.lag = lag
        self.days_ = 0
        self.dependence_: Dependence | None = None

    def update(self, histories: Mapping[str, xr.Dataset]) -> Self:
        """Renew pools, scales and the dependence from the recent days of all assets; refits nothing.

        Parameters
        ----------
        histories : mapping of str to xarray.Dataset
            Of the same assets as were fitted.

        Raises
        ------
        InputError
            If an asset is missing, or fewer than 50 common days are left.
        """
        check_assets(histories, list(self.models))
        for name, model in self.models.items():
            model.update(histories[name])
        return self._couple(histories)

    def _couple(self, histories: Mapping[str, xr.Dataset]) -> Self:
        if self.coupling == "none":
            return self
        if self.coupling == "ranks":
            self.dependence_ = Dependence.of(histories, self.lag, _FEWEST_DAYS)
            self.days_ = self.dependence_.n_days
            return self
        dates = {}
        for name, model in self.models.items():
            size = _pool_size(name, model)
            dates[name] = histories[name]["date"].values.astype("datetime64[D]")[-size:]
        rows = common_rows(dates, self.lag, _FEWEST_DAYS)
        for name, model in self.models.items():
            for pool in _pools(model):
                setattr(model, f"{pool}_", getattr(model, f"{pool}_")[rows[name]])
        self.days_ = len(next(iter(rows.values())))
        self._check_draws(histories)
        return self

    def _check_draws(self, histories: Mapping[str, xr.Dataset]) -> None:
        """The same random numbers must draw the same days of every asset."""
        first: list[Any] = []
        for name, model in self.models.items():
            history = histories[name]
            state = state_at(
                history, history["date"].values[-1], n_returns=model.n_returns, n_surfaces=model.n_surfaces
            )
            draws = draws_of(model, state)
            if draws and isinstance(np.ravel(draws[0])[0], np.floating):
                draws.append(model.parameters())  # uniform numbers pick days by the law of the pool, which must be one
            if draws is None or not draws or (first and draws != first):
                raise InputError(
                    f"coupling='dates' needs generators that draw past days, all in the same way; {name}'s "
                    f"({model.name!r}) does not: take coupling='ranks'"
                )
            first = draws

    def save(self, path: str | Path) -> Path:
        """Write all assets' generators and the coupling to one safetensors file, atomically."""
        assets: list[dict[str, Any]] = []
        arrays: dict[str, npt.NDArray[Any]] = {}
        for i, (name, model) in enumerate(self.models.items()):
            metadata, own = model._pack()
            assets.append({"name": name, "lag": self.lag[name], "model": metadata})
            arrays |= {f"asset{i}/{key}": array for key, array in own.items()}
        if self.dependence_ is not None:
            arrays |= self.dependence_.arrays(list(self.models))
        metadata = {
            "format": MODEL_FORMAT,
            "generator": JOINT,
            "coupling": self.coupling,
            "days": self.days_,
            "assets": assets,
            "volscen_version": __version__,
        }
        write_safetensors(path, arrays, json.dumps(metadata, sort_keys=True))
        return Path(path)


def fit_joint(
    histories: Mapping[str, xr.Dataset] | xr.Dataset,
    generator: str | Mapping[str, str] = DEFAULT,
    *,
    coupling: Coupling = "dates",
    lag: Mapping[str, int] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> JointGenerator:
    """Fit a generator to each of several assets, and couple them by the days that they share.

    Parameters
    ----------
    histories : mapping of str to xarray.Dataset, or xarray.Dataset
        Histories by asset; grids, calendars and dates may differ, ``periods_per_year`` may not. Or one with a dimension
        ``asset``, as :func:`volscen.align_histories` makes it (its dates are the common ones only: separate histories
        keep more for fitting).
    generator : str or mapping of str to str
        A name of the registry for all, or by asset.
    coupling : {"dates", "ranks", "none"}
        What keeps assets together; see the notes.
    lag : mapping of str to int, optional
        1 for assets whose day is over before the others' begins, where their next day shall be coupled with the
        others' day; 0 where not named. One asset at least has 0.
    options : mapping, optional
        Constructor arguments by asset.

    Returns
    -------
    JointGenerator
        For :func:`volscen.generate_joint`, ``update`` and ``save``.

    Raises
    ------
    InputError
        If fewer than two assets are given, they share fewer than 50 days, or the generators cannot be coupled so.

    Notes
    -----
    Every generator is fitted on all days of its own asset.

    "dates": generators that draw past days (``"bootstrap"``, ``"fhs"``, ``"pca"``, ``"har"``) draw the same past day
    for all assets, at every step; each scales that day's residuals by its own state. All of the residuals' dependence
    is kept, tails included, across all cells. Pools shrink to the common days, so that an asset's scenarios are not
    those of its generator alone, but of its generator with that pool.

    "ranks": for any generators. Each asset's scenarios are those that it would have alone, whole paths unchanged, and
    are matched so that the ranks of (return, two principal components of the log-vol moves), over the whole horizon,
    go together as on common past days: to the empirical copula of these days, moves divided by their exponentially
    weighted scale, by optimal assignment. That is the Schaake shuffle (Clark et al. 2004) of whole scenarios. The
    dependence is at the horizon; single steps of long paths have less.

    "none": independent, as a yardstick.

    Dates are joined as they stand in the histories. Shanghai closes half a day before New York on the same date: what
    overlaps is in the coupling, the rest is a lag that one-day scenarios do not have. ``lag={"SSE": 1}`` couples
    Shanghai's next day with New York's day; then start it from the close that is that much later as well.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> joint = volscen.fit_joint({"A": history, "B": history.isel(date=slice(200, None))}, "pca")
    >>> joint.days_
    1000
    """
    names, by_name = _assets(histories)
    if coupling not in ("dates", "ranks", "none"):
        raise InputError(f"coupling must be 'dates', 'ranks' or 'none', not {coupling!r}")
    lags = {name: 0 for name in names} | dict(lag or {})
    if set(lags) != set(names):
        raise InputError(f"lag names {sorted(set(lags) - set(names))[0]!r}, none of the assets {', '.join(names)}")
    for name, value in lags.items():
        if isinstance(value, bool) or value not in (0, 1):
            raise InputError(f"lag of {name} must be 0 or 1, not {value!r}")
    if all(lags.values()):
        raise InputError("lag is 1 for all assets; one at least must have 0")
    kinds = dict.fromkeys(names, generator) if isinstance(generator, str) else generator
    if not isinstance(kinds, Mapping) or set(kinds) != set(names):
        raise InputError(f"generator must be a name, or a mapping of each of {', '.join(names)} to one")
    own = options or {}
    if not isinstance(own, Mapping) or not set(own) <= set(names):
        raise InputError(f"options must be by asset ({', '.join(names)})")
    models = {}
    for name in names:
        try:
            models[name] = fit(by_name[name], kinds[name], **own.get(name, {}))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    return JointGenerator(models, coupling, {name: int(lags[name]) for name in names})._couple(by_name)


def load_joint(path: str | Path) -> JointGenerator:
    """Load what :meth:`JointGenerator.save` wrote; runs no code from the file.

    Raises
    ------
    FileFormatError
        If the file is missing, truncated, or holds no joint model.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> joint = volscen.fit_joint({"A": history, "B": history.isel(date=slice(200, None))}, "bootstrap")
    >>> volscen.load_joint(joint.save("joint.safetensors")).coupling
    'dates'
    """
    path = Path(path)
    metadata, arrays = read_model(path)
    if metadata.get("generator") != JOINT:
        raise FileFormatError(f"{path}: a model of one asset; read it with volscen.load")
    try:
        models, lag = {}, {}
        for i, asset in enumerate(metadata["assets"]):
            prefix = f"asset{i}/"
            own = {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
            name = str(asset["name"])
            models[name] = generator_class(str(asset["model"]["generator"]))._from_file(asset["model"], own, path)
            lag[name] = int(asset["lag"])
        joint = JointGenerator(models, metadata["coupling"], lag)
        joint.days_ = int(metadata["days"])
        if joint.coupling == "ranks":
            joint.dependence_ = Dependence.restore(arrays, list(models), models)
        sizes = {_pool_size(name, model) for name, model in models.items()} if joint.coupling == "dates" else {0}
        if len(models) < 2 or len(sizes) > 1 or joint.coupling not in ("dates", "ranks", "none"):
            raise ValueError("the assets do not fit together")
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, InputError) as error:
        raise FileFormatError(f"{path}: the model file is incomplete or inconsistent ({repr(error)[:300]})") from None
    return joint


def check_assets(histories: Any, names: list[str]) -> None:
    """Refuse histories of other assets than those fitted."""
    if not isinstance(histories, Mapping) or isinstance(histories, xr.Dataset) or set(histories) != set(names):
        raise InputError(f"histories must map each of {', '.join(names)} to its history")


def _assets(histories: Any) -> tuple[list[str], dict[str, xr.Dataset]]:
    if isinstance(histories, xr.Dataset):
        schema.validate(histories)
        if "asset" not in histories.dims:
            raise InputError("histories is of one asset; pass a mapping, or what volscen.align_histories returns")
        parts = schema.split_assets(histories)
        return list(parts), parts
    if not isinstance(histories, Mapping) or len(histories) < 2:
        raise InputError("histories must map the names of two assets or more to their histories")
    for name, history in histories.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"histories must bear names that are texts, not {name!r}")
        try:
            schema.validate(history, schema=schema.HISTORY)
        except (InputError, FileFormatError) as error:
            raise type(error)(f"{name}: {error}") from None
    years = {name: float(history.attrs["periods_per_year"]) for name, history in histories.items()}
    if len(set(years.values())) > 1:
        raise InputError(f"periods_per_year differ ({years}); bring the histories to one frequency")
    return list(histories), dict(histories)


def _pools(model: Generator) -> list[str]:
    return [name for name in _POOLS if name in model.arrays()]


def _pool_size(name: str, model: Generator) -> int:
    sizes: set[int] = {len(getattr(model, f"{pool}_")) for pool in _pools(model)}
    if len(sizes) != 1:
        raise InputError(
            f"coupling='dates' needs generators that draw past days; {name}'s ({model.name!r}) does not: take "
            "coupling='ranks'"
        )
    return sizes.pop()
