"""Penalties of static arbitrage as smooth squares in torch: on any device, of any batch.

The compiled penalty (:func:`volscen.arbitrage.torch_penalty`) sums positive parts; its slope jumps where a violation
begins. Here the positive parts are squared, so that the objective stays smooth.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["arbitrage_squares"]


def arbitrage_squares(implied_vol: Tensor, tau: Tensor, moneyness: Tensor) -> tuple[Tensor, Tensor]:
    """Calendar and butterfly violations of surfaces (..., tau, moneyness), squared, mean over the points.

    Calendar: the part of the total variance that is lost from one time to the next, relative to it. Butterfly: how
    much the slope of the Black call price in K/F falls from one interval of strikes to the next.

    Returns
    -------
    calendar, butterfly : Tensor, shape (...,)
        Zero where there is no violation.
    """
    total = implied_vol.square() * tau[:, None]
    lost = (1 - total[..., 1:, :] / total[..., :-1, :]).clamp_min(0)
    slope = _call(total.sqrt(), moneyness).diff(dim=-1) / moneyness.diff()
    bent = (-slope.diff(dim=-1)).clamp_min(0)
    return _mean_square(lost), _mean_square(bent)


def _mean_square(violation: Tensor) -> Tensor:
    """Mean over the points; zero where a grid has too few for any."""
    found: Tensor = violation.square().sum(dim=(-2, -1)) / max(1, violation.shape[-2] * violation.shape[-1])
    return found


def _call(deviation: Tensor, moneyness: Tensor) -> Tensor:
    """Black call price over the forward, at strikes of K/F, for total standard deviations."""
    upper = deviation / 2 - moneyness.log() / deviation
    price: Tensor = torch.special.ndtr(upper) - moneyness * torch.special.ndtr(upper - deviation)
    return price
