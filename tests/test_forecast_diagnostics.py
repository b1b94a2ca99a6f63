"""Long memory, breaks, links and ranges: size and power on laws with known answers, and independent formulas."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f as f_law
from scipy.stats import kstwobign, norm

import volscen
from volscen.errors import InputError
from volscen.evaluation import forecast


def fractional_noise(d: float, n: int, rng: np.random.Generator) -> np.ndarray:
    return forecast.fractional_difference(rng.normal(size=n), -d)


@given(st.floats(-1.5, 1.5), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_fractional_difference_is_the_binomial_series_and_inverts(d: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=40)
    weights = [1.0]
    for j in range(1, 40):
        weights.append(weights[-1] * (j - 1 - d) / j)
    direct = [np.dot(weights[: t + 1], x[t::-1]) for t in range(40)]
    found = forecast.fractional_difference(x, d)
    np.testing.assert_allclose(found, direct, atol=1e-11)
    np.testing.assert_allclose(forecast.fractional_difference(found, -d), x, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "d"),
    [("gph", 0.0), ("gph", 0.4), ("local_whittle", -0.2), ("local_whittle", 0.4), ("exact_whittle", 0.0),
     ("exact_whittle", 0.4), ("exact_whittle", 0.9)],
)  # fmt: skip
def test_memory_is_recovered_with_the_error_stated(method: str, d: float) -> None:
    rng = np.random.default_rng(11)
    found = [forecast.long_memory(5 + fractional_noise(d, 1500, rng), method=method) for _ in range(60)]
    estimates = np.array([one.d for one in found])
    error = found[0].standard_error
    # The mean of 60 has a standard error of error / 7.7; a bias of half an error is allowed.
    assert abs(estimates.mean() - d) < 0.5 * error
    assert 0.75 < estimates.std() / error < 1.4


def test_gph_is_the_regression_it_names() -> None:
    x = np.random.default_rng(2).normal(size=600).cumsum()
    m = int(600**0.5)
    frequency = 2 * np.pi * np.arange(1, m + 1) / 600
    t = np.arange(600)
    power = [abs(np.sum((x - x.mean()) * np.exp(-1j * f * t))) ** 2 / (2 * np.pi * 600) for f in frequency]
    slope = np.polyfit(np.log(4 * np.sin(frequency / 2) ** 2), np.log(power), 1)[0]
    found = forecast.long_memory(x, method="gph", power=0.5)
    assert found.d == pytest.approx(-slope, rel=1e-10)
    assert found.hurst == pytest.approx(found.d + 0.5)
    assert found.n_frequencies == m


def test_critical_values_are_kolmogorovs() -> None:
    from volscen.evaluation.forecast._breaks import _CRITICAL

    for level, value in _CRITICAL.items():
        assert value == pytest.approx(kstwobign.isf(level), rel=1e-6)


def test_statistic_by_hand() -> None:
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=60), 3 * rng.normal(size=60)])
    c = np.cumsum(x * x)
    d = np.abs(c / c[-1] - np.arange(1, 121) / 120)
    found = forecast.breaks_in_variance(x, method="inclan_tiao")
    assert found.position.tolist() == [int(np.argmax(d)) + 1]
    assert found.statistic[0] == pytest.approx(np.sqrt(60) * d.max(), rel=1e-12)
    k = found.position[0]
    np.testing.assert_allclose(found.variance, [np.mean(x[:k] ** 2), np.mean(x[k:] ** 2)], rtol=1e-12)


def test_false_breaks_are_as_rare_as_stated_also_with_heavy_tails() -> None:
    rng = np.random.default_rng(8)
    normal = sum(
        forecast.breaks_in_variance(rng.normal(size=500), method="inclan_tiao").position.size > 0 for _ in range(300)
    )
    assert normal / 300 < 0.08  # 5%, a little less in short samples; 8% is 2.4 standard errors above
    heavy = [rng.standard_t(5, size=500) for _ in range(200)]
    plain, robust = (
        np.mean([forecast.breaks_in_variance(x, method=method).position.size > 0 for x in heavy])
        for method in ("inclan_tiao", "kappa2")
    )
    assert robust < 0.08
    assert plain > 0.2


def test_breaks_are_found_where_they_are() -> None:
    rng = np.random.default_rng(9)
    hits = []
    for _ in range(40):
        x = rng.normal(size=1500)
        x[500:900] *= 2.2
        found = forecast.breaks_in_variance(x).position
        hits.append(found.size == 2 and abs(found[0] - 500) < 60 and abs(found[1] - 900) < 60)
    assert np.mean(hits) > 0.75


def test_regimes_know_the_past_only() -> None:
    history = volscen.datasets.sample_history().isel(date=slice(0, 420))
    whole = forecast.regime_state(history, min_days=200, every=10)
    part = forecast.regime_state(history.isel(date=slice(0, 330)), min_days=200, every=10)
    xr.testing.assert_identical(part, whole.sel(date=part.date))
    x = history.log_return.values[1:]
    days = int(whole.regime_days[-1])
    assert float(whole.regime_vol[-1]) == pytest.approx(np.sqrt(252 * np.mean(x[-days:] ** 2)), rel=1e-10)
    assert whole.date.values[0] == history.date.values[200]


@pytest.mark.parametrize("mu", [-0.5, 0.0, 0.4])
def test_range_is_that_of_simulated_paths(mu: float) -> None:
    sigma, years, level = 0.3, 0.25, 0.8
    found = forecast.range_forecast(sigma, years, mu=mu, level=level, spot=50.0)
    rng = np.random.default_rng(5)
    steps, n = 400, 20_000
    nu, sd = (mu - sigma**2 / 2) * years / steps, sigma * np.sqrt(years / steps)
    x, top, bottom = np.zeros(n), np.zeros(n), np.zeros(n)
    for _ in range(steps):
        new = x + nu + sd * rng.normal(size=n)
        # Extremes of the bridge between two points, exactly.
        u, v = rng.random(n), rng.random(n)
        top = np.maximum(top, (x + new + np.sqrt((new - x) ** 2 - 2 * sd**2 * np.log(u))) / 2)
        bottom = np.minimum(bottom, (x + new - np.sqrt((new - x) ** 2 - 2 * sd**2 * np.log(v))) / 2)
        x = new
    tolerance = 4 * np.sqrt(0.1 * 0.9 / n)
    assert np.mean(50 * np.exp(top) <= found.highest) == pytest.approx(0.9, abs=tolerance)
    assert np.mean(50 * np.exp(bottom) >= found.lowest) == pytest.approx(0.9, abs=tolerance)
    assert np.mean(50 * np.exp(x) < found.close_low) == pytest.approx(0.1, abs=tolerance)
    assert np.mean(50 * np.exp(x) > found.close_high) == pytest.approx(0.1, abs=tolerance)


def test_range_without_drift_is_the_reflection_principle() -> None:
    sigma = 0.4
    found = forecast.range_forecast(sigma, 1.0, mu=sigma**2 / 2, level=0.9)
    assert np.log(found.highest) == pytest.approx(sigma * norm.ppf((1 + 0.95) / 2), rel=1e-9)
    assert np.log(found.lowest) == pytest.approx(-np.log(found.highest), rel=1e-9)


def test_granger_is_the_f_test_of_least_squares() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(300, 3))
    x[1:, 2] += 0.6 * x[:-1, 0]
    panel = xr.DataArray(x, dims=("date", "name"), coords={"name": ["a", "b", "c"]})
    found = forecast.granger(panel, lags=2)
    design = np.column_stack([np.ones(298), x[1:-1], x[:-2]])
    y = x[2:, 2]
    full = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    less = design[:, [0, 2, 3, 5, 6]]
    short = y - less @ np.linalg.lstsq(less, y, rcond=None)[0]
    f = (short @ short - full @ full) / 2 / (full @ full / (298 - 7))
    assert float(found.statistic.sel(cause="a", effect="c")) == pytest.approx(f, rel=1e-6)
    # The whole system has three equations: its denominator counts the residuals of all.
    assert float(found.p_value.sel(cause="a", effect="c")) == pytest.approx(f_law.sf(f, 2, 3 * (298 - 7)), rel=1e-5)
    assert bool(found.is_link.sel(cause="a", effect="c"))
    assert int(found.is_link.sum()) == 1
    assert float(found.p_value.sel(cause="a", effect="a")) == 1


def test_fractional_cointegration_has_size_and_power() -> None:
    rng = np.random.default_rng(10)
    linked, apart, slopes = 0, 0, []
    for _ in range(30):
        common = fractional_noise(0.7, 1200, rng)
        found = forecast.fractional_cointegration(
            1.5 * common + fractional_noise(0.1, 1200, rng), common + fractional_noise(0.1, 1200, rng)
        )
        linked += found.is_cointegrated
        slopes.append(found.slope)
        apart += forecast.fractional_cointegration(
            fractional_noise(0.7, 1200, rng), fractional_noise(0.7, 1200, rng)
        ).is_cointegrated
    assert linked >= 24
    assert apart <= 4
    assert abs(np.mean(slopes) - 1.5) < 0.08


def test_clusters_of_known_groups() -> None:
    rng = np.random.default_rng(12)
    common = rng.normal(size=(600, 3))
    member = np.array([2, 0, 0, 1, 2, 1, 0])
    values = common[:, member] + 0.6 * rng.normal(size=(600, 7))
    panel = xr.DataArray(values, dims=("date", "asset"), coords={"asset": list("abcdefg")})
    found = forecast.cluster(panel)
    assert found.values.tolist() == [0, 1, 1, 2, 0, 2, 1]
    assert found.attrs["silhouette"] > 0.25
    assert forecast.cluster(panel, n_clusters=2).values.max() == 1


def test_bad_input_names_the_argument() -> None:
    noise = np.random.default_rng(0).normal(size=200)
    with pytest.raises(InputError, match="values holds 1 values that are not finite"):
        forecast.long_memory(np.where(np.arange(200) == 3, np.nan, noise))
    with pytest.raises(InputError, match="at least 50"):
        forecast.long_memory(noise[:20])
    with pytest.raises(InputError, match="constant"):
        forecast.long_memory(np.full(100, 0.1))
    with pytest.raises(InputError, match="method"):
        forecast.long_memory(noise, method="hurst")
    with pytest.raises(InputError, match="power"):
        forecast.long_memory(noise, power=0.9)
    with pytest.raises(InputError, match="significance must be one of"):
        forecast.breaks_in_variance(noise, significance=0.2)
    with pytest.raises(InputError, match="min_segment"):
        forecast.breaks_in_variance(noise, min_segment=1)
    with pytest.raises(InputError, match="sigma"):
        forecast.range_forecast(-0.2, 1.0)
    with pytest.raises(InputError, match="level"):
        forecast.range_forecast(0.2, 1.0, level=1.0)
    with pytest.raises(InputError, match="decimal"):
        forecast.range_forecast(20, 0.25)
    with pytest.raises(InputError, match="same dates"):
        forecast.fractional_cointegration(noise, noise[1:])
    with pytest.raises(InputError, match="one series"):
        forecast.granger(xr.DataArray(noise[:, None], dims=("date", "name")))
    with pytest.raises(InputError, match=r"significance must lie in \(0, 1\)"):
        forecast.granger(xr.DataArray(np.c_[noise, noise[::-1]], dims=("date", "name")), significance=95)
    with pytest.raises(InputError, match="panel must be a DataArray"):
        forecast.cluster(noise)  # type: ignore[arg-type]
