"""Networks that forecast surfaces: no look-ahead, the same bits again, no change untrained, and a known law learnt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import volscen
from volscen._threads import single_threaded_torch
from volscen.errors import InputError, MissingExtraError
from volscen.evaluation import forecast
from volscen.evaluation.forecast import _network_training as training
from volscen.evaluation.forecast._surface_models import make_forecaster

SMALL: dict[str, Any] = {"hidden": 6, "epochs": 2}
NETWORKS = [forecast.Lstm, forecast.AutoencoderLstm, forecast.Vae]


class Drift:
    """A pipeline whose median is the series' last value and .01 a day."""

    as_list = False

    def predict_quantiles(
        self, inputs: list[torch.Tensor], prediction_length: int, quantile_levels: list[float]
    ) -> tuple[Any, Any]:
        assert quantile_levels == [0.5]
        self.lengths = {len(one) for one in inputs}
        last = torch.stack([one[-1] for one in inputs])
        out = last[:, None, None] + 0.01 * torch.arange(1, prediction_length + 1)[:, None]
        return (list(out[:, None]) if self.as_list else out), out[..., 0]


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return volscen.datasets.sample_history().sel(date=slice("2020-06-01", "2022-09-30"))


@pytest.fixture(scope="module")
def reverting() -> xr.Dataset:
    """Log vols that are one autoregression with slope .9, seen by all cells."""
    rng = np.random.default_rng(3)
    n, x = 2200, np.zeros(2200)
    for t in range(1, n):
        x[t] = 0.9 * x[t - 1] + 0.05 * rng.normal()
    vol = 0.2 * np.exp(x)[:, None, None] * np.ones((1, 2, 3)) * (1 + 1e-4 * rng.normal(size=(n, 2, 3)))
    dates = np.datetime64("2000-01-03", "ns") + np.arange(n) * np.timedelta64(1, "D")
    spot = np.exp(np.cumsum(0.01 * rng.normal(size=n)))
    return volscen.make_history(dates, [0.25, 1.0], [0.9, 1.0, 1.1], vol, spot=spot, periods_per_year=365)


@pytest.mark.parametrize(
    "make",
    [
        *(lambda one=one: one(hidden=6, epochs=4, learning_rate=0.01) for one in NETWORKS),
        lambda: forecast.Chronos(Drift(), n_components=2),
    ],
)
def test_no_forecast_knows_what_comes_later(reverting: xr.Dataset, make: Any) -> None:
    reverting = reverting.isel(date=slice(900, 1600))
    days = reverting.date.values
    late = days[640]  # a date forecast from, so that a look at the very next day is seen
    changed = reverting.copy(deep=True)
    rows = days > late
    changed["implied_vol"][rows] *= 1.3
    changed["log_return"][rows] += 0.01
    options: dict[str, Any] = {"first": days[600], "last": days[680], "horizons": (1, 5), "refit_every": 35}
    made = [
        forecast.forecast_surfaces({"m": make()}, h, every=10, progress=False, **options) for h in (reverting, changed)
    ]
    until = {"date": slice(None, late)}
    np.testing.assert_allclose(made[0].forecast.sel(until), made[1].forecast.sel(until), rtol=1e-6)
    assert not np.allclose(made[0].forecast, made[1].forecast)
    # Forecasts of no change would pass whatever the networks looked at.
    moved = made[0].forecast.sel(until).isel(model=0) / made[0].previous.sel(until) - 1
    assert float(np.abs(moved).max(("horizon", "tau", "moneyness")).min()) > 1e-4


