"""What all pictures share: axes, colours, and how numbers are shown. Nothing global is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BLUE", "COLOURS", "DIVERGING", "GREY", "ORANGE", "SEQUENTIAL", "axes_for", "colourbar", "label_tenors", "percent",
    "pyplot", "shades", "tenor", "whole_numbers",
]  # fmt: skip

#: Okabe and Ito (2008), told apart under every common colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, ORANGE = COLOURS[:2]
GREY = "#6E6E6E"

#: Nunez, Anderton and Renslow (2018): even in lightness, the same to all eyes.
SEQUENTIAL = "cividis"
DIVERGING = "PuOr_r"

#: A time to expiry this near to a whole number of months, in days, is called by it.
_NEAR_MONTH = 0.8


def pyplot() -> Any:
    """matplotlib.pyplot, or what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise MissingExtraError("volscen.plot", "plot") from None
    return plt


def axes_for(ax: Axes | None, *, size: tuple[float, float] = (6.4, 4.2), solid: bool = False) -> Any:
    """The axes to draw on: those given, or a new figure's without needless frame."""
    plt = pyplot()
    from matplotlib.axes import Axes

    if ax is None:
        figure = plt.figure(figsize=size, layout="constrained")
        ax = figure.add_subplot(projection="3d" if solid else None)
        if not solid:
            ax.spines[["top", "right"]].set_visible(False)
        return ax
    if not isinstance(ax, Axes):
        raise InputError(f"ax must be a matplotlib Axes, such as plt.subplots()[1], not {type(ax).__name__}")
    if solid != hasattr(ax, "plot_surface"):
        raise InputError(
            "ax must be three-dimensional for kind='3d': plt.figure().add_subplot(projection='3d')"
            if solid
            else "ax is three-dimensional; this picture needs a flat one, such as plt.subplots()[1]"
        )
    return ax


def percent(axis: Any) -> None:
    """Show decimals as per cent; the data drawn stay decimals."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{round(100 * x, 9) + 0.0:.4g}%".replace("-", "\N{MINUS SIGN}"))
    )


def whole_numbers(axis: Any) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def colourbar(ax: Axes, image: Any, label: str, *, per_cent: bool) -> Any:
    """A bar beside the axes that says what the colours mean."""
    figure: Any = ax.figure
    bar = figure.colorbar(image, ax=ax, label=label)
    bar.outline.set_visible(False)
    if per_cent:
        percent(bar.ax.yaxis)
    return bar


def shades(n: int) -> list[Any]:
    """Colours for n ordered lines, dark to light."""
    import matplotlib

    ramp = matplotlib.colormaps[SEQUENTIAL]
    return [ramp(x) for x in np.linspace(0.0, 0.9, n)] if n > 1 else [BLUE]


def tenor(tau: float) -> str:
    """Name of a time to expiry: 3M, 1Y, 10d.

    Examples
    --------
    >>> from volscen._pictures._style import tenor
    >>> [tenor(days / 365) for days in (7, 30, 91, 100, 365, 547.5)]
    ['7d', '1M', '3M', '100d', '1Y', '18M']
    """
    months = round(12 * tau)
    if months < 1 or abs(12 * tau - months) * 365 / 12 > _NEAR_MONTH:
        return f"{365 * tau:.3g}d"
    return f"{months // 12}Y" if months % 12 == 0 else f"{months}M"


def name_tenors(axis: Any, low: float, high: float) -> None:
    """Ticks at tenors in common use between two maturities, where the grid is too fine to name all of it."""
    common = [t for t in (7 / 365, 1 / 12, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0) if 0.98 * low <= t <= 1.02 * high]
    label_tenors(axis, common if len(common) > 1 else [low, high])


def label_tenors(axis: Any, tau: npt.NDArray[np.floating] | Sequence[float]) -> None:
    """Ticks at the maturities of the grid, by name; every other one where there are many."""
    taus = np.asarray(tau, dtype=np.float64)
    shown = taus[:: max(1, round(taus.size / 8))]
    axis.set_ticks(shown, [tenor(t) for t in shown])
    axis.set_ticks([], minor=True)
