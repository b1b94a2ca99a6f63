"""Every real Databento file: instruments, strikes and expiries as Databento's own reader gives them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volscen.errors import FileFormatError
from volscen.sources import read_databento, read_opra_contracts

pytestmark = pytest.mark.real


def frame_of(path: Path) -> tuple[pd.DataFrame, str]:
    from databento import DBNStore

    store = DBNStore.from_bytes(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return store.to_df().reset_index(), store.dataset


def by_hand(symbol: str) -> tuple[str, pd.Timestamp, str, float]:
    """Parts of an OSI symbol by slicing."""
    return symbol[:6].strip(), pd.Timestamp(f"20{symbol[6:12]}"), symbol[12], int(symbol[13:]) / 1000


def test_every_file(market_data: Path) -> None:
    paths = sorted((market_data / "dbn_opra").glob("*.dbn*"))
    assert paths
    n_opra = 0
    for path in paths:
        frame, dataset = frame_of(path)
        if dataset != "OPRA.PILLAR":
            with pytest.raises(FileFormatError, match=f"{dataset}; options are read from OPRA.PILLAR only"):
                read_opra_contracts(path)
            continue
        n_opra += 1
        ours = read_opra_contracts(path)
        assert (ours["reason"] == "").all()
        stamp = frame["ts_recv" if "ts_recv" in frame else "ts_event"]
        day = stamp.dt.tz_localize(None).dt.normalize()
        theirs = pd.DataFrame({"day": day, "instrument_id": frame["instrument_id"], "symbol": frame["symbol"]})
        joined = theirs.merge(ours, on="instrument_id", suffixes=("_theirs", ""))
        joined = joined[(joined["start"] <= joined["day"]) & (joined["day"] < joined["end"])]
        assert len(joined) == len(theirs)
        assert (joined["symbol"] == joined["symbol_theirs"]).all()
        for row in joined.itertuples():
            assert (row.root, row.expiry, row.option_type, row.strike) == by_hand(row.symbol_theirs)
        if "strike_price" in frame:
            defined = frame.set_index("instrument_id").loc[ours["instrument_id"]]
            np.testing.assert_array_equal(ours["strike"], defined["strike_price"])
            np.testing.assert_array_equal(ours["option_type"], defined["instrument_class"])
            expiration = defined["expiration"].dt.tz_localize(None).to_numpy()
            np.testing.assert_array_equal(ours["expiry"].to_numpy(), expiration)
    assert n_opra == 12


def test_mapping_of_a_month_of_spy(market_data: Path) -> None:
    from databento import DBNStore

    path = market_data / "dbn_opra" / "naut_definition-opra.dbn.zst"
    from volscen.sources._dbn import open_dbn
    from volscen.sources._opra_contracts import contracts_of

    ours = contracts_of(open_dbn(path, ("definition",), "this test"))
    mappings = DBNStore.from_bytes(path.read_bytes()).mappings
    theirs = [
        (symbol, int(interval["symbol"]), pd.Timestamp(interval["start_date"]), pd.Timestamp(interval["end_date"]))
        for symbol, intervals in mappings.items()
        for interval in intervals
        if interval["symbol"]
    ]
    assert len(theirs) > 100_000
    got = list(zip(ours["symbol"], ours["instrument_id"], ours["start"], ours["end"], strict=True))
    assert sorted(got) == sorted(theirs)
    assert set(ours["root"]) == {"SPY"}
    assert (ours["reason"] == "").all()


def test_quotes_of_real_files(market_data: Path) -> None:
    folder = market_data / "dbn_opra"
    for schema in ("cbbo-1m", "cbbo-1s", "mbp-1"):
        path = folder / f"opra_test_data.{schema}.dbn.zst"
        frame, _ = frame_of(path)
        if schema == "mbp-1":
            frame = frame[frame["publisher_id"] == 30]
        definitions = folder / "opra_test_data.definition.dbn.zst"
        statistics = folder / "opra_test_data.statistics.dbn.zst"
        if frame[["bid_px_00", "ask_px_00"]].notna().all(axis=1).any():
            last = frame.iloc[-1]
            quotes, dropped = read_databento(path, definitions=definitions, statistics=statistics)
            assert quotes[["bid", "ask", "strike"]].to_numpy().tolist() == [
                [last["bid_px_00"], last["ask_px_00"], 250.0]
            ]
            assert quotes["open_interest"].tolist() == [57_924]
            assert dropped.attrs["records"] == 4
        else:
            with pytest.raises(ValueError, match="no "):
                read_databento(path, definitions=definitions)
