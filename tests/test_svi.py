"""SVI slices: recovery, optimality against scipy and QuantLib, freedom from butterfly arbitrage."""

from __future__ import annotations

import numpy as np
import pytest
import QuantLib as ql

from svi_makers import FAR, assert_free, constrained_rmse, noisy_slices, padded, scipy_rmse
from twins import svi_g, svi_variance
from volscen import svi
from volscen.errors import InputError


@pytest.mark.parametrize(
    "truth",
    [
        [0.02, 0.1, -0.4, 0.05, 0.2],
        [0.04, 0.4, -0.7, 0.1, 0.1],
        [0.001, 0.03, 0.2, -0.02, 0.05],
        [-0.05, 0.3, 0.0, 0.0, 0.5],
        [1.0, 0.5, -0.9, 0.5, 1.0],
    ],
)
def test_exact_slices_are_recovered(truth):
    k = np.linspace(-0.6, 0.5, 17)
    fit = svi.fit(k, svi_variance(np.array(truth), k))
    assert fit.status == svi.SVIStatus.OK
    assert fit.rmse < 1e-9
    np.testing.assert_allclose(fit.parameters, truth, rtol=2e-4, atol=2e-5)


def test_as_good_as_scipy():
    slices = noisy_slices(60, seed=1)
    free, plain = (svi.fit(*padded(slices), butterfly=butterfly) for butterfly in (True, False))
    reference = np.array([scipy_rmse(k, w) for k, w, *_ in slices])
    assert (plain.rmse <= 1.0001 * reference).mean() >= 0.98
    assert (plain.rmse <= 1.01 * reference).all()
    assert (free.rmse <= 1.02 * reference).mean() >= 0.95
    assert_free(free.parameters)


def quantlib_rmse(k: np.ndarray, w: np.ndarray, tau: float) -> float:
    """Error of QuantLib's own SVI fit, started from its defaults, in total variance."""
    days = round(365 * tau)
    vols = np.sqrt(w / (days / 365))
    null = ql.nullDouble()
    section = ql.SviInterpolatedSmileSection(
        ql.Settings.instance().evaluationDate + days, 1.0, np.exp(k).tolist(), False, float(np.interp(0.0, k, vols)),
        vols.tolist(), null, null, null, null, null, False, False, False, False, False, False,
    )  # fmt: skip
    fitted = np.array([section.volatility(float(strike)) for strike in np.exp(k)]) ** 2 * days / 365
    return float(np.sqrt(np.mean((fitted - w) ** 2)))


def test_never_worse_than_quantlib():
    slices = noisy_slices(40, seed=6)
    plain, free = (svi.fit(*padded(slices), butterfly=butterfly) for butterfly in (False, True))
    reference = np.array([quantlib_rmse(k, w, tau) for k, w, tau, _ in slices])
    # QuantLib minimises errors in vol, so that both errors are near each other and ours is the smaller.
    assert (plain.rmse <= 1.0005 * reference).all()
    assert (plain.rmse >= 0.5 * reference).mean() > 0.8
    assert (free.rmse <= 1.02 * reference).mean() >= 0.95
    assert_free(free.parameters)


def test_rmse_is_the_weighted_error():
    k, w, _, _ = noisy_slices(1, seed=2)[0]
    weight = np.random.default_rng(0).uniform(0.1, 3.0, k.size)
    fit = svi.fit(k, w, weight)
    residual = svi_variance(fit.parameters, k) - w
    assert fit.rmse == pytest.approx(np.sqrt(np.average(residual**2, weights=weight)), rel=1e-10)


def test_weights_enter_the_fit():
    k = np.linspace(-0.3, 0.3, 13)
    w = 0.04 + 0.05 * k**2 + 0.002 * np.cos(9 * k)
    wings, centre = svi.fit(k, w, 1e-4 + k**4), svi.fit(k, w, np.exp(-((k / 0.05) ** 2)))
    error = [np.abs(svi_variance(fit.parameters, k) - w) for fit in (wings, centre)]
    assert error[0][[0, -1]].sum() < error[1][[0, -1]].sum()
    assert error[1][6] < error[0][6]
    # An integer weight is that many quotes.
    repeats = np.arange(k.size) % 3 + 1
    np.testing.assert_allclose(
        svi.fit(k, w, repeats).parameters,
        svi.fit(np.repeat(k, repeats), np.repeat(w, repeats)).parameters,
        rtol=1e-5,
    )
    np.testing.assert_allclose(svi.fit(k, w, 7.0 * repeats).parameters, svi.fit(k, w, repeats).parameters, rtol=1e-9)


