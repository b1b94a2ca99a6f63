"""A chain like those on an index: expiries from a week to years, quoted in nickels, whose slices cross in the wings."""

from __future__ import annotations

import numpy as np

import volscen
from chain_makers import index_chain


def test_crossings_beyond_the_quotes_do_not_bend_slices_within_them() -> None:
    crossed = 0
    for seed in (0, 2, 3):
        surface = volscen.build_surface(
            volscen.Chain(index_chain(seed)), np.array([30, 91, 182, 365]) / 365, np.exp(np.linspace(-0.2, 0.1, 10))
        )
        crossed += surface.attrs["uncrossing_passes"]
        assert surface.attrs["fit_share_in_spread"] > 0.99
        assert surface.attrs["fit_rmse_vol_points"] < 0.15
        assert float(surface.arbitrage_penalty) == 0
    assert crossed > 0


def test_forwards_and_their_errors() -> None:
    """With more strikes than start a line; errors of forwards are about the size of those that were made."""
    ratios = []
    for seed in range(4):
        table = volscen.Chain(index_chain(seed)).forwards
        miss = table["forward"] - 4700 * np.exp(0.035 * table["tau"])
        ratios += (miss / table["forward_error"]).tolist()
        assert np.abs(miss / table["forward"]).max() < 2e-4
    assert 0.5 < np.sqrt(np.median(np.square(ratios))) / 0.6745 < 2.5
