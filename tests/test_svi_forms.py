"""Raw, natural and jump-wings parameters against hand-worked values, the printed definitions and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twins import svi_variance
from volscen import svi
from volscen.errors import InputError

VOGT = [-0.0410, 0.1331, 0.3060, 0.3586, 0.4153]

slices = st.tuples(
    st.floats(-0.05, 0.5),
    st.floats(0.01, 2.0),
    st.floats(-0.99, 0.99),
    st.floats(-1.0, 1.0),
    st.floats(0.01, 2.0),
).map(np.array)


def test_a_slice_worked_by_hand():
    # m, sigma and their distance are 3, 4 and 5 tenths; sqrt(1 - rho^2) = 0.8.
    raw = [0.04, 0.2, -0.6, 0.3, 0.4]
    natural = [0.04 - 0.1 * 0.64, 0.0, -0.6, 0.2, 2.0]
    root = np.sqrt(0.04 + 0.2 * (0.18 + 0.5))
    wings = [root**2 / 0.5, -0.12 / root, 0.32 / root, 0.08 / root, (0.04 + 0.2 * 0.4 * 0.8) / 0.5]
    np.testing.assert_allclose(svi.raw_to_natural(raw), natural, atol=1e-15)
    np.testing.assert_allclose(svi.natural_to_raw(natural), raw, rtol=1e-14)
    np.testing.assert_allclose(svi.raw_to_jump_wings(raw, 0.5), wings, rtol=1e-14)
    np.testing.assert_allclose(svi.jump_wings_to_raw(wings, 0.5), raw, rtol=1e-12)


def test_vogts_slice_has_the_printed_jump_wings():
    # Gatheral and Jacquier 2014, section 5.1, with t = 1.
    printed = [0.01742625, -0.1752111, 0.6997381, 1.316798, 0.0116249]
    np.testing.assert_allclose(svi.raw_to_jump_wings(VOGT, 1.0), printed, rtol=1e-5)


@given(slices)
def test_natural_slices_are_the_same_slices(raw):
    natural = svi.raw_to_natural(raw)
    delta, mu, rho, omega, zeta = natural
    k = np.linspace(-1, 1, 9)
    root = np.sqrt((zeta * (k - mu) + rho) ** 2 + 1 - rho**2)
    np.testing.assert_allclose(
        delta + omega / 2 * (1 + zeta * rho * (k - mu) + root), svi_variance(raw, k), rtol=1e-9, atol=1e-11
    )
    np.testing.assert_allclose(svi.natural_to_raw(natural), raw, rtol=1e-9, atol=1e-12)


@given(slices, st.floats(0.01, 5.0))
def test_jump_wings_are_what_they_are_called(raw, tau):
    if not svi_variance(raw, np.array(0.0)) > 1e-3:
        return
    v, psi, p, c, least = svi.raw_to_jump_wings(raw, tau)
    w = svi_variance(raw, np.array([-1e-5, 0.0, 1e-5]))
    root = np.sqrt(w[1])
    assert v * tau == pytest.approx(w[1])
    assert psi == pytest.approx((np.sqrt(w[2]) - np.sqrt(w[0])) / 2e-5, rel=1e-5, abs=1e-5)
    far = svi_variance(raw, np.array([-2e6, -1e6, 1e6, 2e6]))
    assert p * root == pytest.approx((far[0] - far[1]) / 1e6, rel=1e-6)
    assert c * root == pytest.approx((far[3] - far[2]) / 1e6, rel=1e-6)
    k = raw[3] + raw[4] * np.sinh(np.linspace(-5, 5, 20_001))
    assert least * tau == pytest.approx(svi_variance(raw, k).min(), rel=1e-5, abs=1e-6)


@given(slices, st.floats(0.01, 5.0))
def test_jump_wings_lead_back(raw, tau):
    _, _, rho, m, sigma = raw
    raw[0] = abs(raw[0]) + 1e-3
    angle = np.arcsin(rho) - np.arcsin(m / np.hypot(m, sigma))
    if abs(angle) < 0.02:
        return  # the minimum at the money, where digits are lost
    back = svi.jump_wings_to_raw(svi.raw_to_jump_wings(raw, tau), tau)
    np.testing.assert_allclose(back, raw, rtol=1e-6, atol=1e-8)


def test_tables_and_taus_broadcast():
    rng = np.random.default_rng(0)
    raw = np.stack(
        [rng.uniform(*limits, (3, 4)) for limits in ((0.01, 0.1), (0.1, 1), (-0.9, -0.2), (0.0, 0.2), (0.1, 1))],
        axis=-1,
    )
    tau = rng.uniform(0.1, 2, 4)
    wings, natural = svi.raw_to_jump_wings(raw, tau), svi.raw_to_natural(raw)
    assert wings.shape == natural.shape == (3, 4, 5)
    np.testing.assert_allclose(wings[2, 1], svi.raw_to_jump_wings(raw[2, 1], tau[1]), rtol=1e-14)
    np.testing.assert_allclose(svi.jump_wings_to_raw(wings, tau), raw, rtol=1e-7)
    np.testing.assert_allclose(svi.natural_to_raw(natural), raw, rtol=1e-12)
    assert svi.raw_to_jump_wings(raw[0, 0], tau).shape == (4, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: svi.raw_to_natural([0.1, 0.2]), "axis of 5"),
        (lambda: svi.raw_to_natural([0.04, 0.2, 1.0, 0.3, 0.4]), "no natural form"),
        (lambda: svi.raw_to_natural([0.04, -0.2, 0.0, 0.3, 0.4]), "b >= 0"),
        (lambda: svi.raw_to_natural([np.nan, 0.2, 0.0, 0.3, 0.4]), "finite"),
        (lambda: svi.natural_to_raw([0.0, 0.0, 0.0, 0.2, 0.0]), "zeta > 0"),
        (lambda: svi.raw_to_jump_wings([0.04, 0.2, 0.0, 0.3, 0.0], 1.0), "sigma > 0"),
        (lambda: svi.raw_to_jump_wings([-1.0, 0.2, 0.0, 0.3, 0.4], 1.0), r"w\(0\) > 0"),
        (lambda: svi.raw_to_jump_wings(VOGT, 0.0), "tau must be positive"),
        (lambda: svi.raw_to_jump_wings([VOGT] * 3, [1.0, 2.0]), "does not broadcast"),
        (lambda: svi.jump_wings_to_raw([0.04, -0.1, 0.3, 0.1, 0.05], 1.0), "v > v_min"),
        (lambda: svi.jump_wings_to_raw([0.04, 0.0, 0.2, 0.2, 0.03], 1.0), "do not tell sigma"),
        (lambda: svi.jump_wings_to_raw([0.04, -0.2, 0.3, 0.1, 0.03], 1.0), "-p < 2 psi < c"),
        (lambda: svi.jump_wings_to_raw([0.04, 0.0, -0.1, 0.1, 0.03], 1.0), "p >= 0"),
    ],
)
def test_what_has_no_other_form_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