def test_padding_order_batch_and_threads_change_nothing():
    slices = noisy_slices(40, seed=3)
    k, w, weight = padded(slices)
    batch = svi.fit(k, w, weight)
    for i, (strikes, variances, *_) in enumerate(slices):
        alone = svi.fit(strikes, variances)
        np.testing.assert_array_equal(batch.parameters[i], alone.parameters)
        assert batch.rmse[i] == alone.rmse
    threaded = svi.fit(k, w, weight, num_threads=3)
    np.testing.assert_array_equal(batch.parameters, threaded.parameters)
    cube = svi.fit(k.reshape(5, 8, -1), w.reshape(5, 8, -1), weight.reshape(5, 8, -1))
    assert cube.parameters.shape == (5, 8, 5)
    assert cube.rmse.shape == cube.status.shape == (5, 8)
    np.testing.assert_array_equal(cube.parameters.reshape(40, 5), batch.parameters)
    mixed = np.random.default_rng(0).permutation(slices[0][0].size)
    shuffled = svi.fit(slices[0][0][mixed], slices[0][1][mixed])
    np.testing.assert_allclose(shuffled.parameters, batch.parameters[0], rtol=1e-4)


def test_the_constrained_slice_is_nearly_the_best_one():
    slices = noisy_slices(300, seed=4)
    k, w, weight = padded(slices)
    plain, free = svi.fit(k, w, weight, butterfly=False), svi.fit(k, w, weight)
    broken = [
        i
        for i, p in enumerate(plain.parameters)
        if p[1] * (1 + abs(p[2])) >= 2 or svi.durrleman_g(p, p[3] + p[4] * FAR).min() < -1e-6
    ]
    assert len(broken) >= 5
    untouched = np.setdiff1d(np.arange(300), broken)
    close = np.isclose(free.rmse[untouched], plain.rmse[untouched], rtol=1e-3)
    assert close.mean() > 0.99
    assert_free(free.parameters)
    for i in broken[:6]:
        assert free.rmse[i] <= 1.03 * constrained_rmse(*slices[i][:2])


def test_vogts_slice_is_refused_by_default():
    vogt = np.array([-0.0410, 0.1331, 0.3060, 0.3586, 0.4153])  # Gatheral and Jacquier 2014, example 3.1
    k = np.linspace(-1.5, 1.5, 31)
    assert svi.durrleman_g(vogt, k).min() < 0
    plain = svi.fit(k, svi_variance(vogt, k), butterfly=False)
    np.testing.assert_allclose(plain.parameters, vogt, rtol=1e-3)
    fit = svi.fit(k, svi_variance(vogt, k))
    assert fit.rmse > 0
    assert_free(fit.parameters)
    assert fit.rmse < 0.05 * svi_variance(vogt, k).mean()


@pytest.mark.parametrize("seed", range(4))
def test_absurd_quotes_still_give_slices_free_of_arbitrage(seed: int):
    rng = np.random.default_rng(seed)
    for size in (3, 4, 5, 12, 30):
        centre = rng.choice([0, 0, 0.5, -3], 40)[:, np.newaxis]
        half = 10 ** rng.uniform(-3, 1, 40)[:, np.newaxis]
        x = np.sort(rng.uniform(-1, 1, (40, size)), axis=1)
        shape = rng.choice(5, 40)[:, np.newaxis]
        w = 10 ** rng.uniform(-7, 1.5, (40, 1)) * np.choose(
            shape,
            [np.exp(rng.normal(0, 1, x.shape)), 1 + 3 * np.abs(x), 4 - 3 * np.abs(x), np.exp(4 * x), 1 + 20 * x**2],
        )
        fit = svi.fit(centre + half * x, w, 10 ** rng.uniform(-3, 3, x.shape))
        assert np.isfinite(fit.parameters).all()
        assert np.isfinite(fit.rmse).all()
        assert_free(fit.parameters)
        plain = svi.fit(centre + half * x, w, butterfly=False)
        assert (plain.parameters[:, 1] >= 0).all()
        assert (np.abs(plain.parameters[:, 2]) <= 1).all()
        # No worse than the flat slice, which is always allowed.
        assert (fit.rmse <= 1.0001 * w.max(axis=1)).all()


def test_the_ends_of_the_allowed_ranges_give_numbers():
    x = np.linspace(-1, 1, 9)
    shape = 1 + 0.3 * x + 0.5 * x**2
    for half in (1e-300, 1e-12, 1e-6, 1.0, 999.0):
        for level in (2e-30, 1e-10, 1.0, 5e5):
            for weight in (5e-324, 1e-200, 1.0, 1e308):
                fit = svi.fit(half * x, level * shape, np.full(9, weight))
                assert np.isfinite(fit.parameters).all()
                assert 0 <= fit.rmse <= level
                assert svi.durrleman_g(fit.parameters, half * x).min() >= 0


