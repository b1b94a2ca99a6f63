"""Risk of weighted scenarios: measures, what makes them up, how well they are known, and how forecasts are tested.

Values are profits (gains positive, losses negative); risk measures are losses, positive when money is lost.

>>> import volscen
>>> cube = volscen.generate(n_scenarios=1000, seed=1)
>>> profit = volscen.portfolio.pnl(cube, volscen.Portfolio.strangle(0.9, 1.05, tau=0.25, quantity=-100))
>>> parts = volscen.risk.contributions(profit, alpha=0.01)
>>> bool(abs(parts.component_es.sum() - parts.expected_shortfall) < 1e-9)
True
"""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
