"""What every command has: JSON, configuration, dry runs, quiet, completion, examples, exit codes."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import volscen
import volscen._cli._complete as complete
from cli_runner import volscen_command
from volscen.cli import app
from volscen.sources.simulate import simulate_market, simulate_quotes

GRID = ("--days", "30,60", "--moneyness", "0.95,1,1.05")


def load(text):
    """One JSON object, with no number that JSON does not know."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def all_commands():
    import typer

    def walk(one, path):
        if hasattr(one, "commands"):
            for name, inner in one.commands.items():
                yield from walk(inner, [*path, name])
        else:
            yield ".".join(path), one

    return dict(walk(typer.main.get_command(app), []))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of every kind under the names that the examples use."""
    path = tmp_path_factory.mktemp("frame")
    history = simulate_market("A", 130, seed=1)
    volscen.write(history, path / "history.nc")
    model = volscen.fit(history.isel(date=slice(0, 120)), "bootstrap")
    model.save(path / "model.safetensors")
    cube = volscen.generate(model, history, n_scenarios=300, horizon=2, seed=1)
    prior = np.random.default_rng(1).dirichlet(np.ones(300))  # weights that matter
    volscen.write(volscen.reweight(cube, beta=1.0, prior=prior), path / "scenarios.nc")
    simulate_quotes(history.isel(date=slice(-4, None)), n_strikes=13, seed=1).to_csv(path / "quotes.csv", index=False)
    (path / "portfolio.csv").write_text("type,quantity,moneyness,tau\ncall,1,1,.25\nput,-2,.9,.25\n")
    (path / "instruments.csv").write_text("type,moneyness,tau\nunderlying,,\ncall,1,.4\n")
    return path


# -------------------------------------------------------------------------------------------------- JSON
def test_numbers_of_json_are_those_of_the_library(folder):
    done = volscen_command("risk", "scenarios.nc", "-p", "portfolio.csv", "--alpha", "0.05,0.1", "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    page = load(done.stdout)
    assert page["command"] == "risk"
    cube, book = volscen.read(folder / "scenarios.nc"), volscen.Portfolio.from_table(folder / "portfolio.csv")
    profit = volscen.portfolio.pnl(cube, book)
    total, weight = profit.total.values[:, -1], profit.weight.values
    assert page["tails"][0]["expected_shortfall"] == volscen.risk.expected_shortfall(total, weight, alpha=0.05)
    parts = volscen.risk.contributions(profit, alpha=0.1)
    assert [one["component_es"] for one in page["positions"]] == parts.component_es.values.tolist()
    mean = np.average(total, weights=weight)
    assert page["mean"] == pytest.approx(mean, rel=1e-12)
    assert page["std"] == pytest.approx(np.sqrt(np.average((total - mean) ** 2, weights=weight)), rel=1e-12)
    assert page["ess"] == pytest.approx(1 / np.sum(weight**2), rel=1e-12)
    assert page["value"] == pytest.approx(float(profit.value0.sum()), rel=1e-15)
    text = volscen_command("risk", "scenarios.nc", "-p", "portfolio.csv", "--alpha", "0.05,0.1", cwd=folder).stdout
    assert f"{page['tails'][0]['expected_shortfall']:,.4f}" in text


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("generate --out {t}/s.nc -n 50 --seed 1", {"out", "bytes", "seed", "n_scenarios", "dates"}),
        ("hedge scenarios.nc -p portfolio.csv -i instruments.csv", {"instruments", "r_squared", "residual_tails"}),
        ("info scenarios.nc", {"schema", "sizes", "attributes", "dates"}),
        ("info history.nc", {"n_dates", "first", "last", "days"}),
        ("info model.safetensors", {"generator", "fitted_on", "parameters"}),
        ("stress scenarios.nc -p portfolio.csv --shock log_return=-0.1,level=0.05", {"value", "scenarios"}),
        ("surface quotes.csv --days 30,60 --moneyness 0.95,1,1.05", {"date", "implied_vol", "spot"}),
        ("history build quotes.csv --days 30,60 --moneyness 0.95,1,1.05 --out {t}/h.nc", {"n_dates", "days_added"}),
        ("fit history.nc -g bootstrap --out {t}/m.safetensors", {"generator", "fitted_on"}),
        ("update model.safetensors history.nc --out {t}/u.safetensors", {"updated_to", "fitted_on"}),
        ("resample scenarios.nc -n 20 --out {t}/r.nc", {"out", "n_scenarios"}),
        ("reweight scenarios.nc --view mean(atm_vol(0.25))<=1 --out {t}/w.nc", {"views", "dates"}),
        ("export scenarios.nc --out {t}/s.parquet", {"out", "bytes"}),
        ("card model.safetensors", {"card", "out"}),
        ("config keys generate", {"table", "keys"}),
    ],
)
def test_json_is_one_object_and_the_rest_is_on_standard_error(folder, tmp_path, line, keys):
    done = volscen_command(*shlex.split(line.format(t=tmp_path)), "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    page = load(done.stdout)
    assert keys | {"command", "volscen_version", "dry_run", "exit_code", "warnings"} <= set(page)
    assert "wrote" not in done.stderr
    assert (page["exit_code"], page["dry_run"], page["warnings"]) == (0, False, [])


@pytest.mark.parametrize(
    ("line", "code", "kind"),
    [
        ("info absent.nc", 1, "FileFormatError"),
        ("generate --out s.txt", 1, "InputError"),
        ("generate --out s.nc -n many", 2, "BadParameter"),
        ("frobnicate", 2, "UsageError"),
    ],
)
def test_errors_as_json(folder, line, code, kind):
    done = volscen_command(*line.split(), "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (code, "")
    page = load(done.stdout)
    assert (page["error"], page["exit_code"]) == (kind, code)
    assert page["message"] in volscen_command(*line.split(), cwd=folder).stderr.replace("\n", " ") or code == 2


def test_info_of_several_assets(tmp_path):
    histories = {name: simulate_market("A", 120, seed=i) for i, name in enumerate("AB")}
    model = volscen.fit_joint(histories, {"A": "bootstrap", "B": "bootstrap"})
    cube = volscen.stack_assets(volscen.generate_joint(model, histories, n_scenarios=50, seed=1))
    volscen.write(cube, tmp_path / "s.nc")
    page = load(volscen_command("info", tmp_path / "s.nc", "--json").stdout)
    for name in "AB":
        profit = cube.spot.sel(asset=name).values[:, -1] / float(cube.spot0.sel(asset=name)) - 1
        expected = volscen.risk.expected_shortfall(profit, cube.weight.values, alpha=0.05)
        found = page["assets"][name]["dates"][0]["index_loss"][0]["expected_shortfall"]
        assert found == pytest.approx(float(expected), rel=1e-12)
    text = volscen_command("info", tmp_path / "s.nc").stdout
    assert f"{100 * found:.3f}" in text


def test_what_is_no_number_is_null():
    from volscen._cli._command import to_json

    values = {"a": np.float32("nan"), "b": np.array([1, np.inf]), "c": np.datetime64("2024-06-03"), "d": np.int8(3)}
    assert to_json(values) == {"a": None, "b": [1.0, None], "c": "2024-06-03", "d": 3}
    assert to_json(np.array(["2024-06-03T12:00"], dtype="datetime64[ns]")) == ["2024-06-03T12:00:00"]
    assert to_json(math.pi) == math.pi


def test_warnings_are_in_json_too(folder, tmp_path):
    line = f"generate --out {tmp_path}/s.nc -n 8 --seed 1 --given log_return=-0.5:0.5"
    quiet = volscen_command(*line.split(), "--json", "--quiet", cwd=folder)
    page = load(quiet.stdout)
    assert len(page["warnings"]) == quiet.stderr.count("warning: ")


# ---------------------------------------------------------------------------------------- quiet, progress
def test_quiet_says_nothing_but_does_the_work(folder, tmp_path):
    out = tmp_path / "h.nc"
    done = volscen_command("history", "build", "quotes.csv", *GRID, "--out", out, "--quiet", cwd=folder)
    assert done == (0, "", "")
    assert volscen.read(out).sizes["date"] == 4


def test_bars_show_on_a_terminal_only_and_not_when_quiet(monkeypatch):
    from tqdm import tqdm

    from volscen._cli._command import _no_progress

    class Terminal:
        def __init__(self):
            self.text = ""

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    for _ in tqdm(range(3), disable=None):
        pass
    assert "3/3" in screen.text
    screen.text = ""
    with _no_progress():
        for _ in tqdm(range(3), disable=None):
            pass
        print("message", file=sys.stderr)
    assert screen.text == "message\n"


# ------------------------------------------------------------------------------------------------ dry runs
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("generate --out new/s.nc", "cannot write"),
        ("generate --out s.nc -n 1000 --horizon 5", "writes  s.nc (about 1.7 MB)"),
        ("generate --model model.safetensors --history history.nc --out s.nc --dry-run -q", ""),
        ("fit history.nc --out m.safetensors", "days                 130"),
        ("history build quotes.csv --days 30 --moneyness 1 --out h.nc", "days                 4"),
        ("history update history.nc quotes.csv", "new days             0"),
        ("hedge scenarios.nc -p portfolio.csv -i instruments.csv --out h.nc", "writes  h.nc"),
        ("evaluate history.nc -g pca --first 2000-06-20 -n 10", "scenarios to draw"),
        ("demo --out d", "writes  d/quotes.csv"),
        ("stress scenarios.nc -p portfolio.csv --loss 1 --out s.nc", "reads   portfolio.csv"),
        ("hedge absent.nc -p portfolio.csv -i instruments.csv", "absent.nc: no such file"),
    ],
)
def test_a_dry_run_writes_nothing(folder, line, words):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = volscen_command(*line.split(), "--dry-run", cwd=folder)
    assert words in done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_dry_run_knows_the_size_and_the_lack_of_memory(folder, tmp_path):
    out = tmp_path / "s.nc"
    arguments = ("generate", "--out", out, "--seed", 1, "-n")
    page = load(volscen_command(*arguments, 3000, "--dry-run", "--json").stdout)
    assert page["dry_run"] is True
    assert volscen_command(*arguments, 3000, "-q").returncode == 0
    assert page["writes"][0]["bytes"] == pytest.approx(out.stat().st_size, rel=0.15)
    huge = load(volscen_command(*arguments, 10**11, "--dry-run", "--json").stdout)
    assert huge["too_large_for"] == ["memory", "disk"]
    assert huge["writes"][0]["replaces_bytes"] == out.stat().st_size


# ------------------------------------------------------------------------------------------- configuration
def test_a_configuration_gives_defaults_and_flags_override(folder, tmp_path):
    (tmp_path / "c.toml").write_text(
        f'[generate]\nn_scenarios = 40\nseed = 3\nout = "s.nc"\nas-of = ["2000-06-29", "2000-06-30"]\n'
        f'history = "{folder}/history.nc"\nmodel = "{folder}/model.safetensors"\nbeta = 50\n'
    )
    done = volscen_command("generate", "--config", tmp_path / "c.toml", "--seed", 4, cwd=folder)
    assert done.returncode == 0, done.stderr
    cube = volscen.read(tmp_path / "s.nc")  # beside the configuration, not in the working folder
    assert dict(cube.sizes) == {"as_of": 2, "scenario": 40, "step": 1, "tau": 8, "moneyness": 10}
    assert cube.attrs["seed"] == 4
    assert cube.attrs["beta"].tolist() == [50, 50]


def test_lists_and_tables_of_a_configuration_are_options(folder, tmp_path):
    frame = pd.read_csv(folder / "quotes.csv").rename(columns={"strike": "K", "option_type": "cp"})
    frame.to_csv(tmp_path / "odd.csv", index=False)
    (tmp_path / "c.toml").write_text(
        '[history.build]\nquotes = "odd.csv"\ndays = [30, "2M"]\nmoneyness = [0.95, 1, 1.05]\n'
        'columns = { strike = "K", option_type = "cp" }\noption = { min_price = 0.01 }\nout = "h.nc"\n'
    )
    done = volscen_command("history", "build", "--config", tmp_path / "c.toml")
    assert done.returncode == 0, done.stderr
    history = volscen.read(tmp_path / "h.nc")
    np.testing.assert_allclose(history.tau, [30 / 365, 1 / 6])
    assert '"min_price":0.01' in history.attrs["build_settings"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[generate]\nn_scenario = 5",
            "c.toml, table [generate]: unknown key 'n_scenario'; did you mean 'n_scenarios'?",
        ),
        ("[genrate]\nseed = 5", "c.toml: unknown table [genrate]; did you mean [generate]?"),
        ("[history.biuld]\nseed = 5", "unknown table [history.biuld]; did you mean [history.build]?"),
        ('[generate]\nn_scenarios = "many"', "table [generate]: 'n_scenarios' must be a whole number, not \"many\""),
        ("[generate]\nn_scenarios = true", "'n_scenarios' must be a whole number, not true"),
        ("[generate]\nproject = 1", "'project' must be true or false, not 1"),
        ("[generate]\nhistory = 1", "'history' must be a file name, in quotes, not 1"),
        ("[monitor]\nsignificance = '1'", "table [monitor]: 'significance' must be a number"),
        ("[generate]\ngenerator = 'm.safetensors'", "unknown key 'generator'"),
        ("generate = 5", "generate must be a table, written [generate]"),
        ("[generate]\nseed = x", "c.toml: not TOML: Invalid value (at line 2, column 8)"),
        ("[fit]\nuntil = '2000-01-01'", "has no table [generate] for this command; it has [fit]"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_named(tmp_path, text, words):
    (tmp_path / "c.toml").write_text(text)
    done = volscen_command("generate", "--config", "c.toml", "--out", "s.nc", cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "s.nc").exists()


# --------------------------------------------------------------------------------------------- completion
def completed(line, cwd):
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    environment = {**os.environ, "_VOLSCEN_COMPLETE": "complete_bash", "COMP_WORDS": line,
                   "COMP_CWORD": str(len(words) - 1)}  # fmt: skip
    code = "import sys; from volscen.cli import main; main([])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=cwd, check=False
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("volscen gen", ["generate"]),
        ("volscen fit history.nc --generator boot", ["bootstrap"]),
        ("volscen generate --history ", ["history.nc", "scenarios.nc"]),
    ],
)
def test_the_shell_completes(folder, line, expected):
    assert completed(line, folder) == expected


def test_completers(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    assert complete.files(".csv")("p") == ["portfolio.csv"]
    assert complete.files(".csv")(f"{folder}/inst") == [f"{folder}/instruments.csv"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "store.zarr").mkdir(parents=True)
    (tmp_path / "deep" / "a.txt").touch()
    assert complete.files(".zarr")("d") == ["deep/store.zarr"]
    assert complete.files(".nc")("d") == ["deep/store.zarr/"] or complete.files(".nc")("d") == ["deep/"]


def test_names_that_are_completed_are_those_there_are():
    from volscen._repair._base import REGISTRY as predictors
    from volscen.hedging import REGISTRY as hedges
    from volscen.sources._readers import READERS
    from volscen.sources.simulate import MARKETS
    from volscen.surface._smoothers import REGISTRY as smoothers

    assert sorted(complete.HEDGES[1:]) == sorted(hedges)
    assert sorted(complete.SMOOTHERS) == sorted(smoothers)
    assert set(complete.SOURCES) == {*READERS, "deltas", "spx-factors"}
    assert set(complete.MARKETS) == set(MARKETS)
    assert set(complete.REPAIRS) == {"default", *predictors}


def test_columns_of_other_names_are_guessed_and_never_taken_silently(folder, tmp_path):
    names = {"date": "QuoteDate", "strike": "StrikePrice", "option_type": "cp_flag", "bid": "Best Bid", "ask": "offer"}
    pd.read_csv(folder / "quotes.csv").rename(columns=names).to_csv(tmp_path / "q.csv", index=False)
    line = ("history", "build", "q.csv", *GRID, "--out", "h.nc")
    done = volscen_command(*line, cwd=tmp_path)
    assert done.returncode == 1
    hint = shlex.split(done.stderr.strip().rpartition("perhaps ")[2])
    assert hint[1] == "date=QuoteDate,strike=StrikePrice,option_type=cp_flag,bid=Best Bid,ask=offer"
    assert volscen_command(*line, *hint, cwd=tmp_path).returncode == 0


def test_shocks_in_per_cent_are_refused(folder):
    line = ("stress", "scenarios.nc", "-p", "portfolio.csv", "--shock")
    done = volscen_command(*line, "level=8", cwd=folder)
    assert (done.returncode, "sizes are decimals, 0.08 for 8 points" in done.stderr) == (1, True)
    page = load(volscen_command(*line, "log_return=-0.1,level=0.08,name=a", "--json", cwd=folder).stdout)
    cube = volscen.read(folder / "scenarios.nc")
    crash = volscen.stress.shock(cube, log_return=-0.1, level=0.08, name="a")
    profit = volscen.portfolio.pnl(crash, volscen.Portfolio.from_table(folder / "portfolio.csv")).total.values[0, -1]
    (found,) = page["scenarios"]
    assert (found["name"], found["profit"]) == ("a", pytest.approx(profit, rel=1e-12))
    assert found["spot_return"] == pytest.approx(np.expm1(-0.1), rel=1e-12)
    assert found["mean_vol_change"] == pytest.approx(0.08, rel=1e-5)


def test_scenarios_in_chunks_are_those_in_one_piece(folder, tmp_path):
    line = ("generate", "-n", 2500, "--seed", 3, "--out")
    assert volscen_command(*line, tmp_path / "a.nc", "-q").returncode == 0
    done = volscen_command(*line, tmp_path / "b.nc", "--chunks", 1024, "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    whole, streamed = volscen.read(tmp_path / "a.nc"), volscen.read(tmp_path / "b.nc")
    np.testing.assert_array_equal(streamed.implied_vol, whole.implied_vol)
    page = load(done.stdout)
    assert page["dates"][0]["ess_fraction"] == pytest.approx(whole.attrs["ess_fraction"], rel=1e-9)
    small = load(volscen_command(*line, tmp_path / "c.nc", "--chunks", 1024, "--dry-run", "--json").stdout)
    large = load(volscen_command(*line, tmp_path / "c.nc", "-n", 10**9, "--chunks", 1024, "--dry-run", "--json").stdout)
    assert large["memory_bytes"] < 30e9 + small["memory_bytes"] < large["disk_bytes"]
    for wrong, words in (
        (["--resume"], "--resume goes with --chunks"),
        (["--scheduler", "tcp://localhost:1"], "--scheduler goes with --chunks"),
        (["--resume", "--chunks", "1024"], "--resume needs the --seed"),
    ):
        done = volscen_command("generate", "--out", tmp_path / "d.nc", *wrong)
        assert (done.returncode, words in done.stderr) == (1, True)


# ------------------------------------------------------------------------------------------ help
@pytest.mark.parametrize("name", all_commands())
def test_every_command_has_help_and_examples_that_parse(name, monkeypatch):
    done = volscen_command(*name.split("."), "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    found = all_commands()[name]
    assert found.examples
    for example in found.examples:
        words = shlex.split(example.replace("\\\n", " "))
        words = words[: words.index(">")] if ">" in words else words
        assert words[0] == "volscen"
        with found.make_context(name, words[1 + name.count(".") + 1 :]) as context:  # a usage error otherwise
            assert context.params


def test_common_options_are_spelled_alike():
    for name, one in all_commands().items():
        flags = {flag for parameter in one.params for flag in parameter.opts}
        assert {"--json", "--quiet", "-q", "--config"} <= flags, name
        assert ("-o" in flags) == ("--out" in flags), name
        if "--out" in flags:
            assert "--dry-run" in flags, name


def test_help_is_fast_and_light():
    code = (
        "import sys\nfrom volscen.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'xarray', 'pandas', 'scipy', 'rich', 'numpy.random') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_interrupted_is_130(monkeypatch, folder):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(volscen, "generate", interrupt)
    done = volscen_command("generate", "--out", "x.nc", cwd=folder)
    assert (done.returncode, done.stderr.strip()) == (130, "volscen: interrupted")
    page = load(volscen_command("generate", "--out", "x.nc", "--json", cwd=folder).stdout)
    assert (page["error"], page["exit_code"]) == ("KeyboardInterrupt", 130)
    assert not (folder / "x.nc").exists()


# ---------------------------------------------------------------------------------------- slips of the pen
@pytest.mark.parametrize(
    "words",
    [
        "generate --model model.safetensors --history history.nc -n 10 --out ./history.nc",
        "risk scenarios.nc -p portfolio.csv --out portfolio.csv",
        "hedge scenarios.nc -p portfolio.csv -i instruments.csv --out scenarios.nc",
        "history build quotes.csv --days 30 --moneyness 1 --out new.nc --report quotes.csv",
    ],
)
def test_what_is_read_is_not_written_over(folder, words):
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = volscen_command(*words.split(), cwd=folder)
    assert (done.returncode, "would overwrite what is read; choose another name" in done.stderr) == (1, True)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_model_may_be_updated_in_place(folder):
    done = volscen_command("update", "model.safetensors", "history.nc", "--out", "model.safetensors", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_python_runs_the_package():
    done = subprocess.run([sys.executable, "-m", "volscen", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"volscen {volscen.__version__}\n"


def test_a_date_that_scenarios_lack(folder):
    done = volscen_command("risk", "scenarios.nc", "-p", "portfolio.csv", "--as-of", "1999-01-01", cwd=folder)
    assert (done.returncode, done.stderr.startswith("volscen: --as-of 1999-01-01: the scenarios are of 20")) == (
        1,
        True,
    )
