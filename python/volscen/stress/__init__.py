"""Stress scenarios: crises replayed on today's surface, shocks by hand, and the likeliest way to lose a given amount.

Each function returns a scenario dataset like those of :func:`volscen.generate`, so that revaluation, risk and hedging
take it; its scenarios have names.

>>> import volscen
>>> cube = volscen.generate(n_scenarios=1000, seed=1)
>>> crash = volscen.stress.shock(cube, log_return=-0.1, level=0.08, skew=0.02, name="crash")
>>> loss = -volscen.portfolio.pnl(crash, volscen.Portfolio.straddle(moneyness=1, tau=0.25, quantity=-1)).total
>>> crash.name.values.tolist(), bool(loss[0, 0] > 0)
(['crash'], True)
"""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
