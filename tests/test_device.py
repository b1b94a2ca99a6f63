"""Sampling with the networks on a device: the law of NumPy up to rounding, the same bits however it is drawn.

There is a GPU on few machines. Torch's CPU takes the same way through the same code (``Generator._on("cpu")``); what a
GPU alone can show is tested where there is one.
"""

from __future__ import annotations

import pickle
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
import xarray as xr

import volscen
from cli_runner import volscen_command
from pretended_gpu import pretended_gpu
from volscen.errors import InputError
from volscen.evaluation import walk_forward
from volscen.generators import (
    REGISTRY,
    Generator,
    _device,
    _layer_twins,
    _placement,
    _vae_lstm_twin,
    _world_twins,
    generator_class,
)
from volscen.generators._device import Twin, exact, find_device
from volscen.history import State, state_at
from volscen.sources.simulate import simulate_market

# Small enough to train in a second or two in all, in every way in which its networks can be built.
DDPM = {"epochs": 1, "hidden": (8, 6), "diffusion_steps": 6, "validate_every": 1}
RESIDUAL = {"epochs": 1, "refits": 1, "batch_size": 64, "members": 2, "draws": 4, "hidden": (8, 6), "n_components": 3}
VAE = {"latent_dim": 3, "hidden": (8, 6), "lstm_hidden": (8, 6), "window": 5, "vae_epochs": 1, "epochs": 1,
       "horizons": (1, 5), "heads": 2}  # fmt: skip
VOLGAN = {"epochs": 1, "matching_epochs": 1}
WORLD = {"raster_size": 16, "channels": (4, 3, 5), "latent_dim": 4, "epochs": 1, "dynamics_epochs": 1, "hidden": 8}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("ddpm", DDPM),
    "ddpm, eta 0": ("ddpm", DDPM | {"eta": 0.0, "sampling_steps": 3, "diffusion": "linear"}),
    "residual_net": ("residual_net", RESIDUAL | {"base": "pca"}),
    "vae_lstm": ("vae_lstm", VAE),
    "vae_lstm, additive": ("vae_lstm", VAE | {"attention": "additive"}),
    "vae_lstm, dot": ("vae_lstm", VAE | {"attention": "dot", "dynamics": "iterated", "rollout": 2}),
    "volgan": ("volgan", VOLGAN),
    "volgan, improved": ("volgan", VOLGAN | {"mode": "improved"}),
    "world": ("world", WORLD),
    "world, pca+conv": ("world", WORLD | {"decoder": "pca+conv", "dynamics": "direct"}),
}
#: Saved arrays that are networks, by the beginning of their names.
NETWORKS = ("network", "generator.", "vision.", "dynamics.")
#: Unit roundoff of the coarsest network of a generator.
ROUNDOFF = {"ddpm": 2.0**-24, "residual_net": 2.0**-53, "vae_lstm": 2.0**-24, "volgan": 2.0**-53, "world": 2.0**-24}
N = 1100
#: Bounds found already, of the module's models.
BOUNDS: dict[int, np.ndarray] = {}


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return simulate_market("A", 460, seed=11)


@pytest.fixture(scope="module")
def models(history: xr.Dataset) -> dict[str, Generator]:
    known = history.isel(date=slice(0, 440))
    return {
        case: shaken(volscen.fit(known, name, **options, progress=False)) for case, (name, options) in CASES.items()
    }


def rebuilt(model: Generator, change: Any) -> Generator:
    """The model with other arrays."""
    metadata, arrays = model._pack()
    changed = {name: np.asarray(change(name, array), dtype=array.dtype) for name, array in arrays.items()}
    return type(model)._from_file(metadata, changed, None)


def shaken(model: Generator) -> Generator:
    """Parameters moved about, so that no layer is zero or idle, and the networks' word is believed."""
    rng = np.random.default_rng(0)

    def change(name: str, array: Any) -> Any:
        if name == "law.shrink":
            return np.ones(2)
        if name == "chosen":  # the share of the paths that are the network's
            return [0.5, 0.0, 1.0]
        if not name.startswith(NETWORKS) or name.endswith(("running_var", "loadings")):
            return array
        return array + 0.1 * rng.standard_normal(array.shape)

    return rebuilt(model, change)


