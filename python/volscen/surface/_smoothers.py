"""What a smoother is, and the registry of those there are."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["REGISTRY", "FittedSurface", "Smoother", "check_options"]

FloatArray = npt.NDArray[np.float64]


class FittedSurface(Protocol):
    """A smooth surface through the quotes of one day."""

    @property
    def details(self) -> dict[str, Any]:
        """Numbers and texts worth recording beside the surface."""

    def implied_vol(self, tau: FloatArray, log_moneyness: FloatArray) -> FloatArray:
        """Volatility at points: the arguments broadcast together."""

    def variance_terms(self, tau: FloatArray, log_moneyness: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Total variance, and its first two derivatives in log-moneyness, at points: exact."""


class Smoother(Protocol):
    """Fits a chain; the grid is known to it, for smoothers whose settings depend on where they are read."""

    def __call__(self, chain: Chain, tau: FloatArray, moneyness: FloatArray, **options: Any) -> FittedSurface:
        """Fit."""


#: Name of each smoother -> module and function, imported on first use.
REGISTRY: dict[str, tuple[str, str]] = {
    "cubic": ("volscen.surface._cubic", "fit_cubic"),
    "essvi": ("volscen.surface._ssvi", "fit_essvi"),
    "kernel": ("volscen.surface._kernel", "fit_kernel"),
    "repair": ("volscen.surface._completed", "fit_repair"),
    "ssvi": ("volscen.surface._ssvi", "fit_ssvi"),
    "svi": ("volscen.surface._svi", "fit_svi"),
}


def check_options(method: str, options: dict[str, Any], also: tuple[str, ...] = ()) -> Smoother:
    """Smoother registered under a name, once its options are known to be its own.

    Raises
    ------
    InputError
        If the name or an option is unknown; ``also`` names further options to mention.
    """
    if not isinstance(method, str) or method not in REGISTRY:
        raise InputError(f"unknown method {method!r}; the registered smoothers are {sorted(REGISTRY)}")
    module, function = REGISTRY[method]
    smoother: Smoother = getattr(import_module(module), function)
    known = {name for name, p in signature(smoother).parameters.items() if p.kind is Parameter.KEYWORD_ONLY}
    unknown = sorted(set(options) - known)
    if unknown:
        close = get_close_matches(unknown[0], [*known, *also], n=1)
        raise InputError(
            f"unknown option {unknown[0]!r}; method {method!r} knows {sorted(known | set(also))} besides the "
            "function's own arguments" + (f"; was {close[0]!r} meant?" if close else "")
        )
    return smoother
