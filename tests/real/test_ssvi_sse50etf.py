from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from volscen import Chain, arbitrage, build_surface, ssvi
from volscen.sources import read_table
from volscen.surface._ssvi import fit_essvi

pytestmark = pytest.mark.real

TAU = np.array([30, 60, 91, 122, 152]) / 365
MONEYNESS = np.exp(np.linspace(-0.1, 0.1, 9))


@pytest.fixture(scope="module")
def quotes(market_data) -> pd.DataFrame:
    raw = pd.read_parquet(market_data / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    return read_table(raw, columns={"option_type": "type", "price": "close", "adjusted": "adjusted_contract"})[0]


def test_surfaces_of_real_days(quotes: pd.DataFrame) -> None:
    errors: dict[str, list[float]] = {"svi": [], "essvi": [], "ssvi": []}
    for date in np.unique(quotes["date"])[::60]:
        chain = Chain(quotes[quotes["date"] == date])
        for method, found in errors.items():
            surface = build_surface(chain, TAU, MONEYNESS, method=method, max_extrapolation=9)
            assert float(surface["arbitrage_penalty"]) == 0
            assert (surface["implied_vol"] > 0.05).all()
            assert surface.attrs.get("fit_converged", 1) == 1
            found.append(surface.attrs["fit_rmse_vol_points"])
        fine, strikes = np.linspace(TAU[0], TAU[-1], 25), np.exp(np.linspace(-0.4, 0.4, 81))
        fitted = fit_essvi(chain, fine, strikes)
        vol = fitted.implied_vol(fine[:, None], np.log(strikes))
        assert (arbitrage.penalty(vol, fine, strikes, parts=True) == 0).all()
        assert ssvi.durrleman_g(fitted.parameters, np.linspace(-3, 3, 601)).min() >= 0
    median = {method: np.median(found) for method, found in errors.items()}
    # Three parameters a slice, then fewer: raw SVI has five.
    assert median["svi"] < median["essvi"] < 1.5
    assert median["essvi"] < median["ssvi"] < 2
