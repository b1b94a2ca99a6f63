"""Assets of different exchanges in one dataset: each goes by its own calendar, once it is selected as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen import Option, Underlying
from volscen._elapsed import elapsed_days_of
from volscen.errors import FileFormatError, InputError
from volscen.generators._vae_lstm_panel import read_assets
from volscen.schema import calendar_of, split_assets

CODES = {"US": "XNYS", "CN": "XSHG"}
#: Shanghai closed from Friday 29 September to Friday 6 October 2023, as its exchange announced; New York did not.
LAST = np.datetime64("2023-09-28")
ELAPSED = {"US": [1.0, 4.0], "CN": [11.0, 12.0]}


def market(code: str, seed: int) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    days = np.busday_offset(LAST, np.arange(-259, 1), roll="backward")
    vol = 0.2 + 0.02 * np.sin(np.arange(260) / 9)[:, None, None] + 0.001 * rng.standard_normal((260, 3, 4))
    spot = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(260)))
    return volscen.make_history(
        days, [30 / 365, 0.25, 1.0], [0.9, 0.97, 1.03, 1.1], vol, spot=spot, calendar=code, source="made up"
    )


@pytest.fixture(scope="module")
def histories() -> dict[str, xr.Dataset]:
    return {name: market(code, seed) for seed, (name, code) in enumerate(CODES.items())}


@pytest.fixture(scope="module")
def joint(histories: dict[str, xr.Dataset]) -> Any:
    return volscen.fit_joint(histories, "bootstrap")


@pytest.fixture(scope="module")
def cubes(joint: Any, histories: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    made: dict[str, xr.Dataset] = volscen.generate_joint(joint, histories, n_scenarios=64, horizon=2, seed=1)
    return made


@pytest.fixture(scope="module")
def stacked(cubes: dict[str, xr.Dataset]) -> xr.Dataset:
    return volscen.stack_assets(cubes)


def elapsed(ds: xr.Dataset) -> list[float]:
    days: list[float] = elapsed_days_of(ds, LAST, None).tolist()
    return days


@pytest.mark.parametrize("name", CODES)
def test_time_goes_by_the_selected_exchange(name: str, cubes: dict[str, xr.Dataset], stacked: xr.Dataset) -> None:
    one = stacked.sel(asset=name)
    assert elapsed(one) == elapsed(cubes[name]) == ELAPSED[name]
    book, traded = [Option("call", moneyness=1.0, tau=0.25)], [Underlying()]
    for found, own in zip(
        (volscen.portfolio.pnl(one, book).total, volscen.hedge(one, book, traded).ratio),
        (volscen.portfolio.pnl(cubes[name], book).total, volscen.hedge(cubes[name], book, traded).ratio),
        strict=True,
    ):
        np.testing.assert_array_equal(found, own)
    assert volscen.hedge(one, book, traded).attrs["calendar"] == CODES[name]
    assert calendar_of(volscen.validate(one)) == CODES[name]


def test_what_is_left_of_several_assets(stacked: xr.Dataset) -> None:
    """The coordinate stays when the asset's name goes; a stack without it, as written before, is read by the names."""
    assert stacked.calendar.values.tolist() == list(CODES.values())
    assert stacked.attrs["calendar"] == "US: XNYS; CN: XSHG"
    assert elapsed(stacked.isel(asset=1).drop_vars("asset")) == ELAPSED["CN"]
    assert elapsed(stacked.isel(asset=[1]).squeeze("asset")) == ELAPSED["CN"]
    old = stacked.drop_vars("calendar")
    assert [elapsed(volscen.validate(old).sel(asset=name)) for name in CODES] == list(ELAPSED.values())
    with pytest.raises(InputError, match="none of exchange_calendars"):
        elapsed(old.isel(asset=0).drop_vars("asset"))
    # Said by hand it holds, whatever was stacked.
    assert elapsed(stacked.sel(asset="CN").assign_attrs(calendar="weekdays")) == [1.0, 4.0]


