"""Tables as people have them: contracts by symbol, times with zones, several underlyings in one file, a split."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from chain_makers import make_chain
from volscen import schema
from volscen._cli._columns import guess_columns
from volscen._contract_names import osi_contract, written_contract
from volscen.errors import InputError
from volscen.sources import read_table

TAU, MONEYNESS = [60 / 365, 120 / 365], [0.9, 1.0, 1.1]


def symbols(table: pd.DataFrame, root: str = "ACME", *, padded: bool = True) -> pd.DataFrame:
    name = root.ljust(6) if padded else root
    made = [
        f"{name}{expiry:%y%m%d}{kind}{round(strike * 1000):08d}"
        for expiry, kind, strike in zip(table["expiry"], table["option_type"], table["strike"], strict=True)
    ]
    return table.drop(columns=["expiry", "option_type", "strike"]).assign(symbol=made)


def chain() -> pd.DataFrame:
    table = make_chain()
    return table.assign(date=pd.to_datetime(table["date"]), expiry=pd.to_datetime(table["expiry"]))


@pytest.mark.parametrize("padded", [True, False])
def test_symbols_stand_for_expiry_strike_and_type(padded: bool) -> None:
    plain, _ = read_table(chain())
    named, dropped = read_table(
        symbols(chain(), padded=padded).rename(columns={"symbol": "OCC"}), columns={"symbol": "OCC"}
    )
    pd.testing.assert_frame_equal(named[plain.columns], plain)
    assert set(named["underlying"]) == {"ACME"}
    assert dropped.sum() == 0


def test_symbols_that_are_none_are_counted_or_refused() -> None:
    table = symbols(chain())
    table.loc[0, "symbol"] = "ACME US Equity"
    table.loc[1, "symbol"] = None
    assert read_table(table)[1]["missing_expiry"] == 2
    with pytest.raises(InputError, match=r"no OSI symbol.*'x'"):
        read_table(table.assign(symbol="x"))


def test_altered_contracts_are_marked() -> None:
    table = symbols(chain())
    table.loc[:3, "symbol"] = table["symbol"][:4].str.replace("ACME  ", "ACME1 ")
    read = read_table(table)[0]
    assert read["adjusted"].sum() == 4
    assert set(read["underlying"]) == {"ACME"}


@pytest.mark.parametrize(
    ("name", "day", "kind", "strike"),
    [
        ("SPX 20DEC24 5800 C", "2024-12-20", "call", 5800.0),
        ("SPX US 20-Dec-2024 P5400.5", "2024-12-20", "put", 5400.5),
        ("spx 2024-12-20 call 5800", "2024-12-20", "call", 5800.0),
        ("20241220 5800P", "2024-12-20", "put", 5800.0),
        ("O:SPXW241220C05800000", "2024-12-20", "call", 5800.0),
    ],
)
def test_contracts_as_written(name: str, day: str, kind: str, strike: float) -> None:
    found = written_contract(name)
    assert found is not None
    assert (found.expiry, found.option_type, found.strike) == (datetime.date.fromisoformat(day), kind, strike)


@pytest.mark.parametrize(
    "name",
    [
        "SPX 12/11/24 5800 C",
        "SPX 20DEC24 C",
        "SPX 20DEC24 5800",
        "SPX 31NOV24 5800 C",
        "SPX 20DEC24 5800 5900 C",
        "",
        None,
        "SPX 20DEC24 C5800P",
        "SPX 20DEC24 0 C",
    ],
)
def test_contracts_in_doubt_are_none(name: object) -> None:
    assert written_contract(name) is None


def test_no_symbol_has_an_impossible_day() -> None:
    assert osi_contract("ACME  240230C00100000") is None
    assert osi_contract("ACME  240229C00100000") is not None


def test_times_with_a_zone_become_the_exchanges_days() -> None:
    plain, _ = read_table(chain())
    # 21:00 in New York is the next day in UTC: the exchange's own date is meant, in winter and summer.
    stamps = (chain()["date"] + pd.Timedelta(hours=21)).dt.tz_localize("America/New_York").dt.tz_convert("UTC")
    assert (stamps.dt.day != chain()["date"].dt.day).all()
    for given in (stamps, stamps.astype(str), stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ")):
        zoned = chain().assign(date=given)
        with pytest.raises(InputError, match="timezone='America/New_York'"):
            read_table(zoned)
        pd.testing.assert_frame_equal(read_table(zoned, timezone="America/New_York")[0], plain)


def test_a_form_with_a_zone() -> None:
    plain, _ = read_table(chain())
    summer = chain()["date"] + pd.Timedelta(days=120)
    both = pd.concat([chain(), chain().assign(date=summer, expiry=chain()["expiry"] + pd.Timedelta(days=120))])
    written = both.assign(
        date=[f"{day:%d.%m.%Y} 22:00:00{'+01:00' if day.month < 4 else '+02:00'}" for day in both["date"]]
    )
    with pytest.raises(InputError, match=r"date_format='%d.%m.%Y %H:%M:%S%z'"):
        read_table(written)
    with pytest.raises(InputError, match="timezone="):
        read_table(written, date_format="%d.%m.%Y %H:%M:%S%z")
    read = read_table(written, date_format="%d.%m.%Y %H:%M:%S%z", timezone="Europe/Berlin")[0]
    assert read["date"].nunique() == 2
    assert len(read) == 2 * len(plain)
    assert read["date"].iloc[0] == plain["date"].iloc[0]


def test_midnights_are_days_and_no_instants() -> None:
    plain, _ = read_table(chain())
    at_close = (chain()["date"] + pd.Timedelta(hours=16)).dt.tz_localize("America/New_York")
    expiry = chain()["expiry"].dt.tz_localize("UTC")
    read = read_table(chain().assign(date=at_close, expiry=expiry), timezone="America/New_York")[0]
    pd.testing.assert_frame_equal(read, plain)
    with pytest.raises(InputError, match="at midnight in every row"):
        read_table(chain().assign(date=chain()["date"].dt.tz_localize("UTC")), timezone="America/New_York")


@pytest.mark.parametrize(
    ("zone", "said"), [("Mars/Olympus", "must be a name"), (3, "must be a name"), ("America/New_York", "leave it out")]
)
def test_a_zone_that_is_none_or_not_needed(zone: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_table(chain(), timezone=zone)  # type: ignore[arg-type]


def test_rows_with_and_without_a_zone() -> None:
    texts = chain()["date"].dt.strftime("%Y-%m-%d 16:00:00-05:00").tolist()
    texts[0] = texts[0][:10]
    with pytest.raises(InputError, match="in some rows and in others"):
        read_table(chain().assign(date=texts), timezone="America/New_York")


def test_a_mapping_is_proposed_whatever_stands_between_columns(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("quote_date;root;expiration;K;right;bid_px;ask_px;spot_close\n1;A;1;1,5;C;1;1;1\n1;B;1;1;C;1;1;1\n")
    assert guess_columns(path, {}, {"separator": ";", "decimal": ",", "keep": "crossed"}) == (
        "; perhaps --columns date=quote_date,expiry=expiration,strike=K,option_type=right,bid=bid_px,ask=ask_px,"
        "spot=spot_close,underlying=root"
    )
    path.write_text("day,contract,last\n2024-01-02,ACME  240419C00027500,1\n")
    assert guess_columns(path) == "; perhaps --columns symbol=contract,date=day,price=last"


def test_spots_of_several_underlyings_are_refused() -> None:
    ours = chain().assign(spot=100.0)
    theirs = ours.assign(spot=160.0, strike=ours["strike"] * 1.6)
    both = pd.concat([ours, theirs], ignore_index=True)
    for made in (
        lambda: volscen.Chain(both, ours["date"].iloc[0]),
        lambda: volscen.build_history(both, tau=TAU, moneyness=MONEYNESS),
    ):
        with pytest.raises(InputError, match=r"spot runs from 100 to 160 on .*several underlyings"):
            made()
    slips = ours.assign(spot=np.where(np.arange(len(ours)) == 0, 10000.0, 100.0))
    assert volscen.Chain(slips, ours["date"].iloc[0]).spot == 100.0


def split_history(flag: int = 2) -> xr.Dataset:
    past = volscen.datasets.sample_history().isel(date=slice(0, 160))
    past = past.drop_vars(["forward", "discount_factor"], errors="ignore")
    spot = past["spot"].values.copy()
    spot[80:] /= 3
    out = volscen.make_history(
        past["date"].values, past["tau"].values, past["moneyness"].values, past["implied_vol"].values, spot=spot
    )
    flags = np.zeros(160, dtype=np.int8)
    flags[80] = flag

    return schema.annotate(out.assign(jump_flag=("date", flags)))


def test_a_split_is_said_when_a_model_is_fitted_and_taken_out() -> None:
    history = split_history()
    day = str(history["date"].values[80])[:10]
    with pytest.warns(UserWarning, match=rf"{day} \(-1\.\d\d\), which may be a corporate action.*adjust_return"):
        volscen.fit(history, "bootstrap")
    with pytest.warns(UserWarning, match="which may be a corporate action") as caught:
        volscen.fit_joint({"A": history, "B": volscen.datasets.sample_history()}, "bootstrap")
    assert [one.filename for one in caught] == [__file__]  # the user's line, not the library's
    whole = volscen.datasets.sample_history()["spot"].values
    true = np.log(whole[80] / whole[79])
    adjusted = volscen.adjust_return(history, day, split=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volscen.fit(adjusted, "bootstrap")
    assert adjusted["log_return"].values[80] == pytest.approx(true, abs=1e-12)
    assert adjusted["jump_flag"].values[80] == 1
    assert history["log_return"].values[80] == pytest.approx(true - np.log(3), abs=1e-12)
    kept = volscen.adjust_return(history, day)
    assert kept["jump_flag"].values[80] == 0
    assert kept["log_return"].values[80] == history["log_return"].values[80]
    paid = volscen.adjust_return(kept, history["date"].values[40], dividend=5)
    s0, s1 = whole[39:41]
    assert paid["log_return"].values[40] == pytest.approx(np.log((s1 + 5) / s0), abs=1e-12)
    with pytest.raises(InputError, match="free of a corporate action already"):
        volscen.adjust_return(adjusted, day, split=3)
    with pytest.raises(InputError, match="date 1999-01-04 is not in the history"):
        volscen.adjust_return(history, "1999-01-04", split=3)


@pytest.mark.parametrize("zone", ["+0100", "+01:00", "-0500", "Z"])
def test_midnights_of_another_zone_are_the_day_written(zone: str) -> None:
    """In UTC, midnight at +01:00 is the evening before: the expiry would be a day early."""
    form = "%d/%m/%Y %H:%M %z"
    plain = chain()
    written = plain.assign(
        date=plain["date"].dt.strftime("%d/%m/%Y 16:00 -0500"),
        expiry=plain["expiry"].dt.strftime(f"%d/%m/%Y 00:00 {zone}"),
    )
    read = read_table(written, date_format=form, timezone="America/New_York")[0]
    pd.testing.assert_frame_equal(read, read_table(plain)[0], check_dtype=False)


def test_returns_of_chunked_histories_are_adjusted_too() -> None:
    """A dask array computes its values anew each time: what is written into them is lost."""
    pytest.importorskip("dask")
    history = split_history()
    day = history["date"].values[80]
    for flagged in (history, history.drop_vars("jump_flag")):
        adjusted = volscen.adjust_return(flagged.chunk(), day, split=3)
        assert adjusted["log_return"].values[80] == history["log_return"].values[80] + np.log(3)
        assert adjusted["jump_flag"].values[80] == 1
    weekly = np.arange(0, history.sizes["date"], 5)
    dates = history["date"].values[weekly]
    xr.testing.assert_identical(
        volscen.select_dates(history.chunk(), dates).load(), volscen.select_dates(history, dates)
    )
    assert volscen.select_dates(history.chunk(), dates)["log_return"].values[16] == pytest.approx(
        history["log_return"].values[76:81].sum(), rel=1e-12
    )


def test_the_return_over_the_night_takes_the_split_of_an_intraday_history() -> None:
    stamps = np.array(["2024-02-09T21:00", "2024-02-12T15:00", "2024-02-12T21:00"], dtype="datetime64[ns]")
    one = volscen.make_history(
        stamps.astype("datetime64[D]") + np.arange(3),
        [0.25],
        [0.9, 1.0, 1.1],
        [[[0.2] * 3]] * 3,
        spot=[300, 101, 102.0],
    ).assign_coords(date=stamps)
    assert volscen.adjust_return(one, "2024-02-12", split=3)["jump_flag"].values.tolist() == [0, 1, 0]
    suspected = one.assign(jump_flag=("date", np.array([0, 0, 2], dtype=np.int8)))
    assert volscen.adjust_return(suspected, "2024-02-12")["jump_flag"].values.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("day", "event", "said"),
    [
        (0, {"split": 2}, "first of the history"),
        (5, {"split": 0}, "split must be positive"),
        (5, {"dividend": -1}, "dividend must be at least 0"),
        (5, {"split": "x"}, "split must be a number"),
    ],
)
def test_events_that_are_none(day: int, event: dict[str, object], said: str) -> None:
    history = volscen.datasets.sample_history()
    with pytest.raises(InputError, match=said):
        volscen.adjust_return(history, history["date"].values[day], **event)  # type: ignore[arg-type]


def test_a_day_delivered_twice_is_told_from_a_habit() -> None:
    days = pd.concat(
        [chain().assign(date=lambda t, n=n: t["date"] + pd.Timedelta(days=n)) for n in range(3)], ignore_index=True
    )
    stale = days[days["date"] == days["date"].max()]
    stale = stale.assign(**{name: stale[name] * 1.5 for name in ("bid", "ask", "price") if name in stale})
    with pytest.warns(UserWarning, match=r"contradict .*, on 1 day; they may be .* a day delivered twice"):
        read_table(pd.concat([days, stale]))


def test_a_polars_frame_is_called_one() -> None:
    polars = pytest.importorskip("polars")
    with pytest.raises(InputError, match=r"not polars\.DataFrame; read_table reads files and polars"):
        volscen.build_history(polars.from_pandas(chain()), tau=TAU, moneyness=MONEYNESS)
