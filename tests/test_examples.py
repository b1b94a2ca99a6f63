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