@pytest.mark.parametrize("file", ["cube.nc", "cube.zarr"])
def test_files_keep_calendars(file: str, stacked: xr.Dataset, tmp_path: Any) -> None:
    found = volscen.read(volscen.write(stacked, tmp_path / file))
    assert found.calendar.values.tolist() == list(CODES.values())
    one = found.sel(asset="CN")
    assert elapsed(one) == ELAPSED["CN"]
    assert elapsed(volscen.read(volscen.write(one, tmp_path / f"one-{file}"))) == ELAPSED["CN"]
    assert elapsed(volscen.read(tmp_path / file, chunks=32).sel(asset="CN")) == ELAPSED["CN"]


VERBS: dict[str, Any] = {
    "resample": lambda ds: volscen.resample(ds, 32, seed=1),
    "reweight": lambda ds: volscen.reweight(ds, beta=1.0),
    "condition": lambda ds: volscen.condition(ds, {"log_return": (-0.5, 0.5)}),
    "regrid": lambda ds: volscen.surface.regrid(ds, moneyness=[0.95, 1.0, 1.05]),
    "shock": lambda ds: volscen.stress.shock(ds, log_return=-0.1),
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_keep_the_calendar_of_the_selected(verb: str, stacked: xr.Dataset) -> None:
    made = VERBS[verb](stacked.sel(asset="CN"))
    assert elapsed(made) == ELAPSED["CN"][: made.sizes["step"]]


def test_histories(joint: Any, histories: dict[str, xr.Dataset], cubes: dict[str, xr.Dataset]) -> None:
    both = volscen.align_histories(histories)
    assert both.calendar.values.tolist() == list(CODES.values())
    for name, cube in volscen.generate_joint(joint, both, n_scenarios=64, horizon=2, seed=1).items():
        assert cube.attrs["calendar"] == CODES[name]
        np.testing.assert_array_equal(cube.implied_vol, cubes[name].implied_vol)
    for one in (both.sel(asset="CN"), both.drop_vars("calendar").sel(asset="CN")):
        model = volscen.fit(one, "bootstrap")
        assert model.calendar_ == "XSHG"
        assert volscen.generate(model, one, n_scenarios=10, seed=1).attrs["calendar"] == "XSHG"
        assert elapsed(volscen.stress.shock(one, log_return=-0.1)) == ELAPSED["CN"][:1]


def test_histories_taken_apart(histories: dict[str, xr.Dataset]) -> None:
    both = volscen.align_histories(histories)
    for parts in (split_assets(both), read_assets(both), split_assets(both.drop_vars("calendar"))):
        assert {name: part.attrs["calendar"] for name, part in parts.items()} == CODES
    assert both.attrs["calendar"] == "US: XNYS; CN: XSHG"


def test_names_that_hold_marks() -> None:
    codes = {"A": "XNYS", "B: A": "XSHG", "A; B": "XHKG"}
    ds = xr.Dataset(
        coords={"asset": list(codes)}, attrs={"calendar": "; ".join(f"{name}: {code}" for name, code in codes.items())}
    )
    assert calendar_of(ds.sel(asset="B: A")) == "XSHG"
    assert calendar_of(ds.sel(asset="A; B")) == "XHKG"
    assert calendar_of(ds.sel(asset="A")) == "XNYS"
    assert calendar_of(xr.Dataset(attrs={"calendar": "24/7"})) == "24/7"
    assert calendar_of(xr.Dataset()) == "unspecified"


@pytest.mark.parametrize(
    "wrong", [("asset", [1, 2]), ("asset", ["XNYS", ""]), ("scenario", ["XNYS"] * 64), ((), "XNYS")]
)
def test_coordinates_that_are_none(wrong: Any, stacked: xr.Dataset) -> None:
    with pytest.raises(FileFormatError, match="coordinate calendar must hold the code"):
        volscen.validate(stacked.drop_vars("calendar").assign_coords(calendar=wrong))
