"""Robust HAR as a whole: adaptive scale, pool, draws written out, look-ahead, and markets with a known law."""

from __future__ import annotations

import numpy as np
import pytest

import volscen
from volscen._sessions import next_session, sessions
from volscen.errors import FileFormatError, FitError, InputError
from volscen.generators._har import RobustHAR
from volscen.generators._har_adapt import adapt, choose, held_out, rescale
from volscen.generators._har_calendar import calendar_features
from volscen.generators._har_fit import Law
from volscen.history import make_history, state_at
from volscen.sources.simulate import MARKETS, simulate_market


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 700, seed=3)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history.isel(date=slice(0, 600)), "har")


def at(history, row):
    return state_at(history, history.date.values[row], n_returns=352, n_surfaces=353)


def test_unknown_calendar(history):
    with pytest.raises(InputError, match="calendar"):
        volscen.fit(history.assign_attrs(calendar="XMOON"), "har")


def test_a_state_gives_what_the_history_gives(model, history):
    """Of everything, the errors behind the adaptive scale included: nothing but the last rows is needed."""
    log_iv = np.log(history.implied_vol.values).reshape(700, -1)
    for row in (400, 650, 699):
        known, outside, short = model._start(at(history, row))
        whole = model._known(history.log_return.values[1 : row + 1], log_iv[: row + 1])
        for name in ("level", "slow", "factor", "square", "trend", "mean_log_iv"):
            last = getattr(whole.rows(slice(-1, None)), name)
            np.testing.assert_allclose(getattr(known, name), last, rtol=1e-8, atol=1e-10, err_msg=name)
        beyond = model._outside(log_iv[: row + 1])
        np.testing.assert_allclose(outside.level[0], beyond.level[-1], rtol=1e-8)
        np.testing.assert_allclose(outside.slow[:, 0], beyond.slow[:, -1], rtol=1e-8, atol=1e-10)
        dates = history.date.values[1 : row + 1].astype("datetime64[D]")
        before = whole.rows(slice(0, -1))
        mean, scale = model._moments(before, calendar_features(dates[:-1], sessions("weekdays")))
        move = np.diff(log_iv[1 : row + 1], axis=0) / model.cell_sd_ @ model.outside_
        rest = move - model.reversion_.expected(beyond.rows(slice(0, -1)))
        error = np.column_stack([(whole.factor[1:] - mean) / scale, np.linalg.norm(rest, axis=1) / model.rest_unit_])
        weight = 0.5 ** (np.arange(100)[::-1] / 20)
        np.testing.assert_allclose(short[0], weight @ np.minimum(np.abs(error), 4)[-100:] / weight.sum(), rtol=1e-8)


# -------------------------------------------------------------------------------- adaptive scale, inflation
def test_adaptive_scale_by_hand():
    one = np.ones((1, 1))
    np.testing.assert_allclose(adapt(1.5 * one, one), 1.5**0.3)
    np.testing.assert_allclose(adapt(9 * one, one), np.exp(0.18))
    np.testing.assert_allclose(adapt(one / 9, one), np.exp(-0.18))
    error = np.array([1.0, -1.0, -50.0, 1.0])[:, None]  # 50 counts as 4
    g = rescale(error)
    np.testing.assert_allclose(g[:3], 1)  # the day of the shock knows nothing of it
    short, long = 0.5 ** (np.arange(3)[::-1] / 20), 0.5 ** (np.arange(3)[::-1] / 1000)
    size = np.array([1.0, 1.0, 4.0])
    ratio = (short @ size / short.sum()) / (long @ size / long.sum())
    np.testing.assert_allclose(g[3, 0], ratio**0.3, rtol=1e-10)


def test_inflation_grows_where_the_model_overfits():
    """Pure noise: few inputs need none, as many inputs as a tenth of the days need some."""
    rng = np.random.default_rng(6)
    y = rng.standard_normal((600, 3))

    def inflation(p):
        shared, own = rng.standard_normal((600, p)), rng.standard_normal((600, 3, 3))
        return held_out((rng.standard_normal((600, p)), shared, own), y, np.inf)[1]

    few, many = inflation(1), inflation(60)
    assert 1 <= few < 1.04
    assert many > few + 0.03