def start(model: Generator, history: xr.Dataset) -> State:
    return state_at(history, history.date.values[450], n_returns=model.n_returns, n_surfaces=model.n_surfaces)


def draw(model: Generator, history: xr.Dataset, n: int = 24, horizon: int = 2) -> np.ndarray:
    """Returns and log vols (n, horizon, 1 + cells) by one seed."""
    log_return, implied_vol = model.sample(start(model, history), n, horizon, np.random.default_rng(5))
    return np.concatenate([log_return[..., None], np.log(implied_vol).reshape(n, horizon, -1)], axis=-1)


def bound(model: Generator, history: xr.Dataset) -> np.ndarray:
    """How far two evaluations of one network can lead the paths apart: (horizon, 1 + cells).

    An inner product of n terms, summed in any order, is exact for weights that differ relatively by n u at most, u the
    unit roundoff (Higham 2002, section 3.1); two evaluations differ by twice that. What weights do to paths is measured
    to first order, on weights moved relatively by plus or minus 1e-4. A dozen roundings more are for bias, activation
    and what is rounded on the way in.
    """
    if id(model) in BOUNDS:
        return BOUNDS[id(model)]
    rng, step = np.random.default_rng(1), 1e-4
    plain = draw(model, history)

    def change(name: str, array: Any) -> Any:
        return array * (1 + step * rng.choice([-1, 1], array.shape)) if name.startswith(NETWORKS) else array

    moved = [draw(rebuilt(model, change), history) for _ in range(3)]
    slope = np.abs(np.stack(moved) - plain).max(axis=(0, 1)) / step
    assert (slope > 0).all()
    longest = 0
    for twin in model._twins("cpu").values():
        wide = [array.size // min(array.shape) for array in twin.arrays.values() if array.ndim > 1 and array.size]
        longest = max(longest, *twin.shape.get("widths", wide))
    # Even the least difference may round log vols, their exponentials and logarithms the other way.
    law = 8 * 2.0**-53 * np.abs(plain).max(axis=0)
    BOUNDS[id(model)] = np.asarray(2 * (longest + 12) * ROUNDOFF[model.name] * slope + law)
    return BOUNDS[id(model)]


def apart(model: Generator, placed: Generator, history: xr.Dataset) -> np.ndarray:
    return np.abs(draw(placed, history) - draw(model, history)).max(axis=0)


def with_twins(placed: Generator, **twins: Any) -> Generator:
    other = pickle.loads(pickle.dumps(placed))
    other.__dict__.update(twins)
    return other


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    for name in one.variables:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))
    assert one.attrs["device"] == other.attrs["device"]


# ---------------------------------------------------------------------------------------------- every generator
@pytest.mark.parametrize("name", REGISTRY)
def test_no_generator_forgets_the_device(name: str, history: xr.Dataset) -> None:
    """Those trained by torch are evaluated on devices, and are among the cases here; the others say so."""
    made = generator_class(name)
    assert made._has_networks() == ("torch" in made._PACKAGES) == (name in {n for n, _ in CASES.values()})
    if not made._has_networks():
        with pytest.raises(InputError, match=rf"generator '{name}' has no network to evaluate on device='cuda'"):
            made()._on("cuda")


@pytest.mark.parametrize("case", CASES)
def test_torch_draws_what_numpy_draws(case: str, models: dict[str, Generator], history: xr.Dataset) -> None:
    model = models[case]
    placed = model._on("cpu")
    for name, twin in model._twins("cpu").items():
        assert isinstance(placed.__dict__[name], Twin)
        assert not isinstance(model.__dict__[name], Twin)
        assert not any(torch.is_tensor(part) for part in twin.__dict__.values())
    difference = apart(model, placed, history)
    assert (difference <= bound(model, history)).all(), (difference / bound(model, history)).max()
    again = pickle.loads(pickle.dumps(placed))
    np.testing.assert_array_equal(draw(again, history), draw(placed, history))
    assert draw(placed, history, n=1, horizon=1).shape == (1, 1, 81)
    # What the model is does not depend on where it is evaluated, nor does the verdict on its start.
    assert placed.arrays().keys() == model.arrays().keys()


