"""Returns of forwards, and corporate actions that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volscen
from chain_makers import black_price
from volscen.errors import InputError
from volscen.history._corporate_actions import JUMP, find_corporate_action
from volscen.history._listing import Listing
from volscen.sources import read_lean, read_table

EXPIRIES = pd.to_datetime(["2024-02-16", "2024-03-15", "2024-06-21"])
LADDER = np.arange(150.0, 251, 5)
GRID = {"tau": [60 / 365, 100 / 365], "moneyness": [0.95, 1.0, 1.05], "progress": False}


def day(date: str, forward, strike=LADDER, adjusted=None, tick: float = 0.01, expiries=EXPIRIES, **columns):
    """Quotes of one day at zero rates; ``forward`` may differ by expiry."""
    tables = []
    for expiry, level in zip(expiries, np.broadcast_to(forward, len(expiries)), strict=True):
        tau = (expiry - pd.Timestamp(date)).days / 365
        k, is_call = np.repeat(strike, 2), np.tile([True, False], len(strike))
        price = black_price(level, k, tau, 0.3, is_call)
        table = pd.DataFrame(
            {
                "date": date,
                "expiry": expiry,
                "strike": k,
                "option_type": np.where(is_call, "C", "P"),
                "price": np.round(price / tick) * tick,
                **columns,
            }
        )
        if adjusted is not None:
            table["adjusted"] = np.repeat(adjusted, 2)
        tables.append(table)
    return pd.concat(tables)


def build(*days: pd.DataFrame, **options):
    return volscen.build_history(pd.concat(days), **(GRID | options))


def test_the_forward_of_one_expiry_does_not_jump_when_the_nearest_rolls():
    """Financing puts the forwards 2% apart; the spot read from parity jumps, the return does not."""
    basis = np.array([0.97, 0.98, 1.0])
    days = [
        day("2024-02-14", 200 * basis),
        day("2024-02-15", 202 * basis),
        day("2024-02-16", 201 * basis[1:], expiries=EXPIRIES[1:]),
    ]
    history, report = build(*days)
    expected = np.log([202 / 200, 201 / 202])
    np.testing.assert_allclose(history.log_return[1:], expected, atol=2e-5)
    assert abs(float(np.log(history.spot[2] / history.spot[1])) - expected[1]) > 0.009
    assert history.attrs["return_source"] == "forward"
    assert report["return_of"].tolist() == ["", "forward", "forward"]
    spots, _ = build(*days, returns="spot")
    assert spots.attrs["return_source"] == "spot"
    np.testing.assert_array_equal(spots.log_return[1:], np.log(spots.spot.values[1:] / spots.spot.values[:-1]))
    with pytest.raises(InputError, match="returns must be one of auto, forward, spot"):
        build(*days, returns="close")


def test_a_table_with_spots_gives_returns_of_spots():
    days = [day("2024-01-02", 200, spot=199.0), day("2024-01-03", 204, spot=202.0)]
    history, _ = build(*days)
    assert float(history.log_return[1]) == np.log(202 / 199)
    forwards, _ = build(*days, returns="forward")
    assert float(forwards.log_return[1]) == pytest.approx(np.log(204 / 200), abs=1e-5)


def test_an_expiry_counts_as_precisely_as_its_parity_is_known():
    def listing(date: str, forwards: dict[str, tuple[float, float]]) -> Listing:
        levels = {name: (0.2, level, error) for name, (level, error) in forwards.items()}
        levels["nearly expired"] = (4 / 365, 100.0 + (date == "2024-01-03"), 1e-9)
        return Listing(date, 100.0, levels, {})

    one = listing("2024-01-02", {"a": (100.0, 0.1), "b": (100.0, 0.3), "c": (100.0, np.inf), "d": (100.0, 0.1)})
    two = listing("2024-01-03", {"a": (101.0, 0.1), "b": (102.0, 0.3), "c": (150.0, 0.1), "e": (100.0, 0.1)})
    from volscen.history._returns import day_return

    moves, variances = np.log([1.01, 1.02]), [0.001**2 + (0.1 / 101) ** 2, 0.003**2 + (0.3 / 102) ** 2]
    got = day_return(one, two, "forward")
    assert got.basis == "forward"
    assert got.log_return == pytest.approx(np.average(moves, weights=1 / np.array(variances)), rel=1e-12)
    nothing = day_return(listing("x", {"a": (100.0, 0.1)}), listing("y", {"b": (100.0, 0.1)}), "forward")
    assert (nothing.basis, nothing.log_return) == ("spot", 0.0)
    assert Listing.from_text(one.to_text(), "here") == one


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "unmarked"])
@pytest.mark.parametrize(
    ("factor", "decimals"), [(1 / 2, 2), (2 / 3, 2), (1 / 20, 2), (10.0, 0), (3 / 4, 2), (0.9793, 3), (20 / 21, 2)]
)
def test_splits_are_no_returns(factor: float, decimals: int, marked: bool):
    """Two for one, three for two, twenty for one, one for ten, ..., and a dividend that scales the strikes."""
    scaled = np.round(LADDER * factor, decimals)
    new = np.round(np.arange(160, 241, 10) * factor, 0 if factor > 0.1 else 1)  # listed on the day
    new = np.setdiff1d(new, scaled)
    strike = np.union1d(scaled, new)
    adjusted = np.isin(strike, scaled) if marked else None
    before = day("2024-01-02", 200, adjusted=np.zeros(LADDER.size, bool) if marked else None)
    after = day("2024-01-03", 203 * factor, strike, adjusted, tick=1e-4)
    history, report = build(before, after, adjusted="keep")
    assert report["jump"].tolist() == ["", "scaled"]
    assert history.jump_flag.values.tolist() == [0, 1]
    assert float(history.log_return[1]) == pytest.approx(np.log(203 / 200), abs=3e-5)
    exact = 1e-12 if factor != 0.9793 else 2e-5  # fractions of small numbers are known, whatever strikes round to
    assert report["return_adjustment"].iloc[1] == pytest.approx(-np.log(factor), abs=exact)
    assert float(np.log(history.spot[1] / history.spot[0])) == pytest.approx(np.log(203 / 200 * factor), abs=1e-4)
    # A raw close falls with the contracts, one that its vendor adjusted does not.
    for spot, adjustment in ((203 * factor, -np.log(factor)), (203.0, 0.0)):
        if abs(np.log(spot / (203 * factor))) < 0.1:  # else the chain refuses that spot
            of_spot, told = build(before.assign(spot=200.0), after.assign(spot=spot), adjusted="keep")
            assert float(of_spot.log_return[1]) == pytest.approx(np.log(203 / 200), abs=3e-5)
            assert told["return_adjustment"].iloc[1] == pytest.approx(adjustment, abs=2e-5)


def test_of_several_factors_the_price_tells_which() -> None:
    """Strikes in a geometric ladder, of which few are quoted after, allow a half and a quarter alike."""
    old = [10.0, 20.0, 40.0, 80.0, 160.0]
    before = Listing("2024-01-02", 40.0, {"a": (0.2, 40.0, 0.1)}, {"a": (old, [])})
    for factor in (0.5, 0.25):
        price = 40.5 * factor
        new = [10 * factor, 20 * factor, 40 * factor]
        after = Listing("2024-01-03", price, {"a": (0.2, price, 0.1)}, {"a": ([], new)})
        action = find_corporate_action(before, after, float(np.log(price / 40.0)))
        assert (action.kind, action.size) == ("scaled", factor)


def test_crashes_that_look_like_splits_are_suspect() -> None:
    """Strikes that stayed, or that a shift by some of their own steps carries onto each other, prove no split."""
    ladder = np.arange(100.0, 201, 5)

    def action(price: float, strikes: np.ndarray, new: np.ndarray) -> str:
        listings = [
            Listing(date, level, {"a": (0.2, level, 0.1)}, {"a": (quoted.tolist(), [])})
            for date, level, quoted in (("1", 150.0, strikes), ("2", price, new))
        ]
        return find_corporate_action(*listings, float(np.log(price / 150))).kind

    assert action(75, ladder, np.arange(50.0, 201, 2.5)) == "suspect"  # halved: the old strikes are all there
    assert action(90, ladder, np.arange(60.0, 141, 5)) == "suspect"  # those far above are not quoted any more
    assert action(75, ladder, ladder / 2) == "scaled"
    assert action(75 * np.exp(-0.23), ladder, ladder / 2) == "suspect"  # a split, and a crash beside it


def test_thinly_quoted_splits_are_scaled_or_suspect() -> None:
    """Eight of ten strikes are quoted on either day: no split passes, and none is taken for something else."""
    rng = np.random.default_rng(3)
    ladder, kinds = np.arange(120.0, 281, 5), []
    for factor in [1 / 2, 1 / 3, 2 / 3, 1 / 20, 10.0] * 20:
        move = np.log(factor) + rng.normal(0, 0.02)
        listings = []
        for date, price, strikes in (("1", 200.0, ladder), ("2", 200 * np.exp(move), np.round(ladder * factor, 2))):
            quoted = {e: (np.sort(rng.choice(strikes, 27, replace=False)).tolist(), []) for e in "abc"}
            listings.append(Listing(date, price, dict.fromkeys("abc", (0.2, price, 0.1)), quoted))
        action = find_corporate_action(*listings, move)
        kinds.append(action.kind)
        assert action.kind in ("scaled", "suspect")
        assert action.kind == "suspect" or action.size == pytest.approx(factor, rel=1e-4)
    assert kinds.count("scaled") > 20


def test_special_dividends_that_lower_strikes_are_no_returns():
    history, report = build(day("2024-01-02", 200), day("2024-01-03", 191.5, LADDER - 7.5 - 0.13))
    assert report["jump"].tolist() == ["", "shifted"]
    assert float(history.log_return[1]) == pytest.approx(np.log((191.5 + 7.63) / 200), abs=3e-4)


@pytest.mark.parametrize("fall", [0.02, 0.1, 0.19])
def test_a_crash_is_a_return(fall: float):
    lower = np.union1d(LADDER, np.arange(100.0, 150, 5))  # listed on the day
    history, report = build(day("2024-01-02", 200), day("2024-01-03", 200 * np.exp(-fall), lower))
    assert report["jump"].tolist() == ["", ""]
    assert float(history.log_return[1]) == pytest.approx(-fall, abs=3e-5)


def test_jumps_that_contracts_do_not_explain_are_suspect():
    lower = np.union1d(LADDER, np.arange(60.0, 150, 5))
    with pytest.warns(UserWarning, match=r"the return into 2024-01-03 may be a corporate action \(jump_flag 2\)"):
        history, report = build(day("2024-01-02", 200), day("2024-01-03", 100, lower))
    assert report["jump"].tolist() == ["", "suspect"]
    assert history.jump_flag.values.tolist() == [0, 2]
    assert float(history.log_return[1]) == pytest.approx(np.log(0.5), abs=3e-5)
    assert "suspect: 2024-01-03" in volscen.summarise_report(report)
    with pytest.warns(UserWarning, match="jump_flag 2"):  # strikes all new, after no rule
        _, report = build(
            day("2024-01-02", 200),
            day("2024-01-03", 199, 200 + np.cumsum(np.random.default_rng(1).uniform(1, 4, 20)) - 25),
        )
    assert report["jump"].tolist() == ["", "suspect"]
    assert np.log(5 / 4) > JUMP  # the price tells of all splits down to five for four


def test_a_split_of_two_for_one_within_a_wide_ladder() -> None:
    """Half of the strikes near the forward are strikes of the new ladder too."""
    wide = np.arange(50.0, 401, 5)
    history, report = build(day("2024-01-02", 200, wide), day("2024-01-03", 101, wide / 2, tick=1e-4))
    assert report["jump"].tolist() == ["", "scaled"]
    assert float(history.log_return[1]) == pytest.approx(np.log(1.01), abs=3e-5)


@pytest.mark.parametrize("seed", range(6))
def test_thinly_quoted_strikes_are_no_event(seed: int) -> None:
    """A third of a ladder trades on a day, never the same."""
    rng = np.random.default_rng(seed)
    ladder = np.arange(150.0, 251, 2.5)
    spots = 200 * np.exp(np.cumsum(rng.normal(0, 0.02, 6)))
    days = [
        day(str(date.date()), spot, np.sort(rng.choice(ladder, 14, replace=False)))
        for date, spot in zip(pd.bdate_range("2024-01-02", periods=6), spots, strict=True)
    ]
    history, report = build(*days, max_extrapolation=9)
    assert (report["jump"] == "").all()
    np.testing.assert_allclose(history.log_return[1:], np.diff(np.log(spots)), atol=1e-4)


def test_strikes_that_come_and_go_are_no_event():
    rng = np.random.default_rng(2)
    days = [
        day(str(date.date()), 200 + i, np.sort(rng.choice(LADDER, 15, replace=False)))
        for i, date in enumerate(pd.bdate_range("2024-01-02", periods=8))
    ]
    _, report = build(*days, max_extrapolation=9)
    assert (report["jump"] == "").all()


@pytest.mark.real
def test_dividends_of_the_sse_50_etf(market_data: Path):
    """Dividends per share that the fund paid (its announcements), over the close before, against the strikes."""
    path = market_data / "sse50etf" / "sse50etf_options_2015_2022.parquet"
    paid = {
        "2016-11-29": 0.053,
        "2017-11-28": 0.054,
        "2018-12-03": 0.049,
        "2019-12-02": 0.047,
        "2020-11-30": 0.051,
        "2021-11-29": 0.041,
        "2022-12-01": 0.037,
    }
    columns = {"option_type": "type", "price": "close", "adjusted": "adjusted_contract"}
    data = pd.read_parquet(path)[["date", "expiry", "strike", "type", "close", "adjusted_contract"]]
    # Two days around each ex-dividend date, and December 2021 and January 2022, when nothing happened.
    dates = pd.DatetimeIndex(np.unique(data["date"]))
    wanted = [dates[dates.get_loc(pd.Timestamp(ex)) + i] for ex in paid for i in (-1, 0, 1)]
    quiet = dates[(dates >= "2021-12-01") & (dates < "2022-02-01")]
    quotes, _ = read_table(data[data["date"].isin(quiet.union(wanted))], columns=columns)
    with pytest.warns(UserWarning, match="into 2017-11-27, 2020-11-27 may be"):  # a year after the date before
        history, report = volscen.build_history(
            quotes, tau=np.array([60, 91]) / 365, moneyness=[0.95, 1.0, 1.05], progress=False, max_extrapolation=9
        )
    flagged = report.index[report["jump"] == "scaled"]
    assert flagged.strftime("%Y-%m-%d").tolist() == list(paid)
    assert set(report["jump"]) <= {"", "scaled", "suspect"}
    for ex, dividend in paid.items():
        position = report.index.get_loc(pd.Timestamp(ex))
        before = float(history["spot"].sel(date=report.index[position - 1]))
        # The spot is the forward of the cum-dividend share, discounted: the basis enters at second order.
        assert report["return_adjustment"].iloc[position] == pytest.approx(-np.log1p(-dividend / before), rel=0.01)
    assert (history["jump_flag"].sel(date=quiet) == 0).all()


@pytest.mark.real
def test_seven_for_one(market_data: Path):
    """Apple closed at 645.57 on the Friday before its split of seven for one, and at 93.70 on the Monday."""
    quotes, _ = read_lean(market_data / "lean" / "option__usa__daily__aapl_2014_quote_american.zip")
    history, report = build(quotes)
    assert report["jump"].tolist() == ["", "scaled"]
    assert report["return_adjustment"].iloc[1] == pytest.approx(np.log(7), rel=1e-14)
    assert float(history["log_return"][1]) == pytest.approx(np.log(7 * 93.70 / 645.57), abs=1e-3)
