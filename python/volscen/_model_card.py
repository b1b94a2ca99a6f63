"""Model cards: one page of Markdown on a fitted generator, every figure read from the model or its evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from volscen import schema
from volscen._version import __version__
from volscen.errors import FileFormatError, InputError
from volscen.generators import Generator, load
from volscen.generators._record import ARBITRAGE
from volscen.history import state_at

__all__ = ["model_card", "read_evaluation", "training_summary"]

#: Figures of an evaluation: column of evaluation.table, what it is, format.
_FIGURES = (
    ("energy_score", "energy score", ".4g"),
    ("skill", "skill against {baseline}", ".1%"),
    ("skill_low", "lower end of its 95% interval", ".1%"),
    ("skill_high", "upper end of its 95% interval", ".1%"),
    ("dm_t", "Diebold-Mariano t against {baseline}", ".2f"),
    ("holm_p", "its p-value, adjusted (Holm)", ".3g"),
    ("coverage_50", "coverage of 50% intervals, mean over cells", ".3f"),
    ("coverage_90", "coverage of 90% intervals", ".3f"),
    ("coverage_95", "coverage of 95% intervals", ".3f"),
    ("coverage_99", "coverage of 99% intervals", ".3f"),
    ("worst_cell_95", "largest distance of a cell's 95% coverage", ".3f"),
    ("ks_return", "KS distance of the return's PIT", ".3f"),
    ("ks_atm30", "KS distance of the at-the-money vol's PIT", ".3f"),
    ("ks_worst", "largest KS distance among cells", ".3f"),
    ("kupiec", "Kupiec rejections at 5%, of {tests}", "d"),
    ("violations_2.5", "violations of 2.5% value at risk over nominal", ".2f"),
    ("penalty", "mean arbitrage penalty of scenarios", ".3g"),
    ("penalty_data", "mean arbitrage penalty of the data", ".3g"),
    ("ess", "least effective sample size", ".1%"),
    ("pc1", "first component's inner product with the data's", ".3f"),
    ("corr_error", "error of the return-vol correlation", ".3f"),
    ("broken", "calibration bands not kept", ""),
)


def model_card(
    model: Generator | str | Path,
    *,
    history: xr.Dataset | None = None,
    evaluation: xr.Dataset | str | Path | None = None,
    intended_use: str | None = None,
) -> str:
    r"""Model card of a fitted generator, in Markdown.

    Parameters
    ----------
    model : Generator or path
        Fitted, or the file of one.
    history : xarray.Dataset, optional
        On the model's grid; the card then tells how its dates after the fit compare with what was fitted on.
    evaluation : xarray.Dataset or path, optional
        From :func:`volscen.evaluate`, or the ``.nc`` file of one. Where it holds several generators, the one labelled
        with the model's name, or the only one that is no baseline, is taken; ``evaluation.sel(generator=["label"])``
        chooses another.
    intended_use : str, optional
        Statement of the model's owner, taken over as it is. Omitted, the card says that none was made.

    Returns
    -------
    str
        Generator and parameters, data (fingerprint, period, grid, calendar, ranges, share of arbitrage), training
        and its curves, scores, limits, versions. Nothing is written that the arguments do not hold; what an early
        version's file lacks is said to be not recorded.

    Raises
    ------
    InputError
        If the model is not fitted, the grids differ, or the evaluation leaves open which generator is meant.

    Notes
    -----
    The sections follow Mitchell et al. (2019), "Model cards for model reporting".

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> card = volscen.model_card(volscen.fit(history, "pca"))
    >>> print("\n".join(card.splitlines()[:3]))
    # Model card: pca
    <BLANKLINE>
    PCA-VAR of log-vol increments and return, with state-dependent scale and bootstrapped residuals.
    """
    if isinstance(model, (str, Path)):
        model = load(model)
    if not isinstance(model, Generator) or not model.is_fitted:
        raise InputError(f"model must be a fitted generator or the path of one, not {model!r}")
    if intended_use is not None and not (isinstance(intended_use, str) and intended_use.strip()):
        raise InputError(f"intended_use must be a text, not {intended_use!r}")
    found = _chosen(evaluation, model) if evaluation is not None else None
    lines = [f"# Model card: {model.name}", "", _cell(_summary_line(model)), ""]
    lines += _section("Model", _model_rows(model))
    lines += _section("Data", _data_rows(model))
    lines += _training(model)
    if found is not None:
        lines += _scores(model, found)
    lines += _section("Limits", _limit_rows(model, found))
    if history is not None:
        lines += _section("Since the fit", _since_rows(model, history))
    lines += ["## Intended use", "", _statement(intended_use), ""]
    lines += [f"Written by volscen {__version__} from the model{_sources(history, evaluation)}.", ""]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------- sections
def _model_rows(model: Generator) -> Iterator[tuple[str, str]]:
    yield "generator", f"`{model.name}`"
    for name, value in model.parameters().items():
        yield f"`{name}`", f"`{json.dumps(value)}`"
    yield "state needed", f"returns: {model.n_returns}, surfaces: {model.n_surfaces}"
    versions = None if model.record_ is None else model.record_.versions
    text = "not recorded" if versions is None else ", ".join(f"{name} {number}" for name, number in versions.items())
    yield "fitted with", text


def _data_rows(model: Generator) -> Iterator[tuple[str, str]]:
    record = model.record_
    yield "title", "not recorded" if record is None else record.title
    yield "source", "not recorded" if record is None else record.source
    dates = "" if record is None else f", {record.n_dates:,} dates"
    yield "period", f"{model.period_[0]} to {model.period_[1]}{dates}"
    yield "calendar", f"{model.calendar_}, {model.periods_per_year_:g} periods a year"
    yield "maturities, days", ", ".join(f"{365 * tau:.4g}" for tau in model.tau_)
    yield "moneyness K/F", ", ".join(f"{m:.4g}" for m in model.moneyness_)
    yield "fingerprint", f"`{model.fingerprint_}`"
    if record is not None:
        yield "log returns", "{:.4f} to {:.4f}".format(*record.log_return)
        yield "implied vols", "{:.4f} to {:.4f}".format(*record.implied_vol)
        yield "at-the-money vol nearest 30 days", "{:.4f} to {:.4f}".format(*record.atm_vol)
        yield f"surfaces with a static-arbitrage penalty above {ARBITRAGE:g}", f"{record.arbitrage_share:.2%}"


def training_summary(model: Generator) -> list[tuple[str, str]]:
    """Epochs, epoch kept and best scores of a generator that trains; nothing of one that does not."""
    curve = model.curve_
    if curve is None:
        return []
    rows = [("epochs trained", f"{curve.epochs:,}"), ("epoch kept", f"{curve.kept_epoch:,}")]
    for name, values in curve.scores.items():
        best = int(np.argmin(values))
        rows.append(
            (
                f"best {curve.text[name]}",
                f"{values[best]:.5g} at epoch {curve.score_epoch[best]:,}, last {values[-1]:.5g}",
            )
        )
    return rows


def _training(model: Generator) -> list[str]:
    curve = model.curve_
    if curve is None:
        return []
    lines = _section("Training", training_summary(model))
    kept = max(curve.kept_epoch, 1)
    epochs = sorted({1, kept, curve.epochs})  # one column each, where the kept one is the first or the last
    rows: list[Sequence[str]] = [("", *("first epoch" if epoch == 1 else f"epoch {epoch:,}" for epoch in epochs))]
    rows += [
        (curve.text[name], *(f"{values[epoch - 1]:.5g}" for epoch in epochs)) for name, values in curve.losses.items()
    ]
    return [*lines, *_table(rows), ""]


def _scores(model: Generator, found: xr.Dataset) -> list[str]:
    from volscen.evaluation import table

    frame = table(found)
    label = str(found["generator"].values[0])
    attributes = found.attrs
    first, last = str(attributes.get("first", "")), str(attributes.get("last", ""))
    about = [
        (what, str(attributes[name]))
        for name, what in (
            ("first", "first day scored"), ("last", "last day scored"), ("days", "days"),
            ("n_scenarios", "scenarios a day"), ("refit_every", "refitted every"), ("update_every", "updated every"),
            ("train_end", "moves scaled by the days before"), ("volscen_version", "scored with volscen"),
        )
        if name in attributes
    ]  # fmt: skip
    if first and first <= model.period_[1]:
        about.append(("in sample", f"the days up to {min(last, model.period_[1])} were fitted on"))
    if found.sizes.get("seed", 1) > 1:
        about.append(("seeds", f"{found.sizes['seed']}; the one of least skill is shown"))
    tests = int(frame["tests"].iloc[0]) if "tests" in frame else 0
    baseline = str(attributes.get("baseline", "the baseline"))
    rows: list[Sequence[str]] = [("", "weighted", "raw")]
    for column, text, form in _FIGURES:
        if column not in frame:
            continue
        values = [frame.loc[(label, arm), column] for arm in ("weighted", "raw")]
        shown = [(str(value) or "none") if not form else format(value, form) for value in values]
        rows.append((text.format(baseline=baseline, tests=tests), *shown))
    return [*_section(f"Scores of {label}", about), *_table(rows), ""]


def _limit_rows(model: Generator, found: xr.Dataset | None) -> Iterator[tuple[str, str]]:
    yield "draws", "one step a period, on the grid above"
    yield "beyond the data", "a starting state outside what was fitted on is flagged `state_clipped`"
    if model.calendar_ == "unspecified":
        yield "calendar", "unspecified: no holidays known"
    if found is None:
        return
    one = found.isel(generator=0)
    for name, text in (
        ("state_clipped", "days scored whose starting state was"),
        ("penalty_share", "scenarios with a static-arbitrage penalty above 1e-6"),
        ("penalty_share_data", "surfaces of the data scored with one"),
        ("negative_density", "scenarios with negative density (Durrleman's g < 0)"),
        ("falling_variance", "scenarios with falling total variance"),
    ):
        if name in one:
            values = one[name].sel(arm="raw") if "arm" in one[name].dims else one[name]
            yield text, f"{float(values.mean()):.2%}"


def _since_rows(model: Generator, history: xr.Dataset) -> Iterator[tuple[str, str]]:
    schema.validate(history, schema=schema.HISTORY)
    schema.check_same_grid(model.tau_, model.moneyness_, history, f"generator {model.name!r}")
    date = history["date"].values.astype("datetime64[D]")
    first, last = (np.datetime64(day) for day in model.period_)
    fitted = history.isel(date=(date >= first) & (date <= last))
    same = fitted.sizes["date"] > 0 and _holds(fitted, model.fingerprint_)
    yield (
        "history",
        f"{date[0]} to {date[-1]}; "
        + ("holds the data fitted on" if same else "does not hold the data fitted on, or other values of it"),
    )
    later = np.flatnonzero(date > last)
    yield "dates after the fit", f"{later.size:,}"
    needed = max(model.n_returns, model.n_surfaces - 1)
    rows = later[later >= needed]
    if rows.size == 0:
        return
    states = (state_at(history, date[i], n_returns=model.n_returns, n_surfaces=model.n_surfaces) for i in rows)
    clipped = np.mean([model.is_outside(state) for state in states])
    yield "their states outside what was fitted on", f"{clipped:.2%}"
    surface, record = history["implied_vol"].values[rows], model.record_
    if record is not None:
        low, high = record.implied_vol
        yield (
            "their surfaces with a vol beyond those fitted on",
            (f"{np.mean(((surface < low) | (surface > high)).any(axis=(1, 2))):.2%}"),
        )
        moves = history["log_return"].values[rows]
        yield (
            "their returns beyond those fitted on",
            (f"{np.mean((moves < record.log_return[0]) | (moves > record.log_return[1])):.2%}"),
        )


def _holds(history: xr.Dataset, fingerprint: str) -> bool:
    """Whether the history is that of the fingerprint, as a part of a longer one or as it begins on its own."""
    alone = history["log_return"].copy(deep=True)
    alone[0] = np.nan
    return fingerprint in (schema.fingerprint(part) for part in (history, history.assign(log_return=alone)))


# ------------------------------------------------------------------------------------------------- pieces
def _summary_line(model: Generator) -> str:
    return (type(model).__doc__ or "").strip().partition("\n")[0] or type(model).__name__


def _statement(text: str | None) -> str:
    return "None stated." if text is None else text.strip()


def _sources(history: xr.Dataset | None, evaluation: Any) -> str:
    others = [name for name, given in (("a history", history), ("an evaluation", evaluation)) if given is not None]
    return "".join(f", {name}" for name in others[:-1]) + (f" and {others[-1]}" if others else "")


def _section(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"## {title}", "", *_table([("", ""), *rows]), ""]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = [[_cell(text) for text in row] for row in rows]
    rule = ["---"] * len(head)
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]


def _cell(text: str) -> str:
    """Text that stays in its cell: no line breaks, no bars, no HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def read_evaluation(path: str | Path) -> xr.Dataset:
    """Read what :func:`volscen.evaluation.write_evaluation` wrote to a ``.nc`` file."""
    path = Path(path)
    if path.suffix != ".nc":
        raise InputError(f"evaluation {path}: give the .nc file of one, which holds every figure")
    try:
        with xr.open_dataset(path, engine="netcdf4") as found:
            return found.load()
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: not a readable evaluation ({str(error)[:200]})") from None


def _chosen(evaluation: xr.Dataset | str | Path, model: Generator) -> xr.Dataset:
    """Evaluation of this model alone, along a dimension ``generator`` of one."""
    if isinstance(evaluation, (str, Path)):
        evaluation = read_evaluation(evaluation)
    if not isinstance(evaluation, xr.Dataset) or not {"skill", "coverage_mean"} <= set(evaluation.data_vars):
        raise InputError("evaluation must be the dataset that volscen.evaluate returns, or the .nc file of one")
    if "generator" not in evaluation.dims:
        evaluation = evaluation.expand_dims("generator")
    labels = [str(label) for label in evaluation["generator"].values]
    others = [label for label in labels if label not in (evaluation.attrs.get("baseline"), "oracle")]
    if model.name in labels:
        label = model.name
    elif len(labels) == 1:
        label = labels[0]
    elif len(others) == 1:
        label = others[0]
    else:
        raise InputError(
            f"evaluation holds {', '.join(labels)}, none named {model.name!r}; choose one with "
            "evaluation.sel(generator=['label'])"
        )
    return evaluation.sel(generator=[label])
