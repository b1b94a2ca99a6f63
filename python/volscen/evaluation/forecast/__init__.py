"""What past volatility says of volatility to come: long memory, breaks, links between series, ranges of prices.

>>> import numpy as np
>>> from volscen.evaluation import forecast
>>> noise = np.random.default_rng(0).normal(size=2000)
>>> abs(forecast.long_memory(noise).d) < 0.15  # white noise has none
True
"""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
