"""The penalty in torch: values of the array function, derivatives of an independent torch twin, clear refusals."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from volscen import arbitrage
from volscen.errors import InputError

TAU = np.array([30, 60, 91, 122, 152, 182, 273, 365]) / 365
MONEYNESS = np.linspace(0.6, 1.4, 10)


def surfaces(shape: tuple[int, ...], seed: int, noise: float = 0.1, dtype=torch.float64) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    smile = 0.2 + 0.15 * np.log(MONEYNESS) ** 2 - 0.08 * np.log(MONEYNESS) / TAU[:, np.newaxis] ** 0.25
    return torch.tensor(smile * np.exp(noise * rng.normal(size=(*shape, 8, 10))), dtype=dtype, requires_grad=True)


def twin(vol: torch.Tensor) -> torch.Tensor:
    tau, m = torch.tensor(TAU)[:, None], torch.tensor(MONEYNESS)
    s = vol * torch.sqrt(tau)
    d1 = (-torch.log(m) + s**2 / 2) / s
    call = torch.special.ndtr(d1) - m * torch.special.ndtr(d1 - s)
    slope = torch.diff(call, dim=-1) / torch.diff(m)
    calendar = tau[:-1] * (call[..., :-1, :] - call[..., 1:, :]) / torch.diff(tau, dim=0)
    terms = (calendar, slope, slope[..., :-1] - slope[..., 1:])
    return torch.stack([torch.relu(term).sum((-2, -1)) for term in terms], dim=-1)


def test_values_are_the_array_functions():
    vol = surfaces((5, 4), 0)
    array = vol.detach().numpy()
    for parts in (False, True):
        got = arbitrage.torch_penalty(vol, TAU, MONEYNESS, parts=parts, num_threads=2)
        assert got.requires_grad
        np.testing.assert_array_equal(got.detach(), arbitrage.penalty(array, TAU, MONEYNESS, parts=parts))
        fixed = arbitrage.torch_penalty(vol.detach(), TAU, MONEYNESS, parts=parts)
        assert not fixed.requires_grad
        np.testing.assert_array_equal(fixed, got.detach())
    one = arbitrage.torch_penalty(vol[0, 0], TAU, MONEYNESS)
    assert one.shape == ()
    one.backward()
    assert torch.count_nonzero(vol.grad[0, 0]) > 0
    assert torch.count_nonzero(vol.grad[1:]) == 0


def test_gradient_of_the_sum_matches_automatic_differentiation():
    vol, same = surfaces((7,), 1), surfaces((7,), 1)
    count = torch.arange(1.0, 8.0, dtype=torch.float64)
    (count * arbitrage.torch_penalty(vol, TAU, MONEYNESS)).sum().backward()
    (count * twin(same).sum(-1)).sum().backward()
    np.testing.assert_allclose(vol.grad, same.grad, rtol=1e-9, atol=1e-9)


def test_each_part_is_differentiated_apart():
    vol, same = surfaces((6, 2), 2), surfaces((6, 2), 2)
    weight = torch.tensor(np.random.default_rng(3).normal(size=(6, 2, 3)))
    (weight * arbitrage.torch_penalty(vol, TAU, MONEYNESS, parts=True)).sum().backward()
    (weight * twin(same)).sum().backward()
    np.testing.assert_allclose(vol.grad, same.grad, rtol=1e-9, atol=1e-9)
    # Weights of one give the gradient of the sum, bit for bit.
    whole = arbitrage.penalty_gradient(vol.detach().numpy(), TAU, MONEYNESS)[1]
    again = surfaces((6, 2), 2)
    arbitrage.torch_penalty(again, TAU, MONEYNESS, parts=True, num_threads=2).sum().backward()
    np.testing.assert_array_equal(again.grad, whole)


@pytest.mark.parametrize("parts", [False, True])
def test_gradcheck(parts):
    assert torch.autograd.gradcheck(
        lambda v: arbitrage.torch_penalty(v, TAU, MONEYNESS, parts=parts), surfaces((2,), 4), eps=1e-7, atol=1e-5
    )


@pytest.mark.parametrize("parts", [False, True])
def test_differentiating_twice_is_refused(parts):
    vol = surfaces((2,), 5)
    value = arbitrage.torch_penalty(vol, TAU, MONEYNESS, parts=parts)
    (slope,) = torch.autograd.grad(value.sum(), vol, create_graph=True)
    assert slope.requires_grad
    with pytest.raises(RuntimeError, match="first derivatives only"):
        (slope**2).sum().backward()


@pytest.mark.parametrize("parts", [False, True])
def test_float32_stays_float32(parts):
    vol = surfaces((3,), 6, dtype=torch.float32)
    value = arbitrage.torch_penalty(vol, TAU, MONEYNESS, parts=parts)
    value.sum().backward()
    assert value.dtype == vol.grad.dtype == torch.float32
    expected = arbitrage.penalty_gradient(vol.detach().numpy(), TAU, MONEYNESS)[1]
    np.testing.assert_allclose(vol.grad, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("parts", [False, True])
def test_any_strides_and_no_surfaces(parts):
    base = surfaces((4,), 7)
    dense = arbitrage.torch_penalty(base, TAU, MONEYNESS, parts=parts)
    dense.sum().backward()
    strided = base.detach().permute(2, 1, 0).contiguous().permute(2, 1, 0).requires_grad_()
    value = arbitrage.torch_penalty(strided, TAU, MONEYNESS, parts=parts)
    assert torch.equal(value, dense)
    value.sum().backward()
    assert torch.equal(strided.grad, base.grad)
    # A gradient that arrives broadcast, with strides of zero.
    none = torch.empty((0, 8, 10), requires_grad=True)
    empty = arbitrage.torch_penalty(none, TAU, MONEYNESS, parts=parts)
    assert empty.shape == ((0, 3) if parts else (0,))
    empty.sum().backward()
    assert none.grad.shape == (0, 8, 10)


def test_training_drives_the_penalty_down():
    vol = surfaces((3,), 8)
    log_vol = vol.detach().log().requires_grad_()
    optimiser = torch.optim.Adam([log_vol], lr=5e-3)
    first = last = 0.0
    for step in range(200):
        optimiser.zero_grad()
        value = arbitrage.torch_penalty(log_vol.exp(), TAU, MONEYNESS).sum()
        value.backward()
        optimiser.step()
        first, last = (value.item() if step == 0 else first), value.item()
    assert last < 0.1 * first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"implied_vol": np.full((8, 10), 0.2)}, "implied_vol must be a torch tensor"),
        ({"implied_vol": torch.empty((8, 10), device="meta")}, r"implied_vol.*device meta.*implied_vol\.cpu\(\)"),
        ({"implied_vol": torch.full((8, 10), 0.2).half()}, "implied_vol must be float32 or float64"),
        ({"implied_vol": torch.full((8, 10), 0.2).to_sparse()}, "implied_vol must be a dense"),
        ({"implied_vol": torch.full((10, 8), 0.2)}, "implied_vol must end in the axes"),
        ({"implied_vol": torch.full((8, 10), float("nan"))}, "implied_vol must be positive"),
        ({"tau": torch.tensor(TAU, requires_grad=True)}, r"tau is a constant.*tau\.detach\(\)"),
        ({"moneyness": torch.tensor(MONEYNESS, requires_grad=True)}, "moneyness is a constant"),
        ({"moneyness": MONEYNESS[::-1]}, "moneyness"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
@pytest.mark.parametrize("parts", [False, True])
def test_bad_arguments_are_named(change, message, parts):
    good = {"implied_vol": torch.full((8, 10), 0.2), "tau": torch.tensor(TAU), "moneyness": torch.tensor(MONEYNESS)}
    with pytest.raises(InputError, match=message):
        arbitrage.torch_penalty(**{**good, **change}, parts=parts)


def test_the_array_functions_do_not_import_torch():
    code = "import sys; from volscen import arbitrage as a; a.penalty([[0.2]], [1], [1]); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