def test_fewer_than_five_strikes_reduce_the_slice():
    k = np.array([-0.2, -0.05, 0.1, 0.25])
    w = np.array([0.050, 0.042, 0.040, 0.041])
    four = svi.fit(k, w)
    assert four.status == svi.SVIStatus.REDUCED
    assert four.parameters[4] == pytest.approx(0.225)
    three = svi.fit(k[:3], w[:3])
    np.testing.assert_allclose(three.parameters[[3, 4]], [-0.05, 0.15])
    np.testing.assert_allclose(svi_variance(three.parameters, k[:3]), w[:3], rtol=1e-9)
    two = svi.fit(k[:2], w[:2], [3.0, 1.0])
    np.testing.assert_allclose(svi_variance(two.parameters, k), 0.048)
    one = svi.fit(k[:1], w[:1])
    np.testing.assert_allclose(svi_variance(one.parameters, k), 0.050)
    assert one.rmse == 0
    # Copies of a strike are no new strike; points of weight zero are no points.
    copies = svi.fit(np.repeat(k, 3), np.repeat(w, 3))
    assert copies.status == svi.SVIStatus.REDUCED
    np.testing.assert_allclose(copies.parameters, four.parameters, rtol=1e-6)
    ignored = svi.fit(np.r_[k, 0.5, np.nan], np.r_[w, -1.0, np.inf], [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(ignored.parameters, four.parameters)
    for fit in (four, three, two, one):
        assert fit.status == svi.SVIStatus.REDUCED
        assert_free(fit.parameters)
    none = svi.fit(k, w, 0.0)
    assert none.status == svi.SVIStatus.NO_DATA
    assert np.isnan(none.parameters).all()
    assert np.isnan(none.rmse)
    assert svi.fit(np.empty((3, 0)), np.empty((3, 0))).status.tolist() == [2, 2, 2]
    assert svi.fit(np.empty((0, 7)), np.empty((0, 7))).parameters.shape == (0, 5)


def test_values_match_the_formula():
    rng = np.random.default_rng(5)
    table = np.column_stack(
        [
            rng.uniform(0.01, 0.1, 6),
            rng.uniform(0.05, 0.5, 6),
            rng.uniform(-0.9, 0.9, 6),
            rng.normal(0, 0.1, 6),
            rng.uniform(0.05, 0.5, 6),
        ]
    )
    k = np.linspace(-0.5, 0.5, 9)
    w = svi.total_variance(table, k)
    assert w.shape == (6, 9)
    tau = rng.uniform(0.1, 2, 6)
    vol = svi.implied_vol(table, k, tau)
    g = svi.durrleman_g(table, k)
    for i, p in enumerate(table):
        np.testing.assert_allclose(w[i], svi_variance(p, k), rtol=1e-14)
        np.testing.assert_allclose(vol[i] ** 2 * tau[i], w[i], rtol=1e-14)
        np.testing.assert_allclose(g[i], svi_g(p, k), atol=2e-6)
        np.testing.assert_allclose(svi.total_variance(p, 0.1), svi_variance(p, np.array(0.1)))
    np.testing.assert_array_equal(svi.total_variance(table, np.tile(k, (6, 1))), w)
    assert svi.total_variance(table, 0.0).shape == (6,)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([0.0, 0.1, np.nan], [0.04] * 3), "log_moneyness must be finite"),
        (([0.0, 0.1, 0.2], [0.04, 0.0, 0.04]), "total_variance must be positive"),
        (([0.0, 0.1, 0.2], [0.04, np.nan, 0.04]), "total_variance must be positive"),
        (([0.0, 0.1, 0.2], [0.04, np.inf, 0.04]), "total_variance must be positive"),
        (([0.0, 0.1, 1e4], [0.04] * 3), "log_moneyness must be finite"),
        (([0.0, 0.1, 0.2], [0.04, 1e7, 0.04]), "total_variance must be positive"),
        (([0.0, 0.1, 0.2], [0.04, 1e-31, 0.04]), "total_variance must be positive"),
        (([0.0, 0.1, 0.2], [0.04] * 3, [1.0, -1.0, 1.0]), "weight"),
        (([0.0, 0.1, 0.2], [0.04] * 3, [1.0, np.nan, 1.0]), "weight"),
        (([0.0, 0.1, 0.2], [0.04] * 2), "broadcast"),
        ((0.0, 0.04), "axis of quotes"),
        ((["a"], [0.04]), "log_moneyness"),
    ],
)
def test_bad_quotes_are_named(args, message):
    with pytest.raises(InputError, match=message):
        svi.fit(*args)


def test_bad_evaluation_is_named():
    with pytest.raises(InputError, match="axis of 5"):
        svi.total_variance([0.1, 0.2], 0.0)
    with pytest.raises(InputError, match="broadcast"):
        svi.total_variance(np.ones((3, 5)), np.ones((2, 4)))
    with pytest.raises(InputError, match="tau"):
        svi.implied_vol([0.02, 0.1, -0.4, 0.0, 0.1], [0.0], 0.0)
    with pytest.raises(InputError, match="negative total variance"):
        svi.implied_vol([-0.5, 0.1, -0.4, 0.0, 0.1], [0.0], 1.0)
    with pytest.raises(InputError, match="num_threads"):
        svi.fit([0.0, 0.1], [0.04, 0.04], num_threads=0)
