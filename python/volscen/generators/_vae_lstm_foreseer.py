"""What of the VAE-LSTM foresees: forecasts of one asset's surfaces, and where its attention lay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import whole_number
from volscen.errors import FitError, InputError
from volscen.generators._base import FloatArray, Generator
from volscen.generators._cell_regression import CellRegression
from volscen.generators._vae_lstm_forecast import all_horizons, between, look, raw_forecasts
from volscen.generators._vae_lstm_law import DayLaw
from volscen.generators._vae_lstm_numpy import Nets
from volscen.generators._vae_lstm_options import FRAME_DAYS, VaeLstmOptions
from volscen.generators._vae_lstm_panel import Panel, lay_out, surfaces

__all__ = ["Foreseer"]

_CHUNK = 512


class Foreseer(Generator):
    """The half of the VAE-LSTM that makes point forecasts."""

    options: VaeLstmOptions
    trust_: FloatArray
    _nets: Nets
    _law: DayLaw
    _base: CellRegression
    _extra: int

    @property
    def spread_(self) -> FloatArray:
        """Factors by which residuals of the return and of the latents are widened."""
        return self._law.spread[:2]

    @property
    def shrink_(self) -> FloatArray:
        """Share of the network's word of the next return and latents that scenarios believe."""
        return self._law.shrink

    def forecast(
        self, history: xr.Dataset, *, horizons: Sequence[int] | None = None, dates: npt.ArrayLike | None = None
    ) -> xr.DataArray:
        """Forecast surfaces.

        Parameters
        ----------
        history : xarray.Dataset
            Holds the dates and 60 before them; later ones are not looked at.
        horizons : sequence of int, optional
            Days ahead, up to the last fitted for; those fitted for when omitted.
        dates : array of datetime64, optional
            Dates of the history whose closes are forecast from; the last when omitted.

        Returns
        -------
        xarray.DataArray
            Implied vols over ``date``, ``horizon``, ``tau`` and ``moneyness``.
        """
        rows = self._rows(history, dates)
        panel = lay_out(history)
        log_vol = self._forecast_logs(panel, rows, self._horizons(horizons), self._alone(len(rows)))
        return surfaces(log_vol, history, rows, self._horizons(horizons))

    def attention(self, history: xr.Dataset, *, dates: npt.ArrayLike | None = None) -> xr.DataArray:
        """Weights that the LSTM gave to its states of the past days, to forecast from each date.

        Parameters
        ----------
        history : xarray.Dataset
        dates : array of datetime64, optional
            All dates with 60 before them when omitted.

        Returns
        -------
        xarray.DataArray
            Over ``date``, ``head`` and ``lag`` (days before the date, 0 is the date itself); sums to 1 over ``lag``.
        """
        days = history["date"].values
        rows = self._rows(history, days[FRAME_DAYS - 1 + self.options.window :] if dates is None else dates)
        panel, parts = lay_out(history), []
        for part in np.split(rows, range(_CHUNK, len(rows), _CHUNK)):
            parts.append(self._raw(panel, part, self._alone(len(part)))[2])
        weights = np.concatenate(parts)[:, :, ::-1]
        return xr.DataArray(
            weights,
            dims=("date", "head", "lag"),
            coords={"date": days[rows], "head": np.arange(weights.shape[1]), "lag": np.arange(weights.shape[2])},
            name="attention",
            attrs={"long_name": "attention weight", "attention": self.options.attention},
        )

    def _alone(self, n: int) -> FloatArray | None:
        """What the LSTM is told of the other assets when they are not known."""
        return np.zeros((n, self.options.window, self._extra - 1)) if self._extra else None

    def _raw(
        self, panel: Panel, rows: npt.NDArray[np.intp], market: FloatArray | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        seen = look(panel, self._law.units, self._nets, self.options, rows)
        return raw_forecasts(panel, self._law.units, self._nets, self._base, self.options, rows, seen, market)

    def _forecast_logs(
        self, panel: Panel, rows: npt.NDArray[np.intp], horizons: tuple[int, ...], market: FloatArray | None
    ) -> FloatArray:
        """Log vols (n, horizon, cells)."""
        parts = []
        for at in np.split(np.arange(len(rows)), range(_CHUNK, len(rows), _CHUNK)):
            base, network, _ = self._raw(panel, rows[at], None if market is None else market[at])
            change = base + self.trust_[:, None] * network
            parts.append(panel.logs[rows[at]][:, None] + between(change, all_horizons(self.options), horizons))
        return np.asarray(np.clip(np.concatenate(parts), self._law.low, self._law.high))

    def _horizons(self, horizons: Sequence[int] | None) -> tuple[int, ...]:
        known = all_horizons(self.options)
        if horizons is None:
            return known
        ahead = tuple(whole_number(f"horizons[{i}]", h) for i, h in enumerate(horizons))
        if not ahead or max(ahead) > known[-1]:
            raise InputError(f"horizons must be days ahead, at most the {known[-1]} fitted for, not {horizons!r}")
        return ahead

    def _rows(self, history: xr.Dataset, dates: npt.ArrayLike | None) -> npt.NDArray[np.intp]:
        if not self.is_fitted:
            raise FitError(f"generator {self.name!r} has not been fitted; call fit(history) first")
        schema.validate(history, schema=schema.HISTORY)
        schema.check_same_grid(self.tau_, self.moneyness_, history, f"generator {self.name!r}")
        days = history["date"].values.astype("datetime64[D]")
        wanted = days[-1:] if dates is None else np.atleast_1d(np.asarray(dates, dtype="datetime64[D]"))
        rows = np.searchsorted(days, wanted)
        least = FRAME_DAYS - 1 + self.options.window
        if not np.all(np.isin(wanted, days)) or rows.size == 0 or rows.min() < least:
            raise InputError(f"dates must be dates of the history with at least {least} before them")
        return rows
