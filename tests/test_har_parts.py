"""Pieces of the HAR generator, calendar, features and estimates, against hand-worked cases and written-out twins."""

from __future__ import annotations

import numpy as np
import pytest

from volscen._sessions import next_session, past_sessions, sessions
from volscen.generators._har_calendar import calendar_features
from volscen.generators._har_features import Known, average, mean_features, scale_features
from volscen.generators._har_fit import Law, join, on_raw, ridge, scale_objective, standardise
from volscen.generators._har_rest import Outside, Reversion


def day(*text):
    return np.array(text, dtype="datetime64[D]")


# ----------------------------------------------------------------------------------------------- calendar
def test_calendar_features_of_known_dates():
    dates = [
        ("2015-07-02", "2015-07-06"),
        ("2015-07-16", "2015-07-17"),
        ("2015-07-17", "2015-07-20"),
        ("2015-11-25", "2015-11-27"),
        ("2015-12-24", "2015-12-28"),
        ("2015-04-02", "2015-04-03"),
        ("2015-09-30", "2015-10-01"),
        ("2015-08-21", "2015-08-24"),
        ("2015-06-12", "2015-06-15"),
    ]
    known, target = day(*(a for a, _ in dates)), day(*(b for _, b in dates))
    f = calendar_features(known, sessions("weekdays"), target)
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
        7: {"mon": 1, "log_gap": np.log(3), "after": 1},  # after the latest third Friday there can be
        8: {"mon": 1, "log_gap": np.log(3)},  # before the third Friday
    }
    for row, nonzero in expected.items():
        np.testing.assert_allclose(f[row, :11], [nonzero.get(name, 0.0) for name in names], err_msg=str(target[row]))
    new_year = calendar_features(day("2015-12-31"), sessions("weekdays"))[0]
    np.testing.assert_allclose(new_year[11:13], [0.0, 1.0], atol=1e-12)
    # 2 April 2015 is day 91 of the year counted from 0: a quarter turn within a quarter of a day
    april = calendar_features(day("2015-04-01"), sessions("weekdays"))[0]
    np.testing.assert_allclose(april[11:13], [1.0, 0.0], atol=6e-3)


def test_calendar_features_of_months():
    known = day("2015-06-30", "2015-07-30", "2015-09-29", "2015-07-21", "2015-07-22", "2015-07-14", "2015-12-31")
    f = calendar_features(known, sessions("weekdays"))[:, 13:]
    # fourth Wednesday, the Thursday after; first and last session of the month, of the quarter
    expected = [
        [0, 0, 1, 0, 1, 0],  # 1 July
        [0, 0, 0, 1, 0, 0],  # 31 July
        [0, 0, 0, 1, 0, 1],  # 30 September
        [1, 0, 0, 0, 0, 0],  # 22 July
        [0, 1, 0, 0, 0, 0],  # 23 July
        [0, 0, 0, 0, 0, 0],  # 15 July
        [0, 0, 1, 0, 1, 0],  # 1 January
    ]
    np.testing.assert_array_equal(f[:, :6], expected)
    # 15 July: half a month but a fifth of a day, so that the second wave is nearly once around
    angle = 2 * np.pi * 15 / 30.4
    np.testing.assert_allclose(f[5, 6:], [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)])


def test_last_session_of_a_month_by_the_exchange():
    """Thursday 29 March 2018 was the last of its month and quarter: Good Friday followed."""
    pytest.importorskip("exchange_calendars")
    known = day("2018-03-28")
    assert calendar_features(known, sessions("XNYS"))[0, [16, 18]].tolist() == [1, 1]
    assert calendar_features(known, sessions("weekdays"))[0, [16, 18]].tolist() == [0, 0]


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
    for name in ("level", "slow", "factor", "square", "trend", "mean_log_iv"):
        np.testing.assert_allclose(getattr(after, name), getattr(expected, name), rtol=1e-10, err_msg=name)
    assert after.count == 30


