"""VolGAN's training runs: the epoch kept, determinism, interruption and resume, divergence, what is learned."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

import volscen
from volscen.errors import FileFormatError, FitError, InputError
from volscen.generators import _volgan_training
from volscen.generators._volgan import VolGAN
from volscen.generators._volgan_data import training_data
from volscen.generators._volgan_kernel import AdversarialPair
from volscen.generators._volgan_validation import energy_score
from volscen.sources.simulate import SSVIMarket, simulate_market

MARKET = SSVIMarket((0.1, 0.3, 0.5), (0.9, 1.0, 1.15), 0.01)


@pytest.fixture(scope="module")
def history():
    return simulate_market(MARKET, 250, seed=5)


def small(**options):
    defaults = {"epochs": 6, "matching_epochs": 1, "validate_every": 2, "validation_scenarios": 20}
    return VolGAN(**{**defaults, "batch_size": 50, "seed": 3, "progress": False, **options})


def test_best_epoch_is_kept(history):
    """At a high learning rate scores go up and down; what is kept is what a run to the best epoch ends with."""
    options = {"learning_rate": 0.03, "validate_every": 1, "epochs": 12, "seed": 4}
    model = small(**options).fit(history)
    scores = model.validation_curve_[:, 1]
    assert model.validation_curve_[:, 0].tolist() == list(range(1, 13))
    assert model.epoch_ == 1 + int(np.argmin(scores))
    assert model.epoch_ < 12
    last = small(**options, keep="last").fit(history)
    assert last.epoch_ == 12
    until_best = small(**{**options, "epochs": model.epoch_}, keep="last").fit(history)
    for name, same in (("generator.weight1", until_best), ("discriminator.weight1", until_best)):
        np.testing.assert_array_equal(model.arrays()[name], same.arrays()[name])
        assert not np.array_equal(model.arrays()[name], last.arrays()[name])


def test_the_last_epoch_is_scored_even_between_validations(history):
    model = small(epochs=5).fit(history)
    assert model.validation_curve_[:, 0].tolist() == [2, 4, 5]
    assert small(epochs=1).fit(history).epoch_ == 1


def test_without_validation_days_the_last_epoch_is_kept(history):
    model = small(validation_days=0).fit(history)
    assert model.epoch_ == 6
    assert model.validation_curve_.shape == (0, 2)


# ------------------------------------------------------------------------------------ smoothness penalties
def test_smoothness_matched_fixed_and_none(history, tmp_path):
    """Fixed at the matched weights training is the same to the bit; the heavier, the smoother; without, classical."""
    matched = small(learning_rate=1e-3).fit(history)
    fixed = small(learning_rate=1e-3, smoothness=matched.alpha_).fit(history)
    assert fixed.alpha_ == matched.alpha_
    assert same_model(matched, fixed)
    heavy, none = (
        small(learning_rate=1e-3, epochs=40, keep="last", smoothness=wanted).fit(history)
        for wanted in ((0.1, 0.1), None)
    )
    assert none.alpha_ == (0.0, 0.0)
    assert heavy.training_curve_[-1, 2] < 0.5 * none.training_curve_[-1, 2]
    zero = small(learning_rate=1e-3, epochs=40, keep="last", smoothness=(0, 0)).fit(history)
    assert same_model(zero, none)
    for model in (heavy, none):
        loaded = volscen.load(model.save(tmp_path / "m.safetensors"))
        assert loaded.options == model.options
        assert json.loads(json.dumps(loaded.parameters())) == loaded.parameters()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"smoothness": "none"}, "smoothness must be 'match'"),
        ({"smoothness": (1.0,)}, "smoothness must be 'match'"),
        ({"smoothness": 3.0}, "smoothness must be 'match'"),
        ({"smoothness": (1.0, -1.0)}, r"smoothness\[1\] must be at least 0"),
        ({"smoothness": (1.0, float("nan"))}, r"smoothness\[1\] must be finite"),
        ({"smoothness": None, "mode": "improved"}, "mode 'improved' has no smoothness"),
        ({"smoothness": (0.1, 0.1), "mode": "reference"}, "as the public code does"),
    ],
)
def test_smoothness_that_cannot_be(options, words):
    with pytest.raises(InputError, match=words):
        small(**options)


# -------------------------------------------------------------------------------------------- determinism
def same_model(a, b):
    keys = a.arrays().keys()
    for name in ("training_curve_", "validation_curve_"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    return keys == b.arrays().keys() and all(np.array_equal(a.arrays()[k], b.arrays()[k]) for k in keys)


def test_seed_decides_everything(history):
    threads = torch.get_num_threads()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    try:
        torch.set_num_threads(2)
        first = small().fit(history)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.get_num_threads() == 2
        torch.manual_seed(2)
        torch.set_num_threads(1)
        assert same_model(small().fit(history), first)
    finally:
        torch.set_num_threads(threads)
    other = small(seed=4).fit(history)
    assert not np.array_equal(first.arrays()["generator.weight1"], other.arrays()["generator.weight1"])
    assert first.alpha_ != other.alpha_


def test_progress_is_silent_unless_asked(history, capsys):
    small(progress="auto").fit(history)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    small(progress=True).fit(history)
    assert "6/6" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ interruption, resume
def interrupt(monkeypatch, after_batches):
    """Press Ctrl-C in the middle of an epoch."""
    train_batch, calls = AdversarialPair.train_batch, itertools.count(1)

    def pressed(self, batch):
        train_batch(self, batch)
        if next(calls) == after_batches:
            raise KeyboardInterrupt

    monkeypatch.setattr(AdversarialPair, "train_batch", pressed)


def epochs_in(path):
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["volscen"])["epoch"]


@pytest.mark.parametrize("after_batches", [2, 5 * 3 + 1, 5 * 5])
def test_interrupted_training_ends_at_the_same_bits(history, tmp_path, after_batches):
    path = tmp_path / "run.ckpt"
    uninterrupted = small().fit(history)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after_batches)  # five batches an epoch
        model = small(checkpoint=path)
        with pytest.raises(KeyboardInterrupt):
            model.fit(history)
    assert not model.is_fitted
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]
    assert epochs_in(path) == (after_batches - 1) // 5  # the whole epochs before Ctrl-C
    assert same_model(small(checkpoint=path).fit(history), uninterrupted)
    # and once done, fitting again reads the result
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 1)
        assert same_model(small(checkpoint=path).fit(history), uninterrupted)


def test_interrupted_while_matching(history, tmp_path):
    path = tmp_path / "run.ckpt"
    with pytest.MonkeyPatch.context() as patch:

        def pressed(*args):
            raise KeyboardInterrupt

        patch.setattr(_volgan_training, "match_gradient_norms", pressed)
        with pytest.raises(KeyboardInterrupt):
            small(checkpoint=path).fit(history)
    assert same_model(small(checkpoint=path).fit(history), small().fit(history))


def test_killed_training_goes_on_from_the_last_checkpoint(history, tmp_path):
    """A crash writes nothing: what is there is the checkpoint of epoch 4."""
    path = tmp_path / "run.ckpt"
    with pytest.MonkeyPatch.context() as patch:
        train_batch, calls = AdversarialPair.train_batch, itertools.count(1)

        def crash(self, batch):
            if next(calls) == 5 * 5 + 2:
                raise MemoryError
            train_batch(self, batch)

        patch.setattr(AdversarialPair, "train_batch", crash)
        with pytest.raises(MemoryError):
            small(checkpoint=path, checkpoint_every=2).fit(history)
    with pytest.MonkeyPatch.context() as patch:
        train_batch, calls = AdversarialPair.train_batch, itertools.count(1)

        def count(self, batch):
            next(calls)
            train_batch(self, batch)

        patch.setattr(AdversarialPair, "train_batch", count)
        resumed = small(checkpoint=path).fit(history)
        assert next(calls) == 1 + 2 * 5  # epochs 5 and 6 only
    assert same_model(resumed, small().fit(history))


def test_more_epochs_go_on_from_a_finished_run(history, tmp_path):
    path = tmp_path / "run.ckpt"
    small(checkpoint=path, epochs=3).fit(history)
    assert same_model(small(checkpoint=path).fit(history), small().fit(history))
    with pytest.raises(InputError, match="already trained 6 epochs"):
        small(checkpoint=path, epochs=4).fit(history)


def test_checkpoint_of_another_run_is_refused(history, tmp_path):
    path = tmp_path / "run.ckpt"
    small(checkpoint=path, epochs=1).fit(history)
    content = path.read_bytes()
    with pytest.raises(InputError, match=r"learning_rate 0\.0001 there, 0\.001 here"):
        small(checkpoint=path, learning_rate=1e-3).fit(history)
    with pytest.raises(InputError, match="seed"):
        small(checkpoint=path, seed=9).fit(history)
    with pytest.raises(InputError, match=r"smoothness None there, \[1\.0, 1\.0\] here"):
        small(checkpoint=path, smoothness=(1, 1)).fit(history)
    changed = history.copy(deep=True)
    changed.implied_vol[-1, 0, 0] *= 1.001
    with pytest.raises(InputError, match="data_fingerprint"):
        small(checkpoint=path).fit(changed)
    with pytest.raises(InputError, match="periods_per_year"):
        small(checkpoint=path).fit(history.assign_attrs(periods_per_year=250.0))
    assert path.read_bytes() == content


def test_unreadable_checkpoint(history, tmp_path):
    path = tmp_path / "run.ckpt"
    path.write_text("not a checkpoint")
    with pytest.raises(FileFormatError, match="not a readable VolGAN checkpoint"):
        small(checkpoint=path).fit(history)
    path.unlink()
    model = small(checkpoint=path, epochs=1).fit(history)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FileFormatError, match="not a readable"):
        small(checkpoint=path).fit(history)
    model.save(path)  # a model is no checkpoint
    with pytest.raises(FileFormatError, match="not a readable"):
        small(checkpoint=path).fit(history)
    with pytest.raises(InputError, match="cannot write"):
        small(checkpoint=tmp_path / "absent" / "run.ckpt").fit(history)


def test_diverging_training_stops_and_keeps_the_checkpoint(history, tmp_path):
    path = tmp_path / "run.ckpt"
    good = small(checkpoint=path, epochs=4, checkpoint_every=1).fit(history)
    content = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        train_batch = AdversarialPair.train_batch

        def poisoned(self, batch):
            train_batch(self, batch)
            self.generator.flat[3] = torch.nan

        patch.setattr(AdversarialPair, "train_batch", poisoned)
        with pytest.raises(FitError, match="diverged in epoch 5 of 6"):
            small(checkpoint=path, checkpoint_every=1).fit(history)
    assert path.read_bytes() == content
    assert same_model(small(checkpoint=path, epochs=4).fit(history), good)


# ------------------------------------------------------------------------------------------ what it learns
def test_learns_a_law():
    """Scores on held-out days fall to within 1.6 times historical simulation's, on each of three seeds.

    Over fifteen seeds trained networks scored 1.12 to 1.28 times it; untrained ones, or ones trained on the
    penalties alone, 14 to 26 times.
    """
    market = simulate_market(MARKET, 600, seed=2)
    data = training_data(market, 100, 10)
    pool = torch.from_numpy(data.target * data.validation_scale)
    draws = pool[torch.randint(len(pool), (100, 200), generator=torch.Generator().manual_seed(0))]
    benchmark = float(energy_score(draws, torch.from_numpy(data.outcome)).mean())
    for seed in (11, 12, 13):
        model = VolGAN(
            epochs=300, learning_rate=1e-3, validation_days=100, validate_every=10, seed=seed, progress=False
        ).fit(market)
        assert model.validation_curve_[:, 1].min() < 1.6 * benchmark