@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_seed_gives_the_same_bits_on_any_threads(history: xr.Dataset, network: Any) -> None:
    rows, before = np.arange(100, 140), torch.get_num_threads()
    found = []
    try:
        for threads, seed in ((1, 1), (2, 1), (1, 2)):
            torch.set_num_threads(threads)
            model = network(**SMALL, seed=seed).fit(history, (1, 5))
            found.append(model.forecast(history, rows))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    # What is asked along with a date changes nothing but the rounding of float32.
    np.testing.assert_allclose(model.forecast(history, rows[7:8])[0], found[2][7], rtol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_known_law_is_learnt(reverting: xr.Dataset, network: Any) -> None:
    options = {"latent_dim": 1} if network is not forecast.Lstm else {}
    model = network(hidden=16, epochs=6, learning_rate=4e-3, **options)
    days = reverting.date.values
    made = forecast.forecast_surfaces(
        {"no_change": "no_change", "model": model},
        reverting,
        first=days[1500],
        last=days[-12],
        horizons=(1, 10),
        refit_every=None,
        progress=False,
    )
    table = forecast.judge_surfaces(made).sel(model="model", region="all")
    # The best there is: sqrt of (1 - .9^20) over 2 (1 - .9^10), which is .82; a regression gets .84 of this sample.
    best = np.sqrt((1 - 0.9**20) / (2 * (1 - 0.9**10)))
    assert 0.95 * best < float(table.theil_u.sel(horizon=10)) < 1.11 * best
    assert float(table.dm_t.sel(horizon=10)) < -2
    # One decoder of all horizons costs the variational one what little there is to gain in a day.
    assert float(table.theil_u.sel(horizon=1)) < (1.02 if network is forecast.Vae else 0.99)


def test_untrained_networks_forecast_no_change(reverting: xr.Dataset) -> None:
    """So does a network that no epoch has made better: here the days held out contradict those trained on."""
    odd = reverting.copy(deep=True)
    vol = odd["implied_vol"].values
    n = len(vol)
    vol[:] = 0.2 * np.exp(0.3 * np.sin(np.arange(n) / 20))[:, None, None]
    vol[int(0.8 * n) :] = 0.2
    rng = np.random.default_rng(0)
    vol[int(0.8 * n) :] *= np.exp(np.cumsum(0.001 * rng.normal(size=(n - int(0.8 * n), 1, 1)), axis=0))
    model = forecast.Lstm(hidden=6, epochs=3, learning_rate=0.02).fit(odd, (1, 5))
    assert model.epoch_ == 0
    rows = np.arange(300, 310)
    np.testing.assert_allclose(model.forecast(odd, rows)[:, 1], vol[rows], rtol=1e-12)


def test_memory_is_the_one_of_torch() -> None:
    """The gates by hand against torch's own layer, and the head."""
    network = training.Recurrent(torch.randn(1, 300, generator=torch.Generator().manual_seed(0)), 4, 5, 3)
    sizes = [int(np.prod(shape)) for shape in network.shapes()]
    flat = torch.randn(1, sum(sizes), generator=torch.Generator().manual_seed(1))
    network = training.Recurrent(flat, 4, 5, 3)
    from_x, from_h, bias, head, head_bias = (
        part.view(shape) for part, shape in zip(flat[0].split(sizes), network.shapes(), strict=True)
    )
    # Torch orders its gates input, forget, cell, output; here they are forget, input, output, cell.
    order = torch.cat([torch.arange(5) + 5 * i for i in (1, 0, 3, 2)])
    theirs = torch.nn.LSTM(4, 5, batch_first=True)
    with torch.no_grad(), single_threaded_torch():
        theirs.weight_ih_l0.copy_(from_x.T[order])
        theirs.weight_hh_l0.copy_(from_h.T[order])
        theirs.bias_ih_l0.copy_(bias[order])
        theirs.bias_hh_l0.zero_()
        x = torch.randn(7, 9, 4, generator=torch.Generator().manual_seed(2))
        expected = theirs(x)[0][:, -1] @ head + head_bias
        np.testing.assert_allclose(network(x), expected, atol=1e-5)


def test_latents_move_todays_surface_as_the_decoded_one(history: xr.Dataset) -> None:
    model = forecast.AutoencoderLstm(latent_dim=2, window=3, hidden=6, epochs=3).fit(history, (1, 5))
    logs = np.log(history.implied_vol.values.reshape(history.sizes["date"], -1))
    returns = np.clip(history.log_return.values / model.return_sd_, -5, 5)
    row = 300
    with torch.no_grad():
        x = torch.from_numpy(np.clip((logs - model.mean_) / model.sd_, -5, 5).astype(np.float32))
        code = model.coder_.encode(x)
        seen = torch.cat(
            [(code - model.centre_) / model.spread_, torch.from_numpy(returns.astype(np.float32))[:, None]], 1
        )
        step = model.network_(seen[None, row - 2 : row + 1]).view(2, 2) * model.latent_unit_ * model.spread_
        moved = (model.coder_.decode(code[row] + step) - model.coder_.decode(code[row])).numpy()
    assert np.abs(moved).max() > 1e-3
    found = np.log(model.forecast(history, np.array([row]))[0].reshape(2, -1)) - logs[row]
    np.testing.assert_allclose(found, moved * model.sd_, rtol=1e-3, atol=1e-6)
    # The latents' units: how far each moves over each horizon, in its own deviations.
    z = ((code - model.centre_) / model.spread_).numpy()[: int(0.8 * len(x))]
    expected = [np.sqrt(np.mean((z[h:] - z[:-h]) ** 2, axis=0)) for h in (1, 5)]
    np.testing.assert_allclose(model.latent_unit_, expected, rtol=0.15)


def test_days_held_out_follow_every_outcome_trained_on() -> None:
    train, held = training.split(np.arange(22, 1022), 30)
    assert train[-1] + 30 < held[0]
    assert held[-1] == 1021
    assert len(held) == 150


def test_chronos_moves_the_components_by_its_medians(history: xr.Dataset) -> None:
    pipeline, rows = Drift(), np.array([80, 500])
    model = forecast.Chronos(pipeline, n_components=2, context=100, batch_size=3).fit(history, (1, 5))
    logs = np.log(history.implied_vol.values.reshape(history.sizes["date"], -1))
    deviation = logs[rows] - model.mean_
    scores = deviation @ model.axes_.T
    rest = (deviation - scores @ model.axes_) * model.steps_[2] ** 5
    by_hand = np.exp(model.mean_ + (scores + 0.05) @ model.axes_ + rest)
    found = model.forecast(history, rows)
    np.testing.assert_allclose(found[:, 1].reshape(2, -1), by_hand, rtol=1e-6)
    model.forecast(history, rows[1:])
    assert pipeline.lengths == {100}
    pipeline.as_list = True
    np.testing.assert_array_equal(model.forecast(history, rows), found)


def test_chronos_loads_a_model_from_a_folder(history: xr.Dataset, tmp_path: Path) -> None:
    chronos = pytest.importorskip("chronos", reason="needs the extra chronos")
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2, vocab_size=2, pad_token_id=0, decoder_start_token_id=0
    )
    config.chronos_config = {
        "context_length": 64,
        "prediction_length": 8,
        "input_patch_size": 8,
        "input_patch_stride": 8,
        "quantiles": [0.1, 0.5, 0.9],
        "use_reg_token": True,
    }
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    torch.manual_seed(0)
    tiny = chronos.chronos_bolt.ChronosBoltModelForForecasting(config)
    tiny.config.architectures = ["ChronosBoltModelForForecasting"]
    tiny.save_pretrained(tmp_path)
    rows = np.arange(200, 203)
    model = forecast.Chronos(str(tmp_path), n_components=2).fit(history, (1, 5))
    found = model.forecast(history, rows)
    assert found.shape == (3, 2, 8, 10)
    # The same by the package's own pipeline, component by component, kept within reach as every forecast is.
    deviation = np.log(history.implied_vol.values.reshape(-1, 80))[:202] - model.mean_
    scores = deviation @ model.axes_.T
    pipeline = chronos.ChronosBoltPipeline(tiny.eval())
    past = torch.from_numpy(scores.T.astype(np.float32))
    median = pipeline.predict_quantiles(past, prediction_length=5, quantile_levels=[0.5])[0][..., 0].detach().numpy()
    rest = (deviation[-1] - scores[-1] @ model.axes_) * model.steps_[2] ** 5
    expected = np.clip(model.mean_ + median[:, 4] @ model.axes_ + rest, model.low_, model.high_)
    np.testing.assert_allclose(np.log(found[1, 1].ravel()), expected, rtol=1e-4, atol=1e-5)
    assert np.mean((expected > model.low_) & (expected < model.high_)) > 0.2
    with pytest.raises(InputError, match="could not be loaded"):
        forecast.Chronos(str(tmp_path / "nothing")).fit(history, (1,))


