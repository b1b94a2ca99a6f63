"""The scripts of docs/examples run and do what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volscen
from chain_makers import DATE, make_chain, svi_vol

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture(scope="module")
def nightly():
    return runpy.run_path(str(EXAMPLES / "nightly_risk_run.py"))


def test_the_nightly_run(nightly, tmp_path, capsys):
    nightly["main"](str(tmp_path))
    text = (tmp_path / "report.txt").read_text()
    assert text in capsys.readouterr().out
    cube = volscen.read(tmp_path / "scenarios.nc")
    assert volscen.report_text(cube, nightly["book"]()) in text
    assert volscen.read(tmp_path / "hedge.nc").sizes["instrument"] == 3
    assert "False" not in text.split("UNDER STRESS")[1]  # every view is met
    lines = (tmp_path / "ore_scenarios.csv").read_text().splitlines()
    assert len(lines) == 1 + 1000 * nightly["HORIZON"]
    # The next night takes last night's model, and the same data give the same scenarios.
    nightly["main"](str(tmp_path))
    assert (tmp_path / "report.txt").read_text() == text
    assert volscen.read(tmp_path / "scenarios.nc").equals(cube)


def test_the_nightly_run_reads_quotes(nightly, tmp_path):
    tables = [
        make_chain(forward=(f, f, f), rate=(0.0, 0.0, 0.0), date=date, vol=svi_vol)
        for f, date in zip((100, 101, 102), pd.bdate_range(DATE, periods=3), strict=True)
    ]
    path = tmp_path / "quotes.parquet"
    pd.concat(tables).to_parquet(path)
    history = nightly["load_history"](str(path))
    assert history.sizes["date"] == 3
    np.testing.assert_allclose(history.spot, [100, 101, 102], rtol=1e-6)


def test_the_volatility_overlay_walks_forward(tmp_path, capsys):
    overlay = runpy.run_path(str(EXAMPLES / "volatility_overlay.py"))
    history = volscen.datasets.sample_history().sel(date=slice("2019-06-03", "2022-06-30"))
    changed = history.copy(deep=True)
    changed["implied_vol"][-30:] *= 1.5
    results = []
    for name, one in (("as_it_was.nc", history), ("changed.nc", changed)):
        volscen.write(one, tmp_path / name)
        figures = overlay["main"](tmp_path / name)
        assert figures.sizes["policy"] == 4
        results.append(overlay["walk"](one))
    assert "always short" in capsys.readouterr().out
    # What comes later changes nothing before; a rise of volatility costs whoever is short of it.
    np.testing.assert_array_equal(results[0].growth[..., :-31], results[1].growth[..., :-31])
    short = [float(one.growth.sel(policy="always short").isel(path=0, time=-30)) for one in results]
    assert short[1] < short[0] - 0.01
