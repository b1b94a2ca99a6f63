"""Grids by delta and by scaled log-moneyness: closed forms and QuantLib."""

from __future__ import annotations

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import volscen
from chain_makers import make_chain, svi_vol
from volscen import Chain, build_surface
from volscen.errors import FileFormatError, InputError
from volscen.surface import REGISTRY
from volscen.surface._delta import delta_labels, quantile_of_call_delta, read_deltas, solve_rising

TAU = np.array([30, 60, 91, 182]) / 365
WINGS = ["10P", "25P", "ATM", "25C", "10C"]


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain(make_chain())


@pytest.mark.parametrize("method", sorted(REGISTRY))
def test_deltas_are_met(chain: Chain, method: str) -> None:
    surface = build_surface(chain, TAU, delta=WINGS, method=method, max_extrapolation=5)
    assert surface["implied_vol"].dims == ("tau", "delta")
    assert surface["delta_label"].values.tolist() == WINGS
    np.testing.assert_allclose(surface["delta"], [0.9, 0.75, 0.5, 0.25, 0.1], rtol=1e-14)
    m, s = surface["moneyness"].values, surface["implied_vol"].values * np.sqrt(TAU)[:, None]
    np.testing.assert_allclose(norm.cdf(-np.log(m) / s + s / 2), np.tile(surface["delta"], (4, 1)), atol=1e-13)
    for j, tau in enumerate(TAU):  # the same surface as on a grid of K/F
        plain = build_surface(chain, [tau], m[j], method=method, max_extrapolation=5)
        # What repair is free of arbitrage on is a grid around the points asked for.
        tolerance = 5e-4 if method == "repair" else 1e-9
        np.testing.assert_allclose(surface["implied_vol"][j], plain["implied_vol"][0], rtol=tolerance)
    assert volscen.validate(surface) is surface


def test_strikes_are_those_of_quantlib(chain: Chain) -> None:
    surface = build_surface(chain, TAU, delta=WINGS)
    for j in range(TAU.size):
        forward = float(surface["forward"][j])
        for i, (label, delta) in enumerate(zip(WINGS, [-0.1, -0.25, 0.5, 0.25, 0.1], strict=True)):
            vol = float(surface["implied_vol"][j, i])
            kind = ql.Option.Put if delta < 0 else ql.Option.Call
            # With both discount factors 1 its spot is our forward, and its forward delta is undiscounted.
            found = ql.BlackDeltaCalculator(kind, ql.DeltaVolQuote.Fwd, forward, 1.0, 1.0, vol * np.sqrt(TAU[j]))
            strike = (
                found.atmStrike(ql.DeltaVolQuote.AtmDeltaNeutral) if label == "ATM" else found.strikeFromDelta(delta)
            )
            assert float(surface["moneyness"][j, i]) * forward == pytest.approx(strike, rel=1e-9)


def test_flat_smile_has_strikes_in_closed_form() -> None:
    flat = Chain(make_chain(vol=lambda k, tau: 0.25 + 0 * k * tau))
    surface = build_surface(flat, TAU, delta=[0.9, 0.5, 0.2], max_extrapolation=5)
    s = 0.25 * np.sqrt(TAU)[:, None]
    np.testing.assert_allclose(np.log(surface["moneyness"]), s**2 / 2 - norm.ppf([0.9, 0.5, 0.2]) * s, atol=1e-7)
    scaled = build_surface(flat, TAU, standardised_moneyness=[-1.5, 0.0, 1.0], max_extrapolation=5)
    np.testing.assert_allclose(np.log(scaled["moneyness"]), s * [-1.5, 0.0, 1.0], atol=1e-7)


def test_scaled_log_moneyness(chain: Chain) -> None:
    x = np.array([-0.5, -0.1, 0.0, 0.2])
    root = np.sqrt(TAU)[:, None]
    normalised = build_surface(chain, TAU, normalised_moneyness=x)
    np.testing.assert_allclose(np.log(normalised["moneyness"]), x * root, atol=1e-14)
    np.testing.assert_allclose(normalised["implied_vol"], svi_vol(x * root, TAU[:, None]), atol=2e-6)
    at_the_money = svi_vol(0.0, TAU[:, None])
    standardised = build_surface(chain, TAU, standardised_moneyness=x)
    np.testing.assert_allclose(np.log(standardised["moneyness"]), x * root * at_the_money, atol=1e-6)
    for surface, name in ((normalised, "normalised_moneyness"), (standardised, "standardised_moneyness")):
        assert surface["implied_vol"].dims == ("tau", name)
        assert surface[name].attrs["units"] in ("1", "year-0.5")
        volscen.validate(surface)


