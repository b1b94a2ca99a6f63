"""``volscen plot``: a file to a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volscen._cli._arguments import RISK, AsOf, Options, Step, parse_option
from volscen._cli._command import Result, command
from volscen._cli._complete import DATASETS, MODELS, files, words
from volscen._cli._plan import dry_run, expected, planned
from volscen.errors import InputError, MissingExtraError, VolscenError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["plot_app"]

plot_app = typer.Typer(rich_markup_mode=None)

#: Kinds of pictures: what must be chosen of the file (a trailing ? where the last is the default), and what else is
#: needed.
_KINDS: dict[str, tuple[str, ...]] = {
    "surface": ("asset", "as_of", "date?", "step?"),
    "smile": ("asset", "as_of", "date?", "step?"),
    "fan": ("asset", "as_of"),
    "pca": ("asset", "as_of", "step?"),
    "weights": ("as_of",),
    "arbitrage": ("asset", "as_of"),
    "hedge": (),
    "reconstruction": ("asset",),
    "latent-path": ("asset",),
    "attention": ("asset",),
    "stress": ("asset",),
    "portfolio": ("asset",),
}
_OF_MODELS = ("reconstruction", "latent-path", "attention", "stress")
_FLAGS = {"asset": "--asset", "as_of": "--as-of", "date": "--date", "step": "--step"}


@command(
    plot_app,
    panel=RISK,
    examples=[
        "volscen plot fan scenarios.nc -o fan.png --option of=atm_vol --option tau=3M",
        "volscen plot surface history.nc -o surface.svg --date 2024-06-03 --option kind=heatmap",
        "volscen plot stress history.nc --model world.safetensors -o crash.gif --option factor=1.5",
    ],
)
def plot(
    kind: Annotated[str, typer.Argument(help=f"What to draw: {', '.join(_KINDS)}.", autocompletion=words(*_KINDS))],
    file: Annotated[
        Path,
        typer.Argument(
            help="Scenarios (surface, smile, fan, pca, weights, arbitrage), a history (all but fan, weights and hedge) "
            "or the result of 'volscen hedge' (hedge).",
            autocompletion=files(*DATASETS),
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Picture to write; its ending gives the format: .png, .svg, .pdf, ...",
            autocompletion=files(".png", ".svg", ".pdf", ".gif"),
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            help=f"Fitted model (.safetensors), for {', '.join(_OF_MODELS)}.",
            autocompletion=files(*MODELS),
        ),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="History to compare the components of pca with.", autocompletion=files(*DATASETS)),
    ] = None,
    date: Annotated[str | None, typer.Option(help="Date of a history. Default: the last.")] = None,
    as_of: AsOf = None,
    step: Step = None,
    asset: Annotated[str | None, typer.Option(help="Underlying, where there are several.")] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Of a portfolio: last date that its policies learn from. Default: the first half."),
    ] = None,
    option: Options = None,
    dpi: Annotated[int, typer.Option(min=10, max=1200, help="Dots per inch of a picture of dots.")] = 150,
) -> Result:
    """Draw a picture of scenarios, a history, a hedge or a model.

    Options (--option) are those of the functions of volscen.plot, of a stress those of volscen.world.stress.
    """
    from volscen._io import read_dataset

    if kind not in _KINDS:
        raise InputError(f"KIND must be one of {', '.join(_KINDS)}, not {kind!r}")
    for given, flag, kinds in (
        (model, "--model", _OF_MODELS),
        (history, "--history", ("pca",)),
        (until, "--until", ("portfolio",)),
    ):
        if given is not None and kind not in kinds:
            raise InputError(f"{flag} is for {', '.join(kinds)}; leave it out for {kind}")
    if model is None and kind in _OF_MODELS:
        raise InputError(f"--model is needed for {kind}: the model that sees the history")
    ending = _format(out, kind)
    if dry_run():
        for path in (file, model, history):
            expected(path)
        return planned(reads=[file, model, history], writes=[out])
    options = dict(parse_option(text) for text in option or [])
    chosen = {"date": date, "as_of": as_of, "step": step, "asset": asset}
    ds = _choose(read_dataset(file), kind, chosen)
    if kind in _OF_MODELS:
        draw = _of_model(kind, ds, model, out)
    elif kind == "portfolio":
        draw = _portfolio(ds, until)
    else:
        draw = _of_dataset(kind, ds, None if history is None else read_dataset(history))
    try:
        drawn = draw(**options)
    except VolscenError:
        raise
    except (TypeError, AttributeError, ValueError) as error:  # an option that neither we nor matplotlib know
        raise InputError(f"--option: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(drawn, Path):
        _save(drawn, out, ending, dpi)
    size = out.stat().st_size
    return Result({"out": out, "bytes": size, "kind": kind}, f"wrote {out} ({size / 1e3:.0f} kB)")


def _format(out: Path, kind: str) -> str:
    """Format by the ending; refused before any work where it is none, or the file could not be written."""
    from volscen._files import check_writable

    try:
        import matplotlib
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise MissingExtraError("volscen plot", "plot") from None
    matplotlib.use("agg")  # no window, wherever this runs
    ending = out.suffix[1:].lower()
    known = ["gif"] if kind == "stress" else sorted(FigureCanvasBase.get_supported_filetypes())
    if ending not in known:
        raise InputError(f"cannot write to {out}: the name must end in {', '.join(f'.{name}' for name in known)}")
    check_writable(out)
    return ending


def _choose(ds: xr.Dataset, kind: str, chosen: dict[str, Any]) -> xr.Dataset:
    """One asset, date and step, by the flags."""
    wanted = {name.rstrip("?"): name.endswith("?") for name in _KINDS[kind]}
    for name, value in chosen.items():
        # Of several assets each has its own as_of, which is no choice.
        if name not in wanted or name not in ds.coords or ds[name].dims not in ((), (name,)):
            if value is not None:
                why = f"for {kind}" if name not in wanted else "for this file"
                raise InputError(f"{_FLAGS[name]} is not {why}; leave it out")
            continue
        held = ds[name].values.reshape(-1)
        held = held.astype("datetime64[D]") if held.dtype.kind == "M" else held
        names = [str(one) for one in held]
        if value is None and len(names) > 1 and not wanted[name]:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise InputError(f"the file holds {shown}; choose one with {_FLAGS[name]}")
        if value is not None and str(value) not in names:
            raise InputError(f"{_FLAGS[name]} {value}: the file holds {names[0]} to {names[-1]}")
        if name in ds.dims:
            ds = ds.isel({name: -1 if value is None else names.index(str(value))})
    return ds


def _of_dataset(kind: str, ds: xr.Dataset, history: xr.Dataset | None) -> Callable[..., Any]:
    from volscen import plot

    function: Callable[..., Any] = {"hedge": plot.hedge_ratios}.get(kind) or getattr(plot, kind)
    if history is not None:
        return lambda **options: function(ds, history=history, **options)
    return lambda **options: function(ds, **options)


def _of_model(kind: str, ds: xr.Dataset, model: Path | None, out: Path) -> Callable[..., Any]:
    from volscen import plot, world
    from volscen.generators import load

    assert model is not None
    fitted: Any = load(model)
    if kind == "attention":
        attention = getattr(fitted, "attention", None)
        if attention is None:
            raise InputError(f"--model {model}: generator {fitted.name!r} pays no attention")
        return lambda **options: plot.attention_map(attention(ds), **options)
    if kind == "latent-path":
        return lambda **options: plot.latent_path(world.latents(fitted, ds), **options)
    if kind == "stress":
        return lambda **options: plot.animate_stress(world.stress(fitted, ds, **options), out)
    return lambda **options: _reconstruction(fitted, ds, **options)


def _reconstruction(fitted: Any, ds: xr.Dataset, n: int = 5) -> Any:
    import numpy as np

    from volscen import plot, select_dates, world

    if isinstance(n, int) and n > 0:  # only what is drawn need be decoded
        rows = np.unique(np.linspace(0, ds.sizes["date"] - 1, n).round().astype(int))
        ds = select_dates(ds, ds["date"].values[rows])
    return plot.reconstruction(world.reconstruct(fitted, ds), n=n)


def _portfolio(ds: xr.Dataset, until: str | None) -> Callable[..., Any]:
    """Policies that learn from the first dates, on the others."""
    from volscen import agent, plot
    from volscen._dates import to_day
    from volscen.schema import HISTORY, validate

    validate(ds, schema=HISTORY)
    dates = ds["date"].values.astype("datetime64[D]")
    last = dates[len(dates) // 2] if until is None else to_day(until, "--until")
    past, rest = ds.isel(date=dates <= last), ds.isel(date=dates >= last)
    if past.sizes["date"] < 2 or rest.sizes["date"] < 2:
        raise InputError(f"--until {last}: the policies learn from dates before and are shown after; both are needed")
    signal = agent.RiskSignal.fit(past)
    policies = {
        "buy and hold": agent.BuyAndHold(),
        "always hedged": agent.AlwaysHedged(),
        "risk velocity": agent.RiskVelocity.calibrate(signal(past["implied_vol"]).values),
        "volatility target": agent.VolatilityTarget(),
    }
    result = agent.simulate(agent.option_market(rest, signal), policies)
    return lambda **options: plot.wealth(result, **options)


def _save(drawn: Any, out: Path, ending: str, dpi: int) -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    from volscen._files import atomic_path

    figure = getattr(drawn, "figure", drawn)
    # The same call writes the same bytes: no dates, no random names.
    dated = {"svg": {"Date": None}, "svgz": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    try:
        with atomic_path(out) as temporary, matplotlib.rc_context({"svg.hashsalt": "volscen"}):
            figure.savefig(temporary, format=ending, dpi=dpi, metadata=dated)
    finally:
        plt.close(figure)
