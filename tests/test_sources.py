from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volscen import schema
from volscen.errors import FileFormatError, InputError
from volscen.sources import read_spx_factors, read_table
from volscen.sources.spx_factors import DEFAULT_MONEYNESS, DEFAULT_TAU, factor_vol

CLOSES = pd.DataFrame(
    {
        "date": ["2024-01-02"] * 4,
        "expiry": ["2024-03-15"] * 4,
        "strike": [100.0, 100.0, 105.0, 110.0],
        "type": ["C", "P", "C", "C"],
        "close": [4.0, 3.0, 2.0, 0.0],
    }
)
COLUMNS = {"option_type": "type", "price": "close"}


@pytest.mark.parametrize("name", ["q.csv", "q.csv.gz", "q.parquet", "q.pq", "Q.CSV"])
def test_files_read_like_the_frame(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if "csv" in name.lower():
        CLOSES.to_csv(path, index=False)
    else:
        CLOSES.to_parquet(path)
    expected, counted = read_table(CLOSES, columns=COLUMNS)
    quotes, dropped = read_table(path, columns=COLUMNS)
    pd.testing.assert_frame_equal(quotes, expected)
    assert dropped.to_dict() == counted.to_dict()
    assert dropped["zero_price"] == 1
    assert dropped.sum() + len(quotes) == 4


def test_other_frames_are_converted() -> None:
    class Frame:
        def to_pandas(self) -> pd.DataFrame:
            return CLOSES

    assert len(read_table(Frame(), columns=COLUMNS)[0]) == 3  # type: ignore[arg-type]


def test_a_mapped_name_goes_before_a_column_of_that_name() -> None:
    both = CLOSES.assign(price=99.0)
    quotes, _ = read_table(both, columns=COLUMNS)
    assert quotes["price"].max() == 4.0


def test_other_columns_are_carried_along() -> None:
    quotes, _ = read_table(CLOSES.assign(note=list("abcd")), columns=COLUMNS)
    assert quotes["note"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, "lack the column option_type, price"),
        ({"option_type": "type", "price": "last"}, "'last' for price, which the table lacks; it has date"),
        ({"type": "option_type", "price": "close"}, "'type' is none of them"),
    ],
)
def test_wrong_columns_name_file_and_remedy(tmp_path: Path, columns: dict[str, str] | None, message: str) -> None:
    path = tmp_path / "quotes.csv"
    CLOSES.to_csv(path, index=False)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path, columns=columns)
    assert "quotes.csv" in str(caught.value)


def test_no_usable_row_says_why() -> None:
    with pytest.raises(InputError, match=r"no usable row among 4 \(zero_price 4\)"):
        read_table(CLOSES.assign(close=0.0), columns=COLUMNS)


