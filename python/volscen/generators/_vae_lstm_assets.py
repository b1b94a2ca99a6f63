"""The VAE-LSTM of several assets: trained together, a model of each, forecasts that see the latents of all."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.generators._base import FloatArray
from volscen.generators._vae_lstm_forecast import all_horizons, look
from volscen.generators._vae_lstm_panel import Panel, lay_out, read_assets, surfaces

if TYPE_CHECKING:
    from volscen.generators._joint import JointGenerator
    from volscen.generators._vae_lstm import VaeLstm
    from volscen.generators._vae_lstm_fit import Trained

__all__ = ["VaeLstmAssets", "fit_assets", "trust"]

Market = npt.NDArray[np.float32]


class VaeLstmAssets:
    """Models of several assets trained together; made by ``VaeLstm.fit_assets``.

    Attributes
    ----------
    models : dict of str to VaeLstm
        A generator of each asset, which works by itself: :func:`volscen.generate`, ``save``, ``forecast`` from its own
        history, for which it was trained as well (the other assets were hidden from half of the examples).
    """

    def __init__(self, models: dict[str, VaeLstm], market: Market | None) -> None:
        self.models = models
        self._market = market

    def forecast(
        self,
        histories: Mapping[str, xr.Dataset] | xr.Dataset,
        *,
        horizons: Sequence[int] | None = None,
        first: Any = None,
        last: Any = None,
        dates: npt.ArrayLike | None = None,
    ) -> dict[str, xr.DataArray]:
        """Forecast the surfaces of all assets, each from the latents of all.

        Parameters
        ----------
        histories : mapping of str to xarray.Dataset, or xarray.Dataset
            Of the assets trained on.
        horizons : sequence of int, optional
            Days ahead on the calendar; those fitted for when omitted.
        first, last : date, optional
            Of the calendar, between which all dates are forecast from; the last date when both are omitted.
        dates : array of datetime64, optional
            The calendar, all dates of all histories when omitted.

        Returns
        -------
        dict of str to xarray.DataArray
            Implied vols over ``date``, ``horizon``, ``tau`` and ``moneyness``; NaN on dates without enough days of the
            asset in the 60 before. On days without a surface of its own, from the last one known.
        """
        found = read_assets(histories)
        if set(found) != set(self.models):
            raise InputError(f"histories must map each of {', '.join(self.models)} to its history")
        days = calendar(found, dates)
        panels = {name: lay_out(found[name], days) for name in self.models}
        for name, model in self.models.items():
            model._rows(found[name], None)  # the grid must be the model's
        rows = _between(days, first, last, 59 + next(iter(self.models.values())).options.window)
        told = told_of(self.models, panels, rows, self._market)
        out = {}
        for name, model in self.models.items():
            ahead = model._horizons(horizons)
            log_vol = model._forecast_logs(panels[name], rows, ahead, told)
            log_vol[~panels[name].active[rows]] = np.nan
            out[name] = surfaces(log_vol, found[name], rows, ahead, days)
        return out

    def joint(
        self, histories: Mapping[str, xr.Dataset] | xr.Dataset, *, coupling: Literal["dates", "ranks", "none"] = "dates"
    ) -> JointGenerator:
        """Couple copies of the models as :func:`volscen.fit_joint` does, for :func:`volscen.generate_joint`."""
        from volscen.generators._joint import JointGenerator

        found = read_assets(histories)
        if set(found) != set(self.models) or len(found) < 2:
            raise InputError(f"histories must map each of {', '.join(self.models)} (two at least) to its history")
        if coupling not in ("dates", "ranks", "none"):
            raise InputError(f"coupling must be 'dates', 'ranks' or 'none', not {coupling!r}")
        models: Any = {name: copy.copy(model) for name, model in self.models.items()}
        return JointGenerator(models, coupling, dict.fromkeys(models, 0))._couple(found)


def fit_assets(
    prototype: VaeLstm, histories: Mapping[str, xr.Dataset] | xr.Dataset, dates: npt.ArrayLike | None
) -> VaeLstmAssets:
    """Train copies of a model that is not fitted; see :meth:`VaeLstm.fit_assets`."""
    found = read_assets(histories)
    trained = prototype._train(found, calendar(found, dates))
    models = {}
    for name, history in found.items():
        models[name] = copy.copy(prototype)
        try:
            models[name]._check_history(history, models[name].n_surfaces + 60)
            models[name]._adopt(trained, name, history)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    believed = trust(trained, models, trained.market)
    for model in models.values():
        model.trust_ = believed
    return VaeLstmAssets(models, trained.market)


def calendar(histories: Mapping[str, xr.Dataset], dates: npt.ArrayLike | None) -> npt.NDArray[np.datetime64]:
    """Days of all histories, or those given."""
    if dates is not None:
        days: npt.NDArray[np.datetime64] = np.asarray(dates, dtype="datetime64[D]")
        if days.ndim != 1 or days.size < 2 or np.any(np.diff(days) <= np.timedelta64(0, "D")):
            raise InputError("dates must be a calendar of increasing days")
        return days
    return np.unique(np.concatenate([h["date"].values.astype("datetime64[D]") for h in histories.values()]))


def told_of(
    models: Mapping[str, VaeLstm], panels: Mapping[str, Panel], rows: npt.NDArray[np.intp], market: Market | None
) -> FloatArray | None:
    """What the LSTM is told of the market (n, window, market_dim + 1); None for a network of one asset."""
    if market is None:
        return None
    model = next(iter(models.values()))
    told = np.zeros((len(rows), model.options.window, market.shape[2]))
    for weight, (name, model) in zip(market, models.items(), strict=True):
        at = np.flatnonzero(panels[name].active[rows])
        seen = look(panels[name], model._law.units, model._nets, model.options, rows[at])
        told[at] += seen.latent @ weight.astype(np.float64)
    return np.concatenate([told, np.ones((*told.shape[:2], 1))], axis=2)


def trust(trained: Trained, models: Mapping[str, VaeLstm], market: Market | None) -> FloatArray:
    """Share of the networks' word to believe, by horizon: that with the least Huber loss on the validation days.

    Of all assets together, each cell in units of its root mean square change.
    """
    model = next(iter(models.values()))
    horizons, n = all_horizons(model.options), len(trained.dates)
    if model.options.base == "none":  # there is nothing else to believe
        return np.ones(len(horizons))
    rows = np.arange(trained.n_train, n - 1)
    told = told_of(models, trained.panels, rows, market)
    shares = np.linspace(0, 1, 11)
    total = np.zeros((len(horizons), shares.size))
    for name, one in models.items():
        panel = trained.panels[name]
        base, network, _ = one._raw(panel, rows, told)
        known = panel.logs[: trained.n_train]
        for i, h in enumerate(horizons):
            at = np.flatnonzero(rows + h < n)
            at = at[(panel.active & panel.seen)[rows[at]] & panel.seen[rows[at] + h]]
            came = panel.logs[rows[at] + h] - panel.logs[rows[at]] - base[at, i]
            unit = np.sqrt(np.mean((known[h:] - known[:-h]) ** 2, axis=0)) + 1e-8
            for j, share in enumerate(shares):
                total[i, j] += huber((came - share * network[at, i]) / unit).sum()
    return np.asarray(shares[np.argmin(total, axis=1)])


def huber(error: FloatArray) -> FloatArray:
    """Half of the square up to one, linear beyond."""
    size = np.abs(error)
    return np.where(size < 1, 0.5 * size**2, size - 0.5)


def _between(days: npt.NDArray[np.datetime64], first: Any, last: Any, least: int) -> npt.NDArray[np.intp]:
    from volscen._dates import to_day

    if first is None and last is None:
        rows = np.array([len(days) - 1])
    else:
        begin = days[0] if first is None else to_day(first, "first")
        end = days[-1] if last is None else to_day(last, "last")
        rows = np.flatnonzero((days >= begin) & (days <= end))
    if rows.size == 0 or rows[0] < least:
        raise InputError(f"first and last must hold dates of the calendar with at least {least} before them")
    return rows