@pytest.mark.parametrize("case", [case for case, (name, _) in CASES.items() if ROUNDOFF[name] > 1e-10])
def test_coarser_numbers_would_be_seen(
    case: str, models: dict[str, Generator], history: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs cut to the ten bits of TF32 lead further apart than the bound, with nothing else changed."""
    plain = _device.there

    def coarse(array: Any, device: torch.device, dtype: Any) -> torch.Tensor:
        found = plain(array, device, dtype)
        return (found.view(torch.int32) & ~0x1FFF).view(torch.float32) if found.dtype == torch.float32 else found

    for module in (_layer_twins, _vae_lstm_twin, _world_twins):
        monkeypatch.setattr(module, "there", coarse)
    model = models[case]
    assert (apart(model, model._on("cpu"), history) > bound(model, history)).mean() > 0.5


def test_softplus_is_exact_far_out() -> None:
    """Torch's own takes x itself from 20 on, which is off by 2e-9: enough to be seen in float64."""
    layers = [(np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1))]
    x = np.linspace(-60, 60, 241)[:, None]
    with mpmath.workdps(40):
        expected = [float(mpmath.log1p(mpmath.exp(float(value)))) for value in x[:, 0]]
    np.testing.assert_allclose(_layer_twins.SoftplusTwin("cpu", layers)(x)[:, 0], expected, rtol=4 * 2.0**-53)


@pytest.mark.parametrize("case", CASES)
def test_every_array_counts(case: str, models: dict[str, Generator], history: xr.Dataset) -> None:
    """An array in another layout is refused, or leads the paths further apart than rounding can."""
    model = models[case]
    placed = model._on("cpu")
    allowed = bound(model, history)
    for attribute, twin in model._twins("cpu").items():
        for name, array in twin.arrays.items():
            if not array.size:
                continue
            turned = {"reversed": array.ravel()[::-1].reshape(array.shape).copy()}
            if array.ndim == 2:
                turned["transposed"] = array.T.copy()
            for how, other in turned.items():
                if other.shape == array.shape and np.array_equal(other, array):
                    continue
                twin.arrays[name] = other
                try:
                    difference = apart(model, with_twins(placed, **{attribute: twin}), history)
                except (InputError, RuntimeError, ArithmeticError):
                    continue
                finally:
                    twin.arrays[name] = array
                assert (difference > allowed).any(), f"{attribute} {name} {how}"


def test_arrays_that_do_not_fit_are_named(models: dict[str, Generator], history: xr.Dataset) -> None:
    model = models["world"]
    twin = model._twins("cpu")["_recurrence"]
    twin.arrays["lstm.weight_hh_l0"] = twin.arrays["lstm.weight_hh_l0"][:, :-1]
    with pytest.raises(InputError, match=r"do not fit the networks .*weight_hh_l0"):
        draw(with_twins(model._on("cpu"), _recurrence=twin), history)
    twin = model._twins("cpu")["_vision"]
    del twin.arrays["decoder.8.bias"]
    with pytest.raises(InputError, match=r"Missing key.*decoder\.8\.bias"):
        draw(with_twins(model._on("cpu"), _vision=twin), history)


# ------------------------------------------------------------------------------------------------- whole cubes
@pytest.mark.parametrize("case", ["ddpm", "world", "vae_lstm"])
def test_chunks_and_threads_change_no_bit(case: str, models: dict[str, Generator], history: xr.Dataset) -> None:
    placed = models[case]._on("cpu")
    options: dict[str, Any] = {"n_scenarios": N, "horizon": 2, "seed": 3}
    whole = volscen.generate(placed, history, num_threads=3, **options)
    assert whole.attrs["device"] == "cpu"
    same(volscen.generate(placed, history, num_threads=1, **options), whole)
    lazy = volscen.generate(placed, history, chunks=700, **options)
    same(lazy.compute(), whole)
    plain = volscen.generate(models[case], history, **options)
    assert "device" not in plain.attrs
    assert 0 < np.abs(plain.log_return - whole.log_return).max() < 1e-6
    np.testing.assert_array_equal(plain.state_clipped, whole.state_clipped)
    # Nearly the same is not the same, and goes by another name.
    numpy = volscen.generate(models[case], history, chunks=700, **options)
    assert numpy.implied_vol.data.name != lazy.implied_vol.data.name


