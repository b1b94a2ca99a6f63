"""Policies that decide at every close how much to hold and how much of it to hedge, and what becomes of them.

>>> import volscen
>>> from volscen import agent
>>> cube = volscen.generate(n_scenarios=500, horizon=42, seed=1)
>>> signal = agent.RiskSignal.fit(volscen.datasets.sample_history())
>>> market = agent.option_market(cube, signal)  # a 95% put, repriced daily, listed anew every 21 days
>>> policies = {"buy and hold": agent.BuyAndHold(), "always": agent.AlwaysHedged(), "level": agent.RiskLevel(1.2)}
>>> result = agent.simulate(market, policies)
>>> worst = agent.summarise(result).worst_fall.sel(quantile=0.95, policy=["buy and hold", "always"])
>>> bool(worst[1] < worst[0])
True
"""

from __future__ import annotations

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