def test_features_against_written_out_ones():
    rng = np.random.default_rng(2)
    level, factor = rng.standard_normal((50, 5)), rng.standard_normal((50, 6))
    mean, calendar = rng.standard_normal(50), rng.standard_normal((50, 23))
    known = Known.of_days(level, factor, mean)
    got = mean_features(known, calendar, np.log(0.3))
    assert got.shape == (50, 5 + 3 * 4 + 5 + 3 + 3 + 23)

    def late(x, half_life):
        weight = 0.5 ** (np.arange(50)[::-1] / half_life)
        return (weight @ x) / weight.sum()

    expected = [
        *level[-1],
        *(level[-1, i] - late(level[:, i], h) for h in (5, 22, 130) for i in range(4)),
        *factor[-1, :5],
        *(0.5 * np.log(late((0.3 * factor[:, 0]) ** 2, h)) - mean[-1] for h in (3, 10, 40)),
        *(late(factor[:, 0], h) for h in (3, 10, 40)),
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
        *calendar[-1, :15],
    ]
    np.testing.assert_allclose(shared[-1], expected, rtol=1e-9)
    np.testing.assert_allclose(own[-1, 1], [0.5 * np.log(late(factor[:, j] ** 2, 10)) for j in range(6)], rtol=1e-9)


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


def test_coefficients_on_raw_inputs_say_the_same():
    of = np.array([[1.0, 0.0, 5.0], [2.0, 1.0, 0.0], [-3.0, -9.0, 5.0], [5.0, 9.0, 5.0]])
    raw = np.random.default_rng(0).uniform(-15, 15, (200, 3))
    coef = np.array([[0.3, -1.0], [2.0, 0.5], [-0.7, 1.1], [9.0, 9.0]])
    found = on_raw(coef, of)
    np.testing.assert_allclose(
        found.constant + found.of(raw, np.ones(3, dtype=bool)), standardise(raw, of) @ coef, rtol=1e-12, atol=1e-13
    )


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


def test_what_clipping_takes_away():
    rng = np.random.default_rng(8)
    shared, mean_raw = rng.uniform(-1, 1, (1000, 1)), rng.uniform(-1, 1, (1000, 1))
    own, y = rng.uniform(-1, 1, (1000, 3, 1)), rng.standard_normal((1000, 1))
    law = Law.fit(mean_raw, shared, own, y, (np.inf,))
    mean, log_scale = law.lost(mean_raw, join(shared, own))
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    np.testing.assert_allclose(log_scale, 0, atol=1e-12)
    # one input at twice its largest, the others as they were: its coefficient times the excess
    far = shared.copy()
    far[0] = 2 * shared.max()
    lost = law.lost(mean_raw, join(far, own))[1]
    slope = law.scale_coef[1, 0] / shared.std()
    inside = np.clip(law.moments(mean_raw, join(np.minimum(far, shared.max()), own))[1], *np.exp(law.log_scale_bounds))
    free = np.log(inside[0, 0]) + slope * shared.max()
    assert lost[0, 0] == pytest.approx(free - np.log(law.moments(mean_raw, join(far, own))[1][0, 0]), abs=1e-10)
    mean = law.lost(np.where(np.arange(1000)[:, None] == 0, 3 * mean_raw.max(), mean_raw), join(shared, own))[0]
    scale = law.moments(mean_raw, join(shared, own))[1]
    assert mean[0, 0] == pytest.approx(law.mean_coef[1, 0] * 2 * mean_raw.max() / mean_raw.std() / scale[0, 0])
    np.testing.assert_allclose(mean[1:], 0, atol=1e-12)


def test_every_scale_has_its_own_inputs():
    """log s_j = 0.5 x on the second of factor j's own inputs, and nothing on the other factor's."""
    rng = np.random.default_rng(7)
    own, nothing = rng.standard_normal((2000, 3, 2)), rng.standard_normal((2000, 1))
    y = np.exp(0.5 * own[:, 1]) * rng.standard_normal((2000, 2))
    law = Law.fit(nothing, nothing, own, y, (np.inf,))
    # rows: constant, shared, then (first, second, third) of both factors
    expected = np.zeros((6, 2))
    expected[2, 0] = expected[3, 1] = 0.5
    np.testing.assert_allclose(law.scale_coef[2:], expected, atol=0.07)
    _, scale = law.moments(nothing, join(nothing, own))
    assert np.corrcoef(np.log(scale[:, 1]), own[:, 1, 1])[0, 1] > 0.98


