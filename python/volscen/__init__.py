"""Scenario generation for implied-volatility surfaces.

Option quotes become a history of surfaces, a generator learns the joint law of the next return and the
next surface, and :func:`generate` hands a risk system a weighted scenario cube.

>>> import volscen
>>> cube = volscen.generate(n_scenarios=1000, seed=1)  # the embedded, simulated default
>>> dict(cube.sizes)
{'scenario': 1000, 'step': 1, 'tau': 8, 'moneyness': 10}
>>> bool(abs(float(cube.weight.sum()) - 1) < 1e-12)
True

Public names are listed in ``__init__.pyi`` and loaded on first use: ``import volscen`` imports nothing
heavier than NumPy. Every xarray dataset has the accessor ``ds.volscen``, whoever made it:

>>> 1 <= cube.volscen.effective_sample_size() <= 1000
True
"""

from __future__ import annotations

import lazy_loader as _lazy

from volscen._accessor_hook import register_when_xarray_is_loaded as _register_accessor

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
_register_accessor()