def test_a_calendar_that_says_nothing_is_left_out():
    """Features of the date that move neither means nor scales are dropped, such as do stay."""
    rng = np.random.default_rng(9)
    date = np.busday_offset("2000-01-03", np.arange(2000))
    feature = calendar_features(date, sessions("weekdays"))
    shared, own = rng.standard_normal((2000, 2)), rng.standard_normal((2000, 3, 3))
    inputs = np.hstack([shared, feature]), np.hstack([shared, feature[:, :15]]), own
    noise = rng.standard_normal((2000, 3))
    chosen, _ = choose(inputs, noise, np.inf)
    assert np.ptp(chosen[0][:, 2:], axis=0).max() == 0
    assert np.ptp(chosen[1][:, 2:], axis=0).max() == 0
    np.testing.assert_array_equal(chosen[0][:, :2], shared)
    chosen, _ = choose(inputs, noise * np.exp(0.3 * feature[:, :1]), np.inf)
    np.testing.assert_array_equal(chosen[1], inputs[1])


def test_loss_of_the_days_held_out_is_a_likelihood():
    from scipy.stats import t

    rng = np.random.default_rng(10)
    none = np.zeros((600, 1)), np.zeros((600, 1)), np.zeros((600, 3, 2))
    y = rng.standard_t(5, (600, 2))
    loss, inflation = held_out(none, y, np.inf)
    assert loss.shape == (300,)
    assert 1 <= inflation < 1.1
    # the last sixth by hand: one mean and one scale, fitted on the days before
    fitted = Law.fit(*(x[:500] for x in none), y[:500], (np.inf,))
    mean, scale = fitted.moments(np.zeros((1, 1)), np.zeros((1, 7)))
    density = t.logpdf(y[500:], 5, loc=mean, scale=scale * np.sqrt(3 / 5)).sum(axis=1)
    constant = 2 * (t.logpdf(0, 5) - 0.5 * np.log(3 / 5))
    np.testing.assert_allclose(loss[200:], constant - density, rtol=1e-8)


def test_only_days_fitted_on_are_inflated(model, history):
    again = volscen.fit(history.isel(date=slice(0, 600)), "har")
    again.inflation_ = np.array(1.0)
    plain = again.update(history).residual_.copy()
    again.inflation_ = np.array(1.2)
    np.testing.assert_allclose(again.update(history).residual_[:-100], 1.2 * plain[:-100])
    np.testing.assert_array_equal(again.residual_[-100:], plain[-100:])


# -------------------------------------------------------------------------------------------------- the law
def test_one_step_written_out(model, history):
    state = at(history, 650)
    log_return, implied_vol = model.sample(state, 50, 1, np.random.default_rng(0))
    drawn = np.random.default_rng(0).integers(model.residual_.shape[0], size=50)
    known, outside, short = model._start(state)
    today = state.as_of.astype("datetime64[D]")[None]
    mean, scale = model._moments(known, calendar_features(today, sessions("weekdays")))
    ratio = np.log(short / model.long_error_)[0]
    g = np.exp(0.3 * np.clip(ratio[:-1], -0.6, 0.6))
    factor = (mean + scale * g * model.residual_[drawn]) * model.factor_sd_
    np.testing.assert_allclose(log_return[:, 0], factor[:, 0] / np.sqrt(252), rtol=1e-10)
    rest = np.exp(0.7 * np.clip(ratio[-1], -1.2, 1.2)) * model.rest_[drawn]
    rest = rest + model.reversion_.expected(outside) @ model.outside_.T
    increment = model.cell_sd_ * (factor[:, 1:] @ model.components_.T + rest)
    moved = np.log(implied_vol[:, 0] / history.implied_vol.values[650]).reshape(50, -1)
    np.testing.assert_allclose(moved, increment, rtol=1e-6, atol=1e-10)


def test_pool_rebuilds_the_days_it_came_from(model, history):
    """Inverting a day and drawing it again from its own state gives the day that was (inflation set to 1)."""
    again = volscen.fit(history.isel(date=slice(0, 600)), "har")
    again.inflation_ = np.array(1.0)
    again.update(history)
    state = at(history, 698)
    # the long average of errors as it stood a day before the end
    before = volscen.fit(history.isel(date=slice(0, 600)), "har").update(history.isel(date=slice(0, 699)))
    step = before._first_step(state)
    factor = (step.mean + step.scale * step.adaptation[:, :-1] * again.residual_[-1]) * again.factor_sd_
    assert factor[0, 0] / np.sqrt(252) == pytest.approx(float(history.log_return[699]), rel=1e-8)
    rest = step.expected_rest + step.adaptation[:, -1:] * again.rest_[-1]
    increment = again.cell_sd_ * (factor[0, 1:] @ again.components_.T + rest[0])
    np.testing.assert_allclose(
        increment, np.log(history.implied_vol.values[699] / history.implied_vol.values[698]).ravel(), atol=1e-7
    )