def test_unreadable_files(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    CLOSES.to_parquet(whole)
    truncated = tmp_path / "truncated.parquet"
    truncated.write_bytes(whole.read_bytes()[:200])
    half = tmp_path / "half.csv.gz"
    half.write_bytes(gzip.compress(CLOSES.to_csv(index=False).encode() * 50)[:60])
    (tmp_path / "empty.csv").touch()
    (tmp_path / "table.xlsx").touch()
    for name, message in [
        ("absent.csv", "no such file"),
        ("absent.parquet", "no such file"),
        ("truncated.parquet", "not a readable table"),
        ("half.csv.gz", "not a readable table"),
        ("empty.csv", "not a readable table"),
        ("table.xlsx", "unknown kind of table"),
    ]:
        with pytest.raises(FileFormatError, match=message) as caught:
            read_table(tmp_path / name, columns=COLUMNS)
        assert name in str(caught.value)
    with pytest.raises(InputError, match="must be a path or a data frame, not int"):
        read_table(3)  # type: ignore[arg-type]


def write_factors(path: Path, rows: list[str], header: str = "") -> Path:
    head = header or "date,beta_1,beta_2,beta_3,beta_4,beta_5,open,high,low,close,volume,risk_free"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


SOUND = "2001-01-0{day},.2,-.02,.15,-.04,.002,1,1,1,{close},1,.05"


def by_hand(beta: list[float], tau: float, moneyness: float) -> float:
    """The published formula, one term at a time."""
    m = -math.log(moneyness) / math.sqrt(tau)
    vol = beta[0] + beta[1] * math.exp(-math.sqrt(tau / 0.25)) + beta[2] * (m if m >= 0 else math.tanh(m))
    vol += beta[3] * (1 - math.exp(-(m**2))) * math.log(tau / 5)
    if m < 0:
        vol += beta[4] * (1 - math.exp((3 * m) ** 3)) * math.log(tau / 5)
    return vol


def test_factor_formula_term_by_term() -> None:
    beta = [0.2, -0.03, 0.15, -0.04, 0.01]
    got = factor_vol(beta, DEFAULT_TAU, DEFAULT_MONEYNESS)
    expected = [[by_hand(beta, t, m) for m in DEFAULT_MONEYNESS] for t in DEFAULT_TAU]
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    # Out-of-the-money puts have the higher vol: the sign of M.
    assert got[0, 0] > got[0, -1]


def test_factors_become_a_history(tmp_path: Path) -> None:
    path = write_factors(tmp_path / "f.csv", [SOUND.format(day=d, close=1000 + d) for d in (2, 3, 4)])
    history = read_spx_factors(path, tau=[60 / 365, 0.5], moneyness=[0.9, 1.0])
    schema.validate(history, schema=schema.HISTORY)
    assert history.attrs["calendar"] == "XNYS"
    assert "rates and dividends are zero" in history.attrs["carry"]
    assert "forward" not in history
    np.testing.assert_allclose(history["implied_vol"][1, 1, 0], by_hand([0.2, -0.02, 0.15, -0.04, 0.002], 0.5, 0.9))
    np.testing.assert_allclose(history["log_return"][1:], np.diff(np.log([1002, 1003, 1004])))
    default = read_spx_factors(path)
    assert default["tau"].size == 8
    assert default["moneyness"].values.tolist() == list(DEFAULT_MONEYNESS)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"tau": [20 / 365]}, "within 30 to 365 days"),
        ({"tau": [1.5]}, "within 30 to 365 days"),
        ({"moneyness": [0.5, 1.0]}, "within 0.6 to 1.2"),
        ({"moneyness": [1.0, 1.3]}, "within 0.6 to 1.2"),
        ({"tau": [30 / 365, 0.5], "moneyness": [1.0, 1.1]}, "30 days or less and moneyness of 1.1"),
        ({"tau": [60 / 365, 0.5], "moneyness": [1.0, 1.2]}, "60 days or less and moneyness of 1.2"),
        ({"tau": [0.5, 0.3]}, "strictly increasing"),
    ],
)
def test_grids_beyond_the_factors_are_refused(tmp_path: Path, grid: dict[str, list[float]], message: str) -> None:
    path = write_factors(tmp_path / "f.csv", [SOUND.format(day=2, close=1000)])
    with pytest.raises(InputError, match=message):
        read_spx_factors(path, **grid)


def test_the_corner_alone_is_refused(tmp_path: Path) -> None:
    path = write_factors(tmp_path / "f.csv", [SOUND.format(day=2, close=1000)])
    wide = read_spx_factors(path, tau=[91 / 365, 1.0], moneyness=[0.6, 1.2])
    assert float(wide["implied_vol"].min()) > 0


def test_volatility_that_is_not_positive_is_refused(tmp_path: Path) -> None:
    path = write_factors(tmp_path / "f.csv", ["2001-01-02,.05,-.02,.5,0,0,1,1,1,1000,1,.05"])
    with pytest.raises(InputError, match=r"no positive volatility in .* on 2001-01-02; narrow the grid"):
        read_spx_factors(path)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([SOUND.format(day=2, close="x")], "", "line 2 holds a value"),
        ([SOUND.format(day=2, close=1), SOUND.format(day=3, close="nan")], "", "line 3 holds a value"),
        (["x" + SOUND.format(day=2, close=1)], "", "line 2 holds a value"),
        (["2001-01-02,1"], "date,beta_1", "lacks the column beta_2"),
        ([], "", "holds no row"),
        ([SOUND.format(day=3, close=1), SOUND.format(day=2, close=1)], "", "strictly increasing"),
        ([SOUND.format(day=3, close=1), SOUND.format(day=3, close=1)], "", "strictly increasing"),
        ([SOUND.format(day=3, close=-1)], "", "not positive"),
    ],
)
def test_broken_factor_files(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        read_spx_factors(write_factors(tmp_path / "f.csv", rows, header))


def test_missing_factor_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_spx_factors(tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(FileFormatError, match="not a readable CSV file"):
        read_spx_factors(binary)