def test_log_moneyness_is_converted(chain: Chain) -> None:
    k = np.array([-0.1, 0.0, 0.1])
    assert build_surface(chain, TAU, log_moneyness=k).equals(build_surface(chain, TAU, np.exp(k)))


def test_penalty_of_smiles_is_that_of_the_first_times_strikes(chain: Chain) -> None:
    steep = Chain(make_chain(vol=lambda k, tau: np.where(tau < 0.1, 0.5, 0.2) * np.sqrt(1 + k**2)))
    smiles = build_surface(steep, TAU, delta=WINGS, method="kernel", bandwidth=(0.002, 0.002), max_extrapolation=9)
    product = build_surface(
        steep, TAU, smiles["moneyness"].values[0], method="kernel", bandwidth=(0.002, 0.002), max_extrapolation=9
    )
    assert float(smiles["arbitrage_penalty"]) > 0.01
    assert float(smiles["arbitrage_penalty"]) == pytest.approx(float(product["arbitrage_penalty"]), rel=1e-6)
    assert smiles.attrs["calendar_violations"] == product.attrs["calendar_violations"] > 0


def test_quality_of_smiles() -> None:
    chain = Chain(make_chain(days=[91], forward=[101.0], rate=[0.03], log_moneyness=np.linspace(-0.06, 0.06, 7)))
    surface = build_surface(chain, ["1M", 91 / 365], delta=WINGS, max_tau_ratio=4, max_extrapolation=5)
    k = np.log(surface["moneyness"].values)
    beyond = np.abs(k[1]) > 0.06
    assert beyond.tolist() == [True, True, False, True, True]
    # Quotes at -.06 and .06 lie in the cells of 25P and 25C, which reach half-way to the money.
    assert (k[1, 0] + k[1, 1]) / 2 < -0.06
    assert (k[1, 2] + k[1, 3]) / 2 < 0.06
    assert surface["quality"].values.tolist() == [[2] * 5, [2, 0, 0, 0, 2]]
    with pytest.raises(InputError, match=r"at tau 0.2493 delta 10P, moneyness 0.\d+, lies .* beyond"):
        build_surface(chain, [91 / 365], delta=WINGS, max_extrapolation=0.1)


