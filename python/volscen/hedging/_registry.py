"""The hedging methods by name. Adding one means adding a file beside this one and a line here."""

from __future__ import annotations

from importlib import import_module

from volscen.errors import InputError
from volscen.hedging._base import Method, Positions

__all__ = ["REGISTRY", "chosen_method", "method_function"]

#: Name of each method -> module and function, imported on first use.
REGISTRY: dict[str, tuple[str, str]] = {
    "delta": ("volscen.hedging._delta", "delta"),
    "delta-vega": ("volscen.hedging._vega", "delta_vega"),
    "delta-vega-sqrt": ("volscen.hedging._vega", "delta_vega_sqrt"),
    "lasso": ("volscen.hedging._lasso", "lasso"),
    "min-es": ("volscen.hedging._expected_shortfall", "minimum_expected_shortfall"),
    "min-variance-delta": ("volscen.hedging._delta", "minimum_variance_delta"),
    "neighbours": ("volscen.hedging._vega", "neighbours"),
    "regression": ("volscen.hedging._regression", "regression"),
    "ridge": ("volscen.hedging._ridge", "ridge"),
    "vega-buckets": ("volscen.hedging._vega", "vega_buckets"),
}


def method_function(name: str) -> Method:
    """Return the function registered under a name.

    Examples
    --------
    >>> from volscen.hedging import method_function
    >>> method_function("delta-vega").__name__
    'delta_vega'
    """
    if not isinstance(name, str) or name not in REGISTRY:
        raise InputError(f"unknown method {name!r}; there are auto, {', '.join(sorted(REGISTRY))}")
    module, attribute = REGISTRY[name]
    found: Method = getattr(import_module(module), attribute)
    return found


def chosen_method(name: str, instruments: Positions) -> str:
    """Name of the method that ``"auto"`` stands for; other names unchanged."""
    if not (isinstance(name, str) and name == "auto"):
        return name
    return "ridge" if int(instruments.has_vega.sum()) > 1 else "regression"
