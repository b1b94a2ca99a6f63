"""The VAE-LSTM of one asset: law, forecasts, attention, training that resumes, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from volscen.errors import FileFormatError, FitError, InputError
from volscen.generators._cell_regression import CellRegression
from volscen.generators._move_scale import FILTER
from volscen.generators._vae_lstm import VaeLstm
from volscen.generators._vae_lstm_features import LOOK_BACK, Points, day_features, history_features
from volscen.generators._vae_lstm_law import N_PAST
from volscen.generators._vae_lstm_network import Attention
from volscen.generators._vae_lstm_options import FRAME_DAYS
from volscen.generators._vae_lstm_panel import frame_of, lay_out
from volscen.history import state_at
from volscen.sources.simulate import simulate_market

SMALL: dict[str, Any] = {
    "latent_dim": 4, "hidden": (12, 8), "lstm_hidden": (8, 8), "heads": 2, "window": 6, "vae_epochs": 2, "epochs": 2,
    "horizons": (1, 5), "rollout": 3, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return simulate_market("A", 420, seed=11)


@pytest.fixture(scope="module")
def model(history: xr.Dataset) -> VaeLstm:
    return VaeLstm(**SMALL).fit(history)


# ------------------------------------------------------------------------------------------------- inputs
def test_rolling_units_are_of_the_last_sixty_days(history: xr.Dataset) -> None:
    panel = lay_out(history)
    logs = np.log(history.implied_vol.values).reshape(420, -1)
    for t in (59, 200, 419):
        np.testing.assert_allclose(panel.mean[t], logs[t - 59 : t + 1].mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(panel.sd[t], logs[t - 59 : t + 1].std(axis=0), rtol=1e-9)
    assert not panel.active[58]
    assert panel.active[59:].all()
    mean, sd, size = frame_of(logs[None, 141:201], np.zeros(80))
    np.testing.assert_allclose(mean[0], panel.mean[200], rtol=1e-12)
    np.testing.assert_allclose(sd[0], panel.sd[200], rtol=1e-9)
    np.testing.assert_allclose(size[0] ** 2, np.mean(sd[0] ** 2), rtol=1e-12)


def test_features_say_what_they_are_named_after() -> None:
    tau, moneyness = np.array([30, 365]) / 365, np.array([0.9, 1.0, 1.1])
    points = Points.of(tau, moneyness)
    logs = np.zeros((1, 23, 6))
    logs[0, -1] = [0.5, 0.2, 0.1, 0.0, 0.7, 0.0]
    logs[0, -2, 1], logs[0, -6, 1], logs[0, 0, 1] = 0.05, 0.03, -0.1
    returns = np.full((1, 22), 0.2)
    returns[0, -1] = -0.2
    found = day_features(logs, returns, points)[0]
    # return, .9 put less 1.1 call, long less short, butterfly, mean, log of .2, changes over 1, 5 and 22 days
    expected = [-0.2, 0.4, 0.5, 0.5 + 0.1 - 0.4, 0.25, np.log(0.201), 0.15, 0.17, 0.3]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_features_of_histories_and_of_days_are_the_same(history: xr.Dataset) -> None:
    panel = lay_out(history)
    points = Points.of(panel.tau, panel.moneyness)
    whole = history_features(panel.logs, panel.log_return, points)
    t = 100
    one = day_features(panel.logs[None, t - LOOK_BACK : t + 1], panel.log_return[None, t - 21 : t + 1], points)
    np.testing.assert_allclose(whole[t], one[0], rtol=1e-12)


def test_cell_regressions_against_least_squares(history: xr.Dataset) -> None:
    logs = np.log(history.implied_vol.values).reshape(420, -1)
    rows = np.arange(21, 300)
    found = CellRegression.fit(logs, rows, (1, 5))
    week = np.array([logs[t - 4 : t + 1, 7].mean() for t in rows[:-5]])
    month = np.array([logs[t - 21 : t + 1, 7].mean() for t in rows[:-5]])
    x = np.column_stack([np.ones(len(week)), logs[rows[:-5], 7], week, month])
    expected = np.linalg.lstsq(x, logs[rows[5:], 7] - logs[rows[:-5], 7])[0]
    np.testing.assert_allclose(found.coefficients[1, 7], expected, rtol=1e-8)
    change = found.change(CellRegression.inputs(logs, rows[-1:]))[:, 0]
    np.testing.assert_allclose(found.next_change(logs[None, rows[-1] - 30 : rows[-1] + 1]), change, atol=1e-12)


# ------------------------------------------------------------------------------------------------ networks
@pytest.mark.parametrize("kind", ["multi_head", "additive", "dot"])
@pytest.mark.parametrize("dynamics", ["direct", "iterated"])
def test_numpy_and_torch_foresee_the_same(history: xr.Dataset, kind: str, dynamics: str) -> None:
    from volscen.generators._vae_lstm_tables import Tables
    from volscen.generators._vae_lstm_training import ForesightTask

    made = VaeLstm(**SMALL | {"attention": kind, "dynamics": dynamics, "epochs": 1, "dynamics_learning_rate": 0.02})
    trained = made._train({"asset": history})
    model = copy.copy(made)
    model._adopt(trained, "asset", history)
    horizons = (1, 5) if dynamics == "direct" else (1, 2, 3)
    bases = [CellRegression(trained.bases["asset"].coefficients[: len(horizons)])]
    tables = Tables.of(
        list(trained.panels.values()), list(trained.units.values()), bases, horizons, trained.n_train, made.options,
        torch.device("cpu"),
    )  # fmt: skip
    task = ForesightTask(tables, made.options, torch.device("cpu"), trained.coder.best)
    rows = torch.tensor([200, 300])

    def run(networks: Any) -> Any:
        days, latent = task._days(networks, rows, None)
        if dynamics == "iterated":
            moved = task._rollout(networks, days, latent, rows, None)[0]
        else:
            out = networks.foresight.foresee(networks.foresight(days, None, None)[0])[0]
            moved = latent[:, :, None] + out.view(1, 2, 2, 5)[..., :4]
        return task.forecast(networks, latent, moved, rows)[0].detach().numpy()

    def attention(networks: Any) -> Any:
        days, _ = task._days(networks, rows, None)
        return networks.foresight.foresee(networks.foresight(days, None, None)[0])[1].detach().numpy()

    model.trust_ = np.ones_like(model.trust_)
    weights = model.attention(history, dates=history.date.values[rows]).values[:, :, ::-1]
    np.testing.assert_allclose(weights, task._run(torch.from_numpy(trained.foresight.best), attention), atol=2e-6)
    assert weights.std() > 1e-4
    task.begin_epoch(2, 9)
    assert task.teacher == 1
    task.begin_epoch(6, 9)
    assert task.teacher == pytest.approx(0.5)
    vol = model.forecast(history, horizons=horizons, dates=history.date.values[rows]).values
    expected = task._run(torch.from_numpy(trained.foresight.best), run)
    np.testing.assert_allclose(np.log(vol).reshape(expected.shape), expected, atol=2e-5)
    assert np.abs(np.log(vol).reshape(expected.shape) - tables.logs[0, rows, None].numpy()).max() > 1e-3


def test_multi_head_attention_against_torch() -> None:
    """torch's own module, given the same weights."""
    ours = Attention("multi_head", 8, 2)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.weight.copy_(torch.eye(8))
        theirs.out_proj.bias.zero_()
    past, now = torch.randn(3, 5, 8), torch.randn(3, 8)
    context, weights = ours(now, past)
    found, known = theirs(now[:, None], past, past, average_attn_weights=False)
    torch.testing.assert_close(context, found[:, 0])
    torch.testing.assert_close(weights, known[:, :, 0])


