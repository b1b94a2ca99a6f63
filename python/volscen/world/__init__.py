"""What a world model sees and foresees: latents, reconstructions, stresses in its latent space, and their figures.

The model itself is the generator ``world`` (:class:`volscen.generators._world.WorldModel`).

>>> import volscen
>>> history = volscen.datasets.sample_history()
>>> model = volscen.fit(history, "world", raster_size=16, channels=(4, 4, 8), latent_dim=4, epochs=1,
...                     dynamics_epochs=1, progress=False)
>>> volscen.world.latents(model, history).latent_mean.dims
('date', 'latent')
"""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
