"""A GPU that is none: tensors that say they lie on another device, with their numbers on the CPU.

What would fail on a GPU for where tensors lie fails here: operations of tensors here and there, arrays of tensors that
were not fetched, buffers that were left behind. What a GPU would compute is not told: the numbers are the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from volscen.generators import _device

__all__ = ["pretended_gpu"]

aten = torch.ops.aten


class There(Tensor):
    """A tensor on the device; ``held`` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device, requires_grad: bool = False) -> There:
        out: There = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=device, requires_grad=requires_grad,
        )  # fmt: skip
        out.held = held
        return out

    def __getitem__(self, index: Any) -> Tensor:
        """As torch's own, which asks for a device that must be there."""
        parts = list(index) if isinstance(index, tuple) else [index]
        if any(part is Ellipsis for part in parts):
            place = next(i for i, part in enumerate(parts) if part is Ellipsis)
            named = sum(part is not None for part in parts) - 1
            parts[place : place + 1] = [slice(None)] * (self.ndim - named)
        out: Tensor = self
        chosen: list[Tensor | None] = []
        for part in parts:
            dim = len(chosen)
            if isinstance(part, int):
                out = out.select(dim, part)
                continue
            if part is None:
                out = out.unsqueeze(dim)
            elif isinstance(part, slice):
                out = aten.slice.Tensor(out, dim, part.start, part.stop, 1 if part.step is None else part.step)
            chosen.append(part if isinstance(part, Tensor) else None)
        return aten.index.Tensor(out, chosen) if any(part is not None for part in chosen) else out

    def __setitem__(self, index: Any, value: Any) -> None:
        """As torch's own, without a gradient."""
        if torch.is_grad_enabled() and (self.requires_grad or (isinstance(value, Tensor) and value.requires_grad)):
            raise RuntimeError("no gradient goes through what is set by index")
        _one_place("__setitem__", [self, *([value] if isinstance(value, Tensor) else [])])
        place, numbers = tree_map(_held, (index, value))
        self.held[place] = numbers

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor on the device, outside the pretence")


class PretendedGpu(TorchDispatchMode):
    """Evaluate all of torch's operations on the CPU, and refuse those that mix places."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        # What torch's own fake tensors do, so that naming the device does not start CUDA.
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        self.device = device
        #: Operations evaluated there.
        self.evaluated: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                return func.decompose(*args, **kwargs)
        tensors = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, Tensor)]
        named = kwargs.pop("device", None)
        wanted = None if named is None else torch.device(named).type == self.device.type
        if func is aten._to_copy.default:
            there = isinstance(tensors[0], There) if wanted is None else wanted
            kwargs = {name: value for name, value in kwargs.items() if name not in ("pin_memory", "non_blocking")}
        else:
            if not tensors:
                there = bool(wanted)
            else:  # what copies from one place to another is asked for by name
                there = isinstance(tensors[0], There) if func is aten.copy_.default else _one_place(func, tensors)
            if named is not None:
                kwargs["device"] = "cpu" if wanted else named
        if there:
            self.evaluated.add(func.name())
        own, others = tree_map(_held, (args, kwargs))
        out = _STAND_INS.get(func, func)(*own, **others)
        if not there:
            return out
        known = {id(part.held): part for part in tensors if isinstance(part, There)}

        def placed(part: Any) -> Any:
            return known[id(part)] if id(part) in known else There(part, self.device)

        # A view of what is no tensor of inference is none either.
        plain = (
            bool(tensors) and not tensors[0].is_inference() and any(part.alias_info for part in func._schema.returns)
        )
        with torch.inference_mode(False) if plain else nullcontext():
            return tree_map(lambda part: placed(part) if isinstance(part, Tensor) else part, out)


def _held(part: Any) -> Any:
    return part.held if isinstance(part, There) else part


def _one_place(func: Any, tensors: list[Tensor]) -> bool:
    there = any(isinstance(part, There) for part in tensors)
    # As on a GPU a single number may lie here.
    if there and any(part.ndim and not isinstance(part, There) for part in tensors):
        raise RuntimeError(f"{func}: tensors on the device and on the CPU")
    return there


def _fused_lstm_cell(
    from_input: Tensor, from_state: Tensor, memory: Tensor, bias: Tensor | None = None, other: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel that an LSTM takes on GPUs and the CPU lacks (Hochreiter and Schmidhuber 1997, with forget gates)."""
    gates = from_input + from_state + (0 if bias is None else bias) + (0 if other is None else other)
    enter, forget, cell, leave = gates.chunk(4, dim=1)
    enter, forget, cell, leave = enter.sigmoid(), forget.sigmoid(), cell.tanh(), leave.sigmoid()
    kept = forget * memory + enter * cell
    return leave * kept.tanh(), kept, torch.cat([enter, forget, cell, leave], dim=1)


def _batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None, mean: Tensor, variance: Tensor, training: bool, *rates: float
) -> tuple[Tensor, ...]:
    """The kernel that builds of torch made with CUDA take on GPUs."""
    normalised = aten.native_batch_norm(x, weight, bias, mean, variance, training, *rates)
    return (*normalised, torch.empty(0, dtype=torch.uint8))


#: For operations that the CPU lacks.
_STAND_INS = {aten._thnn_fused_lstm_cell.default: _fused_lstm_cell, aten.cudnn_batch_norm.default: _batch_norm}


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch, kind: str = "cuda") -> Iterator[PretendedGpu]:
    """Let ``device="cuda"`` be pretended inside the context.

    ``kind="meta"`` pretends another device, of which every build of torch knows enough for gradients; of CUDA only
    those made with it do.
    """
    device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
    make = torch.tensor

    def tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        out = make(data, **options)  # torch's own makes it there out of sight
        return out if device is None else out.to(device)

    def find(name: str) -> torch.device:
        return device if name.startswith("cuda") else torch.device(name)

    # Parameters that move become others; in place they would stay tensors of torch's own class.
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    with monkeypatch.context() as patch:
        for module in ("_device", "_vae_lstm_fit", "_world_training"):
            patch.setattr(f"volscen.generators.{module}.find_device", find)
        patch.setattr(torch, "tensor", tensor)
        for name in ("device", "stream"):
            patch.setattr(torch.cuda, name, lambda _: nullcontext())
        patch.setattr(torch.cuda, "default_stream", lambda _: None)
        patch.setattr(_device, "_loaded", type(_device._loaded)())
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with PretendedGpu(device) as gpu:
                yield gpu
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)