def test_a_missing_package_is_named(history: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chronos", None)
    with pytest.raises(MissingExtraError, match=r"volscen\[chronos\]"):
        forecast.Chronos().fit(history, (1,))


def test_names_make_networks_and_import_torch_no_sooner() -> None:
    assert isinstance(make_forecaster("ae_lstm")[1], forecast.AutoencoderLstm)
    assert [make_forecaster(one.name)[1].name for one in NETWORKS] == ["lstm", "ae_lstm", "vae"]
    code = "import sys; from volscen.evaluation import forecast as f; f.Var, f.Lstm(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


def test_bad_input_names_the_argument(history: xr.Dataset) -> None:
    for options in ({"hidden": 0}, {"epochs": 1.5}, {"learning_rate": 0}, {"seed": -1}, {"window": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            forecast.Lstm(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="latent_dim"):
        forecast.AutoencoderLstm(latent_dim=0)
    with pytest.raises(InputError, match="beta"):
        forecast.Vae(beta=-1.0)
    with pytest.raises(InputError, match="to train on"):
        forecast.Lstm(**SMALL).fit(history.isel(date=slice(0, 120)), (1, 30))
    with pytest.raises(InputError, match="before the first"):
        forecast.Lstm(**SMALL).fit(history, (1,)).forecast(history, np.array([21]))
    with pytest.raises(InputError, match="predict_quantiles"):
        forecast.Chronos(3)
    with pytest.raises(InputError, match="context"):
        forecast.Chronos(context=10)
