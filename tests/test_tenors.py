"""Times to expiry by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import volscen
from chain_makers import make_chain
from volscen import Chain, build_history, build_surface
from volscen._tenors import from_days, to_years
from volscen.errors import InputError
from volscen.sources import simulate
from volscen.surface import interpolate_vol


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("1D", 1 / 365),
        ("1W", 7 / 365),
        ("2w", 14 / 365),
        ("1M", 1 / 12),
        ("3M", 0.25),
        ("12M", 1.0),
        ("1Y", 1.0),
        ("18M", 1.5),
        (" 1Y6M ", 1.5),
        ("1M2W3D", 1 / 12 + 17 / 365),
    ],
)
def test_names(text: str, years: float) -> None:
    assert to_years("tau", text) == pytest.approx(years, rel=1e-15)


def test_names_stand_wherever_numbers_do() -> None:
    for values in (["1W", "3M"], ("1W", 0.25), np.array(["1W", "3M"]), pd.Series(["1W", "3M"])):
        np.testing.assert_allclose(to_years("tau", values), [7 / 365, 0.25], rtol=1e-15)
    numbers = np.array([0.1, 0.2])
    assert to_years("tau", numbers) is numbers
    np.testing.assert_allclose(from_days("--days", "7,30.5,3M"), [7 / 365, 30.5 / 365, 0.25], rtol=1e-15)


@pytest.mark.parametrize("text", ["", "M", "3", "0.25", "3X", "M3", "1.5Y", "-1M", "6M1Y", "3 M"])
def test_what_is_no_tenor(text: str) -> None:
    with pytest.raises(InputError, match=r"tau must be numbers of years, or tenors .* is neither"):
        to_years("tau", [text])
    if text not in ("3", "0.25"):  # days
        with pytest.raises(InputError, match=r"--days must be numbers of days, or tenors"):
            from_days("--days", f"30,{text}")


def test_every_tau_takes_them() -> None:
    quotes = make_chain()
    chain, years, k = Chain(quotes), [1 / 12, 0.25], [0.95, 1.0]
    by_name, by_number = build_surface(chain, ["1M", "3M"], k), build_surface(chain, years, k)
    assert by_name.equals(by_number)
    history, _ = build_history(quotes, tau=["1M", "3M"], moneyness=k)
    np.testing.assert_array_equal(history["tau"], years)
    vol = by_number["implied_vol"].values
    found = interpolate_vol(vol, ["1M", "3M"], k, "2M", 1.0)
    assert found == interpolate_vol(vol, years, k, 1 / 6, 1.0)
    with pytest.raises(InputError, match="tau must be strictly increasing"):
        build_surface(chain, ["3M", "1M"], k)
    with pytest.raises(InputError, match="tau must hold positive"):
        build_surface(chain, ["0D", "1M"], k)
    np.testing.assert_allclose(to_years("tau", np.array([73, 365], "timedelta64[D]")), [0.2, 1.0], rtol=1e-15)
    with pytest.raises(InputError, match="tau must hold numbers, not"):
        build_surface(chain, [True], k)
    with pytest.raises(InputError, match="tau must hold numbers of years or tenors"):
        build_surface(chain, ["1M", None], k)


def test_every_verb_reads_tenors():
    history = volscen.datasets.sample_history()
    cube = volscen.generate(n_scenarios=50, seed=1)
    views, priors, risk, stress = volscen.views, volscen.priors, volscen.risk, volscen.stress
    for quantity in (
        lambda tau: views.atm_vol(tau),
        lambda tau: views.implied_vol(tau, 0.95),
        lambda tau: views.skew(tau),
        lambda tau: views.term_slope(tau, 0.5),
        lambda tau: views.term_slope(0.1, tau),
    ):
        assert np.array_equal(quantity("3M").values(cube), quantity(0.25).values(cube))
        assert quantity("3M").label == quantity(0.25).label
        for wrong in ("soon", -0.25, np.nan, True):
            with pytest.raises(InputError):
                quantity(wrong)
    assert priors.market_state(history, tau="3M").identical(priors.market_state(history, tau=0.25))
    profit = np.arange(50.0)
    assert risk.tail(cube, profit, tau="3M").identical(risk.tail(cube, profit, tau=0.25))
    assert stress.shock(cube, level=0.1, tau="3M").identical(stress.shock(cube, level=0.1, tau=0.25))
    few = history.isel(date=slice(0, 3))
    assert volscen.make_history(
        few.date.values, ["1M", "2M"], [0.9, 1.1], np.full((3, 2, 2), 0.2), spot=[1.0, 1.1, 1.2]
    ).tau.values.tolist() == [1 / 12, 2 / 12]
    smiles = simulate.simulate_smiles(2, tau=["1M", "3M"], seed=1)
    assert smiles.tau.values.tolist() == [1 / 12, 0.25]
