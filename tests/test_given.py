"""Scenarios given an outcome: against laws whose conditional law is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, truncnorm

import volscen
from volscen import views
from volscen._summary import scenario_summary
from volscen.errors import InputError
from volscen.evaluation import Oracle
from volscen.generators import StepGenerator
from volscen.scenarios._given import Given
from volscen.sources.simulate import simulate_market

# Return, and moves of the log vol of four cells: a Gaussian law.
SD = np.array([0.01, 0.05, 0.04, 0.03, 0.02])
CORRELATION = np.full((5, 5), 0.6) + 0.4 * np.eye(5)
CORRELATION[0, 1:] = CORRELATION[1:, 0] = -0.7
COVARIANCE = CORRELATION * np.outer(SD, SD)


class Gaussian(StepGenerator):
    """Returns and log-vol moves are normal, the same every day."""

    name = "gaussian"

    def fit(self, history):
        self._remember(history)
        self.root_ = np.linalg.cholesky(COVARIANCE)
        return self

    def update(self, history):
        return self

    def _step(self, log_return, log_iv, rng):
        move = rng.standard_normal((len(log_return), 5)) @ self.root_.T
        return move[:, 0], log_iv[:, -1] + move[:, 1:]

    def arrays(self):
        return {}

    def _restore(self, arrays):
        pass


@pytest.fixture(scope="module")
def history():
    rng = np.random.default_rng(0)
    return volscen.make_history(
        np.arange("2020-01-01", "2020-01-11", dtype="datetime64[D]"),
        [0.25, 0.5],
        [0.9, 1.0],
        0.2 * np.exp(0.05 * rng.standard_normal((10, 2, 2))),
        spot=100 * np.exp(0.01 * rng.standard_normal(10)),
    )


@pytest.fixture(scope="module")
def gaussian(history):
    return Gaussian().fit(history)


def generate(gaussian, history, given, n=20_480, **options):
    options = {"seed": 1, "dtype": "float64", "reweight": None} | options
    return volscen.generate(gaussian, history, n_scenarios=n, given=given, **options)


def moves(cube):
    """Return and log-vol moves of the first step: (n, 5)."""
    grow = np.log(cube.implied_vol.values[:, 0] / cube.implied_vol0.values)
    return np.column_stack([cube.log_return.values[:, 0], grow.reshape(len(grow), -1)])


def conditional(x):
    """Mean and covariance of the log-vol moves given the return."""
    slope = COVARIANCE[1:, 0] / COVARIANCE[0, 0]
    return slope * x, COVARIANCE[1:, 1:] - np.outer(slope, COVARIANCE[0, 1:])


@pytest.mark.parametrize("sds", [0.0, -1.5, 2.5, -3.0])
def test_a_return_is_met_and_the_rest_follows_the_conditional_normal_law(gaussian, history, sds):
    target = sds * SD[0]
    cube = generate(gaussian, history, {"log_return": target})
    drawn = moves(cube)
    assert np.abs(drawn[:, 0] - target).max() < 1e-12
    mean, covariance = conditional(target)
    spread = np.sqrt(np.diag(covariance))
    # Beyond the draws the regression reaches further than they do: its error, not the number drawn, decides.
    slack = (5 if abs(sds) < 2 else 15) / np.sqrt(len(drawn))
    assert np.all(np.abs(drawn[:, 1:].mean(axis=0) - mean) < slack * spread)
    np.testing.assert_allclose(np.cov(drawn[:, 1:].T), covariance, rtol=0.08, atol=0.03 * spread.max() ** 2)
    assert cube.attrs["given"] == f"log_return = {target:.6g}"


def test_a_band_leaves_the_truncated_law(gaussian, history):
    low, high = -0.02, -0.01
    cube = generate(gaussian, history, {"log_return": (low, high)})
    x = moves(cube)
    assert low <= x[:, 0].min()
    assert x[:, 0].max() <= high
    law = truncnorm(low / SD[0], high / SD[0], scale=SD[0])
    levels = np.linspace(0.05, 0.95, 19)
    assert np.abs(law.cdf(np.quantile(x[:, 0], levels)) - levels).max() < 5 * 0.5 / np.sqrt(len(x))
    slope, _ = conditional(1.0)
    assert np.all(np.abs(x[:, 1:].mean(axis=0) - slope * law.mean()) < 5 * SD[1:] / np.sqrt(len(x)))


def test_open_bands_and_two_conditions(gaussian, history):
    vol = views.atm_vol(0.25)
    above = float(views.atm_vol(0.25).values(generate(gaussian, history, None, n=1024)).mean())
    cube = generate(gaussian, history, {"log_return": (None, 0.0), vol: (above, None)}, n=1024)
    assert cube.log_return.max() <= 0
    assert vol.values(cube).min() >= above
    assert cube.attrs["given"].startswith("log_return <= 0; ")


def test_two_values_at_once(gaussian, history):
    """Given the return and the vol of one cell; the other cells by the normal law."""
    cell = views.implied_vol(0.5, 0.9)
    level = 0.01
    start = float(history.implied_vol[-1, 1, 0])
    cube = generate(gaussian, history, {"log_return": -0.012, cell: start * np.exp(level)})
    drawn = moves(cube)
    assert np.abs(drawn[:, [0, 3]] - [-0.012, level]).max() < 1e-9
    known, rest = [0, 3], [1, 2, 4]
    slope = np.linalg.solve(COVARIANCE[np.ix_(known, known)], COVARIANCE[np.ix_(known, rest)])
    expected = np.array([-0.012, level]) @ slope
    assert np.all(np.abs(drawn[:, rest].mean(axis=0) - expected) < 5 * SD[rest] / np.sqrt(len(drawn)))


def test_a_quantity_that_is_not_linear_is_met_too(gaussian, history):
    index = views.array  # an array cannot be given: its scenarios are not those drawn
    with pytest.raises(InputError, match="each of the 1024 scenarios"):
        generate(gaussian, history, {index(np.zeros(5), "x"): 0.0}, n=10)
    level = views.term_slope(0.25, 0.5)
    centre = float(history.implied_vol[-1, 1, 1] - history.implied_vol[-1, 0, 1])
    cube = generate(gaussian, history, {level: centre + 0.003}, n=2048)
    assert np.abs(level.values(cube) - centre - 0.003).max() < 1e-9


def test_a_path_of_several_steps(gaussian, history):
    """Given the sum of five normal returns, each has mean sum / 5 and variance 4 / 5 of its own."""
    total = views.total_log_return()
    cube = generate(gaussian, history, {total: -0.03}, n=10_240, horizon=5)
    assert np.abs(total.values(cube) + 0.03).max() < 1e-12
    r = cube.log_return.values
    assert np.all(np.abs(r.mean(axis=0) + 0.006) < 5 * SD[0] / np.sqrt(len(r)))
    np.testing.assert_allclose(r.var(axis=0), 0.8 * SD[0] ** 2, rtol=0.08)


def test_bits_do_not_depend_on_chunks_threads_or_number(gaussian, history):
    pytest.importorskip("dask")
    for given in ({"log_return": -0.015}, {"log_return": (-0.02, -0.01)}):
        whole = generate(gaussian, history, given, n=3000, num_threads=2)
        fewer = generate(gaussian, history, given, n=1500, num_threads=1)
        lazy = generate(gaussian, history, given, n=3000, chunks=700)
        np.testing.assert_array_equal(fewer.implied_vol, whole.implied_vol[:1500])
        np.testing.assert_array_equal(lazy.implied_vol.compute(), whole.implied_vol)
        assert lazy.attrs["given"] == whole.attrs["given"]


def test_the_regression_is_local(history):
    """Vols answer falls five times as much as rises: one line through all draws would be wrong on both sides."""

    class Kinked(Gaussian):
        def _step(self, log_return, log_iv, rng):
            r, after = super()._step(log_return, log_iv, rng)
            noise = 0.1 * (after - log_iv[:, -1])
            return r, log_iv[:, -1] + np.where(r < 0, -5 * r, -r)[:, None] + noise

    kinked = Kinked().fit(history)
    own = 0.1 * conditional(1.0)[0]
    for target, answer in ((-0.015, -5), (0.015, -1)):
        drawn = moves(generate(kinked, history, {"log_return": target}, n=8192))
        np.testing.assert_allclose(drawn[:, 1:].mean(axis=0), (answer + own) * target, atol=2e-3)


def test_what_the_law_never_reaches_is_refused(gaussian, history):
    with pytest.raises(InputError, match=r"drew log_return <= -0.08 in 0 of 65536 .* volscen.stress"):
        generate(gaussian, history, {"log_return": (None, -0.08)}, n=10)
    with pytest.raises(InputError, match="standard deviations from the nearest"):
        generate(gaussian, history, {"log_return": -0.08}, n=10)
    # each is common, both together are not: the return falls and vols fall with it
    with pytest.raises(InputError, match="standard deviations from the nearest"):
        generate(gaussian, history, {"log_return": -0.025, views.implied_vol(0.25, 1.0): 0.16}, n=10)
    with pytest.raises(InputError, match="says the same thing twice"):
        generate(gaussian, history, {"log_return": -0.01, views.total_log_return(): -0.01}, n=10)


@pytest.mark.parametrize(
    "given",
    [{}, 0.01, {"log_return": np.nan}, {"log_return": (0.02, 0.01)}, {"log_return": (None, None)},
     {"log_return": True}, {"log_return": "low"}, {"log_return": (0.0, np.nan)}, {"log_return": (0, 1, 2)},
     {"log_return": np.inf}, {"nothing": 0.1}, {"log_return": 0.0, views.atm_vol(0.25): (0.1, 0.3)}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(gaussian, history, given):
    with pytest.raises(InputError):
        generate(gaussian, history, given, n=10)


def test_given_and_projection_exclude_each_other(gaussian, history):
    with pytest.raises(InputError, match="project_arbitrage"):
        generate(gaussian, history, {"log_return": 0.0}, n=10, project=True)


def test_distinct_days_are_counted():
    history = volscen.datasets.sample_history()
    model = volscen.fit(history, "bootstrap", window=250)
    r = history.log_return.values[-250:]
    band = (float(np.sort(r)[3]) - 1e-9, float(np.sort(r)[12]) + 1e-9)
    with pytest.warns(UserWarning, match="10 of the 2000 scenarios"):
        cube = volscen.generate(model, history, n_scenarios=2000, seed=1, given={"log_return": band})
    assert cube.attrs["distinct_scenarios"] == 10
    assert np.isin(cube.log_return.values.ravel(), r).all()


def test_market_a_given_its_return():
    """The true law of market A given a fall: the regression against a narrow band of the law itself."""
    history = simulate_market("A", 300, seed=3)
    law = Oracle("A").fit(history)
    vol = views.atm_vol(30 / 365)
    free = volscen.generate(law, history, n_scenarios=4096, seed=5)
    sd, target = float(free.log_return.std()), -1.5 * float(free.log_return.std())
    at = volscen.generate(law, history, n_scenarios=4096, seed=2, given={"log_return": target})
    band = {"log_return": (target - 0.1 * sd, target + 0.1 * sd)}
    near = volscen.generate(law, history, n_scenarios=2048, seed=4, given=band)
    a, b, c = (np.log(vol.values(cube)) for cube in (at, near, free))
    assert abs(a.mean() - b.mean()) < 5 * b.std() / np.sqrt(len(b))
    assert abs(b.mean() - c.mean()) > 0.5 * c.std()  # the condition says something
    assert abs(a.std() / b.std() - 1) < 0.1


# --------------------------------------------------------------------------------------------- by weight
@pytest.fixture(scope="module")
def cube(gaussian, history):
    return generate(gaussian, history, None, n=20_480)


def test_kernel_weights_against_the_conditional_normal_law(cube):
    found = volscen.condition(cube, {"log_return": -0.015})
    w, x = found.weight.values, moves(cube)
    assert abs(w @ x[:, 0] + 0.015) < 1e-9
    mean, covariance = conditional(-0.015)
    effective = found.attrs["ess_fraction"] * len(w)
    assert np.all(np.abs(w @ x[:, 1:] - mean) < 5 * np.sqrt(np.diag(covariance) / effective))
    # The kernel of a normal density and a normal kernel multiply: without the tilt the mean leans to the middle.
    h = 0.004
    plain = volscen.condition(cube, {"log_return": -0.015}, bandwidth=h, exact=False)
    s2 = SD[0] ** 2
    assert abs(plain.weight.values @ x[:, 0] + 0.015 * s2 / (s2 + h**2)) < 5 * h / np.sqrt(len(w) / 10)
    assert abs(plain.weight.values @ (x[:, 0] + 0.015 * s2 / (s2 + h**2)) ** 2 / (s2 * h**2 / (s2 + h**2)) - 1) < 0.1


def test_band_weights_are_the_prior_inside(cube):
    prior = volscen.reweight(cube, prior=np.linspace(1, 2, 20_480) / np.linspace(1, 2, 20_480).sum(), beta=0.0)
    found = volscen.condition(prior, {"log_return": (-0.02, -0.01)})
    inside = (cube.log_return.values[:, 0] >= -0.02) & (cube.log_return.values[:, 0] <= -0.01)
    expected = np.where(inside, prior.weight.values, 0)
    np.testing.assert_allclose(found.weight, expected / expected.sum(), rtol=1e-12)
    share = norm.cdf(-1) - norm.cdf(-2)
    assert abs(found.attrs["ess_fraction"] - share) < 0.02
    assert found.attrs["condition"] == "-0.02 <= log_return <= -0.01"
    assert "condition" not in volscen.reweight(found).attrs  # which takes the weights back


def test_conditions_compose_and_dates_are_apart(gaussian, history):
    cube = generate(gaussian, history, None, n=4096, as_of=history.date.values[-2:])
    found = volscen.condition(cube, {"log_return": (None, 0.0)})
    again = volscen.condition(found, {views.atm_vol(0.25): (0.2, None)})
    for row in range(2):
        one = cube.isel(as_of=row)
        own = (one.log_return.values[:, 0] <= 0) & (views.atm_vol(0.25).values(one) >= 0.2)
        np.testing.assert_allclose(again.weight[row], own / own.sum(), rtol=1e-9)
    assert again.attrs["condition"] == "log_return <= 0; then 0.2 <= atm_vol(0.25)"
    with pytest.raises(InputError, match="as_of 2020-01-09: "):
        volscen.condition(cube, {"log_return": -0.5})


def test_a_lazy_cube_is_weighed_too(gaussian, history, tmp_path):
    pytest.importorskip("dask")
    lazy = generate(gaussian, history, None, n=2048, chunks=1024, reweight="arbitrage")
    found = volscen.condition(lazy, {"log_return": (None, 0.0)})
    plain = volscen.condition(lazy.compute(), {"log_return": (None, 0.0)})
    np.testing.assert_array_equal(found.weight, plain.weight)
    assert volscen.read(volscen.write(found, tmp_path / "s.nc")).attrs["beta"] >= 0


def test_weights_that_leave_nothing_are_refused(cube):
    with pytest.raises(InputError, match="effective sample size"):
        volscen.condition(cube, {"log_return": -0.034}, bandwidth=0.0002)
    with pytest.raises(InputError, match="no scenario with weight"):
        volscen.condition(cube, {"log_return": (-0.5, -0.4)})
    with pytest.raises(InputError, match="bandwidths from the nearest"):
        volscen.condition(cube, {"log_return": -0.5})
    with pytest.raises(InputError, match="bandwidth"):
        volscen.condition(cube, {"log_return": 0.0}, bandwidth=-1)
    with pytest.raises(InputError, match="not given"):
        volscen.condition(cube, {"log_return": 0.0}, bandwidth={"spot": 1.0})
    with pytest.raises(InputError, match="ess_floor"):
        volscen.condition(cube, {"log_return": 0.0}, ess_floor=0)
    with pytest.raises(InputError, match="scenario dataset"):
        volscen.condition([1, 2], {"log_return": 0.0})


# -------------------------------------------------------------------------------------------- command line
def test_given_on_the_command_line(tmp_path):
    from typer.testing import CliRunner

    from volscen.cli import app

    out = tmp_path / "s.nc"
    arguments = ["generate", "--out", str(out), "-n", "200", "--seed", "1", "--horizon", "2"]
    done = CliRunner().invoke(
        app, [*arguments, "--given", "total_log_return=:-0.005", "--given", "atm_vol(0.25)=0.12:"]
    )
    assert done.exit_code == 0, done.output
    cube = volscen.read(out)
    assert cube.attrs["given"] == "total_log_return() <= -0.005; 0.12 <= atm_vol(0.25)"
    assert views.total_log_return().values(cube).max() <= -0.005


@pytest.mark.parametrize(
    "text",
    ["log_return", "spot=1", "log_return=x", "log_return=", "log_return=1:2:3", "atm_vol=0.2", "vix(a)=20",
     "profit(1)=2", "atm_vol(1,2,3,4)=0.2"],
)  # fmt: skip
def test_given_that_cannot_be_read(text):
    from volscen._cli._given import parse_given

    with pytest.raises(InputError, match="given"):
        Given.of(parse_given([text]))


class Pool(Gaussian):
    """Redraws a few past days."""

    name = "pool"

    def _step(self, log_return, log_iv, rng):
        move = np.random.default_rng(7).standard_normal((3000, 5)) @ self.root_.T
        move = move[np.argsort(move[:, 0])][rng.integers(0, 3000, len(log_return))]
        return move[:, 0], log_iv[:, -1] + move[:, 1:]


def test_a_band_that_few_past_days_meet(history):
    pool = Pool().fit(history)
    past = np.sort((np.random.default_rng(7).standard_normal((3000, 5)) @ pool.root_.T)[:, 0])
    many = (None, (past[59] + past[60]) / 2)
    quiet = generate(pool, history, {"log_return": many}, n=500)
    assert quiet.attrs["distinct_scenarios"] == 60
    few = (None, (past[48] + past[49]) / 2)
    with pytest.warns(UserWarning, match=r"49 of the 2048 scenarios .* Widen the band, give a value"):
        warned = generate(pool, history, {"log_return": few}, n=2048)
    assert warned.attrs["distinct_scenarios"] == 49
    assert f"{warned.attrs['ess_fraction']:.1%} of the scenarios, of which 49 differ" in scenario_summary(warned)
    # Two in a thousand draws would fill a block after 500 rounds; none is new after 64.
    rare = (None, (past[6] + past[7]) / 2)
    with pytest.raises(InputError, match=r"in \d+ of 65536 scenarios, of which 7 differ: it redraws"):
        generate(pool, history, {"log_return": rare}, n=2048)


@pytest.mark.parametrize("text", ["atm_vol(0.25)=25", "implied_vol(0.25,1)=20:30", "log_return=-5", "atm_vol(0.1)=:20"])
def test_given_in_per_cent_is_refused(text):
    from volscen._cli._given import parse_given

    with pytest.raises(InputError, match=r"are decimals, 0\.25 for 25%"):
        parse_given([text])
    assert parse_given(["vix=25:", "atm_vol(0.25)=0.2:4"]) is not None  # points; an end that says nothing


@pytest.mark.parametrize("names", [("log_return",), ("log_return", "atm")])
def test_the_bandwidth_is_silvermans_of_the_prior_weights(cube, names):
    """sd (4 / (d + 2) / ESS)^(1 / (d + 4)), with standard deviation and ESS of the weights that are there."""
    n = 20_480
    prior = np.random.default_rng(2).dirichlet(np.full(n, 0.3))
    weighed = volscen.reweight(cube, prior=prior, beta=0.0)
    atm = volscen.views.atm_vol(float(cube.tau[0]))
    x = np.column_stack([cube.log_return.values[:, 0], atm.values(cube)])[:, : len(names)]
    centre = prior @ x + 0.3 * x.std(axis=0)
    found = volscen.condition(
        weighed, dict(zip(["log_return", atm], map(float, centre), strict=False)), exact=False, ess_floor=1e-3
    )
    d, effective = len(names), 1 / np.sum(prior**2)
    width = np.sqrt(prior @ (x - prior @ x) ** 2) * (4 / (d + 2) / effective) ** (1 / (d + 4))
    expected = prior * np.exp(-np.sum(((x - centre) / width) ** 2, axis=1) / 2)
    np.testing.assert_allclose(found.weight, expected / expected.sum(), rtol=1e-9, atol=1e-15)
