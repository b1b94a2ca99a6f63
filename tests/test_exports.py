"""Scenarios as ORE's files, as tables, as a page of text."""

from __future__ import annotations

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import volscen
from scenario_toys import MONEYNESS, TAU, make_scenarios
from volscen.errors import InputError
from volscen.surface import interpolate_vol


def read_ore(path):
    """Read a scenario file as ORE's ScenarioFileReader does: by the header's keys, which must parse."""
    with path.open(newline="") as file:
        lines = list(csv.reader(file, quoting=csv.QUOTE_NONE))
    header = lines[0]
    assert header[:3] == ["Date", "Scenario", "Numeraire"]
    keys = [tuple(key.split("/")) for key in header[3:]]
    assert all(len(key) == 3 and key[2].isdigit() for key in keys)
    assert all(len(line) == len(header) and all(line) for line in lines[1:])
    return keys, [(line[0], int(line[1]), float(line[2]), [float(x) for x in line[3:]]) for line in lines[1:]]


# ----------------------------------------------------------------------------------------------------- ORE
def test_ore_lines_are_samples_by_dates_and_expiries_run_fastest(tmp_path):
    ds = make_scenarios(7, steps=3, seed=1)
    path = volscen.export_ore(ds, tmp_path / "s.csv", name="SP5", strikes="forward")
    keys, lines = read_ore(path)
    assert keys[0] == ("EquitySpot", "SP5", "0")
    assert [key[0] for key in keys[1:]] == ["EquityVolatility"] * 28
    assert [int(key[2]) for key in keys[1:]] == list(range(28))
    assert [line[1] for line in lines] == [i for i in range(1, 8) for _ in range(3)]
    assert [line[0] for line in lines[:4]] == ["2024-01-11", "2024-01-12", "2024-01-15", "2024-01-11"]
    for number, (_, sample, numeraire, values) in enumerate(lines):
        step = number % 3
        assert numeraire == 1
        assert values[0] == ds.spot.values[sample - 1, step]
        for i in range(MONEYNESS.size):
            for j in range(TAU.size):
                # index of OREAnalytics/orea/scenario/scenariosimmarket.cpp: moneyness times expiries plus expiry
                assert values[1 + i * TAU.size + j] == ds.implied_vol.values[sample - 1, step, j, i]


@pytest.mark.parametrize("strikes", ["sticky", "spot"])
def test_ore_strikes_are_of_the_spot(tmp_path, strikes):
    ds = make_scenarios(5, steps=2, seed=1, rate=0.05, dividend=0.01, volatility=0.8)
    _, lines = read_ore(volscen.export_ore(ds, tmp_path / "s.csv", name="SP5", strikes=strikes))
    for number, (_, sample, _, values) in enumerate(lines):
        surface, spot = ds.implied_vol.values[sample - 1, number % 2], float(ds.spot[sample - 1, number % 2])
        for i in (0, 3, 6):
            for j in (0, 2):
                strike = MONEYNESS[i] * (100.0 if strikes == "sticky" else spot)
                forward = spot * np.exp((0.05 - 0.01) * TAU[j])
                expected = interpolate_vol(surface, TAU, MONEYNESS, TAU[j], strike / forward)
                assert values[1 + i * TAU.size + j] == pytest.approx(float(expected), rel=1e-12)


def test_ore_numeraire_is_the_bank_account(tmp_path):
    ds = make_scenarios(2, steps=3, seed=1, rate=0.05)
    _, lines = read_ore(volscen.export_ore(ds, tmp_path / "s.csv", name="SP5"))
    np.testing.assert_allclose([line[2] for line in lines[:3]], np.exp(0.05 * np.array([1, 2, 5]) / 365), rtol=1e-12)
    dates, bank = ["2024-02-01", "2024-03-01", "2024-04-01"], [1.1, 1.2, 1.3]
    _, lines = read_ore(volscen.export_ore(ds, tmp_path / "s.csv", name="SP5", dates=dates, numeraire=bank))
    assert [line[0] for line in lines[:3]] == dates
    assert [line[2] for line in lines[:3]] == bank


