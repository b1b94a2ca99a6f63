"""Positions as spreadsheets hold them: contracts by name, semicolons, headers in capitals."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from volscen import Option, Portfolio, Underlying
from volscen.errors import InputError
from volscen.portfolio import instruments_from_table

BOOK = Portfolio(
    [
        (Option("call", strike=5800, expiry="2024-12-20"), 25),
        (Option("put", strike=5400.5, expiry="2024-12-20"), -40),
        (Underlying(), -5),
    ]
)


@pytest.mark.parametrize(
    "text",
    [
        "contract,quantity\nSPX 20DEC24 5800 C,25\nSPXW 20-Dec-2024 P5400.5,-40\nSPX,-5\n",
        "Contract;Quantity\nSPX Index 20DEC24 5800 C;25,0\nSPX   241220P05400500;-40\nSPX Index;-5\n",
        "contract,type,strike,expiry,quantity\nSPX 20DEC24 5800 C,,,,25\n,P,5400.5,20DEC24,-40\n,u,,,-5\n",
        "Type;Strike;Expiry;Quantity\ncall;5800;2024-12-20;25\nput;5400,5;20-Dec-2024;-40\nunderlying;;;-5\n",
        "Type\tStrike\tExpiry\tQuantity\ncall\t5800\t2024-12-20\t25\nput\t5400.5\t20241220\t-40\nu\t\t\t-5\n",
    ],
)
def test_one_book_in_many_forms(tmp_path: Path, text: str) -> None:
    (tmp_path / "book.csv").write_text(text)
    assert Portfolio.from_table(tmp_path / "book.csv") == BOOK


def test_a_multiplier_turns_contracts_into_units() -> None:
    frame = pd.DataFrame({"contract": ["SPX 20DEC24 5800 C", "SPX"], "quantity": [2, -5], "multiplier": [100, None]})
    assert Portfolio.from_table(frame) == Portfolio([(BOOK.instruments[0], 200), (Underlying(), -5)])
    with pytest.raises(InputError, match="multiplier must be positive"):
        Portfolio.from_table(frame.assign(multiplier=0))
    with pytest.raises(InputError, match="instruments to hedge with have no multiplier"):
        instruments_from_table(frame[["contract", "multiplier"]])


def test_a_nought_before_the_comma_makes_it_a_decimal_one(tmp_path: Path) -> None:
    """Three decimals of a moneyness are no thousands."""
    (tmp_path / "book.csv").write_text("type;moneyness;tau;quantity\nput;0,950;0,125;-0,500\n")
    put = Option("put", moneyness=0.95, tau=0.125)
    assert Portfolio.from_table(tmp_path / "book.csv") == Portfolio([(put, -0.5)])


def test_frames_and_hedging_instruments() -> None:
    frame = pd.DataFrame({"Contract": ["SPX 20DEC24 5800 C", "SPX 20DEC24 5400.5 P", "SPX"], "quantity": [25, -40, -5]})
    assert Portfolio.from_table(frame) == BOOK
    assert instruments_from_table(frame[["Contract"]]) == list(BOOK.instruments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "position,qty\nSPX,1\n",
            "unknown columns position, qty.*perhaps position is contract, qty is quantity: rename",
        ),
        ("contract,quantity\nSPX 12/11/24 5800 C,1\n", "line 2 of .*'SPX 12/11/24 5800 C' is not read without doubt"),
        ("contract,quantity\nCASH,1\n", "line 2 of .*'CASH' is not read"),
        ("contract,quantity\nAAPL1 241220C00100000,1\n", "altered by a corporate action"),
        (
            "contract,quantity\nSPX 20DEC24 5800 C,1\nNDX,1\n",
            "line 3 of .*'NDX' is of another underlying than 'SPX 20DEC24",
        ),
        ("contract,strike,quantity\nSPX 20DEC24 5800 C,5800,1\n", "says strike already"),
        (
            'type,strike,expiry,quantity\nput,50,2024-12-20,"-2,000"\n',
            "quantity '-2,000' may have a comma of thousands",
        ),
        ("type;strike;expiry;quantity\nput;5,800;2024-12-20;1\n", "strike '5,800' may have a comma"),
        ("quantity\n1\n", "no column type .*nor contract"),
        ("Type,type,quantity\nu,u,1\n", "column type twice"),
        ("type,strike,expiry,quantity\nput,50,20.12.2024,1\n", "expiry must be a date"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "book.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        Portfolio.from_table(tmp_path / "book.csv")
