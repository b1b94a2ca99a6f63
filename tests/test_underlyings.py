"""Quotes of several underlyings under a column that nobody called so: said by every verb that makes a surface."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import volscen
from chain_makers import make_chain
from volscen.sources import read_table

TAU, MONEYNESS = [60 / 365, 120 / 365], [0.9, 1.0, 1.1]
DOUBT = r"column 'Root' holds 2 names \(OURS, THEIRS\).*rename\(columns=\{'Root': 'underlying'\}\)"


def mixed() -> pd.DataFrame:
    ours = make_chain().assign(Root="OURS")
    theirs = ours.assign(Root="THEIRS", strike=ours["strike"] + 0.25)
    return pd.concat([ours, theirs], ignore_index=True)


def later(quotes: pd.DataFrame) -> pd.DataFrame:
    day = pd.Timedelta(days=1)
    return quotes.assign(date=quotes["date"] + day, expiry=quotes["expiry"] + day)


def test_a_history(tmp_path) -> None:
    with pytest.warns(UserWarning, match=DOUBT) as told:
        volscen.build_history(mixed(), tau=TAU, moneyness=MONEYNESS)
    assert len([one for one in told if "OURS" in str(one.message)]) == 1
    history, _ = volscen.build_history(make_chain(), tau=TAU, moneyness=MONEYNESS)
    volscen.write(history, tmp_path / "h.nc")
    with pytest.warns(UserWarning, match=DOUBT):
        volscen.update_history(tmp_path / "h.nc", later(mixed()))


def test_a_chain_and_what_was_read_of_a_table() -> None:
    with pytest.warns(UserWarning, match=DOUBT):
        volscen.Chain(mixed())
    quotes, _ = read_table(mixed())
    with pytest.warns(UserWarning, match=DOUBT):
        volscen.build_history(quotes, tau=TAU, moneyness=MONEYNESS)


@pytest.mark.parametrize("name", ["ticker", "Underlying_Symbol", "UNDERLYING", "root symbol"])
def test_names_of_the_column(name: str) -> None:
    with pytest.warns(UserWarning, match="holds 2 names"):
        volscen.Chain(mixed().rename(columns={"Root": name}))


def test_no_false_alarm() -> None:
    table = mixed()
    contract = table["strike"].astype(str) + table["option_type"] + table["expiry"].astype(str)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for quotes in (
            table[table["Root"] == "OURS"],
            make_chain().assign(root="SPX", venue=np.tile(["A", "B"], len(make_chain()) // 2)),
            table.assign(Root=contract, ticker=contract)[table["Root"] == "OURS"],  # names of contracts
            table[table["Root"] == "OURS"].assign(underlying="OURS", root=["A", "B"] * (len(make_chain()) // 2)),
        ):
            volscen.Chain(quotes)
            volscen.build_history(quotes, tau=TAU, moneyness=MONEYNESS)
