"""What is given of an outcome, read from the command line."""

from __future__ import annotations

import re
from typing import Any

from volscen.errors import InputError

__all__ = ["parse_given"]

#: Quantities of :mod:`volscen.views` that need nothing but numbers.
_QUANTITIES = ("atm_vol", "implied_vol", "log_return", "skew", "term_slope", "total_log_return", "vix")
#: Those in decimals; no value beyond this one is meant as such.
_DECIMALS = ("atm_vol", "implied_vol", "log_return", "total_log_return")
_LARGEST = 3.0
_FORM = re.compile(r"(?P<name>\w+)(\((?P<numbers>[^()]*)\))?=(?P<low>[^:]*)(?P<band>:)?(?P<high>[^:]*)")


def parse_given(texts: list[str] | None) -> dict[Any, Any] | None:
    """Conditions from ``NAME=VALUE``, ``NAME=LOW:HIGH`` or ``NAME(NUMBERS)=...``; an end left out is open.

    Examples
    --------
    >>> from volscen._cli_given import parse_given
    >>> [(q.label, band) for q, band in parse_given(["log_return=-0.06:-0.04", "vix=25:"]).items()]
    [('log_return()', (-0.06, -0.04)), ('vix(30)', (25.0, None))]
    """
    if not texts:
        return None
    from volscen import views

    given: dict[Any, Any] = {}
    for text in texts:
        found = _FORM.fullmatch(text.replace(" ", ""))
        if found is None or found["name"] not in _QUANTITIES:
            raise InputError(
                f"--given must look like log_return=-0.02, log_return=-0.03:-0.01 or atm_vol(0.25)=0.3:, with one of "
                f"{', '.join(_QUANTITIES)}, not {text!r}"
            )
        try:
            numbers = [float(part) for part in found["numbers"].split(",")] if found["numbers"] else []
            low, high = (float(found[end]) if found[end] else None for end in ("low", "high"))
            quantity = getattr(views, found["name"])(*numbers)
        except (ValueError, TypeError):
            raise InputError(f"--given {text!r} has something that is no number, or too many or few") from None
        end = high if low is None else low
        if found["name"] in _DECIMALS and end is not None and abs(end) > _LARGEST:
            raise InputError(
                f"--given {text!r} means {end:,.0%}: returns and volatilities are decimals, 0.25 for 25% (only vix is "
                "in points)"
            )
        given[quantity] = (low, high) if found["band"] else low
    return given
