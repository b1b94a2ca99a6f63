"""Structural similarity of pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from volscen.errors import InputError

__all__ = ["structural_similarity"]

FloatArray = npt.NDArray[np.float64]

_SIGMA, _RADIUS = 1.5, 5
_K1, _K2 = 0.01, 0.03


def structural_similarity(a: npt.ArrayLike, b: npt.ArrayLike, *, data_range: float) -> FloatArray:
    """Mean structural similarity (SSIM) of pictures, 1 where they are the same.

    Parameters
    ----------
    a, b : array_like, shape (..., height, width)
        Pictures, at least 11 pixels each way.
    data_range : float
        Largest less smallest possible pixel, which makes the constants.

    Returns
    -------
    ndarray, shape (...)

    Raises
    ------
    InputError
        If shapes differ, a picture is too small or not finite, or the range is not positive.

    Notes
    -----
    Wang, Bovik, Sheikh and Simoncelli (2004), "Image quality assessment: from error visibility to structural
    similarity": Gaussian window of sigma 1.5 and 11 x 11 pixels, K1 = .01, K2 = .03, averaged over the pixels whose
    window lies within the picture.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.random.default_rng(0).random((16, 16))
    >>> float(structural_similarity(picture, picture, data_range=1.0))
    1.0
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim < 2 or min(x.shape[-2:]) < 2 * _RADIUS + 1:
        raise InputError(f"a and b must be pictures of one shape, at least 11 x 11, not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("a and b must be finite; repair the holes first")
    if not (np.isfinite(data_range) and data_range > 0):
        raise InputError(f"data_range must be a positive number, not {data_range!r}")
    sigma = (0.0,) * (x.ndim - 2) + (_SIGMA, _SIGMA)

    def smooth(values: FloatArray) -> FloatArray:
        out = gaussian_filter(values, sigma, truncate=(_RADIUS + 0.25) / _SIGMA)
        return np.asarray(out[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS])

    mean_x, mean_y = smooth(x), smooth(y)
    variance_x, variance_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    likeness /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return np.asarray(likeness.mean(axis=(-2, -1)))
