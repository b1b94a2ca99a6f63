"""The verb: one self-contained page about scenarios."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy.typing as npt

from volscen._files import atomic_path, check_writable
from volscen._report._card import card
from volscen._report._components import components
from volscen._report._explorer import check_shown, explorer
from volscen._report._fans import fans
from volscen._report._hedge import hedges
from volscen._report._overview import overview, provenance
from volscen._report._page import Section, page
from volscen._report._risk import book_risk
from volscen._report._subject import Subject
from volscen._report._tail import tail
from volscen._report._weights import weights
from volscen.errors import InputError
from volscen.risk import LEVELS

__all__ = ["report"]


def report(
    scenarios: Any,
    history: Any = None,
    portfolio: Any = None,
    model: Any = None,
    *,
    instruments: Any = None,
    method: str = "auto",
    evaluation: Any = None,
    alpha: npt.ArrayLike = LEVELS,
    elapsed_days: npt.ArrayLike | None = None,
    title: str | None = None,
    n_shown: int = 41,
    path: str | Path = "report.html",
) -> Path:
    """Write one self-contained HTML page about a scenario set, and what goes with it.

    Parameters
    ----------
    scenarios : xarray.Dataset or path
        Scenarios of one date (``volscen/scenarios/1``), not lazy.
    history : xarray.Dataset or path, optional
        On the same grid. Dates after the one the scenarios start from are left out; the days before lead into the
        fans, its components stand beside the scenarios', and the tail is compared with its days.
    portfolio : Portfolio, list of instruments, path or pandas.DataFrame, optional
        Valued on the scenarios: risk, contributions, hedges; the tail is then the book's, and otherwise the index's.
        Paths and frames are read by :meth:`volscen.Portfolio.from_table`.
    model : Generator or path, optional
        Fitted, for its model card.
    instruments : list of instruments, path or pandas.DataFrame, optional
        What the book may be hedged with. By default the underlying and at-the-money calls of up to two maturities
        that the book does not hold.
    method : str
        Of :func:`volscen.hedge`.
    evaluation : xarray.Dataset or path, optional
        Figures of the model from :func:`volscen.evaluate`, for the card.
    alpha : float or array_like
        Tail probabilities in (0, 1); the smallest one is that of the main figures.
    elapsed_days : array_like, shape (step,), optional
        Calendar days to each step, as for :func:`volscen.portfolio.revalue`.
    title : str, optional
        Heading of the page; the title of the scenarios when omitted.
    n_shown : int
        Scenarios that the sliders lead through, 3 to 200; fewer where the grid is large.
    path : str or Path
        File to write, ending in ``.html`` or ``.htm``; whole or not at all.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If ``scenarios`` hold several dates or assets or are lazy, the grids differ, the portfolio cannot be valued, an
        argument is without what it belongs to, or the file cannot be written.
    FileFormatError
        If a dataset breaks its schema.

    Notes
    -----
    The page loads nothing from anywhere, holds no time of writing and no random number: the same input gives the same
    bytes. All text from files is escaped, and the page forbids any script but its own. Warnings about the book's
    valuation and its hedge are shown on the page.

    Examples
    --------
    >>> import tempfile, volscen
    >>> cube = volscen.generate(n_scenarios=500, seed=1)
    >>> book = volscen.Portfolio.straddle(moneyness=1, tau=0.25)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = volscen.report(cube, portfolio=book, path=f"{folder}/a.html")
    ...     page.name, page.stat().st_size < 5_000_000
    ('a.html', True)
    """
    target = _target(path)
    n_shown = check_shown(n_shown)
    if title is not None and not (isinstance(title, str) and title.strip()):
        raise InputError(f"title must be a text, not {title!r}")
    if portfolio is None and instruments is not None:
        raise InputError("instruments hedge a portfolio; give portfolio too")
    if model is None and evaluation is not None:
        raise InputError("evaluation belongs to a model's card; give model too")
    subject = Subject.of(scenarios, history, portfolio, alpha, elapsed_days)
    if subject.book is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _ = subject.profit
        subject.cautions += [str(warning.message) for warning in caught]
    surfaces, data = explorer(subject, n_shown)
    sections = [
        Section("overview", "Overview", overview(subject)),
        Section("surfaces", "Surfaces", surfaces),
        Section("paths", "Paths", fans(subject), grid=True),
        Section("tail", "Tail", tail(subject), grid=True),
    ]
    if subject.book is not None:
        sections.append(Section("risk", "Risk", book_risk(subject), grid=True))
        sections.append(Section("hedge", "Hedge", hedges(subject, instruments, method), grid=True))
    sections += [
        Section("weights", "Weights", weights(subject), grid=True),
        Section("components", "Components", components(subject), grid=True),
    ]
    if model is not None:
        sections.append(Section("model", "Model", card(model, _whole_history(history), evaluation)))
    sections.append(Section("source", "Source", provenance(subject)))
    text = page(subject, sections, data, title)
    with atomic_path(target) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
    return target


def _target(path: str | Path) -> Path:
    if not isinstance(path, (str, Path)) or not str(path):
        raise InputError(f"path must be a file name, not {path!r}")
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"path must end in .html, not {str(path)!r}")
    check_writable(target)
    return target


def _whole_history(history: Any) -> Any:
    """For the card, the days after the scenarios' start are of interest too."""
    if isinstance(history, (str, Path)):
        from volscen._io import read_dataset
        from volscen.schema import HISTORY

        return read_dataset(history, kind=HISTORY)
    return history
