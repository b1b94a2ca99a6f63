"""The arbitrage penalty as a torch autograd function over the compiled kernel; imports torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from . import _core, arbitrage
from ._array import increasing_positive, thread_count
from .errors import InputError

__all__ = ["penalty"]

_Axes = tuple[NDArray[np.float64], NDArray[np.float64], int]


def _apply(function: Any, *operands: Any) -> Tensor:
    result: Tensor = function.apply(*operands)
    return result


class _First(torch.autograd.Function):
    """Hands first derivatives on, tied to the vols: what differentiates them again is told, not given zero."""

    @staticmethod
    def forward(ctx: Any, implied_vol: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            "the arbitrage penalty has first derivatives only: it cannot be differentiated twice "
            "(drop create_graph=True, or detach its gradient)"
        )


class _Sum(torch.autograd.Function):
    """p1 + p2 + p3: one run of the kernel gives the values and, where wanted, the derivatives."""

    @staticmethod
    def forward(ctx: Any, implied_vol: Tensor, axes: _Axes) -> Tensor:
        vol = implied_vol.detach().numpy()
        tau, moneyness, threads = axes
        if not ctx.needs_input_grad[0]:
            return torch.as_tensor(arbitrage.penalty(vol, tau, moneyness, num_threads=threads))
        value, gradient = arbitrage.penalty_gradient(vol, tau, moneyness, num_threads=threads)
        ctx.save_for_backward(implied_vol, torch.from_numpy(gradient))
        return torch.as_tensor(value)

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor, None]:
        implied_vol, gradient = ctx.saved_tensors
        (weight,) = weights
        with torch.no_grad():
            pulled = weight[..., None, None] * gradient
        return _apply(_First, implied_vol, weight, pulled), None


class _Parts(torch.autograd.Function):
    """p1, p2, p3 apart: the way back runs the kernel again with what each part counts."""

    @staticmethod
    def forward(ctx: Any, implied_vol: Tensor, axes: _Axes) -> Tensor:
        ctx.save_for_backward(implied_vol)
        ctx.axes = axes
        tau, moneyness, threads = axes
        return torch.from_numpy(
            arbitrage.penalty(implied_vol.detach().numpy(), tau, moneyness, parts=True, num_threads=threads)
        )

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor, None]:
        (implied_vol,) = ctx.saved_tensors
        (weight,) = weights
        tau, moneyness, threads = ctx.axes
        shape = implied_vol.shape
        surfaces = implied_vol.detach().reshape(math.prod(shape[:-2]), *shape[-2:]).contiguous().numpy()
        each = weight.detach().reshape(math.prod(shape[:-2]), 3).contiguous().numpy()
        double = implied_vol.dtype == torch.float64
        pullback: Any = _core.arbitrage_pullback_double if double else _core.arbitrage_pullback_float
        pulled = torch.from_numpy(pullback(surfaces, tau, moneyness, each, threads)).reshape(shape)
        return _apply(_First, implied_vol, weight, pulled), None


def penalty(
    implied_vol: Tensor, tau: ArrayLike, moneyness: ArrayLike, *, parts: bool, num_threads: int | None
) -> Tensor:
    """Differentiable penalty; see :func:`volscen.arbitrage.torch_penalty`."""
    if not isinstance(implied_vol, Tensor):
        raise InputError(
            f"implied_vol must be a torch tensor, not {type(implied_vol).__name__}; arbitrage.penalty takes arrays"
        )
    if implied_vol.device.type != "cpu":
        raise InputError(
            f"implied_vol lies on the device {implied_vol.device}, and the kernel runs on the CPU: pass "
            "implied_vol.cpu(), through which gradients flow back"
        )
    if implied_vol.dtype not in (torch.float32, torch.float64):
        raise InputError(f"implied_vol must be float32 or float64, not {implied_vol.dtype}; convert it with .to(...)")
    if implied_vol.layout != torch.strided:
        raise InputError(f"implied_vol must be a dense tensor, not {implied_vol.layout}; use .to_dense()")
    for name, axis in (("tau", tau), ("moneyness", moneyness)):
        if isinstance(axis, Tensor) and axis.requires_grad:
            raise InputError(f"{name} is a constant of the grid and has no derivative here; pass {name}.detach()")
    axes = (
        increasing_positive("tau", tau),
        increasing_positive("moneyness", moneyness),
        thread_count(num_threads),
    )
    return _apply(_Parts if parts else _Sum, implied_vol, axes)
