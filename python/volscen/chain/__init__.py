"""The option chain of one day: forwards from put-call parity, out-of-the-money quotes, what was dropped."""

from __future__ import annotations

from volscen.chain._chain import CHAIN_REASONS, Chain, ChainOptions

__all__ = ["CHAIN_REASONS", "Chain", "ChainOptions"]
