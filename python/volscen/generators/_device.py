"""Where torch evaluates networks: devices by name, arithmetic to the same bits every time, and twins of NumPy networks.

Sources: the notes on reproducibility and on numerical accuracy of torch, and the section on reproducibility of NVIDIA's
cuBLAS documentation, for what the settings below are there.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from volscen._threads import single_threaded_torch
from volscen.errors import InputError
from volscen.generators._neural_options import CPU, check_device

__all__ = ["Twin", "exact", "fill", "find_device", "here", "there"]

Array = npt.NDArray[Any]

#: One at a time: cuBLAS repeats its bits on one stream, and torch's settings are those of the whole process.
_lock = RLock()

#: Networks on devices by what they hold, so that several calls load them once; the last few are kept.
_loaded: OrderedDict[str, Any] = OrderedDict()
_KEPT = 8


def find_device(name: object) -> torch.device:
    """Device of a name; ``"cuda"`` is the first.

    Raises
    ------
    InputError
        If there is none of that name, or it is not there.
    """
    kind, _, index = check_device(name).partition(":")
    if kind == CPU:
        return torch.device(CPU)
    number = int(index or 0)
    if getattr(torch.cuda, "_is_in_bad_fork", bool)():
        raise InputError(
            f"device={name!r} cannot be used here: this process was forked from one that has used CUDA; start "
            "processes by 'spawn', as num_workers= does, or use device='cpu'"
        )
    if not torch.cuda.is_available():
        why = "torch finds no CUDA device" if torch.version.cuda else "this torch was built without CUDA"
        raise InputError(f"device={name!r} is not there: {why}; use device='cpu'")
    count = torch.cuda.device_count()
    if number >= count:
        raise InputError(
            f"device={name!r} is not there: torch finds {count} CUDA devices, 'cuda:0' to 'cuda:{count - 1}'"
        )
    return torch.device("cuda", number)


@contextmanager
def exact(device: torch.device, *, convolutions: bool = False) -> Iterator[None]:
    """Evaluate networks one thread at a time, without gradients, to the same bits every time on one device.

    Products of float32 numbers are such, not TF32. Convolutions take cuDNN's deterministic algorithms. All else goes
    without cuDNN, whose recurrent networks may differ from run to run. Settings are the process's: they are as before
    when the context is left.
    """
    with _lock, ExitStack() as stack:
        for owner, name, value in _settings(convolutions):
            before = getattr(owner, name)
            if before != value:
                setattr(owner, name, value)
                stack.callback(_restore, owner, name, before)
        if torch.are_deterministic_algorithms_enabled():
            # All operations here repeat their bits; where this is asked of all, torch refuses products on GPUs unless
            # an environment variable was set before CUDA started.
            stack.callback(
                torch.use_deterministic_algorithms,
                True,
                warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
            )
            torch.use_deterministic_algorithms(False)
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
            stack.enter_context(torch.cuda.stream(torch.cuda.default_stream(device)))
        else:
            stack.enter_context(single_threaded_torch())
        yield


def _settings(convolutions: bool) -> list[tuple[Any, str, Any]]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings: list[tuple[Any, str, Any]] = [
        (cudnn, "enabled", convolutions),
        (cudnn, "benchmark", False),
        (cudnn, "deterministic", True),
    ]
    # From torch 2.9 on precision is set by operation; having set it both ways, torch refuses to go on.
    if hasattr(cudnn, "conv"):
        return [*settings, *((owner, "fp32_precision", "ieee") for owner in (matmul, cudnn.conv))]
    return [*settings, (matmul, "allow_tf32", False), (cudnn, "allow_tf32", False)]


def _restore(owner: Any, name: str, before: Any) -> None:
    # "none" hands the question up to a wider setting, whose answer is what was read.
    if name == "fp32_precision" and before != "none":
        setattr(owner, name, "none")
        if getattr(owner, name) == before:
            return
    setattr(owner, name, before)


def fill(module: nn.Module, arrays: Mapping[str, Array], dtype: torch.dtype) -> nn.Module:
    """Give a module that was made on the device ``"meta"`` its parameters and buffers, ready to be evaluated.

    Raises
    ------
    InputError
        If a name or a shape does not fit.
    """
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    try:
        module.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise InputError(f"the saved arrays do not fit the networks ({' '.join(str(error).split())})") from None
    return module.to(dtype).eval()


class Twin(ABC):
    """Networks of a generator, evaluated by torch on a device in NumPy's place.

    It holds arrays and the name of the device, which is what goes to threads and other processes; tensors are made
    where they are first needed.

    Parameters
    ----------
    device : str
    arrays : mapping of str to ndarray
        All numbers of the networks.
    **shape
        What else decides the networks, as ``repr`` tells it.
    """

    #: Whether any network has convolutions.
    _convolutions: ClassVar[bool] = False

    def __init__(self, device: str, arrays: Mapping[str, Array], **shape: Any) -> None:
        self.device, self.arrays, self.shape = device, dict(arrays), shape
        self._network: Any = None

    @abstractmethod
    def _build(self) -> Any:
        """Make the networks of arrays and shape, on the CPU: a module, or a mapping of names to tensors."""

    @contextmanager
    def _ready(self) -> Iterator[tuple[Any, torch.device]]:
        """Networks on the device, and the device, for as long as they are evaluated."""
        device = find_device(self.device)
        with exact(device, convolutions=self._convolutions):
            if self._network is None:
                self._network = self._load(device)
            yield self._network, device

    def _load(self, device: torch.device) -> Any:
        digest = hashlib.sha256(f"{type(self).__qualname__} {device} {self.shape!r}".encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        key = digest.hexdigest()
        if key not in _loaded:
            # Not of the context that evaluates: the same tensors serve many calls.
            with torch.inference_mode(False), torch.no_grad():
                made = self._build()
                _loaded[key] = (
                    made.to(device)
                    if isinstance(made, nn.Module)
                    else {name: tensor.to(device) for name, tensor in made.items()}
                )
        _loaded.move_to_end(key)
        while len(_loaded) > _KEPT:
            _loaded.popitem(last=False)
        return _loaded[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}


def there(array: npt.ArrayLike, device: torch.device, dtype: npt.DTypeLike) -> Tensor:
    """Array on a device, rounded here to what the network takes, as NumPy's networks do."""
    return torch.from_numpy(np.array(array, dtype=dtype, order="C")).to(device)


def here(tensor: Tensor) -> npt.NDArray[np.float64]:
    """Tensor as an array in float64."""
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)
