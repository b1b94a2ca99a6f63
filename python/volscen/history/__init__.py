"""Histories of surfaces and returns: made from quotes, brought up to date, and what is known of one at a date."""

from __future__ import annotations

from volscen.history._history import State, make_history, realised_vol, state_at

__all__ = ["State", "make_history", "realised_vol", "state_at"]
