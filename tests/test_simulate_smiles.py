"""Libraries of smiles: prices against QuantLib and mpmath, the sequence keyed by its seed, the cache, the mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import QuantLib as ql
from scipy.stats import poisson

from volscen import arbitrage, black, svi
from volscen._cache import cache_folder
from volscen.errors import InputError
from volscen.sources import _contour, _smiles
from volscen.sources._contour import HestonParameters, heston_prices
from volscen.sources._smile_families import FAMILIES, hagan_vol, merton_prices
from volscen.sources.simulate import simulate_smiles

TAU, K = _smiles.TAU, _smiles.LOG_MONEYNESS
LIGHT = {"ssvi": 3, "sabr": 1, "svi": 1}


def law(*values):
    return HestonParameters(*(np.array([value]) for value in values))


# The Riccati solution in hyperbolic functions, its logarithm followed along a vertical contour, 40 digits, mpmath.
@pytest.mark.parametrize(
    ("parameters", "tau", "k", "price"),
    [
        ((0.04, 2.0, 0.04, 0.5, -0.7), 0.08, -0.45, 1.03956218777826e-8),
        ((0.04, 2.0, 0.04, 0.5, -0.7), 2.0, 0.45, 0.000842083688303075),
        ((0.02, 4.0, 0.03, 0.9, -0.5), 0.08, 0.45, 2.50521153944810e-14),
        ((0.09, 0.5, 0.2, 1.5, 0.3), 1.0, -0.3, 0.0204517298717887),
    ],
)
def test_heston_prices_far_out(parameters, tau, k, price):
    own = heston_prices(law(*parameters), np.array([tau]), np.array([k]))
    assert own[0, 0, 0] == pytest.approx(price, rel=3e-8)


def test_heston_agrees_with_quantlib():
    today = ql.Date(2, 1, 2020)
    ql.Settings.instance().evaluationDate = today
    curve = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
    spot = ql.QuoteHandle(ql.SimpleQuote(1.0))
    rng = np.random.default_rng(3)
    days, k = np.array([30, 200, 700]), np.array([-0.15, -0.05, 0.0, 0.05, 0.15])
    for _ in range(12):
        v0, mean = np.exp(rng.uniform(-4.5, -1.5, 2))
        kappa, xi, rho = rng.uniform(0.4, 8), rng.uniform(0.1, 1.5), rng.uniform(-0.9, 0.45)
        own = heston_prices(law(v0, kappa, mean, xi, rho), days / 365, k)[0]
        process = ql.HestonProcess(curve, curve, spot, v0, kappa, mean, xi, rho)
        engine = ql.AnalyticHestonEngine(ql.HestonModel(process), 1e-10, 100_000)
        for j, day in enumerate(days):
            for i, strike in enumerate(np.exp(k)):
                kind = ql.Option.Call if k[i] >= 0 else ql.Option.Put
                option = ql.VanillaOption(ql.PlainVanillaPayoff(kind, strike), ql.EuropeanExercise(today + int(day)))
                option.setPricingEngine(engine)
                assert own[j, i] == pytest.approx(option.NPV(), abs=1e-8)


def test_heston_prices_need_no_more_nodes(monkeypatch):
    """With ten times as many nodes implied vols stay, from a day to ten years."""
    rng = np.random.default_rng(8)
    n, tau, k = 30, np.array([1 / 365, 0.02, 0.08, 10.0]), np.array([-0.05, -0.01, 0.0, 0.03])
    v0, mean = np.exp(rng.uniform(-5, -1.5, (2, n)))
    many = HestonParameters(v0, rng.uniform(0.4, 8, n), mean, rng.uniform(0.1, 1.5, n), rng.uniform(-0.9, 0.4, n))

    def vols():
        price = heston_prices(many, tau, k)
        return black.implied_vol(price, 1.0, np.exp(k), tau[:, None], k >= 0)[0]

    own = vols()
    monkeypatch.setattr(_contour, "_NODES", 400)
    monkeypatch.setattr(_contour, "_SHORT_NODES", 1000)
    error = np.abs(own - vols())
    assert error[:, 2:].max() < 2e-6
    assert error[:, :2].max() < 5e-5


def test_heston_of_almost_no_vol_of_variance_is_black():
    parameters = law(0.04, 2.0, 0.04, 1e-4, -0.3)
    expected = black.price(1.0, np.exp(K), TAU[:, None], 0.2, K >= 0)
    np.testing.assert_allclose(heston_prices(parameters, TAU, K)[0], expected, rtol=1e-2)


def test_merton_agrees_with_his_series():
    intensity, mean, deviation, variance = 1.5, -0.12, 0.09, 0.02
    tau, k = np.array([0.1, 1.7]), np.array([-0.4, -0.1, 0.0, 0.2])
    one = [np.array([x]) for x in (intensity, mean, deviation)]
    own = merton_prices(variance * tau[None], *one, tau, k)[0]
    growth = np.exp(mean + 0.5 * deviation**2)
    for j, t in enumerate(tau):
        for i, strike in enumerate(np.exp(k)):
            kind = ql.Option.Call if k[i] >= 0 else ql.Option.Put
            expected = 0.0
            for n in range(60):
                rate = (-intensity * (growth - 1) + n * np.log(growth) / t) * t
                sd = np.sqrt(variance * t + n * deviation**2)
                # forward e^rate discounted at the same rate
                value = ql.blackFormula(kind, float(strike), float(np.exp(rate)), float(sd), float(np.exp(-rate)))
                expected += poisson.pmf(n, intensity * growth * t) * value
            assert own[j, i] == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_sabr_agrees_with_quantlib(beta):
    alpha, nu, rho, tau = 0.25, 0.7, -0.4, 0.8
    own = hagan_vol(*(np.array(x) for x in (alpha, beta, nu, rho, tau)), K)
    found = [ql.sabrVolatility(float(np.exp(k)), 1.0, tau, alpha, beta, nu, rho) for k in K]
    np.testing.assert_allclose(own, found, rtol=1e-10)


def test_svi_and_ssvi_are_slices_of_theirs():
    for name in ("svi", "ssvi"):
        w = FAMILIES[name].draw(np.random.default_rng(5), 40, TAU, K)
        found = svi.fit(K, w, butterfly=False)
        assert np.median(found.rmse / w.mean(axis=-1)) < 1e-6
        good = found.rmse < 1e-7 * w.mean(axis=-1)
        assert good.mean() > 0.6
        if name == "ssvi":  # the natural form of an SSVI slice has neither level nor shift
            level, shift = svi.raw_to_natural(found.parameters[good])[..., :2].T
            assert np.median(np.abs(level)) < 1e-6
            assert np.median(np.abs(shift)) < 1e-5


def test_models_have_no_arbitrage():
    for name in ("merton", "heston"):
        smiles = simulate_smiles(100, families={name: 1}, perturb=0, seed=2)
        vol = np.sqrt(smiles.total_variance / smiles.tau).values
        assert arbitrage.penalty(vol, TAU, np.exp(K)).max() < 1e-9
        assert smiles.durrleman.min() > 0
        assert smiles.attrs["arbitrage_share"] == 0


def test_the_mixture():
    smiles = simulate_smiles(1500, seed=11)
    w = smiles.total_variance.values
    assert w.dtype == np.float64
    assert np.isfinite(w).all()
    assert w.min() > 0
    assert np.diff(w, axis=1).min() >= 0
    names, counts = np.unique(smiles.family, return_counts=True)
    for name, count in zip(names, counts, strict=True):
        share = FAMILIES[name].share
        assert abs(count / 1500 - share) < 5 * np.sqrt(share * (1 - share) / 1500)
    vol = np.sqrt(w[:, :, 8] / TAU)
    assert vol.min() > 0.03
    assert vol.max() < 2.5
    assert smiles.attrs["arbitrage_share"] == (smiles.durrleman < 0).mean()
    assert 0 < smiles.attrs["arbitrage_share"] < 0.03


def test_durrleman_is_that_of_the_slices():
    """On a fine grid the discrete function is the analytic one."""
    k = np.linspace(-0.5, 0.5, 2001)
    raw = [0.01, 0.2, -0.6, 0.05, 0.1]
    least = _smiles.least_durrleman(svi.total_variance(raw, k)[None], k)
    assert least == pytest.approx(svi.durrleman_g(raw, k[1:-1]).min(), abs=1e-4)
    uneven = np.sort(np.concatenate([k[::2], k[1::4]]))
    least = _smiles.least_durrleman(svi.total_variance(raw, uneven)[None], uneven)
    assert least == pytest.approx(svi.durrleman_g(raw, k[1:-1]).min(), abs=1e-3)


def test_perturbations_change_their_share_smoothly():
    none, all_ = (simulate_smiles(1024, families={"merton": 1}, perturb=p, seed=4) for p in (0.0, 1.0))
    part = simulate_smiles(1024, families={"merton": 1}, perturb=0.65, seed=4)
    ratio = 0.5 * np.log(all_.total_variance / none.total_variance).values
    changed = (part.total_variance.values != none.total_variance.values).any(axis=(1, 2))
    assert changed.mean() == pytest.approx(0.65, abs=5 * np.sqrt(0.65 * 0.35 / 1024))
    # root mean square of a log-uniform scale from 0.005 to 0.05
    expected = np.sqrt((0.05**2 - 0.005**2) / (2 * np.log(10)))
    assert ratio.std() == pytest.approx(expected, rel=0.1)
    assert np.abs(np.diff(ratio, axis=2)).std() < 0.35 * ratio.std()


def test_any_piece_of_the_sequence_has_the_same_bits():
    def simulate_smiles(n, **options):
        return _smiles.simulate_smiles(n, families=LIGHT, **options)

    whole = simulate_smiles(700, seed=7).total_variance.values
    assert len(np.unique(whole[:, 0, 0])) == 700  # no block repeats another
    np.testing.assert_array_equal(simulate_smiles(3, seed=7).total_variance.values, whole[:3])
    np.testing.assert_array_equal(simulate_smiles(100, first=500, seed=7).total_variance.values, whole[500:600])
    kept = simulate_smiles(300, seed=7, arbitrage="drop")
    assert kept.attrs["arbitrage_share"] == 0
    free = simulate_smiles(700, seed=7).durrleman.values >= 0
    np.testing.assert_array_equal(kept.total_variance.values, whole[free][:300])
    later = simulate_smiles(50, first=250, seed=7, arbitrage="drop")
    np.testing.assert_array_equal(later.total_variance.values, kept.total_variance.values[250:])
    assert (simulate_smiles(3, seed=8).total_variance.values != whole[:3]).any()
    by_generator = [simulate_smiles(2, seed=np.random.default_rng(5)).total_variance.values for _ in range(2)]
    np.testing.assert_array_equal(*by_generator)


def test_the_same_draw_on_another_grid_is_the_same_surface():
    for name in FAMILIES:
        options = {"families": {name: 1}, "seed": 3, "perturb": 0.65}
        fine = simulate_smiles(24, **options).total_variance
        fewer_strikes = simulate_smiles(24, log_moneyness=K[::4], **options).total_variance
        np.testing.assert_allclose(fewer_strikes, fine[:, :, ::4], rtol=1e-5 if name == "heston" else 1e-10)
        # one time only: no maturity before it can lift it
        last = simulate_smiles(24, tau=TAU[-1:], **options).total_variance
        close = np.isclose(last[:, 0], fine[:, -1], rtol=1e-10).all(axis=1)
        assert close.mean() > 0.9


def test_one_change_of_the_sequence_needs_another_revision():
    """If this fails on purpose, raise _REVISION too, else old caches are read."""
    smiles = simulate_smiles(256, seed=20240101)
    sums = {name: float(smiles.total_variance[smiles.family == name].sum()) for name in FAMILIES}
    assert _smiles._REVISION == 2
    assert sums == pytest.approx(EXPECTED_SUMS, rel=1e-7)


EXPECTED_SUMS = {
    "ssvi": 3120.40598481,
    "sabr": 1153.17820906,
    "svi": 643.93794359,
    "merton": 230.00001573,
    "heston": 695.67563707,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLSCEN_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_surfaces_are_kept(folder, monkeypatch):
    def simulate_smiles(n, **options):
        return _smiles.simulate_smiles(n, families=LIGHT, **options)

    fresh = simulate_smiles(300, seed=7, cache=True)
    (file,) = folder.iterdir()
    drawn = []
    original = _smiles._draw_block
    monkeypatch.setattr(_smiles, "_draw_block", lambda *a: drawn.append(a) or original(*a))
    assert simulate_smiles(300, seed=7, cache=True).identical(fresh)
    assert simulate_smiles(10, seed=7, cache=True).identical(simulate_smiles(10, seed=7))
    assert len(drawn) == 1
    # more than are kept, then other surfaces: another file
    more = simulate_smiles(600, seed=7, cache=True)
    np.testing.assert_array_equal(more.total_variance[:300], fresh.total_variance)
    simulate_smiles(10, seed=7, perturb=0.5, cache=True)
    assert len(list(folder.iterdir())) == 2
    # a damaged file is drawn anew
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(bytes(content))
    assert simulate_smiles(600, seed=7, cache=True).identical(more)
    assert file.read_bytes() != bytes(content)
    file.write_bytes(b"no safetensors")
    assert simulate_smiles(600, seed=7, cache=True).identical(more)


def test_a_cache_that_cannot_be_written_says_so(folder):
    folder.write_text("a file")
    with pytest.raises(InputError, match="VOLSCEN_CACHE"):
        simulate_smiles(2, seed=7, cache=True)


def test_folders_of_caches(monkeypatch, tmp_path):
    monkeypatch.delenv("VOLSCEN_CACHE", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "volscen"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "volscen"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n": 0}, "n must be a whole number of at least 1"),
        ({"n": 2.5}, "n must be"),
        ({"n": True}, "n must be"),
        ({"first": -1}, "first must be"),
        ({"seed": -1}, "seed must be"),
        ({"families": {}}, "families must map"),
        ({"families": "ssvi"}, "families must map"),
        ({"families": {"sabr_event": 1}}, "there are ssvi, sabr, svi, merton, heston"),
        ({"families": {"ssvi": -1, "svi": 2}}, "zero or more"),
        ({"families": {"ssvi": np.nan}}, "finite"),
        ({"families": {"ssvi": 0}}, "one above zero"),
        ({"perturb": 1.5}, "perturb must lie in"),
        ({"perturb": np.nan}, "perturb must be finite"),
        ({"arbitrage": "ignore"}, "arbitrage must be"),
        ({"tau": [1.0, 0.5]}, "tau must be"),
        ({"tau": [0.5, np.nan]}, "tau must be"),
        ({"tau": [1e-3, 1.0]}, "between a day"),
        ({"tau": [1.0, 31.0]}, "30 years"),
        ({"log_moneyness": [0.0, 0.0]}, "log_moneyness must"),
        ({"log_moneyness": [np.inf]}, "log_moneyness must"),
        ({"cache": True, "seed": None}, "cache needs an integer seed"),
        ({"cache": True, "first": 5}, "cache needs an integer seed"),
        ({"tau": [1 / 365], "log_moneyness": [-3.0, 3.0], "families": {"heston": 1}}, "reaches too far"),
    ],
)
def test_bad_input(arguments, match):
    with pytest.raises(InputError, match=match):
        simulate_smiles(**({"n": 5, "seed": 1} | arguments))


def test_single_cells_and_short_times():
    assert simulate_smiles(2, tau=[0.5], log_moneyness=[0.0], seed=1).durrleman.values.tolist() == [np.inf, np.inf]
    weeks = simulate_smiles(300, tau=np.array([1, 7, 14]) / 365, log_moneyness=np.linspace(-0.1, 0.1, 9), seed=1)
    assert np.isfinite(weeks.total_variance).all()
