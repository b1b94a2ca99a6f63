"""How the HAR generator's scale follows recent errors, and what it decides by days held out of its fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.generators._har_calendar import N_CALENDAR, N_SCALE_CALENDAR
from volscen.generators._har_features import average
from volscen.generators._har_fit import NU, Law, join

__all__ = [
    "ERROR_CUT",
    "ERROR_DAYS",
    "LIMIT",
    "LONG",
    "POWER",
    "REST_LIMIT",
    "REST_POWER",
    "SHORT",
    "Inputs",
    "adapt",
    "choose",
    "held_out",
    "rescale",
]

FloatArray = npt.NDArray[np.float64]
#: Of the means; of all scales; of the scale of each factor.
Inputs = tuple[FloatArray, FloatArray, FloatArray]

ERROR_DAYS = 100  # days of recent errors that a state must allow to be computed
# The scale follows recent errors: over 20 days against 1,000, to the power 0.3, at most by exp(0.18). That of the
# remainder, which has no other, to the power 0.7, at most by exp(0.84).
SHORT, LONG = 20.0, 1000.0
POWER, LIMIT = 0.3, 0.6
REST_POWER, REST_LIMIT = 0.7, 1.2
ERROR_CUT = 4.0
# Sixths of the sample after which it is refitted to be judged on the next sixth.
_CUTS = (3, 4, 5)
# Standard errors by which the days held out must be worse with the calendar than without for it to be left out.
_FAILS = 2.0
_INFLATION_BOUNDS = (1.0, 1.25)


def adapt(
    short: FloatArray, long: FloatArray, power: float | FloatArray = POWER, limit: float | FloatArray = LIMIT
) -> FloatArray:
    """Factor on the scale from the average size of errors of late and of long."""
    tiny = 1e-6
    return np.exp(power * np.clip(np.log(np.maximum(short, tiny) / np.maximum(long, tiny)), -limit, limit))


def rescale(error: FloatArray, power: float | FloatArray = POWER, limit: float | FloatArray = LIMIT) -> FloatArray:
    """Factor on the scale of each day from the errors of the days before it; 1 on the first."""
    size = np.minimum(np.abs(error), ERROR_CUT)
    known = adapt(average(size, SHORT, ERROR_DAYS), average(size, LONG, None), power, limit)
    return np.vstack([np.ones((1, error.shape[1])), known[:-1]])


def choose(inputs: Inputs, y: FloatArray, half_life: float) -> tuple[Inputs, float]:
    """Inputs with the features of the date, or without where those plainly fail out of sample; and the inflation.

    A market of calendar days, or one that knows no weekday, pays for two dozen inputs that say nothing.
    """
    without = _without_calendar(inputs)
    loss, inflation = held_out(inputs, y, half_life)
    plain_loss, plain_inflation = held_out(without, y, half_life)
    worse = loss - plain_loss
    if worse.mean() > _FAILS * worse.std() / np.sqrt(worse.size):
        return without, plain_inflation
    return inputs, inflation


def _without_calendar(inputs: Inputs) -> Inputs:
    """The same, the calendar's never moving: inputs without width enter as zero, when fitted and ever after."""
    mean_raw, shared, own = inputs
    mean_raw, shared = mean_raw.copy(), shared.copy()
    mean_raw[:, -N_CALENDAR:] = 0
    shared[:, -N_SCALE_CALENDAR:] = 0
    return mean_raw, shared, own


def held_out(inputs: Inputs, y: FloatArray, half_life: float) -> tuple[FloatArray, float]:
    """Fit up to each cut and judge on the sixth that follows.

    Minus log likelihood of each day judged, up to a constant, and mean size of errors out of sample over in sample.
    """
    mean_raw, shared, own = inputs
    loss, outside, inside = [], [], []
    n = y.shape[0]
    for sixths in _CUTS:
        cut, end = sixths * n // 6, (sixths + 1) * n // 6
        law = Law.fit(mean_raw[:cut], shared[:cut], own[:cut], y[:cut], (half_life,))
        mean, scale = law.moments(mean_raw[:end], join(shared[:end], own[:end]))
        error = (y[:end] - mean) / scale
        tail = 0.5 * (NU + 1) * np.log1p(error[cut:] ** 2 / (NU - 2))
        loss.append(np.sum(np.log(scale[cut:]) + tail, axis=1))
        size = np.minimum(np.abs(error / rescale(error)), ERROR_CUT)
        outside.append(size[cut:].mean())
        inside.append(size[:cut].mean())
    return np.concatenate(loss), float(np.clip(np.mean(outside) / np.mean(inside), *_INFLATION_BOUNDS))
