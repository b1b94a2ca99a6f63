"""Robust HAR: its pieces against hand-worked cases and written-out twins, then the law as a whole."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

import volscen
from volscen.errors import FileFormatError, FitError, InputError, MissingExtraError
from volscen.generators._har import RobustHAR, _adapt, _inflation, _rescale
from volscen.generators._har_calendar import calendar_features, next_session, past_sessions, sessions
from volscen.generators._har_features import Known, average, mean_features, scale_features
from volscen.generators._har_fit import Law, join, ridge, scale_objective, standardise
from volscen.history import make_history, state_at
from volscen.sources.simulate import MARKETS, simulate_market


def day(*text):
    return np.array(text, dtype="datetime64[D]")


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 700, seed=3)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history.isel(date=slice(0, 600)), "har")


def at(history, row):
    return state_at(history, history.date.values[row], n_returns=352, n_surfaces=353)


# ----------------------------------------------------------------------------------------------- calendar
def test_calendar_features_of_known_dates():
    known = day("2015-07-02", "2015-07-16", "2015-07-17", "2015-11-25", "2015-12-24", "2015-04-02", "2015-09-30")
    target = day("2015-07-06", "2015-07-17", "2015-07-20", "2015-11-27", "2015-12-28", "2015-04-03", "2015-10-01")
    f = calendar_features(known, target)
    names = ["mon", "tue", "wed", "thu", "log_gap", "gap4", "gap2", "first_fri", "third_fri", "after", "december"]
    expected = {
        # 4 July 2015, a Saturday, was kept on Friday the 3rd: Thursday to Monday
        0: {"mon": 1, "log_gap": np.log(4), "gap4": 1},
        1: {"third_fri": 1},
        2: {"mon": 1, "log_gap": np.log(3), "after": 1},
        3: {"gap2": 1, "log_gap": np.log(2)},  # Thanksgiving between; a fourth Friday
        4: {"mon": 1, "gap4": 1, "log_gap": np.log(4), "december": 1},
        5: {"first_fri": 1},
        6: {"thu": 1},
    }
    for row, nonzero in expected.items():
        np.testing.assert_allclose(f[row, :11], [nonzero.get(name, 0.0) for name in names], err_msg=str(target[row]))
    new_year = calendar_features(day("2015-12-31"), day("2016-01-01"))[0]
    np.testing.assert_allclose(new_year[11:], [0.0, 1.0], atol=1e-12)
    # 2 April 2015 is day 91 of the year counted from 0: a quarter turn within a quarter of a day
    np.testing.assert_allclose(calendar_features(day("2015-04-01"), day("2015-04-02"))[0, 11:], [1.0, 0.0], atol=6e-3)


def test_scheduled_sessions_of_new_york():
    pytest.importorskip("exchange_calendars")
    nyse = sessions("XNYS")
    known = day("2015-07-02", "2015-11-25", "2015-12-31", "2015-04-02", "2015-05-13")
    expected = day("2015-07-06", "2015-11-27", "2016-01-04", "2015-04-06", "2015-05-14")
    np.testing.assert_array_equal(next_session(known, nyse), expected)
    # Unscheduled closures: nobody knew on 10 September 2001 or on the Friday before hurricane Sandy
    np.testing.assert_array_equal(next_session(day("2001-09-11", "2012-10-26"), nyse), day("2001-09-12", "2012-10-29"))


def test_scheduled_sessions_of_shanghai():
    pytest.importorskip("exchange_calendars")
    # the week of the National Day, and the Spring Festival
    np.testing.assert_array_equal(
        next_session(day("2021-09-30", "2021-02-10"), sessions("XSHG")), day("2021-10-08", "2021-02-18")
    )


def test_weekdays_and_unspecified_know_no_holiday():
    for code in ("weekdays", "unspecified"):
        assert next_session(day("2015-07-02"), sessions(code)) == day("2015-07-03")
        assert next_session(day("2015-07-03"), sessions(code)) == day("2015-07-06")


def test_past_sessions_end_at_as_of():
    weekdays = sessions("weekdays")
    np.testing.assert_array_equal(
        past_sessions(np.datetime64("2015-07-06"), 3, weekdays), day("2015-07-02", "2015-07-03", "2015-07-06")
    )
    # a day that is no session is taken as it is
    np.testing.assert_array_equal(
        past_sessions(np.datetime64("2015-07-05"), 2, weekdays), day("2015-07-03", "2015-07-05")
    )


def test_unknown_calendar_and_missing_package(history, monkeypatch):
    with pytest.raises(InputError, match="calendar"):
        volscen.fit(history.assign_attrs(calendar="XMOON"), "har")
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "exchange_calendars":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"volscen\[calendars\]"):
        volscen.fit(history.assign_attrs(calendar="XTSE"), "har")


# ----------------------------------------------------------------------------------------------- features
def test_average_by_hand_and_against_written_out_weights():
    # half-life 1: weights 1, 1/2, 1/4
    np.testing.assert_allclose(average(np.array([7.0, 0.0, 7.0]), 1.0), [7, 7 / 3, 7 * (1 + 0.25) / 1.75])
    x = np.random.default_rng(0).standard_normal((40, 2))
    for window in (10, None):
        for row in (0, 5, 9, 10, 39):
            past = x[max(0, row + 1 - window) if window else 0 : row + 1][::-1]
            weight = 0.5 ** (np.arange(len(past)) / 7)
            np.testing.assert_allclose(average(x, 7.0, window)[row], weight @ past / weight.sum(), rtol=1e-10)


def test_a_day_later_along_a_path_is_the_average_with_one_day_more():
    rng = np.random.default_rng(1)
    level, factor, mean = rng.standard_normal((30, 2)), rng.standard_normal((30, 3)), rng.standard_normal(30)
    known = Known.of_days(level[:-1], factor[:-1], mean[:-1]).rows(slice(-1, None))
    after = known.after(level[-1:], factor[-1:], mean[-1:])
    expected = Known.of_days(level, factor, mean).rows(slice(-1, None))
    for name in ("level", "slow", "factor", "square", "mean_log_iv"):
        np.testing.assert_allclose(getattr(after, name), getattr(expected, name), rtol=1e-10, err_msg=name)
    assert after.count == 30


def test_features_against_written_out_ones():
    rng = np.random.default_rng(2)
    level, factor = rng.standard_normal((50, 5)), rng.standard_normal((50, 6))
    mean, calendar = rng.standard_normal(50), rng.standard_normal((50, 13))
    known = Known.of_days(level, factor, mean)
    got = mean_features(known, calendar, np.log(0.3))
    assert got.shape == (50, 5 + 3 * 4 + 5 + 3 + 13)

    def late(x, half_life):
        weight = 0.5 ** (np.arange(50)[::-1] / half_life)
        return (weight @ x) / weight.sum()

    expected = [
        *level[-1],
        *(level[-1, i] - late(level[:, i], h) for h in (5, 22, 130) for i in range(4)),
        *factor[-1, :5],
        *(0.5 * np.log(late((0.3 * factor[:, 0]) ** 2, h)) - mean[-1] for h in (3, 10, 40)),
        *calendar[-1],
    ]
    np.testing.assert_allclose(got[-1], expected, rtol=1e-9)

    shared, own = scale_features(known, calendar)
    expected = [
        *(0.5 * np.log(late(factor[:, 0] ** 2, h)) for h in (3, 10, 40)),
        *(0.5 * np.log(late(factor[:, 1] ** 2, h)) for h in (3, 10, 40)),
        *(0.5 * np.log(late((factor[:, 1:5] ** 2).mean(axis=1), h)) for h in (3, 10, 40)),
        *level[-1, :4],
        factor[-1, 0],
        min(factor[-1, 0], 0),
        factor[-1, 1],
        abs(factor[-1, 1]),
        *calendar[-1],
    ]
    np.testing.assert_allclose(shared[-1], expected, rtol=1e-9)
    np.testing.assert_allclose(own[-1, 1], [0.5 * np.log(late(factor[:, j] ** 2, 10)) for j in range(6)], rtol=1e-9)


def test_a_state_gives_what_the_history_gives(model, history):
    """Of everything, the errors behind the adaptive scale included: nothing but the last rows is needed."""
    log_iv = np.log(history.implied_vol.values).reshape(700, -1)
    for row in (400, 650, 699):
        known, short = model._start(at(history, row))
        whole = model._known(history.log_return.values[1 : row + 1], log_iv[: row + 1])
        for name in ("level", "slow", "factor", "square", "mean_log_iv"):
            last = getattr(whole.rows(slice(-1, None)), name)
            np.testing.assert_allclose(getattr(known, name), last, rtol=1e-8, atol=1e-10, err_msg=name)
        dates = history.date.values[1 : row + 1].astype("datetime64[D]")
        before = whole.rows(slice(0, -1))
        mean, scale = model._moments(before, calendar_features(dates[:-1], dates[1:]))
        size = np.minimum(np.abs((whole.factor[1:] - mean) / scale), 4)
        weight = 0.5 ** (np.arange(100)[::-1] / 20)
        np.testing.assert_allclose(short[0], weight @ size[-100:] / weight.sum(), rtol=1e-8)


# -------------------------------------------------------------------------------------------------- fitting
def test_ridge_against_made_up_observations():
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(50), rng.standard_normal((50, 2))])
    y, w = rng.standard_normal(50), rng.uniform(0.5, 2, 50)
    stacked = np.vstack([x * np.sqrt(w)[:, None], np.eye(3)[1:] / 0.04])
    expected = np.linalg.lstsq(stacked, np.r_[y * np.sqrt(w), 0, 0], rcond=None)[0]
    np.testing.assert_allclose(ridge(x, y, w), expected, rtol=1e-10)


def test_scale_objective_is_the_student_t_density_and_its_gradient_the_difference_quotient():
    from scipy.stats import t

    rng = np.random.default_rng(0)
    v = np.column_stack([np.ones(30), rng.standard_normal((30, 3))])
    error, w, b = rng.standard_normal(30), rng.uniform(0, 1, 30), np.array([0.2, -0.1, 0.3, 0.05])
    value, gradient = scale_objective(b, v, error, w)
    s = np.exp(v @ b)
    # standard deviation s, that is scale s sqrt((nu - 2)/nu); constants drop out against b = 0
    log_density = t.logpdf(error, 5, scale=s * np.sqrt(3 / 5)) - t.logpdf(error, 5, scale=np.sqrt(3 / 5))
    at_zero = scale_objective(np.zeros(4), v, error, w)[0]
    assert value - at_zero == pytest.approx(-w @ log_density + np.sum(b[1:] ** 2) / (2 * 0.3**2), rel=1e-10)
    for i in range(4):
        h = 1e-6 * np.eye(4)[i]
        quotient = (scale_objective(b + h, v, error, w)[0] - scale_objective(b - h, v, error, w)[0]) / 2e-6
        assert gradient[i] == pytest.approx(quotient, rel=1e-6, abs=1e-7)


def test_standardise_clips_at_the_range_and_at_four():
    of = np.array([[1.0, 0.0, 5.0], [2.0, 1.0, 0.0], [-3.0, -9.0, 5.0], [5.0, 9.0, 5.0]])
    raw = np.array([[3.0, 1.0, 5.0], [99.0, 8.0, 7.0], [-99.0, -8.0, 5.0]])
    np.testing.assert_allclose(standardise(raw, of), [[1, 1, 1, 0], [1, 2, 4, 0], [1, -2, -4, 0]])


def test_law_finds_the_scale_it_was_made_with_and_bounds_it():
    """log s = 0.5 x on the first shared input; the standard error over 4,000 days is about 0.015."""
    rng = np.random.default_rng(4)
    shared, mean_raw = rng.standard_normal((4000, 2)), rng.standard_normal((4000, 1))
    own = rng.standard_normal((4000, 3, 1))
    y = np.exp(0.5 * shared[:, :1]) * rng.standard_t(5, (4000, 1)) * np.sqrt(3 / 5)
    law = Law.fit(mean_raw, shared, own, y, (np.inf,))
    assert abs(law.scale_coef[1, 0] / shared[:, 0].std() - 0.5) < 0.06
    assert np.all(np.abs(law.scale_coef[2:, 0]) < 0.06)
    far = join(np.array([[1e6, 1e6]]), np.full((1, 3, 1), 1e6))
    _, largest = law.moments(mean_raw, join(shared, own))
    assert law.moments(np.zeros((1, 1)), far)[1][0, 0] <= largest.max() * (1 + 1e-12)


def test_averaging_over_half_lives_averages_the_forecasts():
    rng = np.random.default_rng(5)
    x, shared, own = rng.standard_normal((300, 2)), rng.standard_normal((300, 2)), rng.standard_normal((300, 3, 2))
    y = rng.standard_normal((300, 2)) * np.linspace(0.5, 2, 300)[:, None]
    both = Law.fit(x, shared, own, y, (50.0, np.inf))
    one, other = Law.fit(x, shared, own, y, (50.0,)), Law.fit(x, shared, own, y, (np.inf,))
    np.testing.assert_allclose(both.mean_coef, (one.mean_coef + other.mean_coef) / 2, rtol=1e-10)
    np.testing.assert_allclose(both.scale_coef, (one.scale_coef + other.scale_coef) / 2, rtol=1e-10)
    assert one.scale_coef[0, 0] > other.scale_coef[0, 0]  # the late days were the wild ones


# -------------------------------------------------------------------------------- adaptive scale, inflation
def test_adaptive_scale_by_hand():
    one = np.ones((1, 1))
    np.testing.assert_allclose(_adapt(1.5 * one, one), 1.5**0.3)
    np.testing.assert_allclose(_adapt(9 * one, one), np.exp(0.18))
    np.testing.assert_allclose(_adapt(one / 9, one), np.exp(-0.18))
    error = np.array([1.0, -1.0, -50.0, 1.0])[:, None]  # 50 counts as 4
    g = _rescale(error)
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
        return _inflation((rng.standard_normal((600, p)), shared, own), y, (np.inf,))

    few, many = inflation(1), inflation(60)
    assert 1 <= few < 1.04
    assert many > few + 0.03


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
    known, short = model._start(state)
    today = state.as_of.astype("datetime64[D]")[None]
    mean, scale = model._moments(known, calendar_features(today, next_session(today, sessions("weekdays"))))
    g = np.exp(0.3 * np.clip(np.log(short / model.long_error_), -0.6, 0.6))
    factor = (mean + scale * g * model.residual_[drawn]) * model.factor_sd_
    np.testing.assert_allclose(log_return[:, 0], factor[:, 0] / np.sqrt(252), rtol=1e-10)
    increment = model.cell_sd_ * (factor[:, 1:] @ model.components_.T + model.rest_[drawn])
    moved = np.log(implied_vol[:, 0] / history.implied_vol.values[650]).reshape(50, -1)
    np.testing.assert_allclose(moved, increment, rtol=1e-6, atol=1e-10)


def test_pool_rebuilds_the_days_it_came_from(model, history):
    """Inverting a day and drawing it again from its own state gives the day that was (inflation set to 1)."""
    again = volscen.fit(history.isel(date=slice(0, 600)), "har")
    again.inflation_ = np.array(1.0)
    again.update(history)
    state = at(history, 698)
    known, short = again._start(state)
    today = state.as_of.astype("datetime64[D]")[None]
    mean, scale = again._moments(known, calendar_features(today, next_session(today, sessions("weekdays"))))
    # the long average of errors as it stood a day before the end
    again_before = volscen.fit(history.isel(date=slice(0, 600)), "har").update(history.isel(date=slice(0, 699)))
    factor = (mean + scale * _adapt(short, again_before.long_error_) * again.residual_[-1]) * again.factor_sd_
    assert factor[0, 0] / np.sqrt(252) == pytest.approx(float(history.log_return[699]), rel=1e-8)
    increment = again.cell_sd_ * (factor[0, 1:] @ again.components_.T + again.rest_[-1])
    np.testing.assert_allclose(
        increment, np.log(history.implied_vol.values[699] / history.implied_vol.values[698]).ravel(), atol=1e-7
    )


def test_second_step_starts_from_the_first(model, history):
    """Each path's outcome, on the date of the second session, is the state of its second step."""
    state = at(history, 650)
    two = model.sample(state, 40, 2, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    first, second = (rng.integers(model.residual_.shape[0], size=40) for _ in range(2))
    known, short = model._start(state)
    weekdays = sessions("weekdays")
    dates = [state.as_of.astype("datetime64[D]")[None]]
    for _ in range(2):
        dates.append(next_session(dates[-1], weekdays))
    g = _adapt(short, model.long_error_)
    short = 0.5 ** (1 / 20) * short + (1 - 0.5 ** (1 / 20)) * np.minimum(np.abs(g * model.residual_[first]), 4)
    log_iv = np.log(two[1][:, 0]).reshape(40, -1)
    move = (log_iv - np.log(history.implied_vol.values[650]).ravel()) / model.cell_sd_
    factor = np.column_stack([np.sqrt(252) * two[0][:, 0], move @ model.components_]) / model.factor_sd_
    level = (log_iv - model.cell_mean_) / model.cell_sd_ @ model.components_
    known = known.after(level, factor, log_iv.mean(axis=1))
    mean, scale = model._moments(known, calendar_features(dates[1], dates[2]))
    z = mean + scale * _adapt(short, model.long_error_) * model.residual_[second]
    np.testing.assert_allclose(two[0][:, 1], z[:, 0] * model.factor_sd_[0] / np.sqrt(252), rtol=1e-6, atol=1e-10)
    assert scale.std(axis=0).min() > 0  # paths differ in scale


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


def test_comes_close_to_the_oracle_on_a_market_with_a_known_law():
    """Energy-score skill on market A between historical simulation (0) and the true law (1).

    Over seeds 1 to 5 it was 0.79, 0.77, 0.33, 0.83, 0.98: 125 days leave that much chance. At the seed used here
    filtered historical simulation reaches 0.37.
    """
    from volscen.evaluation import energy_score

    market, n_train = MARKETS["A"], 3001
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
                r, iv = market.sample(history.state.values[row], 400, rng)
            else:
                r, iv = models[name].sample(at(history, row), 400, 1, np.random.default_rng(row))
                r, iv = r[:, 0], iv[:, 0]
            x = np.column_stack([np.sqrt(252) * r, np.log(iv).reshape(400, -1) - log_iv[row]])
            days.append(energy_score(x / sd, moves[row] / sd))
    mean = {name: np.mean(days) for name, days in scores.items()}
    skill = (mean["bootstrap"] - mean["har"]) / (mean["bootstrap"] - mean["oracle"])
    assert 0.6 < skill < 1.1


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


def test_one_component_is_enough(history):
    model = volscen.fit(history, "har", n_components=1)
    log_return, _ = model.sample(at(history, 699), 20, 2, np.random.default_rng(0))
    assert np.isfinite(log_return).all()


def test_windows_alone_are_refused(model):
    with pytest.raises(TypeError, match="date"):
        model._step(np.zeros((1, 352)), np.zeros((1, 353, 80)), np.random.default_rng(0))


def test_file_with_parts_that_do_not_fit_together(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "rest_", model.rest_[:, :-1])
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(FileFormatError, match="inconsistent"):
        volscen.load(path)
