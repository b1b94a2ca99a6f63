"""Devices to evaluate networks on, by name; torch is imported where one is asked for."""

from __future__ import annotations

from typing import TypeVar

from volscen._workers import active_client
from volscen.generators import Generator
from volscen.generators._neural_options import CPU

__all__ = ["put_on"]

AnyGenerator = TypeVar("AnyGenerator", bound=Generator)


def put_on(generator: AnyGenerator, device: str, *, elsewhere: bool = False) -> AnyGenerator:
    """Generator as it is for ``"cpu"``, else a copy whose networks are evaluated on the device.

    Parameters
    ----------
    generator : Generator
        Fitted.
    device : str
        Checked already.
    elsewhere : bool
        Whether others may draw: with an active cluster its workers look for the device, not this process.

    Raises
    ------
    InputError
        If the generator has no networks, or the device is not there.
    """
    if device == CPU:
        return generator
    placed = generator._on(device)
    if not (elsewhere and active_client() is not None):
        from volscen.generators._device import find_device

        find_device(device)
    return placed