def test_labels_and_numbers() -> None:
    calls = [0.9, 0.75, 0.5, 0.25, 0.1]
    for given_ in (WINGS, WINGS[::-1], [-0.1, -0.25, 0.5, 0.25, 0.1], [-0.1, -0.25, -0.5, 0.25, 0.1], calls[::-1],
                   ["10p", "25DP", " dns ", "25c", 0.1], np.array(calls)):  # fmt: skip
        np.testing.assert_allclose(read_deltas(given_), calls, rtol=1e-14)
    assert delta_labels(read_deltas(["2.5P", "49P", "49C"])).tolist() == ["2.5P", "49P", "49C"]


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (["25X"], "'25X' is no label; write '25P', 'ATM'"),
        (["0P"], "'0P' is no label"),
        (["100C"], "'100C' is no label"),
        ([25, 50], "delta 25 is not within"),
        ([0.0], "delta 0 is not within"),
        ([np.nan], "delta nan is not within"),
        ([1.0], "delta 1 is not within"),
        ([True], "delta must hold labels"),
        ([None], "delta must hold labels"),
        ([], "at least one"),
        (0.5, "delta must be a list"),
        (["ATM", "50C"], "delta holds ATM twice"),
        ([-0.25, 0.75], "delta holds 25P twice"),
    ],
)
def test_bad_deltas(chain: Chain, delta: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_surface(chain, TAU, delta=delta)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give the strikes by one of moneyness, log_moneyness, delta, .*; none is given"),
        ({"moneyness": [1.0], "delta": ["ATM"]}, "not moneyness and delta"),
        ({"log_moneyness": [0.1, 0.0]}, "log_moneyness must be strictly increasing"),
        ({"log_moneyness": [np.nan]}, "within 20 of 0"),
        ({"normalised_moneyness": [90.0, 100.0]}, "within 20 of 0"),
        ({"standardised_moneyness": []}, "non-empty one-dimensional"),
        ({"standardised_moneyness": "x"}, "must be a list of increasing numbers"),
    ],
)
def test_one_coordinate_of_strikes(chain: Chain, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_surface(chain, TAU, **options)


@given(
    a=st.floats(0.001, 0.05), b=st.floats(0.01, 0.4), rho=st.floats(-0.9, 0.9), m=st.floats(-0.2, 0.2),
    sigma=st.floats(0.02, 0.5), call=st.floats(0.01, 0.99),
)  # fmt: skip
def test_root_of_any_slice_with_rising_d1(a, b, rho, m, sigma, call) -> None:
    def total_vol(k: np.ndarray) -> np.ndarray:
        return np.sqrt(a + b * (rho * (k - m) + np.hypot(k - m, sigma)))

    scan = np.linspace(-0.3, 0.3, 65)
    roots = solve_rising(total_vol, quantile_of_call_delta(np.array([call])), scan)
    k, s = roots.k[0, 0], total_vol(roots.k)[0, 0]
    assert norm.cdf(-k / s + s / 2) == pytest.approx(call, abs=1e-12)
    assert roots.count[0, 0] % 2 == 1


def test_a_delta_met_several_times_is_named(chain: Chain) -> None:
    # A spike of vol at k = 0.05 makes d1 rise there.
    def total_vol(k: np.ndarray) -> np.ndarray:
        return 0.05 + 0.06 * np.exp(-(((k - 0.05) / 0.005) ** 2))

    roots = solve_rising(total_vol, quantile_of_call_delta(np.array([0.5, 0.3])), np.linspace(-0.2, 0.2, 201))
    assert roots.count.tolist() == [[1, 3]]
    assert roots.k[0, 1] < 0.05  # the nearest to the money
    spiked = Chain(make_chain(days=[30], forward=[100.0], rate=[0.0], log_moneyness=np.linspace(-0.3, 0.2, 51),
                              vol=lambda k, tau: 0.15 + 0.25 * np.exp(-(((k - 0.06) / 0.008) ** 2))))  # fmt: skip
    with pytest.raises(InputError, match=r"delta \d+C at tau 0.08219 on 2024-01-02 is met at 3 strikes"):
        build_surface(spiked, [30 / 365], delta=["ATM", "20C", "12C", "5C"], method="cubic", smoothing=0)


def test_smiles_survive_a_file_and_broken_ones_are_named(chain: Chain, tmp_path) -> None:
    surface = build_surface(chain, TAU, delta=WINGS)
    assert volscen.read(volscen.write(surface, tmp_path / "smiles.nc")).equals(surface)
    wrong = surface.assign_coords(moneyness=(("tau", "delta"), surface["moneyness"].values[:, ::-1]))
    with pytest.raises(FileFormatError, match="moneyness must be positive, finite and strictly increasing along delta"):
        volscen.validate(wrong)
    with pytest.raises(FileFormatError, match="coordinate moneyness is missing"):
        volscen.validate(surface.drop_vars("moneyness"))
    with pytest.raises(FileFormatError, match="implied_vol has dimensions"):
        volscen.validate(surface.transpose("delta", "tau"))


def test_histories_have_one_grid() -> None:
    quotes = make_chain(spread=0.02)
    k = np.array([-0.1, 0.0, 0.1])
    history, report = volscen.build_history(quotes, tau=["1M", "3M"], log_moneyness=k, method="kernel")
    np.testing.assert_array_equal(history["moneyness"], np.exp(k))
    surface = build_surface(Chain(quotes), ["1M", "3M"], np.exp(k), method="kernel")
    names = [name for name in surface.attrs if name.startswith(("durrleman", "calendar_vio", "fit_share", "fit_rms_"))]
    assert len(names) == 6
    names += ["bandwidth_moneyness", "bandwidth_tau"]
    for name in names:
        assert report[name].iloc[0] == surface.attrs[name]
    with pytest.raises(InputError, match=r"delta has other strikes at every time.*regrid\(history, delta="):
        volscen.build_history(quotes, tau=["1M"], delta=WINGS)
    with pytest.raises(InputError, match="give the strikes by one of moneyness, log_moneyness; none is given"):
        volscen.build_history(quotes, tau=["1M"])
    with pytest.raises(InputError, match="not moneyness and log_moneyness"):
        volscen.build_history(quotes, tau=["1M"], moneyness=[1.0], log_moneyness=[0.0])
