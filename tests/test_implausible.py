"""What no data bears out is told, by weight, wherever cubes are drawn; what is fine is not."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen._doubts import told_together, warn_of_scenarios
from volscen._figures import scenario_figures, streamed_figures
from volscen._io import read_dataset
from volscen._summary import scenario_summary, streamed_text
from volscen.errors import FileFormatError, HistoryWarning, InputError, ScenarioWarning, VolscenWarning
from volscen.generators import StepGenerator
from volscen.generators._record import FitRecord
from volscen.scenarios._implausible import Beyond, Tally

N = 3000
TAU, M = np.array([30, 91]) / 365, np.array([0.9, 1.0, 1.1])
#: At every point of the surface: twice the highest known is .6, half the lowest .05; the largest return is 4%.
LOW, HIGH, MOVE = 0.1, 0.3, 0.04


def quiet(n: int = 300) -> xr.Dataset:
    """Vols from 10% to 30%, returns of +-1%, one of -4%."""
    date = np.datetime64("2020-01-01") + np.arange(n)
    level = np.full(n, 0.2)
    level[10], level[20] = LOW, HIGH
    level[-1] = 0.2
    returns = np.where(np.arange(n) % 2, 0.01, -0.01)
    returns[30] = -MOVE
    spot = 100 * np.exp(np.cumsum(returns))
    # The wiggle keeps surfaces from standing still.
    surface = level[:, None, None] * np.ones((n, TAU.size, M.size))
    surface[25:-1, 1, 2] *= 1 + 0.001 * (np.arange(n - 26) % 3)
    return volscen.make_history(date, TAU, M, surface, spot=spot, calendar="24/7", periods_per_year=365)


class Wild(StepGenerator):
    """Draws 20% and no return, but in the first scenarios of every block what it is told to."""

    name = "wild"

    def __init__(self, count: int = 0, vol: float = 0.2, move: float = 0.0, cell: int | None = None) -> None:
        self.count, self.vol, self.move, self.cell = count, vol, move, cell

    def fit(self, history: xr.Dataset) -> Wild:
        self._remember(history)
        return self

    def update(self, history: xr.Dataset) -> Wild:
        return self

    def _step(self, log_return: Any, log_iv: Any, rng: np.random.Generator) -> Any:
        n, cells = len(log_iv), log_iv.shape[-1]
        vol, returns = np.full((n, cells), 0.2), 1e-5 * rng.standard_normal(n)
        where = slice(None) if self.cell is None else self.cell
        vol[: self.count, where] = self.vol
        returns[: self.count] += self.move
        return returns, np.log(vol)

    def arrays(self) -> dict[str, Any]:
        return {}

    def _restore(self, arrays: dict[str, Any]) -> None: ...


@contextmanager
def nothing_said() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def draw(history: xr.Dataset | None = None, *, n: int = 1024, reweight: Any = None, **wild: Any) -> xr.Dataset:
    history = quiet() if history is None else history
    return volscen.generate(Wild(**wild).fit(history), history, n_scenarios=n, seed=1, reweight=reweight)


# ------------------------------------------------------------------------------------------------ the judgement
@pytest.mark.parametrize(
    ("wild", "said"),
    [
        # 11 of 1,024 are 1.07%, 10 are .98%; two of 1,024 are .2%, one is .098%.
        ({"count": 11, "vol": 0.61}, r"1\.1% of the weight has vols above twice the highest known .* up to 2\.03"),
        (
            {"count": 2, "vol": 1.21},
            r"0\.20% of the weight has vols above .* \(at the money at 30 days 0\.20%, up to 121%; ",
        ),
        (
            {"count": 11, "vol": 0.049},
            r"1\.1% of the weight has vols below half the lowest known .* the lowest known is 10\.0%",
        ),
        (
            {"count": 11, "move": -0.0801},
            r"1\.1% of the weight has a daily return larger than twice .*the largest known is 4\.0%\)",
        ),
        ({"count": 11, "move": 0.0801}, r"known \(up to 8%; the largest known is 4\.0%\)"),
        (
            {"count": 11, "vol": 0.61, "cell": 5},
            r"above twice .* \(at the money at 30 days none; the highest known is 30\.0%",
        ),
    ],
)
def test_what_lies_beyond_is_told(wild: dict[str, Any], said: str) -> None:
    with pytest.warns(ScenarioWarning, match=said) as caught:
        cube = draw(**wild)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "Nothing in the 300 known dates" in str(caught[0].message)
    assert cube.attrs["implausible_share"] == pytest.approx(wild["count"] / 1024, rel=1e-12)
    assert str(caught[0].message).split(". Nothing in the 300")[0].endswith(cube.attrs["implausible"])


@pytest.mark.parametrize(
    "wild",
    [
        {"count": 10, "vol": 0.61},
        {"count": 11, "vol": 0.599},
        {"count": 11, "vol": 0.0501},
        {"count": 11, "move": 0.0799},
        {"count": 1, "vol": 1.21},
    ],
)
def test_little_or_near_is_not(wild: dict[str, Any]) -> None:
    with nothing_said():
        cube = draw(**wild)
    assert "implausible" not in cube.attrs
    beyond = wild in ({"count": 10, "vol": 0.61}, {"count": 1, "vol": 1.21})
    assert cube.attrs["implausible_share"] == (wild["count"] / 1024 if beyond else 0.0)


def test_weights_decide() -> None:
    """A vol of 3 at one point is arbitrage: with weights it is no share worth a word."""
    with pytest.warns(ScenarioWarning, match="weigh by arbitrage"):
        draw(count=50, vol=3.0, cell=2)
    with nothing_said():
        cube = draw(count=50, vol=3.0, cell=2, reweight="arbitrage")
    assert cube.attrs["implausible_share"] < 1e-6


def test_how_far_it_goes_is_said_of_what_has_weight() -> None:
    """Less than a thousandth of an equal weight counts neither for the share nor for the extreme."""
    found = Beyond(np.array([[0, 3.0, 0, 0, 0], [1, 9.0, 0, 0, 5.0], [2, 0, 5.0, 0, 0]]))
    tally = Tally.of([found], np.array([0.25, 0.0002, 0.0003, 0.7495]))
    np.testing.assert_allclose(tally.shares, [0.2503, 0.0003, 0.25, 0.0003, 0, 0], rtol=1e-12)
    assert tally.largest.tolist() == [3, 5, 0, 0]


@pytest.mark.filterwarnings("ignore::volscen.errors.ScenarioWarning")
@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_shares_are_those_of_the_whole_cube(beta: float, tmp_path: Path) -> None:
    """Against all scenarios at once; each block of a real law differs."""
    history = volscen.datasets.sample_history()
    storm = history.copy(deep=True)
    storm["implied_vol"][-1] *= 2.5
    model = volscen.fit(history, "fhs")
    options: dict[str, Any] = {"n_scenarios": 3000, "horizon": 5, "seed": 1, "beta": beta, "dtype": "float64"}
    cube = volscen.generate(model, storm, **options)
    lazy = volscen.generate(model, storm, chunks=700, **options)
    written = volscen.read(volscen.write(lazy, tmp_path / "cube.nc"))
    assert written.attrs["implausible_share"] == cube.attrs["implausible_share"]
    known, vol = storm.implied_vol, cube.implied_vol
    outside = (vol > 2 * known.max("date")) | (vol < known.min("date") / 2)
    far = outside.any(["step", "tau", "moneyness"]) | (
        np.abs(cube.log_return) > 2 * np.abs(storm.log_return).max()
    ).any("step")
    assert 0.02 < float(far.mean()) < 0.5
    # What has less than a thousandth of an equal weight is left out.
    assert cube.attrs["implausible_share"] == pytest.approx(
        float((cube.weight * far).sum()), abs=1e-3 * float(far.mean())
    )


def test_the_record_counts_as_known() -> None:
    """A model that has seen a storm may draw one, though the history given is a calm year."""
    storm = quiet().copy(deep=True)
    storm["implied_vol"][5] = 0.9
    model = Wild(count=50, vol=0.61).fit(storm)
    with nothing_said():
        assert volscen.generate(model, quiet(), n_scenarios=1024, seed=1, reweight=None).attrs["implausible_share"] == 0
    assert model.record_ is not None
    wide = Wild(count=50, move=-0.0801).fit(quiet())
    assert wide.record_ is not None
    wide.record_ = dataclasses.replace(wide.record_, log_return=(-0.05, 0.01))
    with nothing_said():
        volscen.generate(wide, quiet(), n_scenarios=1024, seed=1, reweight=None)
    # What only the whole surface's range is known of, from a file of an early version, may be anywhere.
    model.record_ = dataclasses.replace(model.record_, highest=(), lowest=())
    with nothing_said():
        volscen.generate(model, quiet(), n_scenarios=1024, seed=1, reweight=None)
    model.record_ = None
    with pytest.warns(ScenarioWarning, match=r"4\.9% of the weight has vols above"):
        volscen.generate(model, quiet(), n_scenarios=1024, seed=1, reweight=None)


def test_what_comes_later_is_not_known(tmp_path: Path) -> None:
    later = quiet(400).copy(deep=True)
    later["implied_vol"][350] = 0.9
    model = Wild(count=50, vol=0.61).fit(later.isel(date=slice(0, 300)))
    days = later.date.values[[320, 380]]
    with pytest.warns(ScenarioWarning, match=f"scenarios from {str(days[0])[:10]}: 4.9%") as caught:
        cube = volscen.generate(model, later, as_of=days, n_scenarios=1024, seed=1, reweight=None)
    assert len(caught) == 1
    np.testing.assert_allclose(cube.attrs["implausible_share"], [50 / 1024, 0])
    assert cube.attrs["implausible"].startswith(str(days[0])[:10])
    lazy = volscen.generate(model, later, as_of=days, n_scenarios=1024, seed=1, reweight=None, chunks=1024)
    with pytest.warns(ScenarioWarning, match=f"scenarios from {str(days[0])[:10]}: 4.9%"):
        written = volscen.read(volscen.write(lazy, tmp_path / "cube.nc"))
    np.testing.assert_array_equal(written.attrs["implausible_share"], cube.attrs["implausible_share"])
    with pytest.warns(ScenarioWarning, match=r"\(and 1 more of the 2 dates\)"):
        volscen.generate(model, later, as_of=later.date.values[[320, 330]], n_scenarios=1024, seed=1, reweight=None)


def test_few_dates_know_no_range() -> None:
    with nothing_said():
        assert "implausible_share" not in draw(quiet(251), count=50, vol=3.0).attrs


def test_what_is_given_may_lie_anywhere() -> None:
    history = quiet()
    model = Wild(count=512, vol=0.61).fit(history)
    with nothing_said():
        cube = volscen.generate(
            model,
            history,
            n_scenarios=1024,
            seed=1,
            given={volscen.views.atm_vol(30 / 365): (0.5, None)},
            reweight=None,
        )
    assert cube.attrs["implausible_share"] == pytest.approx(1)


def test_remedies_fit_the_case() -> None:
    history = quiet()
    model = Wild(count=50, vol=0.61).fit(history)
    with pytest.warns(ScenarioWarning, match="shorten the horizon of 3 steps"):
        volscen.generate(model, history, n_scenarios=1024, seed=1, horizon=3)
    with pytest.warns(ScenarioWarning) as caught:
        volscen.generate(model, history, n_scenarios=1024, seed=1)
    text = str(caught[0].message)
    assert "horizon" not in text
    assert "weigh by" not in text
    assert text.endswith("whose moves are days that were")


# ------------------------------------------------------------------------------------------- wherever cubes are drawn
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_lazy_cubes_are_judged_when_written(suffix: str, tmp_path: Path) -> None:
    history = quiet()
    model = Wild(count=50, vol=0.61).fit(history)
    options: dict[str, Any] = {"n_scenarios": N, "seed": 1, "as_of": history.date.values[[200, 299]], "horizon": 2}
    with pytest.warns(ScenarioWarning, match="5.0% of the weight"):
        whole = volscen.generate(model, history, **options)
    lazy = volscen.generate(model, history, chunks=700, **options)
    with pytest.warns(ScenarioWarning, match="5.0% of the weight") as caught:
        volscen.write(lazy, tmp_path / f"lazy{suffix}")
    assert caught[0].filename == __file__
    again = read_dataset(tmp_path / f"lazy{suffix}", chunks=1000)
    np.testing.assert_array_equal(again.attrs["implausible_share"], whole.attrs["implausible_share"])
    assert again.attrs["implausible"] == whole.attrs["implausible"]
    figures = streamed_figures(again)
    assert [one["implausible_share"] for one in figures["dates"]] == pytest.approx(whole.attrs["implausible_share"])
    assert "beyond what is known       5.0" in streamed_text(figures)
    again.close()


@pytest.mark.parametrize("name", ["log_return", "implied_vol", "arbitrage_penalty"])
def test_what_the_user_computed_is_written_too(name: str, tmp_path: Path) -> None:
    """Of drawn returns and surfaces a streamed cube is judged, not of what was put in place of one of them."""
    history = quiet()
    model = Wild(count=50, vol=0.61).fit(history)
    lazy = volscen.generate(model, history, n_scenarios=N, seed=1, chunks=700)
    mine = lazy.assign({name: lazy[name].compute()})
    if name == "arbitrage_penalty":
        with pytest.warns(ScenarioWarning, match="5.0% of the weight"):
            volscen.write(mine, tmp_path / "mine.nc")
    else:
        with nothing_said():
            volscen.write(mine, tmp_path / "mine.nc")
    written = read_dataset(tmp_path / "mine.nc")
    np.testing.assert_array_equal(written["implied_vol"], lazy["implied_vol"])
    assert ("implausible_share" in written.attrs) == (name == "arbitrage_penalty")


def test_lazy_cubes_of_few_moves_are_told(tmp_path: Path) -> None:
    history = volscen.datasets.sample_history()
    model = volscen.fit(history.isel(date=slice(0, 42)), "bootstrap")
    lazy = volscen.generate(model, history, n_scenarios=N, seed=1, chunks=1024)
    with pytest.warns(ScenarioWarning, match="the 3,000 scenarios take 41 different first steps"):
        volscen.write(lazy, tmp_path / "few.nc")
    enough = volscen.fit(history.isel(date=slice(0, 152)), "bootstrap")
    with nothing_said():
        # The last block alone holds few.
        volscen.write(volscen.generate(enough, history, n_scenarios=N, seed=1, chunks=2950), tmp_path / "enough.nc")


def test_notes_are_read_one_after_the_other(tmp_path: Path) -> None:
    """Of a law all of whose scenarios lie beyond, the notes hold every scenario: memory does not, at any time."""
    import tracemalloc
    from types import SimpleNamespace

    from volscen.scenarios._implausible import Beyond, Known
    from volscen.scenarios._stream_notes import BlockNote, found_in_notes
    from volscen.scenarios._stream_targets import Block

    size, count = 4096, 40
    blocks = [Block(0, i, i * size, (i + 1) * size) for i in range(count)]
    known = Known(0.04, np.full((1, 1), 0.3), np.full((1, 1), 0.1), (0, 0), 30, 300)
    for block in blocks:
        rows = np.column_stack([np.arange(block.start, block.stop), np.tile([3.0, 0.0, 0.0, 2.5], (size, 1))])
        BlockNote(Beyond(rows), np.arange(2.0 * size).reshape(size, 2)).write(tmp_path, block)
    ds = xr.Dataset({"state_clipped": 0}, {"as_of": np.datetime64("2020-01-02", "ns"), "step": [1]})
    ds.attrs["generator"] = "wild"
    plan: Any = SimpleNamespace(known=(known,), n_scenarios=size * count, generator=SimpleNamespace(name="wild"))
    weight = np.full(size * count, 1 / (size * count))
    found_in_notes(ds, plan, tmp_path, blocks[:1], weight, weighed=False)  # what is imported counts for nothing
    tracemalloc.start()
    try:
        attributes, doubts = found_in_notes(ds, plan, tmp_path, blocks, weight, weighed=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert attributes["implausible_share"] == pytest.approx(1, abs=1e-9)
    assert "100.0% of the weight has vols above" in attributes["implausible"]
    assert "(at the money at 30 days 100.0%, up to 75%; " in attributes["implausible"]
    assert doubts.few == [None]
    assert peak < 10 * 40 * size  # bytes: a quarter of all notes


def test_a_file_is_there_though_warnings_are_errors(tmp_path: Path) -> None:
    history = volscen.datasets.sample_history()
    model = volscen.fit(history.isel(date=slice(0, 42)), "bootstrap")
    given = {"log_return": (-0.02, 0.02)}
    lazy = volscen.generate(model, history, n_scenarios=N, seed=1, given=given, chunks=1024)
    with pytest.warns(ScenarioWarning, match=r"scenarios with .* differ") as caught:
        volscen.write(lazy, tmp_path / "told.nc")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with nothing_said(), pytest.raises(ScenarioWarning, match=r"scenarios with .* differ"):
        volscen.write(lazy, tmp_path / "cube.nc")
    assert (tmp_path / "cube.nc").is_file()


def test_joint_cubes_are_judged() -> None:
    history = volscen.datasets.sample_history()
    joint = volscen.fit_joint({"A": history, "B": history}, "bootstrap")
    with nothing_said():
        cubes = volscen.generate_joint(joint, {"A": history, "B": history}, n_scenarios=1000, seed=1)
    assert cubes["A"].attrs["implausible_share"] == 0
    storm = history.copy(deep=True)
    storm["implied_vol"][-1] *= 2.5
    wild = volscen.fit_joint({"A": history, "B": history}, "fhs")
    with pytest.warns(ScenarioWarning, match="^B: scenarios from .* vols above twice the highest") as caught:
        cubes = volscen.generate_joint(wild, {"A": history, "B": storm}, n_scenarios=2000, horizon=5, seed=1)
    assert len(caught) == 1
    assert cubes["B"].attrs["implausible_share"] > 0.01 > cubes["A"].attrs["implausible_share"]
    few = volscen.fit_joint({"A": history.isel(date=slice(0, 62)), "B": history.isel(date=slice(0, 62))}, "bootstrap")
    with pytest.warns(ScenarioWarning, match="61 different first steps: generator 'bootstrap' of [AB]") as caught:
        volscen.generate_joint(few, {"A": history, "B": history}, n_scenarios=1000, seed=1)
    assert len(caught) == 2


def test_stacked_cubes_keep_the_largest_share() -> None:
    history = volscen.datasets.sample_history()
    joint = volscen.fit_joint({"A": history, "B": history}, "bootstrap")
    cubes = volscen.generate_joint(joint, {"A": history, "B": history}, n_scenarios=1000, seed=1)
    cubes["B"].attrs |= {"implausible_share": 0.02, "implausible": "much"}
    both = volscen.stack_assets(cubes)
    assert both.attrs["implausible_share"] == 0.02
    assert both.attrs["implausible"] == "B: much"
    assert scenario_figures(both.sel(asset="A"))["dates"][0]["implausible_share"] == 0.02


def test_a_walk_tells_once_at_its_end() -> None:
    """Every date of a month would warn, each in other words and from a line of the library."""
    history = quiet(330).copy(deep=True)
    history["implied_vol"][310:] *= 1 + 1e-3 * np.arange(20)[:, None, None]
    model = Wild(count=50, vol=0.61).fit(history.isel(date=slice(0, 300)))
    days = history.date.values
    first, last = days[315], days[324]
    with pytest.warns(ScenarioWarning) as caught:
        volscen.evaluation.walk_forward(model, history, first=first, last=last, n_scenarios=1000, refit_every=None)
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"scenarios from {str(days[314])[:10]}: 5.0% of the weight")
    assert str(caught[0].message).endswith("(9 more about scenarios of other dates)")
    assert caught[0].filename == __file__
    with pytest.warns(ScenarioWarning, match=r"\(4 more about scenarios of other dates\)$") as caught:
        volscen.evaluation.monitor_drift(model, history, first=first, last=last, n_scenarios=1000, update_every=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@told_together()
def three_cubes(*texts: str, fails: bool = False) -> None:
    for text in texts:
        with told_together():
            warn_of_scenarios(text, stacklevel=1)
    if fails:
        raise KeyError


def test_what_is_told_together() -> None:
    with nothing_said():
        three_cubes()
    with pytest.warns(ScenarioWarning) as caught:
        three_cubes("a", "b", "a")
    assert [str(one.message) for one in caught] == ["a (1 more about scenarios of other dates)"]
    assert caught[0].filename == __file__
    with nothing_said(), pytest.raises(KeyError):  # an error comes first
        three_cubes("a", fails=True)
    with pytest.warns(ScenarioWarning, match="^b$"):  # and leaves nothing behind
        warn_of_scenarios("b", stacklevel=1)


def test_paths_longer_than_the_data() -> None:
    history = quiet()
    model = Wild().fit(history)
    with pytest.warns(ScenarioWarning, match="paths of 151 steps are drawn from 300 known dates"):
        volscen.generate(model, history, n_scenarios=10, horizon=151, seed=1)
    with nothing_said():
        volscen.generate(model, history, n_scenarios=10, horizon=150, seed=1)


def test_summaries_and_pages_show_it(tmp_path: Path) -> None:
    with pytest.warns(ScenarioWarning):
        cube = draw(count=11, vol=0.61)
    assert scenario_figures(cube)["dates"][0]["implausible_share"] == pytest.approx(11 / 1024)
    assert "beyond what is known       1.07% of the weight" in scenario_summary(cube)
    page = volscen.report(cube, path=tmp_path / "page.html").read_text()
    assert "As drawn: 1.1% of the weight has vols above" in page
    assert "beyond what" not in scenario_summary(draw())


# ------------------------------------------------------------------------------------------------- the record's part
def test_the_record_holds_each_point_and_old_ones_load() -> None:
    history = volscen.datasets.sample_history()
    record = FitRecord.of(history, ())
    np.testing.assert_allclose(record.highest, history.implied_vol.max("date").values.ravel(), rtol=1e-4)
    np.testing.assert_allclose(record.lowest, history.implied_vol.min("date").values.ravel(), rtol=1e-4)
    metadata = json.loads(json.dumps(record.metadata()))
    assert FitRecord.restore(metadata) == record
    del metadata["highest"], metadata["lowest"]
    old = FitRecord.restore(metadata)
    assert old is not None
    assert old.highest == old.lowest == ()
    for broken in ([0.2, -0.1], [0.2, float("nan")], [0.2]):
        with pytest.raises(ValueError, match="positive number for each point"):
            FitRecord.restore(metadata | {"highest": [0.2, 0.3], "lowest": broken})


# ----------------------------------------------------------------------------------------- what else is not silent
def test_degenerate_weights_are_told(tmp_path: Path) -> None:
    history = quiet()
    model = Wild(count=1000, vol=0.4, cell=2).fit(history)
    options: dict[str, Any] = {"n_scenarios": 1024, "horizon": 1, "seed": 1, "beta": 1e9}
    with nothing_said():  # 24 of 1,024 are without arbitrage: 2.3%
        volscen.generate(model, history, **options)
    model.count = 1020
    with pytest.warns(ScenarioWarning, match=r"effective sample size of 4\.0 of 1,024 scenarios: .* beta='auto'"):
        cube = volscen.generate(model, history, **options)
    assert cube.attrs["ess_fraction"] < 0.01
    with nothing_said():
        fine = volscen.reweight(cube)
    with pytest.warns(ScenarioWarning, match="effective sample size"):
        volscen.reweight(fine, beta=1e9)
    with pytest.warns(ScenarioWarning, match="effective sample size"):
        volscen.write(volscen.generate(model, history, chunks=1024, **options), tmp_path / "c.nc")


def test_one_scenario_that_bears_the_tail_is_told() -> None:
    from volscen._cli._book import book_risk
    from volscen.risk._measures import sole_share

    # The worst 5%: .02 of -100, .03 of -1. The first bears 2 of 2.03.
    assert sole_share([-100.0, -1.0, 0.0], [0.02, 0.08, 0.9], alpha=0.05) == pytest.approx(2 / 2.03, rel=1e-12)
    assert sole_share([1.0, 2.0], alpha=0.5) == 0
    cube = volscen.generate(n_scenarios=50, seed=3, reweight=None)
    cube["log_return"][:] = np.linspace(-0.01, 0.01, 50)[:, None]
    cube["spot"] = cube.spot0 * np.exp(cube.log_return)
    book = volscen.Portfolio([(volscen.Underlying(), 1.0)])
    with pytest.warns(ScenarioWarning, match="one scenario alone bears 100% of the 99% expected shortfall"):
        figures, _ = book_risk(cube, book, alpha=[0.05, 0.01])
    assert figures["tails"][1]["sole_share"] == 1
    assert figures["tails"][0]["sole_share"] < 0.9
    assert "warning: one scenario alone bears 100% of the 99%" in volscen.report_text(cube, book)
    with nothing_said():
        book_risk(volscen.generate(n_scenarios=5000, seed=1), book, alpha=[0.05, 0.01])


def test_months_missing_from_a_history_are_told() -> None:
    history = volscen.datasets.sample_history()
    days = history.date.values
    holed = volscen.select_dates(history, (days < days[300]) | (days > days[360]))
    with pytest.warns(
        HistoryWarning, match=r"no date between .* \(\d\d days\): what moved meanwhile counts as one"
    ) as said:
        volscen.fit(holed, "bootstrap")
    assert issubclass(said[0].category, VolscenWarning)
    assert len(said) == 1
    assert said[0].filename == __file__
    holidays = volscen.select_dates(history, (days < days[300]) | (days > days[307]))  # Golden Week
    with nothing_said():
        volscen.fit(holidays, "bootstrap")


def test_repair_hears_what_a_table_says() -> None:
    import pandas as pd

    k = np.log([0.9, 0.95, 1.0, 1.05, 1.1])
    table = pd.DataFrame({"tau": 0.25, "moneyness": np.exp(k), "implied_vol": 0.2 - 0.1 * k})
    grid: dict[str, Any] = {"tau": [0.2, 0.3], "moneyness": [0.95, 1.0, 1.05]}
    volscen.repair(table.assign(strike=100.0, volume=3, bid_volume=1, ask_volume=2), **grid)
    for slip, meant in (("half_spread", "half_spread_vol"), ("bid_iv", "bid_vol"), ("Log Moneyness", "log_moneyness")):
        with pytest.raises(InputError, match=f"column '{slip}', which is not read: name it '{meant}'"):
            volscen.repair(table.assign(**{slip: 0.01}), **grid)
    with pytest.raises(InputError, match=r"pass noise=table\['noise'\]"):
        volscen.repair(table.assign(noise=0.001), **grid)


def test_cash_earns_the_curve() -> None:
    """Of a steep curve, 3% to 7 days and 5% to 30: two weeks earn the forward rate after the first."""
    cube = volscen.generate(n_scenarios=10, horizon=10, seed=1)
    tau = cube.tau.values
    zero = np.linspace(0.03, 0.05, tau.size)
    cube["discount_factor0"] = ("tau", np.exp(-zero * tau))
    first, second = float(tau[0]), float(tau[1])
    days = 365 * np.array([0.5 * first, first, *np.linspace(first, second, 9)[1:]])
    value = (
        volscen.portfolio.revalue(cube, [volscen.Cash()], elapsed_days=days).value.isel(scenario=0, instrument=0).values
    )
    forward = (zero[1] * second - zero[0] * first) / (second - first)
    expected = np.exp([0.015 * first, 0.03 * first, *(0.03 * first + forward * np.linspace(0, second - first, 9)[1:])])
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_no_file_of_a_broken_record_opens(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    history = volscen.datasets.sample_history()
    path = volscen.fit(history, "bootstrap").save(tmp_path / "m.safetensors")
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        held = dict(file.metadata())
    ((key, text),) = [(key, text) for key, text in held.items() if "record" in text]
    metadata = json.loads(text)
    metadata["record"]["lowest"] = [-1.0] * len(metadata["record"]["lowest"])
    save_file(load_file(path), path, {**held, key: json.dumps(metadata)})
    with pytest.raises(FileFormatError, match="positive number for each point"):
        volscen.load(path)