def test_second_step_starts_from_the_first(model, history):
    """Each path's outcome, on the date of the second session, is the state of its second step."""
    state = at(history, 650)
    two = model.sample(state, 40, 2, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    first, second = (rng.integers(model.residual_.shape[0], size=40) for _ in range(2))
    known, outside, short = model._start(state)
    weekdays = sessions("weekdays")
    dates = [state.as_of.astype("datetime64[D]")[None]]
    for _ in range(2):
        dates.append(next_session(dates[-1], weekdays))
    powers = np.r_[np.full(6, 0.3), 0.7], np.r_[np.full(6, 0.6), 1.2]
    g = adapt(short, model.long_error_, *powers)
    drawn = np.column_stack(
        [np.abs(g[:, :-1] * model.residual_[first]),
         np.linalg.norm(g[:, -1:] * model.rest_[first], axis=1) / model.rest_unit_]
    )  # fmt: skip
    short = 0.5 ** (1 / 20) * short + (1 - 0.5 ** (1 / 20)) * np.minimum(drawn, 4)
    log_iv = np.log(two[1][:, 0]).reshape(40, -1)
    move = (log_iv - np.log(history.implied_vol.values[650]).ravel()) / model.cell_sd_
    factor = np.column_stack([np.sqrt(252) * two[0][:, 0], move @ model.components_]) / model.factor_sd_
    level = (log_iv - model.cell_mean_) / model.cell_sd_
    known = known.after(level @ model.components_, factor, log_iv.mean(axis=1))
    outside = outside.after(level @ model.outside_)
    mean, scale = model._moments(known, calendar_features(dates[1], weekdays))
    g = adapt(short, model.long_error_, *powers)
    z = mean + scale * g[:, :-1] * model.residual_[second]
    np.testing.assert_allclose(two[0][:, 1], z[:, 0] * model.factor_sd_[0] / np.sqrt(252), rtol=1e-6, atol=1e-10)
    rest = model.reversion_.expected(outside) @ model.outside_.T + g[:, -1:] * model.rest_[second]
    move = np.log(two[1][:, 1] / two[1][:, 0]).reshape(40, -1) / model.cell_sd_
    np.testing.assert_allclose(move, (z * model.factor_sd_)[:, 1:] @ model.components_.T + rest, rtol=1e-5, atol=1e-6)
    assert scale.std(axis=0).min() > 0  # paths differ in scale


def one_day_after_another(model, state, n, horizon, rng):
    """Paths by the law of one session at a time, nothing arranged for speed."""
    step = model._first_step(state)
    surface = state.log_iv[-1].reshape(1, -1)
    returns, surfaces = [], []
    for t in range(horizon):
        day = rng.integers(model.residual_.shape[0], size=n)
        error = step.adaptation[:, :-1] * model.residual_[day]
        factor = step.mean + step.scale * error
        rest = step.adaptation[:, -1:] * model.rest_[day]
        move = (factor * model.factor_sd_)[:, 1:] @ model.components_.T + rest + step.expected_rest
        surface = surface + model.cell_sd_ * move
        returns.append(factor[:, 0] * model.factor_sd_[0] / model.annualise_)
        surfaces.append(np.exp(surface))
        if t + 1 < horizon:
            known = step.known.after(model._level(surface), factor, surface.mean(axis=1))
            outside = step.outside.after((surface - model.cell_mean_) / model.cell_sd_ @ model.outside_)
            size = np.column_stack([np.abs(error), np.linalg.norm(rest, axis=1) / model.rest_unit_])
            short = 0.5 ** (1 / 20) * step.short + (1 - 0.5 ** (1 / 20)) * np.minimum(size, 4)
            step = model._step(step.target, known, outside, short)
    return np.stack(returns, axis=1), np.stack(surfaces, axis=1)


@pytest.mark.parametrize("n_components", [1, 3, 5])
def test_paths_are_one_day_after_another(history, n_components):
    """To rounding, also where inputs and scales are cut: the second state is wild."""
    model = volscen.fit(history.isel(date=slice(0, 600)), "har", n_components=n_components)
    wild = history.copy(deep=True)
    wild.implied_vol[690] *= 1.5
    for state, n in ((at(history, 650), 40), (at(wild, 690), 40), (at(history, 650), 1)):
        log_return, implied_vol = model.sample(state, n, 15, np.random.default_rng(2))
        returns, surfaces = one_day_after_another(model, state, n, 15, np.random.default_rng(2))
        np.testing.assert_allclose(log_return, returns, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(implied_vol.reshape(surfaces.shape), surfaces, rtol=1e-10)


def test_long_paths_stay_finite(model, history):
    log_return, implied_vol = model.sample(at(history, 650), 200, 300, np.random.default_rng(0))
    assert np.isfinite(log_return).all()
    assert (implied_vol > 0).all()
    assert implied_vol.max() < 10


def test_flags_and_bounds_an_unseen_state(model, history):
    assert not model.is_outside(at(history, 500))
    wild = history.copy(deep=True)
    wild.implied_vol[500] *= 4
    state = at(wild, 500)
    assert model.is_outside(state)
    log_return, _ = model.sample(state, 500, 1, np.random.default_rng(0))
    assert np.abs(log_return).max() < 0.5


def test_the_next_date_is_the_calendars_not_the_historys():
    """A closure in the history after as_of changes nothing; a scheduled one does."""
    pytest.importorskip("exchange_calendars")
    nyse = sessions("XNYS")
    date = np.busday_offset("2013-01-02", np.arange(600), roll="forward", busdaycal=nyse)
    simulated = simulate_market("A", 600, seed=8)
    history = simulated.assign_coords(date=date.astype("datetime64[ns]")).assign_attrs(calendar="XNYS")
    model = volscen.fit(history, "har")
    row = int(np.flatnonzero(date == np.datetime64("2015-04-02"))[0])  # Good Friday follows
    closed = history.isel(date=np.r_[0 : row + 1, row + 3 : 600])
    a, b = (model.sample(at(h, row), 200, 1, np.random.default_rng(0))[0] for h in (history, closed))
    np.testing.assert_array_equal(a, b)
    as_weekdays = volscen.fit(history, "har")
    as_weekdays.calendar_ = "weekdays"
    assert not np.array_equal(a, as_weekdays.sample(at(history, row), 200, 1, np.random.default_rng(0))[0])


def weekend_market(n, seed):
    """Constant volatility, but moves into a Monday are three times as large."""
    rng = np.random.default_rng(seed)
    date = np.busday_offset("2000-01-03", np.arange(n))
    size = np.where(np.is_busday(date, weekmask="Mon"), 3.0, 1.0)[:, None]
    shock = rng.standard_normal((n, 3)) * size
    cells = np.repeat(0.02 * shock[:, 1:], 3, axis=1) + 1e-3 * rng.standard_normal((n, 6))
    level = np.zeros(6)
    log_iv = np.empty((n, 6))
    for t in range(n):
        level = 0.97 * level + cells[t]
        log_iv[t] = np.log(0.2) + level
    spot = 100 * np.exp(np.cumsum(0.01 * shock[:, 0]))
    grid = np.array([0.1, 0.5]), np.array([0.9, 1.0, 1.1])
    return make_history(date, *grid, np.exp(log_iv).reshape(n, 2, 3), spot=spot, calendar="weekdays")


def test_scale_knows_the_day_of_the_week():
    """Spread into Mondays over spread into other days, 3 in truth: over seeds 0 to 7 it was 2.75 to 3.21.

    A model without the calendar, or with its features a day off, gives about 1.
    """
    history = weekend_market(1500, seed=0)
    model = volscen.fit(history, "har", n_components=2)
    spread = {}
    for row in range(1480, 1500):
        target = np.busday_offset(history.date.values[row].astype("datetime64[D]"), 1)
        monday = bool(np.is_busday(target, weekmask="Mon"))
        r, _ = model.sample(at(history, row), 4000, 1, np.random.default_rng(row))
        spread.setdefault(monday, []).append(r.std())
    assert 2.2 < np.mean(spread[True]) / np.mean(spread[False]) < 3.8


# Energy-score skill between historical simulation (0) and the true law (1). At the seed used here filtered historical
# simulation reaches 0.37 on market A; on B, where noise dominates, a scaled PCA-VAR reaches 0.2.
@pytest.mark.parametrize(("name", "n_train", "least"), [("A", 3001, 0.6), ("B", 1501, 0.65)])
def test_comes_close_to_the_oracle_on_a_market_with_a_known_law(name, n_train, least):
    from volscen.evaluation import energy_score

    market = MARKETS[name]
    history = simulate_market(market, n_train + 250, seed=1)
    train = history.isel(date=slice(0, n_train))
    models = {"bootstrap": volscen.fit(train, "bootstrap"), "har": volscen.fit(train, "har", residual_days=3000)}
    log_iv = np.log(history.implied_vol.values).reshape(history.sizes["date"], -1)
    moves = np.column_stack([np.sqrt(252) * history.log_return.values[1:], np.diff(log_iv, axis=0)])
    sd = moves[: n_train - 1].std(axis=0)
    rng = np.random.default_rng(0)
    scores = {"bootstrap": [], "har": [], "oracle": []}
    for row in range(n_train, n_train + 249, 2):
        for name, days in scores.items():
            if name == "oracle":
                r, iv = market.sample(history.state.values[row], 300, rng)
            else:
                r, iv = models[name].sample(at(history, row), 300, 1, np.random.default_rng(row))
                r, iv = r[:, 0], iv[:, 0]
            x = np.column_stack([np.sqrt(252) * r, np.log(iv).reshape(300, -1) - log_iv[row]])
            days.append(energy_score(x / sd, moves[row] / sd))
    mean = {name: np.mean(days) for name, days in scores.items()}
    skill = (mean["bootstrap"] - mean["har"]) / (mean["bootstrap"] - mean["oracle"])
    assert least < skill < 1.1


def test_noise_of_the_last_close_is_gone_the_next_day(history):
    """A cell's fresh noise reverts in the mean of the scenarios, by nearly all of it where all is noise."""
    rng = np.random.default_rng(1)
    common = np.cumsum(0.01 * rng.standard_normal(700))
    noise = 0.02 * rng.standard_normal((700, 8, 10))
    noisy = history.copy(deep=True)
    noisy["implied_vol"] = (history.implied_vol.dims, 0.2 * np.exp(common[:, None, None] + noise))
    model = volscen.fit(noisy.isel(date=slice(0, 600)), "har", n_components=1)
    found, truth = [], []
    for row in range(620, 700, 8):
        _, iv = model.sample(at(noisy, row), 2000, 1, np.random.default_rng(row))
        found.append(np.log(iv[:, 0] / noisy.implied_vol.values[row]).mean(axis=0).ravel())
        truth.append(-noise[row].ravel())
    found, truth = np.concatenate(found), np.concatenate(truth)
    assert 0.75 < found @ truth / (truth @ truth) < 1.05
    assert np.corrcoef(found, truth)[0, 1] > 0.9


def test_update_forgets_the_state_that_was_kept(model, history):
    state = at(history, 699)
    again = volscen.fit(history.isel(date=slice(0, 600)), "har")
    before = again.sample(state, 50, 1, np.random.default_rng(0))[0]
    again.long_error_ = again.long_error_ * 5
    np.testing.assert_array_equal(again.sample(state, 50, 1, np.random.default_rng(0))[0], before)
    again.update(history)
    fresh = volscen.fit(history.isel(date=slice(0, 600)), "har").update(history)
    np.testing.assert_array_equal(
        again.sample(state, 50, 1, np.random.default_rng(0))[0], fresh.sample(state, 50, 1, np.random.default_rng(0))[0]
    )
    other = at(history, 650)
    np.testing.assert_array_equal(
        again.sample(other, 50, 1, np.random.default_rng(0))[0], fresh.sample(other, 50, 1, np.random.default_rng(0))[0]
    )


# ------------------------------------------------------------------------------------------------- refusals
def test_refuses_constant_series_and_too_many_components(history):
    flat = history.copy(deep=True)
    flat.implied_vol[:, 0, 0] = 0.2
    with pytest.raises(FitError, match="never changes"):
        volscen.fit(flat, "har")
    parallel = history.copy(deep=True)
    shift = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 700)))
    parallel["implied_vol"] = (history.implied_vol.dims, history.implied_vol.values[0] * shift[:, None, None])
    with pytest.raises(FitError, match="n_components"):
        volscen.fit(parallel, "har")
    with pytest.raises(InputError, match="80 cells"):
        volscen.fit(history, "har", n_components=81)


@pytest.mark.parametrize("options", [{"n_components": 0}, {"residual_days": 10}, {"half_lives": [0.0]}])
def test_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        RobustHAR(**options)


def test_components_that_leave_nothing_over(history):
    """As many components as cells: no remainder, and nothing breaks."""
    few = history.isel(tau=[0, 3], moneyness=[2, 5, 8])
    model = volscen.fit(few, "har", n_components=6)
    log_return, iv = model.sample(at(few, 699), 20, 3, np.random.default_rng(0))
    assert np.isfinite(log_return).all()
    assert np.isfinite(iv).all()
    assert np.abs(model.rest_).max() == 0


def test_one_component_is_enough(history):
    model = volscen.fit(history, "har", n_components=1)
    log_return, _ = model.sample(at(history, 699), 20, 2, np.random.default_rng(0))
    assert np.isfinite(log_return).all()


def test_file_with_parts_that_do_not_fit_together(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "rest_", model.rest_[:, :-1])
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(FileFormatError, match="inconsistent"):
        volscen.load(path)
