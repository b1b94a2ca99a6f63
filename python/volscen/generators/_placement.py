"""Generators on the devices that a caller names; torch is imported where one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from volscen._workers import active_client
from volscen.errors import InputError
from volscen.generators import Generator
from volscen.generators._neural_options import CPU

__all__ = ["look_for", "put_on", "with_networks"]

AnyGenerator = TypeVar("AnyGenerator", bound=Generator)


def look_for(device: str, generator: Generator | type[Generator], *, elsewhere: bool = False) -> None:
    """Make sure that a generator can be drawn from on a device, before any work is done.

    Parameters
    ----------
    device : str
        Checked already to be a name.
    generator : Generator or its class
    elsewhere : bool
        Whether the workers of a cluster draw: they look for the device, not this process.

    Raises
    ------
    InputError
        If the generator has no networks, or the device is not there.
    """
    if device == CPU:
        return
    generator._need_networks(device)
    if not elsewhere:
        from volscen.generators._device import find_device

        find_device(device)


def with_networks(device: str, generators: Mapping[str, Generator | type[Generator]]) -> list[str]:
    """Labels of the generators that are drawn from on a device: those with networks, none for ``"cpu"``.

    Parameters
    ----------
    device : str
        Checked already to be a name.
    generators : mapping of str to Generator or its class

    Raises
    ------
    InputError
        If no generator has networks.
    """
    found = [] if device == CPU else [label for label, one in generators.items() if one._has_networks()]
    if device != CPU and not found:
        raise InputError(f"none of the generators has a network to evaluate on device={device!r}; leave device= out")
    return found


def put_on(generator: AnyGenerator, device: str, *, lazily: bool = False) -> AnyGenerator:
    """Fitted generator as it is for ``"cpu"``, else a copy whose networks are evaluated on the device.

    ``lazily``: drawn from later, by the workers of the cluster where one is active.
    """
    look_for(device, generator, elsewhere=lazily and active_client() is not None)
    return generator if device == CPU else generator._on(device)
