"""Real bid/ask archives of American single names, against the archive read by hand."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volscen
from volscen.sources import read_lean

pytestmark = pytest.mark.real

DAILY = {
    "aapl": "option__usa__daily__aapl_2014_quote_american.zip",
    "goog": "option__usa__daily__goog_2015_quote_american.zip",
}


@pytest.mark.parametrize("name", DAILY)
def test_daily_archives(market_data: Path, name: str) -> None:
    path = market_data / "lean" / DAILY[name]
    quotes, dropped = read_lean(path)
    assert len(quotes) + dropped.sum() == dropped.attrs["rows"]
    theirs = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            _, _, _, right, strike, expiry = entry.removesuffix(".csv").split("_")
            for row in archive.read(entry).decode().split("\n"):
                cells = row.split(",")
                if cells[0] and cells[4] and float(cells[4]) > 0:
                    theirs[cells[0][:8], expiry, right[0].upper(), int(strike)] = int(cells[4]), int(cells[9])
    assert dropped.attrs["rows"] >= len(theirs)
    ours = {}
    for row in quotes.itertuples():
        for day in (row.expiry, row.expiry + pd.Timedelta(days=1)):  # the name may bear the Saturday
            key = f"{row.date:%Y%m%d}", f"{day:%Y%m%d}", row.option_type, round(row.strike * 10_000)
            if key in theirs:
                ours[key] = round(row.bid * 10_000), round(row.ask * 10_000)
    assert len(ours) == len(quotes)
    assert all(theirs[key] == value for key, value in ours.items())
    # What is missing expired on the day.
    gone = set(theirs) - set(ours)
    assert len(gone) == dropped["expired"]


def test_minutes_and_snapshots(market_data: Path) -> None:
    folder = market_data / "lean"
    minutes, dropped = read_lean(folder / "indexoption__usa__minute__spxw__20210106_quote_european.zip", times="30min")
    assert len(minutes) + dropped.sum() >= dropped.attrs["rows"]
    assert set(minutes["exercise"]) == {"European"}
    assert minutes["quote_time"].nunique() == 13
    chain = volscen.Chain(read_lean(folder / "indexoption__usa__universes__spx__20151222.csv")[0])
    assert abs(chain.forwards["forward"].iloc[0] / 2038.97 - 1) < 0.001  # the index closed there


def test_premiums_taken_off_make_parity_hold(market_data: Path) -> None:
    for name, file in DAILY.items():
        quotes, _ = read_lean(market_data / "lean" / file)
        quotes = quotes[quotes["date"] == quotes["date"].max()]
        converted, raw = volscen.Chain(quotes), volscen.Chain(quotes, american="otm")
        if name == "goog":
            assert converted.dropped["below_intrinsic"] < 0.7 * raw.dropped["below_intrinsic"]
            misfit = [chain.forwards["residual_mad"].iloc[-4:].mean() for chain in (converted, raw)]
            assert misfit[0] < 0.8 * misfit[1]
        # Raw parity of American puts has a rate below zero on Apple's chain; bills paid some 0.1%.
        rate = -np.log(converted.forwards["discount_factor"]) / converted.forwards["tau"]
        assert rate.between(-0.004, 0.02).all()