def test_averaging_over_half_lives_averages_the_forecasts():
    rng = np.random.default_rng(5)
    x, shared, own = rng.standard_normal((300, 2)), rng.standard_normal((300, 2)), rng.standard_normal((300, 3, 2))
    y = rng.standard_normal((300, 2)) * np.linspace(0.5, 2, 300)[:, None]
    both = Law.fit(x, shared, own, y, (50.0, np.inf))
    one, other = Law.fit(x, shared, own, y, (50.0,)), Law.fit(x, shared, own, y, (np.inf,))
    np.testing.assert_allclose(both.mean_coef, (one.mean_coef + other.mean_coef) / 2, rtol=1e-10)
    np.testing.assert_allclose(both.scale_coef, (one.scale_coef + other.scale_coef) / 2, rtol=1e-10)
    assert one.scale_coef[0, 0] > other.scale_coef[0, 0]  # the late days were the wild ones


# ---------------------------------------------------------------------------------------------- the remainder
def test_outside_a_day_later_is_what_the_days_give():
    level = np.random.default_rng(0).standard_normal((40, 3))
    whole, before = Outside.of_days(level), Outside.of_days(level[:-1])
    after = before.rows(slice(-1, None)).after(level[-1:])
    np.testing.assert_allclose(after.level[0], level[-1])
    np.testing.assert_allclose(after.slow[:, 0], whole.slow[:, -1], rtol=1e-10)
    weight = 0.5 ** (np.arange(40)[::-1] / 5)
    np.testing.assert_allclose(whole.slow[1, -1], weight @ level / weight.sum(), rtol=1e-10)


def test_reversion_against_made_up_observations():
    """Ridge of 50 days on standardised distances, as least squares with rows added; average of two half-lives."""
    rng = np.random.default_rng(3)
    known, move = Outside.of_days(rng.standard_normal((300, 2))), rng.standard_normal((300, 2))
    got = Reversion.fit(known, move, (100.0, np.inf))
    distance = known.level - known.slow
    for j in range(2):
        x, width = distance[:, :, j].T, distance[:, :, j].std(axis=1)
        coef = []
        for w in (0.5 ** (np.arange(300)[::-1] / 100), np.ones(300)):
            stacked = np.vstack([x / width * np.sqrt(w)[:, None], np.sqrt(50) * np.eye(3)])
            coef.append(np.linalg.lstsq(stacked, np.r_[move[:, j] * np.sqrt(w), 0, 0, 0], rcond=None)[0] / width)
        np.testing.assert_allclose(got.reversion_coef[:, j], np.mean(coef, axis=0), rtol=1e-8)
        np.testing.assert_allclose(got.expected(known)[:, j], x @ got.reversion_coef[:, j], rtol=1e-8, atol=1e-12)
    wild = Outside(known.level + 1e3, known.slow, 300)
    limit = (distance.max(axis=1) * got.reversion_coef).sum(axis=0)
    np.testing.assert_allclose(got.expected(wild), np.broadcast_to(limit, (300, 2)))


def test_reversion_finds_white_noise():
    """Level a slow walk plus noise: what is expected is minus the noise, but for the walk's own steps."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((4000, 1))
    level = np.cumsum(0.1 * rng.standard_normal((4000, 1)), axis=0) + noise
    known = Outside.of_days(level)
    got = Reversion.fit(known.rows(slice(0, -1)), np.diff(level, axis=0), (np.inf,)).expected(known)
    # the steady state of the filter of a local level with ratio q = 0.01 keeps (q + sqrt(q^2 + 4 q)) / 2 of a surprise
    gain = (0.01 + np.sqrt(0.01**2 + 0.04)) / 2
    gain = gain / (1 + gain)
    filtered = np.empty(4000)
    filtered[0] = level[0, 0]
    for t in range(1, 4000):
        filtered[t] = filtered[t - 1] + gain * (level[t, 0] - filtered[t - 1])
    best = filtered - level[:, 0]
    assert np.corrcoef(got[500:, 0], best[500:])[0, 1] > 0.98
    assert abs(got[500:, 0] @ best[500:] / (best[500:] @ best[500:]) - 1) < 0.05