def test_ore_blocks_make_no_difference(tmp_path, monkeypatch):
    ds = make_scenarios(50, steps=2, seed=1)
    whole = volscen.export_ore(ds, tmp_path / "a.csv", name="X").read_bytes()
    monkeypatch.setattr("volscen._export_ore._BLOCK", 7)
    assert volscen.export_ore(ds, tmp_path / "b.csv", name="X").read_bytes() == whole


def test_ore_market_fits_the_columns(tmp_path):
    ds = make_scenarios(2, seed=1)
    volscen.export_ore(ds, tmp_path / "s.csv", name="SP5", market_xml=tmp_path / "m.xml")
    root = ElementTree.parse(tmp_path / "m.xml").getroot()
    assert root.tag == "EquityVolatilities"
    assert root.findtext("Names/Name") == "SP5"
    assert root.findtext("Expiries") == "30D,91D,182D,365D"
    assert [float(m) for m in root.findtext("Surface/Moneyness").split(",")] == list(MONEYNESS)


def test_ore_knows_no_weights(tmp_path):
    ds = make_scenarios(20, seed=1, weight=np.arange(20) / 190)
    with pytest.raises(InputError, match="resample"):
        volscen.export_ore(ds, tmp_path / "s.csv", name="SP5")
    assert not (tmp_path / "s.csv").exists()
    volscen.export_ore(ds, tmp_path / "s.csv", name="SP5", weights="ignore")
    equal = volscen.resample(ds, 40)
    _, lines = read_ore(volscen.export_ore(equal, tmp_path / "s.csv", name="SP5"))
    assert len(lines) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "S P"}, "name"),
        ({"name": "S/P"}, "name"),
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"name": "X", "strikes": "delta"}, "strikes"),
        ({"name": "X", "weights": "use"}, "weights"),
        ({"name": "X", "dates": ["2024-01-11"]}, "dates must give"),
        ({"name": "X", "dates": ["2024-01-10", "2024-01-12"]}, "dates must come after"),
        ({"name": "X", "dates": ["2024-01-12", "2024-01-11"]}, "dates must come after"),
        ({"name": "X", "numeraire": [1.0, -1.0]}, "numeraire"),
        ({"name": "X", "numeraire": "cash"}, "numeraire"),
    ],
)
def test_ore_bad_arguments(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        volscen.export_ore(make_scenarios(3, steps=2), tmp_path / "s.csv", **options)
    assert list(tmp_path.iterdir()) == []


def test_ore_bad_places(tmp_path):
    ds = make_scenarios(3)
    with pytest.raises(InputError, match=r"end in \.csv"):
        volscen.export_ore(ds, tmp_path / "s.txt", name="X")
    with pytest.raises(InputError, match="cannot write"):
        volscen.export_ore(ds, tmp_path / "nowhere" / "s.csv", name="X")
    odd = ds.assign_coords(tau=TAU * 1.01)
    with pytest.raises(InputError, match="whole days"):
        volscen.export_ore(odd, tmp_path / "s.csv", name="X", market_xml=tmp_path / "m.xml")
    with pytest.raises(InputError, match="ds must be"):
        volscen.export_ore("cube", tmp_path / "s.csv", name="X")


# -------------------------------------------------------------------------------------------------- tables
def test_the_long_table_is_the_cube():
    ds = make_scenarios(6, steps=2, seed=1)
    table = volscen.to_long_table(ds)
    assert len(table) == 6 * 2 * TAU.size * MONEYNESS.size
    back = table.set_index(["scenario", "step", "tau", "moneyness"]).to_xarray()
    np.testing.assert_array_equal(back.implied_vol, ds.implied_vol)
    np.testing.assert_array_equal(back.log_return[:, :, 0, 0], ds.log_return)
    np.testing.assert_array_equal(back.weight[:, 1, 2, 3], ds.weight)
    assert (table.as_of == pd.Timestamp("2024-01-10")).all()


def test_the_wide_table_has_a_column_for_each_point():
    ds = make_scenarios(6, steps=2, seed=1)
    table = volscen.to_long_table(ds, wide=True)
    assert len(table) == 12
    np.testing.assert_array_equal(table["iv_91d_0.9"], ds.implied_vol[:, :, 1, 2].values.ravel())
    np.testing.assert_array_equal(table["spot"], ds.spot.values.ravel())
    np.testing.assert_array_equal(table["scenario"], np.repeat(np.arange(6), 2))


@pytest.mark.parametrize("wide", [False, True])
def test_parquet_is_the_table_in_row_groups(tmp_path, monkeypatch, wide):
    monkeypatch.setattr("volscen._export_table._ROWS", 100)
    ds = volscen.resample(make_scenarios(10, steps=2, seed=1, dtype="float32"))
    path = volscen.to_long_table(ds, tmp_path / "t.parquet", wide=wide)
    pd.testing.assert_frame_equal(pd.read_parquet(path), volscen.to_long_table(ds, wide=wide))
    file = pq.ParquetFile(path)
    assert wide or file.num_row_groups > 5
    attributes = json.loads(file.schema_arrow.metadata[b"volscen"])
    assert attributes["resampled"] == "systematic"
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_tables_of_lazy_cubes_with_several_dates(tmp_path):
    history = volscen.datasets.sample_history()
    model = volscen.fit(history, "bootstrap")
    days = history.date.values[[-5, -1]]
    plain = volscen.generate(model, history, as_of=days, n_scenarios=30, seed=1)
    lazy = volscen.generate(model, history, as_of=days, n_scenarios=30, seed=1, chunks=10)
    a = volscen.to_long_table(plain)
    assert a.as_of.nunique() == 2
    b = pd.read_parquet(volscen.to_long_table(lazy, tmp_path / "t.parquet"))
    pd.testing.assert_frame_equal(a, b)


def test_a_failed_table_leaves_nothing(tmp_path, monkeypatch):
    ds = make_scenarios(10, seed=1)
    (tmp_path / "t.parquet").write_text("before")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("volscen._export_table._columns", fail)
    with pytest.raises(MemoryError):
        volscen.to_long_table(ds, tmp_path / "t.parquet")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("t.parquet", "before")]
    with pytest.raises(InputError, match="parquet"):
        volscen.to_long_table(ds, tmp_path / "t.csv")
    with pytest.raises(InputError, match="wide"):
        volscen.to_long_table(ds, wide=2)
    with pytest.raises(InputError, match="ds must be"):
        volscen.to_long_table(None)


