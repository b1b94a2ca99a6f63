"""Pictures, each one call on a result; matplotlib (``pip install 'volscen[plot]'``) is loaded on the first.

>>> import volscen
>>> callable(volscen.plot.latent_path)
True
"""

from __future__ import annotations

from volscen._plot_world import animate_stress, latent_path, reconstruction

__all__ = ["animate_stress", "latent_path", "reconstruction"]