def test_attention_weights_are_a_law_over_lags(model: VaeLstm, history: xr.Dataset) -> None:
    weights = model.attention(history)
    assert weights.dims == ("date", "head", "lag")
    assert dict(weights.sizes) == {"date": 420 - 65, "head": 2, "lag": 6}
    np.testing.assert_allclose(weights.sum("lag"), 1, atol=1e-6)
    assert weights.lag.values.tolist() == list(range(6))
    # Lag 0 is the date itself: what came before the window changes nothing, what came on the date changes weights.
    again = model.attention(history, dates=history.date.values[300:301])
    np.testing.assert_allclose(again, weights.sel(date=again.date), atol=1e-6)


# --------------------------------------------------------------------------------------------------- the law
def test_a_past_day_drawn_again_gives_that_day(model: VaeLstm, history: xr.Dataset) -> None:
    """Residual, scale, latents, decoder, base and shock of a day put together are that day's return and surface."""
    quiet = VaeLstm(**SMALL | {"posterior_noise": False}).fit(history)
    row = 380
    state = state_at(history, history.date.values[row - 1], n_returns=quiet.n_returns, n_surfaces=quiet.n_surfaces)
    pool_row = len(quiet.residual_) - (420 - row)

    class Fixed(np.random.Generator):
        def integers(self, low: Any, high: Any = None, size: Any = None, **_: Any) -> Any:
            return 0 if size is None else np.full(size, pool_row)

    spread = quiet._law.spread
    quiet.residual_ = quiet.residual_ / spread
    logs = np.log(history.implied_vol.values).reshape(420, -1)
    shocks = quiet._law.moves_of(
        logs, np.r_[0, history.log_return.values[1:]] * np.sqrt(252), quiet._points, quiet._nets, quiet.options, 0
    ).shock[FILTER:]
    quiet.rest_ = shocks[-len(quiet.rest_) :]
    log_return, vol = quiet.sample(state, 3, 1, Fixed(np.random.PCG64(0)))
    np.testing.assert_allclose(log_return[:, 0], history.log_return.values[row], atol=1e-7)
    np.testing.assert_allclose(vol[0, 0], history.implied_vol.values[row], rtol=2e-6)


