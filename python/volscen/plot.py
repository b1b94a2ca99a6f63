"""Pictures, each one call on a result; matplotlib (``pip install 'volscen[plot]'``) is loaded on the first.

Every picture but those of several panels takes ``ax=`` and returns the axes it drew on. Weights enter all that is
drawn. No global style is changed, nothing is shown: that is ``plt.show()``'s. Those of one dataset are methods of the
accessor, too: ``cube.volscen.plot_fan()`` is ``volscen.plot.fan(cube)``.

>>> import volscen
>>> cube = volscen.generate(n_scenarios=100, horizon=5, seed=1)
>>> volscen.plot.fan(cube, "log_return", n_paths=5).get_ylabel()
'log return of a step'
"""

from __future__ import annotations

from volscen._pictures._attention import attention_map
from volscen._pictures._components import pca
from volscen._pictures._fan import fan
from volscen._pictures._hedge import hedge_ratios
from volscen._pictures._surface import smile, surface
from volscen._pictures._violations import arbitrage
from volscen._pictures._wealth import wealth
from volscen._pictures._weights import weights
from volscen._pictures._world import animate_stress, latent_path, reconstruction

__all__ = [
    "animate_stress",
    "arbitrage",
    "attention_map",
    "fan",
    "hedge_ratios",
    "latent_path",
    "pca",
    "reconstruction",
    "smile",
    "surface",
    "wealth",
    "weights",
]