# -------------------------------------------------------------------------------------------------- report
def test_the_report_says_what_the_parts_say():
    weight = np.random.default_rng(0).dirichlet(np.ones(500))
    ds = make_scenarios(500, steps=3, seed=1, weight=weight)
    book = volscen.Portfolio([(volscen.Option("put", moneyness=0.9, tau=0.5), -10), (volscen.Underlying(), 3)])
    pooled = volscen.entropy_pool(ds, volscen.views.mean("log_return", equals=0.0))
    text = volscen.report_text(pooled, book, alpha=0.05)
    profit = volscen.portfolio.pnl(ds, book).total.values[:, -1]
    w = pooled.weight.values
    for value in (
        volscen.risk.value_at_risk(profit, w, alpha=0.05),
        volscen.risk.expected_shortfall(profit, w, alpha=0.05),
        volscen.risk.expected_shortfall(profit, alpha=0.05),
        w @ profit,
        profit.mean(),
    ):
        assert f"{float(value):,.4f}" in text
    assert "mean(log_return) = 0" in text
    assert f"{pooled.attrs['ess_fraction']:.1%}" in text
    vol = volscen.views.atm_vol(91 / 365, step=2).values(ds)
    median = volscen._statistics.quantile(100 * vol, w, [0.5])[0]
    assert f"{median:.2f}" in text.split("day 2")[1].splitlines()[0]
    assert "different scenarios of 500" in volscen.report_text(volscen.resample(pooled))


