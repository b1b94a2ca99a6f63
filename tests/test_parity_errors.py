"""Standard errors of forwards and discount factors: the truth lies within them about as often as it should."""

from __future__ import annotations

import numpy as np
import pytest

from chain_makers import make_chain
from volscen import Chain

FORWARD, TAU, RATE = np.array([101.0, 102.0]), np.array([91, 182]) / 365, 0.04


@pytest.mark.parametrize(
    ("options", "outliers"),
    [({"rate": RATE}, 0.0), ({}, 0.0), ({"rate_tolerance": 0.1}, 0.0), ({"rate": RATE}, 0.1)],
    ids=["given", "pooled", "own", "outliers"],
)
def test_errors_cover_the_truth(options: dict[str, float], outliers: float) -> None:
    rng = np.random.default_rng(1)
    off, off_discount = [], []
    for _ in range(80):
        table = make_chain(days=[91, 182], forward=FORWARD, rate=[RATE, RATE])
        noise = 0.02 * rng.standard_normal(len(table))
        table["price"] += np.where(rng.random(len(table)) < outliers, 20 * noise, noise)
        forwards = Chain(table[table["price"] > 0], **options).forwards
        off.append((forwards["forward"] - FORWARD) / forwards["forward_error"])
        if not options.get("rate"):
            off_discount.append((forwards["discount_factor"] - np.exp(-RATE * TAU)) / forwards["discount_factor_error"])
        else:
            assert np.all(forwards["discount_factor_error"] == 0)
    for found in (np.abs(off), *([np.abs(off_discount)] if off_discount else [])):
        # Of 16 to 20 pairs with an estimated scale: Student's t has 93.5% within 1.96, and 67% within 1.
        assert 0.86 < np.mean(found < 1.96) < 0.985
        assert 0.55 < np.mean(found < 1) < 0.80


def test_an_uncertain_slope_counts_where_strikes_lie_to_one_side() -> None:
    """The root of a line far from its points: the slope's error, times the distance, is most of the forward's."""
    rng = np.random.default_rng(2)
    table = make_chain(days=[182], forward=[102.0], rate=[RATE], log_moneyness=tuple(np.linspace(0.02, 0.2, 15)))
    table["price"] += 0.01 * rng.standard_normal(len(table))
    own = Chain(table, rate_tolerance=0.5).forwards.iloc[0]
    given = Chain(table, rate=RATE).forwards.iloc[0]
    assert own["rate_source"] == "parity"
    arm = table["strike"].mean() - 102.0
    expected = np.hypot(given["forward_error"], arm * own["discount_factor_error"] / own["discount_factor"])
    assert own["forward_error"] == pytest.approx(expected, rel=0.25)
    assert own["forward_error"] > 1.5 * given["forward_error"]
