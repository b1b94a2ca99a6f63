"""Pictures of a world model's results."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volscen._numbers import whole_number
from volscen._pictures._style import SEQUENTIAL, axes_for, colourbar, name_tenors, percent, pyplot
from volscen.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["animate_stress", "latent_path", "reconstruction"]


def _needs(ds: Any, names: tuple[str, ...], source: str) -> None:
    import xarray as xr

    if not isinstance(ds, xr.Dataset) or any(name not in ds for name in names):
        raise InputError(f"the picture takes what {source} returns, with {', '.join(names)}")


def reconstruction(found: xr.Dataset, *, n: int = 5) -> Figure:
    """Rows of pictures: surfaces above, what their latents make of them below.

    Parameters
    ----------
    found : xarray.Dataset
        What :func:`volscen.world.reconstruct` returns.
    n : int
        Dates shown, evenly spaced.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If it is something else, or ``n`` is no positive number.
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import matplotlib, numpy as np, xarray as xr
    >>> matplotlib.use("agg")
    >>> vol = ("date", "tau", "moneyness"), np.full((2, 3, 3), 0.2)
    >>> days = np.array(["2024-01-02", "2024-01-03"], "datetime64[ns]")
    >>> grid = {"date": days, "tau": [0.1, 0.5, 1], "moneyness": [0.9, 1, 1.1]}
    >>> figure = reconstruction(xr.Dataset({"raster": vol, "reconstruction": vol}, grid), n=2)
    >>> len(figure.axes)
    5
    """
    _needs(found, ("raster", "reconstruction"), "volscen.world.reconstruct")
    n = whole_number("n", n)
    plt = pyplot()
    rows = np.unique(np.linspace(0, found.sizes["date"] - 1, n).round().astype(int))
    shown = found.isel(date=rows)
    low, high = float(shown["raster"].min()), float(shown["raster"].max())
    figure, axes = plt.subplots(
        2, len(rows), figsize=(2.2 * len(rows) + 1, 4.4), squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for row, name in enumerate(("raster", "reconstruction")):
        for column in range(len(rows)):
            image = _paint(axes[row, column], shown[name].isel(date=column), low, high)
            if row == 0:
                axes[row, column].set_title(np.datetime_as_string(shown["date"].values[column], unit="D"), fontsize=9)
        axes[row, 0].set_ylabel(("surface" if row == 0 else "from its latents") + "\ntime to expiry")
    axes[1, len(rows) // 2].set_xlabel("moneyness K/F")
    _bar(figure, image, axes)
    return figure  # type: ignore[no-any-return]


def latent_path(found: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Path of the latents' first two principal components, coloured by the at-the-money volatility.

    Parameters
    ----------
    found : xarray.Dataset
        What :func:`volscen.world.latents` returns.
    ax : matplotlib.axes.Axes, optional
        To draw on.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If it is something else, or there is one latent only.
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import matplotlib, numpy as np, xarray as xr
    >>> matplotlib.use("agg")
    >>> path = ("date", "component"), np.eye(3)[:, :2]
    >>> found = xr.Dataset({"principal": path, "atm_vol": ("date", [0.1, 0.2, 0.3])})
    >>> latent_path(found).get_xlabel()
    'first principal component'
    """
    _needs(found, ("principal", "atm_vol"), "volscen.world.latents")
    if found.sizes["component"] < 2:
        raise InputError("a path needs two principal components; the model has one latent")
    ax = axes_for(ax, size=(6, 5))
    x, y = found["principal"].transpose("component", "date").values
    ax.plot(x, y, color="0.85", linewidth=0.5, zorder=1)
    points = ax.scatter(x, y, c=found["atm_vol"].values, s=6, cmap=SEQUENTIAL, zorder=2)
    colourbar(ax, points, "at-the-money vol", per_cent=True)
    ax.set_xlabel("first principal component")
    ax.set_ylabel("second principal component")
    ax.set_title("surfaces in latent space", fontsize="medium")
    return ax


def animate_stress(found: xr.Dataset, path: str | Path, *, frames_per_second: int = 10) -> Path:
    """Animated pair of surfaces, calm beside shocked, as a GIF.

    Parameters
    ----------
    found : xarray.Dataset
        What :func:`volscen.world.stress` returns; of several paths the first of each kind is shown.
    path : path
        File to write, ending in ``.gif``.
    frames_per_second : int

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    InputError
        If it is something else, or the file cannot be written.
    MissingExtraError
        Without matplotlib or Pillow.

    Examples
    --------
    >>> import volscen
    >>> volscen.plot.animate_stress(volscen.datasets.sample_history(), "crash.gif")
    Traceback (most recent call last):
    volscen.errors.InputError: the picture takes what volscen.world.stress returns, with implied_vol, decoder_outside
    """
    _needs(found, ("implied_vol", "decoder_outside"), "volscen.world.stress")
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise InputError(f"path must end in .gif, not {path.name!r}")
    if isinstance(frames_per_second, bool) or not isinstance(frames_per_second, int) or frames_per_second < 1:
        raise InputError(f"frames_per_second must be a positive whole number, not {frames_per_second!r}")
    plt = pyplot()
    try:
        from matplotlib.animation import FuncAnimation, PillowWriter
    except ImportError:
        raise MissingExtraError("animate_stress", "plot") from None
    from volscen._files import atomic_path

    pair = found["implied_vol"].isel(scenario=[0, found.sizes["scenario"] // 2])
    low, high = float(pair.min()), float(pair.max())
    # Shocked vols are multiples of calm ones: colours by ratio show both.
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
    images = [_paint(axes[i], pair.isel(scenario=i, step=0), low, high, log=True) for i in (0, 1)]
    _bar(figure, images[1], axes)
    axes[0].set_ylabel("time to expiry")
    for ax in axes:
        ax.set_xlabel("moneyness K/F")
    names = [str(name) for name in pair["name"].values]

    def show(frame: int) -> list[Any]:
        for i, (ax, image) in enumerate(zip(axes, images, strict=True)):
            image.set_array(pair.isel(scenario=i, step=frame).values.ravel())
            ax.set_title(f"{names[i]}, step {frame}", fontsize=10)
        return images

    try:
        with atomic_path(path) as target, tempfile.TemporaryDirectory() as folder:
            movie = Path(folder) / "movie.gif"  # the writer goes by the ending
            animation = FuncAnimation(figure, show, frames=found.sizes["step"], blit=False)
            animation.save(movie, writer=PillowWriter(fps=frames_per_second), dpi=80)
            shutil.copyfile(movie, target)
    finally:
        plt.close(figure)
    return path


def _paint(ax: Axes, surface: xr.DataArray, low: float, high: float, *, log: bool = False) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    high = max(high, low * 1.0001)
    norm = LogNorm(low, high) if log else Normalize(low, high)
    tau = surface["tau"].values
    image = ax.pcolormesh(
        surface["moneyness"].values, tau, surface.transpose("tau", "moneyness").values,
        shading="gouraud", norm=norm, cmap=SEQUENTIAL,
    )  # fmt: skip
    ax.set_yscale("log")
    name_tenors(ax.yaxis, tau[0], tau[-1])
    return image


def _bar(figure: Any, image: Any, axes: Any) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullLocator

    bar = figure.colorbar(image, ax=axes, label="implied vol")
    bar.outline.set_visible(False)
    if isinstance(image.norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    percent(bar.ax.yaxis)
