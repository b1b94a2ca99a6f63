"""What a model keeps of its fit: the outline of the data, versions, and the curves of a training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import volscen
from volscen.errors import FileFormatError, InputError
from volscen.generators import TrainingCurve
from volscen.sources.simulate import SSVIMarket, simulate_market

MARKET = SSVIMarket((0.1, 0.3, 0.5), (0.9, 1.0, 1.15), 0.01)


@pytest.fixture(scope="module")
def history():
    return simulate_market(MARKET, 150, seed=5)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history, "volgan", epochs=5, matching_epochs=1, validate_every=2, seed=3, progress=False)


def header(path):
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["volscen"])


def test_curve_of_a_model_and_of_its_file(model, tmp_path):
    curve = volscen.training_curve(model)
    assert curve.sizes == {"epoch": 5, "validation_epoch": 3}
    assert curve.validation_epoch.values.tolist() == [2, 4, 5]
    assert curve.attrs["kept_epoch"] == model.epoch_
    assert int(curve.energy_score.idxmin()) == model.epoch_
    np.testing.assert_array_equal(curve.discriminator_loss, model.training_curve_[:, 0])
    np.testing.assert_array_equal(curve.penalty_tau, model.training_curve_[:, 3])
    path = model.save(tmp_path / "m.safetensors")
    assert volscen.training_curve(path).identical(curve)
    assert {"curve.loss.penalty_tau", "curve.score.energy_score"} <= set(load_file(path))


def test_improved_mode_and_no_validation(history):
    one = volscen.fit(
        history, "volgan", mode="improved", epochs=2, matching_epochs=1, validation_days=0, progress=False
    )
    curve = volscen.training_curve(one)
    assert set(curve.data_vars) == {
        "discriminator_loss", "generator_cross_entropy", "penalty_moneyness", "penalty_tau"
    }  # fmt: skip
    assert curve.sizes["validation_epoch"] == 0


def test_a_curve_is_one_call_from_a_plot(model):
    pytest.importorskip("matplotlib").use("Agg")
    (line,) = volscen.training_curve(model).energy_score.plot()
    assert line.get_xdata().tolist() == [2, 4, 5]


def test_generators_without_epochs_say_so(history):
    with pytest.raises(InputError, match="'bootstrap' holds no training curve"):
        volscen.training_curve(volscen.fit(history, "bootstrap"))
    with pytest.raises(InputError, match="fitted generator or the path"):
        volscen.training_curve(3)


def test_file_of_an_early_version(model, tmp_path):
    """Early files had the curves in two arrays, and no outline of the data."""
    path = model.save(tmp_path / "m.safetensors")
    arrays = {k: v for k, v in load_file(path).items() if not k.startswith("curve.")}
    arrays |= {"training_curve": model.training_curve_, "validation_curve": model.validation_curve_}
    metadata = {k: v for k, v in header(path).items() if k not in ("curve", "record")}
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path, metadata={"volscen": json.dumps(metadata)})
    early = volscen.load(path)
    assert early.record_ is None
    np.testing.assert_array_equal(early.training_curve_, model.training_curve_)
    assert volscen.training_curve(early).identical(volscen.training_curve(model))


def test_record_of_the_data(history, model, tmp_path):
    record = model.record_
    assert record.n_dates == 150
    assert record.source == history.attrs["source"]
    assert set(record.versions) == {"volscen", "numpy", "torch"}
    assert (record.versions["volscen"], record.versions["numpy"]) == (volscen.__version__, np.__version__)
    assert record.versions["torch"].startswith(str(torch.__version__).partition("+")[0])
    assert record.log_return == (float(history.log_return[1:].min()), float(history.log_return[1:].max()))
    assert record.implied_vol == (float(history.implied_vol.min()), float(history.implied_vol.max()))
    atm = history.implied_vol.values[:, 0, 1]
    assert record.atm_vol == (atm.min(), atm.max())
    penalty = volscen.arbitrage.penalty(history.implied_vol.values, history.tau.values, history.moneyness.values)
    assert record.arbitrage_share == np.mean(penalty > 1e-6)
    assert volscen.load(model.save(tmp_path / "m.safetensors")).record_ == record
    assert "torch" not in volscen.fit(history, "bootstrap").record_.versions


def test_arbitrage_share_counts_surfaces(history):
    crossed = history.copy(deep=True)
    crossed.implied_vol[10:25, 2] = 0.05  # total variance falls to the last maturity
    clean = volscen.fit(history, "bootstrap").record_.arbitrage_share
    assert volscen.fit(crossed, "bootstrap").record_.arbitrage_share >= max(clean, 0.1)


@pytest.mark.parametrize(
    ("part", "wrong"),
    [("record", {}), ("record", []), ("record", "x"), ("curve", {}), ("curve", {"losses": {"a": "b"}, "scores": {}}),
     ("curve", []), ("record", "range"), ("record", "dates"), ("curve", "epoch")],
)  # fmt: skip
def test_broken_metadata_is_refused(model, tmp_path, part, wrong):
    path = model.save(tmp_path / "m.safetensors")
    metadata = header(path)
    if wrong == "range":
        metadata["record"]["atm_vol"] = [0.1]
    elif wrong == "dates":
        metadata["record"]["n_dates"] = "many"
    elif wrong == "epoch":
        metadata["curve"]["kept_epoch"] = 99
    else:
        metadata[part] = wrong
    save_file(load_file(path), path, metadata={"volscen": json.dumps(metadata)})
    with pytest.raises(FileFormatError, match="incomplete or inconsistent"):
        volscen.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"losses": {}}, "losses of one length"),
        ({"losses": {"a": np.zeros(2), "b": np.zeros(3)}}, "losses of one length"),
        ({"losses": {"A b": np.zeros(2)}}, "names"),
        ({"losses": {"score": np.zeros(2)}}, "names"),
        ({"text": {"a": "x"}}, "needs a text"),
        ({"score_epoch": np.array([3])}, "among the epochs"),
        ({"score_epoch": np.array([0])}, "among the epochs"),
        ({"score_epoch": np.array([1, 2])}, "one number for each"),
        ({"losses": {"a": np.array([1, np.nan])}}, "finite"),
        ({"kept_epoch": 3}, "none of the 2 epochs"),
    ],
)
def test_curves_that_do_not_fit_together(change, words):
    good = {
        "losses": {"a": np.zeros(2)}, "scores": {"score": np.ones(1)}, "score_epoch": np.array([2]), "kept_epoch": 2,
        "text": {"a": "x", "score": "y"},
    }  # fmt: skip
    assert TrainingCurve(**good).epochs == 2
    with pytest.raises(ValueError, match=words):
        TrainingCurve(**{**good, **change})
