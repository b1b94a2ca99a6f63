"""Violations of forecasts by hand, and the VAE-LSTM among the forecasts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen.errors import InputError
from volscen.evaluation import forecast
from volscen.evaluation.forecast._surface_models import make_forecaster

SMALL: dict[str, Any] = {
    "latent_dim": 3, "hidden": (8,), "lstm_hidden": (8,), "heads": 2, "window": 5, "vae_epochs": 1,
}  # fmt: skip


def made_of(vol: np.ndarray) -> xr.Dataset:
    """One model's forecasts (date, tau, moneyness) of one day."""
    tau, moneyness = np.array([0.25, 1.0]), np.array([0.9, 1.0, 1.1])
    grid = ("tau", "moneyness")
    actual = np.full((len(vol), 1, 2, 3), 0.2)
    return xr.Dataset(
        {
            "forecast": (("model", "date", "horizon", *grid), vol[None, :, None]),
            "actual": (("date", "horizon", *grid), actual),
        },
        coords={"model": ["m"], "horizon": [1], "tau": tau, "moneyness": moneyness},
    )


def test_calendar_violations_by_hand() -> None:
    vol = np.full((4, 2, 3), 0.2)
    vol[1, 1, 0] = 0.08  # .2^2 / 4 = .01 needs .1 at one year
    found = forecast.violation_rates(made_of(vol)).sel(model="m", horizon=1)
    assert float(found.calendar) == pytest.approx(100 / 12)
    assert float(found.calendar_size) == pytest.approx(2.0)


def test_butterfly_violations_against_prices() -> None:
    vol = np.full((2, 2, 3), 0.2)
    vol[1, 0, 1] = 0.7
    found = forecast.violation_rates(made_of(vol)).sel(model="m", horizon=1)
    prices = [volscen.black.price(1.0, k, 0.25, s) for k, s in ((0.9, 0.2), (1.0, 0.7), (1.1, 0.2))]
    size = (prices[1] - (prices[0] + prices[2]) / 2) / volscen.black.vega(1.0, 1.0, 0.25, 0.7)
    assert float(found.butterfly) == pytest.approx(100 / 4)
    assert float(found.butterfly_size) == pytest.approx(100 * size)
    assert forecast.violation_rates(made_of(vol)).sel(model="actual").butterfly.item() == 0


def test_projected_forecasts_have_none() -> None:
    rng = np.random.default_rng(0)
    vol = 0.2 * np.exp(0.2 * rng.normal(size=(50, 2, 3)))
    made = made_of(vol)
    assert float(forecast.violation_rates(made).butterfly.sel(model="m", horizon=1)) > 1
    free = volscen.arbitrage.project(vol, made.tau.values, made.moneyness.values)
    free = free[0] if isinstance(free, tuple) else free
    rates = forecast.violation_rates(made_of(np.asarray(free))).sel(model="m", horizon=1)
    assert float(rates.butterfly) == float(rates.calendar) == 0


def test_what_is_no_forecast_is_refused() -> None:
    made = made_of(np.full((2, 2, 3), 0.2))
    with pytest.raises(InputError, match="made must be"):
        forecast.violation_rates(made.drop_vars("forecast"))
    with pytest.raises(InputError, match="at least two times"):
        forecast.violation_rates(made.isel(tau=[0]))
    with pytest.raises(InputError, match="least"):
        forecast.violation_rates(made, least=-1.0)


def test_the_vae_lstm_stands_among_the_forecasts() -> None:
    history = volscen.datasets.sample_history().isel(date=slice(0, 520))
    days = history.date.values
    model = forecast.VaeLstm(epochs=1, **SMALL)
    changed = history.copy(deep=True)
    changed["implied_vol"][471:] *= 1.3
    made = [
        forecast.forecast_surfaces(
            {"no_change": "no_change", "vae_lstm": model}, h, first=days[450], last=days[515], horizons=(1, 5),
            refit_every=None, progress=False,
        )
        for h in (history, changed)
    ]  # fmt: skip
    assert forecast.judge_surfaces(made[0]).mae.sel(model="vae_lstm").notnull().all()
    until = {"date": slice(None, days[470])}
    np.testing.assert_array_equal(made[0].forecast.sel(until), made[1].forecast.sel(until))
    assert not np.array_equal(made[0].forecast, made[1].forecast)


def test_the_vae_lstm_by_name_options_and_seeds() -> None:
    assert make_forecaster("vae_lstm")[1].name == "vae_lstm"
    with pytest.raises(InputError, match="leave them out"):
        forecast.VaeLstm(horizons=(1, 5))
    with pytest.raises(InputError, match="unexpected keyword"):
        forecast.VaeLstm(colour="red")
    with pytest.raises(InputError, match="attention"):
        forecast.VaeLstm(attention="hard")
    history = volscen.datasets.sample_history().isel(date=slice(0, 460))
    both = forecast.SeedEnsemble(forecast.VaeLstm(epochs=1, **SMALL), seeds=2).fit(history, (2, 5))
    one, two = (np.log(member.forecast(history, np.array([400]))) for member in both.members_)
    np.testing.assert_allclose(np.log(both.forecast(history, np.array([400]))), (one + two) / 2, atol=1e-12)
