"""Crises of the S&P 500 replayed on a calm day."""

from __future__ import annotations

import numpy as np
import pytest

from volscen import Portfolio, stress
from volscen.portfolio import pnl
from volscen.sources import read_spx_factors


@pytest.mark.real
def test_real_crises(market_data):
    history = read_spx_factors(market_data / "spx_factors" / "spx_factors_1996_2018.csv")
    ds = stress.replay(history, history, as_of="2016-06-30")
    assert len(ds.name) == 6
    fall = ds.log_return.values[:, 0]
    assert np.all((fall < -0.05) & (fall > -0.35)), dict(zip(ds.name.values, fall, strict=True))
    atm = ds.implied_vol.sel(moneyness=1.0, method="nearest")[:, 0, 0] / ds.implied_vol0.sel(moneyness=1.0)[0]
    assert float(atm.min()) > 1.1
    loss = -pnl(ds, Portfolio.straddle(moneyness=1, tau=0.25, quantity=-1)).total
    assert float(loss.min()) > 0
    for name, least in (("1998 Russia and LTCM", 0.15), ("2008 Lehman", 0.25), ("2018 December", 0.14)):
        assert -float(np.expm1(ds.log_return.values[ds.name.values == name, 0][0])) > least
