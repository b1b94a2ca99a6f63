"""The VAE-LSTM of several assets: masks, grids of their own, what assets tell one another, joint scenarios."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import volscen
from volscen.errors import FileFormatError, InputError
from volscen.generators._vae_lstm import VaeLstm
from volscen.generators._vae_lstm_panel import lay_out
from volscen.sources.simulate import simulate_market

SMALL: dict[str, Any] = {
    "latent_dim": 3, "hidden": (8,), "lstm_hidden": (8,), "heads": 2, "window": 5, "vae_epochs": 2, "epochs": 2,
    "horizons": (1, 4), "market_dim": 4, "batch_size": 32, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def histories() -> dict[str, xr.Dataset]:
    a, b = simulate_market("A", 420, seed=1), simulate_market("A", 420, seed=2)
    rng = np.random.default_rng(0)
    some = np.sort(rng.choice(np.arange(1, 420), 300, replace=False))
    return {"whole": a, "thin": sparse(b, some), "small": b.isel(moneyness=slice(2, 7))}


def sparse(history: xr.Dataset, rows: Any) -> xr.Dataset:
    return volscen.make_history(
        history.date.values[rows],
        history.tau.values,
        history.moneyness.values,
        history.implied_vol.values[rows],
        spot=history.spot.values[rows],
        calendar=str(history.attrs["calendar"]),
    )


@pytest.fixture(scope="module")
def assets(histories: dict[str, xr.Dataset]) -> Any:
    return VaeLstm.fit_assets(histories, **SMALL)


def test_days_not_seen_hold_the_last_surface_and_are_marked(histories: dict[str, xr.Dataset]) -> None:
    days = histories["whole"].date.values.astype("datetime64[D]")
    panel = lay_out(histories["thin"], days)
    own = np.isin(days, histories["thin"].date.values.astype("datetime64[D]"))
    np.testing.assert_array_equal(panel.seen, own)
    for t in np.flatnonzero(~own)[20:40]:
        last = np.flatnonzero(own[:t])[-1]
        np.testing.assert_array_equal(panel.logs[t], panel.logs[last])
        assert panel.stale[t] == t - last
    # Units are of what was seen, not of copies.
    t = 300
    seen = panel.logs[t - 59 : t + 1][own[t - 59 : t + 1]]
    np.testing.assert_allclose(panel.mean[t], seen.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(panel.sd[t], seen.std(axis=0), rtol=1e-9)


def test_each_asset_has_a_generator_of_its_own_grid(
    assets: Any, histories: dict[str, xr.Dataset], tmp_path: Any
) -> None:
    for name, model in assets.models.items():
        cube = volscen.generate(model, histories[name], n_scenarios=20, seed=1)
        assert cube.implied_vol.shape[-2:] == histories[name].implied_vol.shape[-2:]
        again = volscen.load(model.save(tmp_path / f"{name}.safetensors"))
        np.testing.assert_array_equal(volscen.generate(again, histories[name], n_scenarios=20, seed=1).spot, cube.spot)


def test_forecasts_see_the_other_assets(assets: Any, histories: dict[str, xr.Dataset]) -> None:
    for model in assets.models.values():
        model.trust_ = np.ones(2)
    found = assets.forecast(histories)
    moved = dict(histories)
    moved["whole"] = histories["whole"].copy(deep=True)
    moved["whole"].implied_vol[-1] *= 1.2
    other = assets.forecast(moved)
    assert found["small"].dims == ("date", "horizon", "tau", "moneyness")
    assert not np.array_equal(found["small"], other["small"])
    alone = [assets.models["small"].forecast(histories["small"]).values for _ in range(2)]
    np.testing.assert_array_equal(*alone)
    assert not np.allclose(alone[0], found["small"].values, rtol=1e-9)


def test_what_is_not_seen_counts_for_nothing(histories: dict[str, xr.Dataset]) -> None:
    """The loss of a masked day does not depend on what is put there."""
    from volscen.generators._vae_lstm_fit import RunSettings, train_networks
    from volscen.generators._vae_lstm_tables import Tables
    from volscen.generators._vae_lstm_training import ForesightTask

    made = VaeLstm(**SMALL)
    trained = train_networks(histories, made.options, RunSettings(progress=False))
    tables = Tables.of(
        list(trained.panels.values()), list(trained.units.values()), list(trained.bases.values()), (1, 4),
        trained.n_train, made.options, torch.device("cpu"),
    )  # fmt: skip
    task = ForesightTask(tables, made.options, torch.device("cpu"), trained.coder.best)
    flat = torch.from_numpy(trained.foresight.best)
    seen = tables.seen[1]
    t = next(int(t) for t in tables.held if seen[t] and not seen[t + 1] and not seen[t + 4])

    def loss() -> float:
        with torch.no_grad():
            return float(task._run(flat, lambda networks: task._objective(networks, torch.tensor([t]), None)))

    before = loss()
    tables.logs[1, [t + 1, t + 4]] += 1.0
    tables.logs[2, t + 1 :, 40:] += 5.0  # padding of the smaller grid
    assert loss() == before
    tables.logs[0, t + 1] += 1.0
    assert loss() != before


def test_joint_scenarios_of_assets_on_common_days(histories: dict[str, xr.Dataset]) -> None:
    pair = {"A": histories["whole"], "B": simulate_market("A", 420, seed=2)}
    both = VaeLstm.fit_assets(pair, **SMALL)
    joint = both.joint(pair, coupling="dates")
    cubes = volscen.generate_joint(joint, pair, n_scenarios=50, seed=1)
    assert set(cubes) == {"A", "B"}
    assert joint.days_ > 100


def test_a_dataset_with_assets_is_taken(histories: dict[str, xr.Dataset]) -> None:
    both = volscen.align_histories({"A": histories["whole"], "B": simulate_market("A", 420, seed=2)})
    found = VaeLstm.fit_assets(both, **SMALL)
    assert list(found.models) == ["A", "B"]
    assert set(found.forecast(both)) == {"A", "B"}
    with pytest.raises(InputError, match="holds 2 assets"):
        VaeLstm(**SMALL).fit(both)


def test_what_does_not_fit_together_is_refused(assets: Any, histories: dict[str, xr.Dataset]) -> None:
    late = histories["whole"].copy(deep=True)
    late["date"] = late.date + np.timedelta64(5000, "D")
    with pytest.raises(InputError, match="whole shares 0 dates"):
        VaeLstm.fit_assets({"whole": histories["whole"], "late": late}, **SMALL)
    with pytest.raises(InputError, match="map each of whole, thin, small"):
        assets.forecast({"whole": histories["whole"]})
    with pytest.raises(InputError, match="few has"):
        VaeLstm.fit_assets(
            {"whole": histories["whole"], "few": histories["thin"].isel(date=slice(-100, None))}, **SMALL
        )
    with pytest.raises(InputError, match="moneyness"):
        assets.forecast(histories | {"small": histories["whole"]})
    with pytest.raises(InputError, match="dates must hold every date"):
        VaeLstm.fit_assets(histories, dates=histories["whole"].date.values[10:], **SMALL)
    with pytest.raises(InputError, match="increasing"):
        VaeLstm.fit_assets(histories, dates=histories["whole"].date.values[::-1], **SMALL)
    holes = histories["thin"].copy(deep=True)
    holes.implied_vol[10] = np.nan
    with pytest.raises(FileFormatError, match=r"thin: .*NaN"):
        VaeLstm.fit_assets({"whole": histories["whole"], "thin": holes}, **SMALL)
    with pytest.raises(InputError, match="names of assets"):
        VaeLstm.fit_assets([1, 2], **SMALL)  # type: ignore[arg-type]


def test_an_asset_seen_every_other_day_only(histories: dict[str, xr.Dataset]) -> None:
    """No two of its days are one apart: nothing is learnt of its next day, and all else stays finite."""
    half = sparse(histories["whole"], np.arange(1, 420, 2))
    both = VaeLstm.fit_assets({"whole": histories["thin"], "half": half}, **SMALL)
    found = both.forecast({"whole": histories["thin"], "half": half}, horizons=(1, 2, 4))
    assert all(np.isfinite(one).all() for one in found.values())
    assert (both.models["half"]._base.coefficients[0] == 0).all()
    assert (both.models["half"]._base.coefficients[1] != 0).all()
