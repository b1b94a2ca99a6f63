"""Adding days to a history, and going on with a build that was stopped: the bits of one build of all days."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from chain_makers import DATE, black_price, svi_vol
from volscen.errors import FileFormatError, InputError
from volscen.history import _build, _update

TAU = np.array([30, 60, 91]) / 365
MONEYNESS = np.array([0.9, 0.95, 1.0, 1.05])
GRID = {"tau": TAU, "moneyness": MONEYNESS, "progress": False}
EXPIRIES = pd.to_datetime(["2024-02-02", "2024-04-02", "2024-07-02", "2024-10-02"])


def quotes_of(n: int, first: int = 0) -> pd.DataFrame:
    """Closing prices, to a tick of .01, of fixed strikes and expiries; the forward walks, rates are 3%."""
    tables = []
    for i, date in enumerate(pd.bdate_range(DATE, periods=first + n)):
        spot = 100 * np.exp(0.01 * np.sin(1.7 * i) + 0.002 * i)
        for expiry in EXPIRIES:
            tau = (expiry - date).days / 365
            forward = spot * np.exp(0.03 * tau)
            strike = np.repeat(np.arange(70.0, 131, 2.5), 2)
            is_call = np.tile([True, False], strike.size // 2)
            vol = svi_vol(np.log(strike / forward), tau, a=0.02 + 0.002 * (i % 5))
            price = black_price(forward, strike, tau, vol, is_call, np.exp(-0.03 * tau))
            tables.append(
                pd.DataFrame(
                    {
                        "date": date,
                        "expiry": expiry,
                        "strike": strike,
                        "option_type": np.where(is_call, "C", "P"),
                        "price": np.round(price, 2),
                    }
                )
            )
    table = pd.concat(tables, ignore_index=True)
    return table[table["date"] >= pd.bdate_range(DATE, periods=first + n)[first]]


@pytest.fixture(scope="module")
def quotes() -> pd.DataFrame:
    """Nine days; the fifth holds calls only and is dropped."""
    table = quotes_of(9)
    fifth = np.unique(table["date"])[4]
    return table[(table["date"] != fifth) | (table["option_type"] == "C")]


@pytest.fixture(scope="module")
def whole(quotes: pd.DataFrame) -> tuple[xr.Dataset, pd.DataFrame]:
    return volscen.build_history(quotes, **GRID)


def up_to(quotes: pd.DataFrame, day: int) -> pd.DataFrame:
    return quotes[quotes["date"] <= np.unique(quotes["date"])[day]]


def assert_same(one: xr.Dataset, other: xr.Dataset) -> None:
    """Every number, and every attribute but the log of what was done when."""
    skip = ("history",)
    xr.testing.assert_identical(one.assign_attrs(dict.fromkeys(skip, "")), other.assign_attrs(dict.fromkeys(skip, "")))


def test_the_days_are_what_they_should_be(whole: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, report = whole
    assert history.sizes["date"] == 8
    assert report["status"].tolist() == ["kept"] * 4 + ["dropped"] + ["kept"] * 4
    assert history.attrs["return_source"] == "forward"
    assert report["return_of"].tolist() == ["", "forward", "forward", "forward", "", *["forward"] * 4]
    i = np.array([0, 1, 2, 3, 5, 6, 7, 8])
    spot = 0.01 * np.sin(1.7 * i) + 0.002 * i
    days = np.diff(history["date"].values).astype("timedelta64[D]").astype(int)
    # The forward of a fixed expiry loses the carry of the days that pass.
    np.testing.assert_allclose(history["log_return"][1:], np.diff(spot) - 0.03 * days / 365, atol=3e-5)


@pytest.mark.parametrize("name", ["h.nc", "h.zarr"])
@pytest.mark.parametrize("cuts", [(0,), (3, 4, 5), (4,), (7, 8)], ids=str)
def test_days_added_give_the_bits_of_one_build(
    name: str, cuts: tuple[int, ...], quotes: pd.DataFrame, whole: tuple[xr.Dataset, pd.DataFrame], tmp_path: Path
) -> None:
    path = tmp_path / name
    history, report = volscen.build_history(up_to(quotes, cuts[0]), **GRID)
    volscen.write(history, path)
    reports = [report]
    for cut in (*cuts[1:], 8):
        history, report = volscen.update_history(path, up_to(quotes, cut), progress=False)
        reports.append(report)
    assert_same(volscen.read(path), whole[0])
    assert_same(history, whole[0])
    pd.testing.assert_frame_equal(pd.concat([r for r in reports if len(r)]), whole[1])
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_days_that_are_there_are_skipped(quotes: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "h.nc"
    history, _ = volscen.build_history(quotes, **GRID)
    volscen.write(history, path)
    before = path.read_bytes()
    again, report = volscen.update_history(path, quotes, progress=False)
    assert (len(report), report.attrs["days_skipped"]) == (0, 9)  # the dropped one among them
    assert path.read_bytes() == before
    assert_same(again, history)


def test_a_dataset_in_memory_is_not_altered(quotes: pd.DataFrame, whole: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, _ = volscen.build_history(up_to(quotes, 5), **GRID)
    copy = history.copy(deep=True)
    longer, report = volscen.update_history(history, quotes, tau=TAU, method="svi", returns="auto", progress=False)
    assert_same(longer, whole[0])
    assert_same(history, copy)
    assert report.attrs["days_skipped"] == 6
    assert longer.attrs["history"].count("\n") == 1
    assert "3 dates appended by volscen" in longer.attrs["history"]


def test_what_cannot_be_added(quotes: pd.DataFrame, tmp_path: Path) -> None:
    history, _ = volscen.build_history(up_to(quotes, 5), min_price=0.02, **GRID)
    days = np.unique(quotes["date"])
    hole, _ = volscen.build_history(quotes[~quotes["date"].isin(days[[2, 8]])], **GRID)
    for bad, table, settings, message in [
        (history, quotes, {"method": "kernel"}, "method is svi in the history, not kernel; leave it out"),
        (history, quotes, {"tau": [0.1]}, "tau is"),
        (history, quotes, {"min_price": 0.01}, "min_price is 0.02 in the history, not 0.01"),
        (history, quotes, {"min_price": "x"}, "min_price is 0.02"),
        (history, quotes, {"returns": "spot"}, "returns is forward"),
        (history, quotes, {"colour": 1}, "unknown setting 'colour'"),
        (history, quotes.assign(spot=100.0), {}, "built from quotes without a column spot, these are with"),
        (history, quotes.assign(underlying="A"), {}, "underlying A, the history of None"),
        (history, quotes.assign(bid=quotes["price"], ask=quotes["price"]), {}, "without bid and ask"),
        (history.isel(date=slice(2)), quotes, {}, "was cut after it was built"),
        (hole, quotes, {}, r"hold 1 day\(s\) before the last of the history that it lacks \(such as 2024-01-04\)"),
        (volscen.datasets.sample_history(), quotes, {}, "does not say how it was built"),
        (history.assign_attrs(build_settings="{"), quotes, {}, "build_settings is damaged"),
        (history.assign_attrs(last_day="{}"), quotes, {}, "no readable record of its last day"),
        (history.assign(other=history["spot"]), quotes, {}, "holds other, which new days lack"),
    ]:
        with pytest.raises((InputError, FileFormatError), match=message):
            volscen.update_history(bad, table, progress=False, **settings)
    with pytest.raises(InputError, match="store must be a file name or a dataset, not int"):
        volscen.update_history(1, quotes)
    with pytest.raises(FileFormatError, match="no such file"):
        volscen.update_history(tmp_path / "no.nc", quotes)


@pytest.mark.parametrize("name", ["h.nc", "h.zarr"])
def test_an_update_that_fails_leaves_the_old_store(
    name: str, quotes: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    history, _ = volscen.build_history(up_to(quotes, 5), **GRID)
    volscen.write(history, path)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_update, "run_days", interrupted)
        with pytest.raises(KeyboardInterrupt):
            volscen.update_history(path, quotes, progress=False)
    real = {method: getattr(xr.Dataset, method) for method in ("to_netcdf", "to_zarr")}
    for method in real:

        def half(ds: xr.Dataset, *args: object, _method: str = method, **options: object) -> None:
            real[_method](ds.isel(date=slice(2)), *args, **options)  # something is on the disk
            raise KeyboardInterrupt

        monkeypatch.setattr(xr.Dataset, method, half)
    with pytest.raises(KeyboardInterrupt):
        volscen.update_history(path, quotes, progress=False)
    assert_same(volscen.read(path), history)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["h.nc", "h.zarr"])
def test_two_updates_at_once_do_not_overwrite_each_other(
    name: str, quotes: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    volscen.write(volscen.build_history(up_to(quotes, 5), **GRID)[0], path)
    real = _update.run_days

    def slow(*arguments: object) -> object:
        monkeypatch.setattr(_update, "run_days", real)
        volscen.update_history(path, up_to(quotes, 6), progress=False)  # the other one
        return real(*arguments)

    monkeypatch.setattr(_update, "run_days", slow)
    with pytest.raises(InputError, match="was changed by something else while the days were fitted; update it again"):
        volscen.update_history(path, quotes, progress=False)
    assert volscen.update_history(path, quotes, progress=False)[1].attrs["days_skipped"] == 7


def test_a_build_goes_on_where_it_stopped(
    quotes: pd.DataFrame, whole: tuple[xr.Dataset, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "days"
    monkeypatch.setattr(_build, "_BATCH", 2)
    real, fitted = _build.fit_days, []

    def fit_days(days: list, settings: object) -> list:
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append([str(day.date) for day in days])
        return real(days, settings)

    monkeypatch.setattr(_build, "fit_days", fit_days)
    with pytest.raises(KeyboardInterrupt):
        volscen.build_history(quotes, resume=folder, **GRID)
    assert sum(map(len, fitted)) == 4
    fitted.clear()
    with pytest.raises(KeyboardInterrupt):  # two more batches, and stopped again
        volscen.build_history(quotes, resume=folder, **GRID)
    assert fitted[0][0] == "2024-01-08"
    fitted.clear()
    history, report = volscen.build_history(quotes, resume=folder, **GRID)
    assert fitted == [["2024-01-12"]]
    assert_same(history, whole[0])
    pd.testing.assert_frame_equal(report, whole[1])
    history, report = volscen.build_history(quotes, resume=folder, **GRID)
    assert fitted == [["2024-01-12"]]
    assert_same(history, whole[0])
    pd.testing.assert_frame_equal(report, whole[1])


def test_a_build_goes_on_with_several_workers_and_more_days(
    quotes: pd.DataFrame, whole: tuple[xr.Dataset, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_build, "_BATCH", 2)
    volscen.build_history(up_to(quotes, 2), resume=tmp_path, **GRID)
    history, report = volscen.build_history(quotes, resume=tmp_path, num_workers=2, **GRID)
    assert_same(history, whole[0])
    pd.testing.assert_frame_equal(report, whole[1])
    longer, _ = volscen.update_history(
        volscen.build_history(up_to(quotes, 2), **GRID)[0], quotes, resume=tmp_path, progress=False
    )
    assert_same(longer, whole[0])


def test_options_of_the_smoother_are_recorded(quotes: pd.DataFrame) -> None:
    for bandwidth in ((0.01, 0.02), np.array([0.01, 0.02])):
        history, _ = volscen.build_history(up_to(quotes, 2), method="kernel", bandwidth=bandwidth, **GRID)
        whole, _ = volscen.build_history(up_to(quotes, 3), method="kernel", bandwidth=bandwidth, **GRID)
        assert_same(volscen.update_history(history, up_to(quotes, 3), bandwidth=bandwidth, progress=False)[0], whole)


def test_a_folder_of_another_build_is_refused(quotes: pd.DataFrame, tmp_path: Path) -> None:
    few = up_to(quotes, 1)
    folder = tmp_path / "days"
    volscen.build_history(few, resume=folder, **GRID)
    with pytest.raises(InputError, match=r"other settings \(min_price, moneyness\)"):
        volscen.build_history(few, resume=folder, min_price=0.1, **(GRID | {"moneyness": [0.95, 1.0]}))
    with pytest.raises(InputError, match="the quotes of 2024-01-02 are not those"):
        volscen.build_history(few.assign(price=1.001 * few["price"]), resume=folder, **GRID)
    with pytest.raises(InputError, match="the quotes of 2024-01-03 are not those"):
        volscen.build_history(few[:-1], resume=folder, **GRID)
    batch = next(folder.glob("*.safetensors"))
    whole_batch = batch.read_bytes()
    for broken in (whole_batch[:100], b"", b"x" * 500):
        batch.write_bytes(broken)
        with pytest.raises(FileFormatError, match="delete it and build again"):
            volscen.build_history(few, resume=folder, **GRID)
    batch.write_bytes(whole_batch)
    manifest = folder / "settings.json"
    text = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(text) | {"volscen_version": "0.0.1"}))
    with pytest.raises(InputError, match=r"begun by volscen 0\.0\.1"):
        volscen.build_history(few, resume=folder, **GRID)
    manifest.write_text("{")
    with pytest.raises(FileFormatError, match="not a readable record"):
        volscen.build_history(few, resume=folder, **GRID)
    manifest.unlink()
    for left in folder.glob("days-*"):
        left.rename(folder / f".{left.name}.part")  # killed while it wrote the first files
    assert volscen.build_history(few, resume=folder, **GRID)[0].sizes["date"] == 2
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(InputError, match="holds other things"):
        volscen.build_history(few, resume=tmp_path / "other", **GRID)
    with pytest.raises(InputError, match="cannot use the folder"):
        volscen.build_history(few, resume=tmp_path / "other" / "file", **GRID)
    with pytest.raises(InputError, match="resume must be a folder"):
        volscen.build_history(few, resume=1, **GRID)


def test_a_days_surface_uses_that_day_alone(quotes: pd.DataFrame, whole: tuple[xr.Dataset, pd.DataFrame]) -> None:
    """Whatever becomes of every other day: deleted, altered, turned to garbage, handed over in another order."""
    history, report = whole
    per_day = [name for name in history.data_vars if name not in ("log_return", "jump_flag")]
    columns = [name for name in report if name not in ("return_of", "jump", "return_adjustment")]
    garbage = quotes.assign(price=np.random.default_rng(1).permutation(quotes["price"].to_numpy()))
    for date in history["date"].values:
        own = quotes[quotes["date"] == date]
        for others in (
            quotes[:0],
            quotes[quotes["date"] > date],
            quotes[quotes["date"] < date],
            quotes.assign(price=1.3 * quotes["price"]),
            quotes.assign(price=np.nan),
            garbage,
        ):
            others = others[others["date"] != date]
            table = pd.concat([others, own]).sample(frac=1, random_state=3)
            again, row = volscen.build_history(table, **GRID)
            xr.testing.assert_equal(again[per_day].sel(date=date), history[per_day].sel(date=date))
            pd.testing.assert_series_equal(row.loc[date, columns], report.loc[date, columns])
    # What is past never changes with what comes: returns among it.
    for n in range(1, 9):
        shorter, _ = volscen.build_history(up_to(quotes, n), **GRID)
        xr.testing.assert_equal(shorter, history.isel(date=slice(shorter.sizes["date"])))