def test_spread_is_the_ratio_of_residuals_out_of_and_in_sample(history: xr.Dataset) -> None:
    """Where the last days move twice as much, and scales are constant, residuals are widened as far as allowed."""
    wild = history.copy(deep=True)
    logs = np.log(wild.implied_vol.values)
    for t in range(358, 420):
        logs[t] = logs[t - 1] + 2.5 * np.log(history.implied_vol.values[t] / history.implied_vol.values[t - 1])
    wild["implied_vol"] = wild.implied_vol.copy(data=np.exp(logs))
    calm = VaeLstm(**SMALL | {"scale": "none"}).fit(history)
    model = VaeLstm(**SMALL | {"scale": "none"}).fit(wild)
    assert 0.8 <= calm.spread_[1] < 1.2
    assert model.spread_[1] == pytest.approx(1.3)
    assert model.spread_[0] < 1.2  # the returns are as they were


def test_untrained_forecasts_are_the_base(history: xr.Dataset) -> None:
    model = VaeLstm(**SMALL | {"base": "no_change", "epochs": 1, "dynamics_learning_rate": 1e-12}).fit(history)
    model.trust_ = np.ones(2)
    found = model.forecast(history, horizons=(1, 3, 5)).values[0]
    np.testing.assert_allclose(found, np.repeat(history.implied_vol.values[-1:], 3, axis=0), rtol=1e-5)


def test_forecasts_know_nothing_of_what_comes_later(model: VaeLstm, history: xr.Dataset) -> None:
    later = history.copy(deep=True)
    later.implied_vol[301:] *= 1.4
    later.log_return[301:] += 0.02
    days = history.date.values[[250, 300]]
    for found in (model.forecast, model.attention):
        np.testing.assert_array_equal(found(history, dates=days), found(later, dates=days))
    assert not np.array_equal(model.attention(history), model.attention(later))


def test_horizons_between_are_linear_in_logs(model: VaeLstm, history: xr.Dataset) -> None:
    one, two, five = np.log(model.forecast(history, horizons=(1, 2, 5)).values[0])
    np.testing.assert_allclose(two, one + (five - one) / 4, atol=1e-12)
    with pytest.raises(InputError, match="at most the 5"):
        model.forecast(history, horizons=(6,))


def test_latents_are_used(model: VaeLstm) -> None:
    assert 3 <= model.active_units_ <= 4