def test_files_conditions_and_projections(models: dict[str, Generator], history: xr.Dataset, tmp_path: Any) -> None:
    placed = models["ddpm"]._on("cpu")
    options: dict[str, Any] = {"n_scenarios": N, "seed": 3, "project": True}
    whole = volscen.generate(placed, history, **options)
    path = volscen.write(volscen.generate(placed, history, chunks=1024, **options), tmp_path / "c.zarr")
    same(volscen.read(path), whole)
    assert (whole.arbitrage_penalty == 0).all()
    given = {"log_return": (-0.01, 0.0)}
    known = volscen.generate(placed, history, n_scenarios=100, seed=3, given=given)
    plain = volscen.generate(models["ddpm"], history, n_scenarios=100, seed=3, given=given)
    np.testing.assert_allclose(known.log_return, plain.log_return, atol=1e-7)
    assert ((known.log_return >= -0.01) & (known.log_return <= 0)).all()


def test_several_assets(models: dict[str, Generator], history: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assets with networks are drawn on the device, the others as ever; none with any is refused."""
    both = {"A": history, "B": history}
    joint = volscen.fit_joint(both, {"A": "bootstrap", "B": "ddpm"}, coupling="ranks",
                              options={"B": DDPM | {"progress": False}})  # fmt: skip
    plain = volscen.generate_joint(joint, both, n_scenarios=200, seed=1)
    monkeypatch.setattr(_device, "find_device", lambda name: torch.device("cpu"))
    there = volscen.generate_joint(joint, both, n_scenarios=200, seed=1, device="cuda:3")
    np.testing.assert_array_equal(there["A"].implied_vol, plain["A"].implied_vol)
    assert 0 < np.abs(there["B"].implied_vol - plain["B"].implied_vol).max() < 1e-5
    assert "device" not in there["A"].attrs
    assert there["B"].attrs["device"] == "cuda:3"
    assert volscen.stack_assets(there).attrs["device"] == "A: cpu; B: cuda:3"
    assert "device" not in volscen.stack_assets(plain).attrs
    none = volscen.fit_joint(both, {"A": "bootstrap", "B": "pca"}, coupling="none")
    with pytest.raises(InputError, match=r"no asset's generator .'bootstrap', 'pca'. has a network"):
        volscen.generate_joint(none, both, n_scenarios=200, device="cuda")


def test_evaluations(
    models: dict[str, Generator], history: xr.Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The generators with networks are walked on the device, the baseline is not; one folder holds one of the two."""
    days = history.date.values[[-20, -1]]
    period: dict[str, Any] = {"first": days[0], "last": days[1], "n_scenarios": 50, "measures": ()}
    for refused in (["pca"], {"a": ("pca", {})}):
        with pytest.raises(InputError, match="none of the generators has a network"):
            volscen.evaluate(refused, history, device="cuda", **period)
    with pytest.raises(InputError, match="'pca' has no network"):
        walk_forward("pca", history, device="cuda", **period)
    monkeypatch.setattr(_device, "find_device", lambda name: torch.device("cpu"))
    plain = walk_forward(models["ddpm"], history, folder=tmp_path, **period)
    there = walk_forward(models["ddpm"], history, device="cuda", **period)
    assert "device" not in plain.attrs
    assert there.attrs["device"] == "cuda"
    assert 0 < np.abs(there.energy_score - plain.energy_score).max() < 1e-6
    with pytest.raises(InputError, match="device"):
        walk_forward(models["ddpm"], history, device="cuda", folder=tmp_path, **period)
    both = {
        where: volscen.evaluate({"d": models["ddpm"]}, history, device=where, **period) for where in ("cpu", "cuda")
    }
    skill = [both[where].skill.sel(generator="d").values for where in ("cpu", "cuda")]
    np.testing.assert_allclose(skill[1], skill[0], atol=1e-6)
    assert not np.array_equal(skill[1], skill[0], equal_nan=True)


def test_networks_are_loaded_once_and_anew_when_they_change(
    models: dict[str, Generator], history: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    plain = _layer_twins.ReversalTwin._build

    def counted(self: Any) -> Any:
        built.append(self.device)
        return plain(self)

    monkeypatch.setattr(_layer_twins.ReversalTwin, "_build", counted)
    monkeypatch.setattr(_device, "_loaded", type(_device._loaded)())
    model = models["ddpm"]
    for seed in (1, 2):
        volscen.generate(model._on("cpu"), history, n_scenarios=3000, seed=seed, num_threads=3)
    assert len(built) == 1
    other = rebuilt(model, lambda name, array: array * 1.01 if name == "network" else array)
    assert (draw(other._on("cpu"), history) != draw(model._on("cpu"), history)).any()
    assert len(built) == 2
    for i in range(2, 12):
        scaled = rebuilt(model, lambda name, array, i=i: array * (1 + i / 1e3) if name == "network" else array)
        draw(scaled._on("cpu"), history, n=4, horizon=1)
    assert len(_device._loaded) == _device._KEPT


def test_torch_is_left_as_it_was(models: dict[str, Generator], history: xr.Dataset) -> None:
    """Settings, threads and random numbers of the process; a lazily chosen precision stays one."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    name, coarse, fine = ("fp32_precision", "tf32", "ieee") if hasattr(cudnn, "conv") else ("allow_tf32", True, False)
    conv = cudnn.conv if hasattr(cudnn, "conv") else cudnn

    def settings() -> list[Any]:
        read = [cudnn.enabled, cudnn.benchmark, cudnn.deterministic, getattr(matmul, name), getattr(conv, name)]
        read += [torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()]
        return [*read, torch.get_num_threads(), torch.is_inference_mode_enabled(), torch.get_rng_state().sum().item()]

    start_settings = settings()
    before = getattr(matmul, name)
    setattr(matmul, name, coarse)
    cudnn.benchmark = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        changed = settings()
        with exact(torch.device("cpu"), convolutions=True):
            assert (getattr(matmul, name), getattr(conv, name)) == (fine, fine)
            assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == (True, False, True)
            with exact(torch.device("cpu")):
                assert not cudnn.enabled
            assert cudnn.enabled
            assert torch.is_inference_mode_enabled()
            assert not torch.are_deterministic_algorithms_enabled()
        assert settings() == changed
        with pytest.raises(KeyError), exact(torch.device("cpu")):
            raise KeyError
        assert settings() == changed
        draw(models["world"]._on("cpu"), history)
        assert settings() == changed
    finally:
        setattr(matmul, name, before)
        cudnn.benchmark = False
        torch.use_deterministic_algorithms(False)
    assert settings() == start_settings


def test_what_a_user_sets_in_torch_does_not_matter(models: dict[str, Generator], history: xr.Dataset) -> None:
    model = models["world"]
    plain = draw(model._on("cpu"), history)
    try:
        torch.set_default_dtype(torch.float64)
        _device._loaded.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            np.testing.assert_array_equal(draw(model._on("cpu"), history), plain)
    finally:
        torch.set_default_dtype(torch.float32)
    _device._loaded.clear()
    with torch.device("meta"):  # tensors that do not say where they are to be would be nowhere
        np.testing.assert_array_equal(draw(model._on("cpu"), history), plain)


def test_the_command_line_and_configurations(
    models: dict[str, Generator], history: xr.Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    models["ddpm"].save(tmp_path / "model.safetensors")
    volscen.write(history, tmp_path / "history.nc")
    files = ("--model", "model.safetensors", "--history", "history.nc", "-n", 200, "--seed", 1, "--out", "cube.nc")
    done = volscen_command("generate", *files, "--device", "gpu", cwd=tmp_path)
    assert done.returncode != 0
    assert "device must be 'cpu' or 'cuda'" in done.stderr
    done = volscen_command("evaluate", "history.nc", "--scenarios", "a=cube.nc", "--train-end", "2020-01-01",
                           "--device", "cuda", cwd=tmp_path)  # fmt: skip
    assert "--device goes with --generator" in done.stderr
    monkeypatch.setattr(_device, "find_device", lambda name: torch.device("cpu"))
    done = volscen_command("generate", *files, "--device", "cuda:1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cube = volscen.read(tmp_path / "cube.nc")
    assert cube.attrs["device"] == "cuda:1"
    same(cube, volscen.generate(models["ddpm"], history, n_scenarios=200, seed=1, device="cuda:1"))
    night = '[run]\nhistory = "history.nc"\nmodel = "model.safetensors"\nscenarios = "night.nc"\n'
    (tmp_path / "night.toml").write_text(f'{night}[generate]\nn_scenarios = 200\nseed = 1\ndevice = "cuda:1"\n')
    assert volscen_command("run", "night.toml", cwd=tmp_path).returncode == 0
    same(volscen.read(tmp_path / "night.nc"), cube)


# ------------------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cpu:0", "", 0, None, np.nan])
def test_names_that_are_none(device: Any, models: dict[str, Generator], history: xr.Dataset) -> None:
    with pytest.raises(InputError, match="device must be 'cpu' or 'cuda'"):
        volscen.generate(models["ddpm"], history, n_scenarios=10, device=device)
    with pytest.raises(InputError, match="device must be 'cpu' or 'cuda'"):
        generator_class("world")(device=device)
    with pytest.raises(InputError, match="device must be 'cpu' or 'cuda'"):
        generator_class("vae_lstm")(device=device)


def test_generators_without_networks_refuse_a_device(history: xr.Dataset) -> None:
    pca = volscen.fit(history, "pca")
    for model, known in ((pca, history), (None, history), (None, None)):
        with pytest.raises(InputError, match=r"'(pca|har)' has no network to evaluate on device='cuda'; leave device="):
            volscen.generate(model, known, n_scenarios=10, device="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_absent_device_is_never_replaced(
    models: dict[str, Generator], history: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["ddpm"]
    for chunks in (None, 1024):
        with pytest.raises(InputError, match=r"device='cuda:1' is not there: .*; use device='cpu'"):
            volscen.generate(model, history, n_scenarios=10, device="cuda:1", chunks=chunks)
    # On a cluster the workers may have what the caller has not: they look for themselves, and say so too.
    monkeypatch.setattr(_placement, "active_client", lambda: object())
    lazy = volscen.generate(model, history, n_scenarios=10, device="cuda:1", chunks=1024)
    assert lazy.attrs["device"] == "cuda:1"
    with pytest.raises(InputError, match="device='cuda:1' is not there"):
        lazy.compute()
    with pytest.raises(InputError, match="device='cuda:1' is not there"):
        volscen.generate(model, history, n_scenarios=10, device="cuda:1")


def test_a_forked_process_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(InputError, match="device='cuda:1' cannot be used here: this process was forked"):
        find_device("cuda:1")
    assert find_device("cpu") == torch.device("cpu")


def test_a_device_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda") == find_device("cuda:0") == torch.device("cuda:0")
    assert find_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="finds 2 CUDA devices, 'cuda:0' to 'cuda:1'"):
        find_device("cuda:2")


# ----------------------------------------------------------------------------------------------- a GPU that is none
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_behind(
    case: str, models: dict[str, Generator], history: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tensors of a network are on the GPU together, and come back: as far as that can be seen without one."""
    model = models[case]
    plain = draw(model._on("cpu"), history)
    with pretended_gpu(monkeypatch) as gpu:
        there = draw(model._on("cuda"), history)
    assert {"aten::_to_copy"} < gpu.evaluated
    assert gpu.evaluated & {"aten::addmm", "aten::baddbmm", "aten::bmm", "aten::mm"}
    # An LSTM's kernel there adds in another order than the one here.
    assert (np.abs(there - plain).max(axis=(0, 1)) <= bound(model, history)).all()
    for module in (_layer_twins, _vae_lstm_twin, _world_twins):
        with monkeypatch.context() as patch, pretended_gpu(monkeypatch):
            patch.setattr(module, "there", lambda array, device, dtype: torch.from_numpy(np.array(array, dtype)))
            used = any(type(twin).__module__ == module.__name__ for twin in model._twins("cpu").values())
            if used:
                with pytest.raises(RuntimeError, match="tensors on the device and on the CPU"):
                    draw(model._on("cuda"), history)
            patch.setattr(module, "there", _device.there)
            patch.setattr(module, "here", lambda tensor: tensor.numpy())
            if used:
                with pytest.raises((TypeError, RuntimeError)):
                    draw(model._on("cuda"), history)


def test_all_that_is_evaluated_there_repeats_its_bits(
    models: dict[str, Generator], history: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No operation is among those that torch lists as not deterministic on CUDA: sums into places, above all."""
    by_element = "add add_ sub mul div exp tanh sigmoid silu elu softplus leaky_relu clamp"
    moves = "_to_copy _unsafe_view cat clone detach empty expand permute select slice split squeeze stack t transpose"
    # Products on one stream, convolutions and normalisation as cuDNN is told, sums along one axis.
    others = "unbind unsqueeze view zeros addmm baddbmm bmm mm convolution native_batch_norm mean _softmax"
    known = {f"aten::{name}" for name in f"{by_element} {moves} {others}".split()}
    known |= {"aten::_thnn_fused_lstm_cell", "aten::cudnn_batch_norm"}
    for model in models.values():
        with pretended_gpu(monkeypatch) as gpu:
            draw(model._on("cuda"), history)
        assert {name.partition(".")[0] for name in gpu.evaluated} <= known


@pytest.mark.parametrize("case", ["vae_lstm", "vae_lstm, dot", "world, pca+conv"])
def test_training_leaves_nothing_behind(case: str, history: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options = CASES[case]
    plain = volscen.fit(history, name, **options, progress=False).arrays()
    with pretended_gpu(monkeypatch, "meta") as gpu:
        there = volscen.fit(history, name, **options, progress=False, device="cuda").arrays()
    assert any("backward" in name for name in gpu.evaluated)
    assert there.keys() == plain.keys()
    for key, array in there.items():
        np.testing.assert_allclose(array, plain[key], rtol=1e-3, atol=1e-5, err_msg=key)


# --------------------------------------------------------------------------------------------------------- a GPU
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@cuda
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_draws_what_numpy_draws(case: str, models: dict[str, Generator], history: xr.Dataset) -> None:
    model = models[case]
    difference = apart(model, model._on("cuda"), history)
    assert (difference <= bound(model, history)).all(), (difference / bound(model, history)).max()


@cuda
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_repeats_its_bits(case: str, models: dict[str, Generator], history: xr.Dataset, tmp_path: Any) -> None:
    """Chunks, threads, pickling, a stream beside, coarse settings, memory in other places: not a bit."""
    model = models[case]
    options: dict[str, Any] = {"n_scenarios": 3000, "horizon": 2, "seed": 3, "device": "cuda"}
    whole = volscen.generate(model, history, num_threads=1, **options)
    assert whole.attrs["device"] == "cuda"
    same(volscen.generate(model, history, num_threads=8, **options), whole)
    same(volscen.generate(pickle.loads(pickle.dumps(model)), history, chunks=700, **options).compute(), whole)
    same(
        volscen.read(volscen.write(volscen.generate(model, history, chunks=1024, **options), tmp_path / "c.nc")), whole
    )
    _device._loaded.clear()
    held = [torch.empty(1013 * i, device="cuda") for i in range(1, 20)]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.cuda.stream(torch.cuda.Stream()), torch.autocast("cuda"):
            same(volscen.generate(model, history, num_threads=1, **options), whole)
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(held) == 19


@cuda
def test_a_gpu_of_full_size_is_worth_it(history: xr.Dataset) -> None:
    """The world model as it is by default: equal to NumPy's, and not slower than one thread of it."""
    import time

    model = volscen.fit(history, "world", epochs=1, dynamics_epochs=1, progress=False)
    options: dict[str, Any] = {"n_scenarios": 2048, "seed": 1, "num_threads": 1}
    volscen.generate(model, history, **options | {"device": "cuda"})
    seconds, cubes = [], []
    for device in ("cpu", "cuda"):
        begin = time.perf_counter()
        cubes.append(volscen.generate(model, history, **options, device=device))
        seconds.append(time.perf_counter() - begin)
    np.testing.assert_allclose(cubes[1].implied_vol, cubes[0].implied_vol, rtol=1e-4)
    assert seconds[1] < seconds[0]