def test_reports_of_several_dates_and_lazy_cubes():
    history = volscen.datasets.sample_history()
    model = volscen.fit(history, "bootstrap")
    days = history.date.values[[-5, -1]]
    many = volscen.generate(model, history, as_of=days, n_scenarios=200, seed=1)
    text = volscen.report_text(many)
    assert all(np.datetime_as_string(day, unit="D") in text for day in days)
    with pytest.raises(InputError, match="one date"):
        volscen.report_text(many, volscen.Underlying())
    lazy = volscen.generate(model, history, n_scenarios=200, seed=1, chunks=100)
    with pytest.raises(InputError, match="lazy"):
        volscen.report_text(lazy)
    assert "book" in volscen.report_text(volscen.reweight(lazy), volscen.Underlying())
    with pytest.raises(InputError, match="ds must be"):
        volscen.report_text(1)
    with pytest.raises(InputError, match="as_of"):
        volscen.report_text(make_scenarios(5).drop_vars("as_of"))


# ---------------------------------------------------------------------------------------------- ORE itself
@pytest.mark.filterwarnings("ignore")
def test_ore_reads_what_is_written(tmp_path):
    """Needs ``pip install open-source-risk-engine``, which is large and no part of the test extra."""
    ore = pytest.importorskip("ORE")
    ds = make_scenarios(7, steps=3, seed=1, rate=0.03)
    path = volscen.export_ore(ds, tmp_path / "s.csv", name="SP5", strikes="forward", market_xml=tmp_path / "m.xml")
    reader = ore.ScenarioFileReader(str(path), ore.SimpleScenarioFactory())
    count = 0
    while reader.next():
        scenario = reader.scenario()
        sample, step = divmod(count, 3)
        assert scenario.label() == str(sample + 1)
        assert scenario.asof().ISO() == ["2024-01-11", "2024-01-12", "2024-01-15"][step]
        assert scenario.getNumeraire() == pytest.approx(np.exp(0.03 * [1, 2, 5][step] / 365))
        assert len(scenario.keys()) == 29
        spot = ore.RiskFactorKey(ore.RiskFactorKey.KeyType_EquitySpot, "SP5", 0)
        assert scenario.get(spot) == ds.spot.values[sample, step]
        for i in range(MONEYNESS.size):
            for j in range(TAU.size):
                key = ore.RiskFactorKey(ore.RiskFactorKey.KeyType_EquityVolatility, "SP5", i * TAU.size + j)
                assert scenario.get(key) == ds.implied_vol.values[sample, step, j, i]
        count += 1
    assert count == 21
    market = ore.ScenarioSimMarketParameters()
    market.fromXMLString(
        "<Simulation><Market><BaseCurrency>EUR</BaseCurrency><Currencies><Currency>EUR</Currency></Currencies><YieldCurves>"
        '<Configuration curve=""><Tenors>1Y</Tenors><Interpolation>LogLinear</Interpolation><Extrapolation>FlatFwd'
        "</Extrapolation></Configuration></YieldCurves><Equities><Simulate>true</Simulate><Names><Name>SP5</Name></Names>"
        f"<DividendTenors>1Y</DividendTenors></Equities>{(tmp_path / 'm.xml').read_text()}</Market></Simulation>"
    )
    assert [str(e) for e in market.equityVolExpiries("SP5")] == ["30D", "91D", "182D", "365D"]
    assert list(market.equityVolMoneyness("SP5")) == list(MONEYNESS)
    assert market.equityVolSmileDynamics("SP5") == "StickyStrike"
