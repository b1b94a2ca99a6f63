"""What ships with the package: a simulated sample history and the model fitted on it.

Both are SIMULATED (market A of :mod:`volscen.sources.simulate`): good for trying the library, for tests and
documentation, and for nothing else.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import xarray as xr

from volscen.generators import Generator, load
from volscen.schema import HISTORY, validate

__all__ = ["default_generator", "sample_history"]


def sample_history() -> xr.Dataset:
    """Simulated history of 1,500 surfaces on a grid of 8 maturities and 10 strikes.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/history/1``; simulated, as its title and source say. Implied vols are stored to
        five decimals.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> history.attrs["title"][:9]
    'SIMULATED'
    """
    with as_file(files("volscen") / "data" / "sample_history.nc") as path, xr.open_dataset(path) as ds:
        return validate(ds.load(), schema=HISTORY)


def default_generator() -> Generator:
    """Robust HAR generator fitted on :func:`sample_history`; what a bare ``volscen.generate()`` uses.

    Examples
    --------
    >>> import volscen
    >>> volscen.datasets.default_generator().name
    'har'
    """
    with as_file(files("volscen") / "data" / "default_generator.safetensors") as path:
        return load(path)
