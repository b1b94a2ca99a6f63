"""Smooth squares of arbitrage: beside the compiled penalty, a closed form, and differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from volscen import arbitrage
from volscen.generators._vae_lstm_penalty import arbitrage_squares

TAU = np.array([0.1, 0.25, 0.5, 1.0])
MONEYNESS = np.array([0.8, 0.9, 0.95, 1.0, 1.05, 1.1])


def squares(vol: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = arbitrage_squares(torch.from_numpy(vol), torch.from_numpy(TAU), torch.from_numpy(MONEYNESS))
    return found[0].numpy(), found[1].numpy()


def test_calendar_by_hand() -> None:
    vol = np.full((4, 6), 0.2)
    assert squares(vol)[0] == 0
    vol[3, 2] = 0.1  # total variance falls from .02 to .01, by half, at one of 18 points
    assert squares(vol)[0] == pytest.approx(0.25 / 18)


@given(st.integers(0, 10**6))
def test_zero_exactly_where_the_compiled_parts_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vol = 0.2 * np.exp(0.06 * rng.normal(size=(4, 6)) + 0.1 * rng.normal(size=(4, 1)))
    calendar, butterfly = squares(vol)
    parts = arbitrage.penalty(vol, TAU, MONEYNESS, parts=True)
    assert (calendar > 1e-12) == (parts[0] > 1e-9) or parts[0] < 1e-6
    assert (butterfly > 1e-14) == (parts[2] > 1e-9) or parts[2] < 1e-6


def test_the_slope_is_right_and_begins_at_zero() -> None:
    rng = np.random.default_rng(0)
    vol = torch.from_numpy(0.2 * np.exp(0.08 * rng.normal(size=(3, 4, 6)))).requires_grad_()
    axes = torch.from_numpy(TAU), torch.from_numpy(MONEYNESS)
    assert torch.autograd.gradcheck(lambda v: arbitrage_squares(v, *axes), (vol,), atol=1e-6)
    flat = torch.full((4, 6), 0.2, dtype=torch.float64, requires_grad=True)
    sum(arbitrage_squares(flat, *axes)).backward()
    assert flat.grad is not None
    assert float(flat.grad.abs().max()) == 0


def test_grids_too_small_for_a_violation() -> None:
    vol = torch.full((2, 1, 2), 0.2, dtype=torch.float64)
    calendar, butterfly = arbitrage_squares(vol, torch.tensor([0.5]), torch.tensor([0.9, 1.1]))
    assert calendar.tolist() == butterfly.tolist() == [0.0, 0.0]
