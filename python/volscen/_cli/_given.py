"""What is given of an outcome, read from the command line."""

from __future__ import annotations

import re
from typing import Any

from volscen.errors import InputError

__all__ = ["parse_given", "parse_views"]

#: Quantities of :mod:`volscen.views` that need nothing but numbers.
_QUANTITIES = ("atm_vol", "implied_vol", "log_return", "skew", "term_slope", "total_log_return", "vix")
#: Those in decimals; no value beyond this one is meant as such.
_DECIMALS = ("atm_vol", "implied_vol", "log_return", "total_log_return")
_LARGEST = 3.0
#: Statistics of one quantity, of :mod:`volscen.views`.
_STATISTICS = ("mean", "std", "variance")
_VIEW = re.compile(r"(?P<statistic>\w+)\((?P<inside>.*)\)(?P<sign><=|>=|=)(?P<bound>[^<>=]+)")
_BOUNDS = {"=": "equals", "<=": "at_most", ">=": "at_least"}
_FORM = re.compile(r"(?P<name>\w+)(\((?P<numbers>[^()]*)\))?=(?P<low>[^:]*)(?P<band>:)?(?P<high>[^:]*)")


def parse_given(texts: list[str] | None) -> dict[Any, Any] | None:
    """Conditions from ``NAME=VALUE``, ``NAME=LOW:HIGH`` or ``NAME(NUMBERS)=...``; an end left out is open.

    Examples
    --------
    >>> from volscen._cli._given import parse_given
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


def parse_views(texts: list[str] | None) -> list[Any]:
    r"""Views from ``STATISTIC(QUANTITY)=NUMBER``, with ``<=`` and ``>=`` for bounds.

    Examples
    --------
    >>> from volscen._cli._given import parse_views
    >>> texts = ["mean(atm_vol(0.25))=0.2", "correlation(log_return,vix)<=-0.5", "quantile(vix,.9)>=30"]
    >>> print(*parse_views(texts), sep="\n")
    mean(atm_vol(0.25)) = 0.2
    correlation(log_return(), vix(30)) <= -0.5
    30 <= quantile(vix(30), 0.9)
    """
    from volscen import views

    out: list[Any] = []
    for text in texts or []:
        found = _VIEW.fullmatch(text.replace(" ", ""))
        parts = [] if found is None else _split(found["inside"])
        try:
            assert found is not None
            bound = {_BOUNDS[found["sign"]]: float(found["bound"])}
            if found["statistic"] in _STATISTICS and len(parts) == 1:
                out.append(getattr(views, found["statistic"])(_quantity(parts[0]), **bound))
            elif found["statistic"] == "correlation" and len(parts) == 2:
                out.append(views.correlation(_quantity(parts[0]), _quantity(parts[1]), **bound))
            elif found["statistic"] == "quantile" and len(parts) == 2:
                out.append(views.quantile(_quantity(parts[0]), float(parts[1]), **bound))
            else:
                raise ValueError
        except InputError:
            raise
        except (AssertionError, ValueError, TypeError):
            raise InputError(
                f"--view must look like mean(atm_vol(0.25))=0.2, std(log_return)>=0.02, "
                f"correlation(log_return,vix)<=-0.5 or quantile(vix,0.95)>=40, of {', '.join(_QUANTITIES)}, not "
                f"{text!r}"
            ) from None
    return out


def _split(text: str) -> list[str]:
    """Parts between the commas that no brackets enclose."""
    depth, parts = 0, [""]
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _quantity(text: str) -> Any:
    from volscen import views

    name, _, rest = text.partition("(")
    if name not in _QUANTITIES or (rest and not rest.endswith(")")):
        raise ValueError
    return getattr(views, name)(*(float(part) for part in rest[:-1].split(",") if part))