# --------------------------------------------------------------------------------------------------- training
def test_training_resumes_to_the_same_bits(history: xr.Dataset, tmp_path: Any, monkeypatch: Any) -> None:
    from volscen.generators import _neural_training as shared

    whole = VaeLstm(**SMALL | {"dynamics": "iterated", "epochs": 3}).fit(history)
    path = tmp_path / "run.safetensors"
    options = SMALL | {"dynamics": "iterated", "epochs": 3, "checkpoint": path, "checkpoint_every": 1}
    epoch, done = shared._epoch, []

    def stop(*given: Any) -> Any:
        if len(done) == 4:  # two of the autoencoder, two of all
            raise KeyboardInterrupt
        done.append(0)
        return epoch(*given)

    monkeypatch.setattr(shared, "_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        VaeLstm(**options).fit(history)
    monkeypatch.setattr(shared, "_epoch", epoch)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-autoencoder.safetensors", "run.safetensors"]
    again = VaeLstm(**options).fit(history)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)
    with pytest.raises(InputError, match="another run"):
        VaeLstm(**options | {"beta": 0.3}).fit(history)
    path.with_name("run-autoencoder.safetensors").write_bytes(b"no")
    with pytest.raises(FileFormatError):
        VaeLstm(**options).fit(history)


def test_a_diverging_training_stops_with_the_reason(history: xr.Dataset) -> None:
    with pytest.raises(FitError, match=r"diverged.*lower learning_rate"):
        VaeLstm(**SMALL | {"learning_rate": 1e30, "weight_decay": 0.0}).fit(history)


def test_free_bits_keep_latents_awake(history: xr.Dataset) -> None:
    """A heavy divergence alone switches latents off; its first nats free, they stay."""
    heavy = SMALL | {"beta": 300.0, "vae_epochs": 25, "epochs": 1, "learning_rate": 0.01, "free_bits": 0.0}
    off = VaeLstm(**heavy).fit(history)
    on = VaeLstm(**heavy | {"free_bits": 0.5}).fit(history)
    assert off.active_units_ < on.active_units_ == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_what_the_cpu_does(history: xr.Dataset) -> None:
    on_cpu = VaeLstm(**SMALL).fit(history)
    on_cuda = VaeLstm(**SMALL, device="cuda").fit(history)
    a, b = (m.forecast(history).values for m in (on_cpu, on_cuda))
    np.testing.assert_allclose(a, b, rtol=1e-2)


# ---------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "tpu"}, "device must be 'cpu' or 'cuda'"),
        ({"device": 3}, "device must be"),
        ({"attention": "soft"}, "attention must be one of"),
        ({"heads": 3}, "heads must divide"),
        ({"horizons": (5, 10)}, "begin with 1"),
        ({"window": 61}, "window must be at most 60"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"validation_days": 0}, "validation_days"),
        ({"penalty": np.nan}, "penalty"),
        ({"dropout": 1.0}, "dropout"),
        ({"progress": 3}, "progress"),
    ],
)
def test_bad_options_are_named(history: xr.Dataset, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        VaeLstm(**SMALL | options).fit(history)


def test_bad_histories_are_refused(model: VaeLstm, history: xr.Dataset) -> None:
    with pytest.raises(InputError, match="needs at least 184"):
        VaeLstm(**SMALL).fit(history.isel(date=slice(0, 100)))
    with pytest.raises(InputError, match="validation_days"):
        VaeLstm(**SMALL | {"validation_days": 15}).fit(history)
    holes = history.copy(deep=True)
    holes.implied_vol[300, 2, 3] = np.nan
    with pytest.raises(FileFormatError, match="implied_vol holds NaN"):
        VaeLstm(**SMALL).fit(holes)
    with pytest.raises(InputError, match="tau"):
        model.forecast(history.isel(tau=slice(1, None)))
    with pytest.raises(InputError, match="dates must be dates"):
        model.forecast(history, dates=history.date.values[20:21])
    with pytest.raises(InputError, match="dates must be dates"):
        model.forecast(history, dates=["1950-01-01"])
    with pytest.raises(FitError, match="not been fitted"):
        VaeLstm(**SMALL).forecast(history)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="not there"):
            VaeLstm(**SMALL, device="cuda").fit(history)


def test_a_state_needs_the_filter_and_its_units() -> None:
    assert N_PAST == FRAME_DAYS + FILTER + 1
    assert VaeLstm.n_surfaces == N_PAST
