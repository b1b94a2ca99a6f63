"""The head of the page: what it is about, its main figures, what to beware of; and its foot: where it comes from."""

from __future__ import annotations

import numpy as np

from volscen import risk, schema
from volscen._report._html import Cell, Number, caution, escape, number, per_cent, table
from volscen._report._risk import interval_text
from volscen._report._subject import Subject
from volscen._report_text import sole_text
from volscen._reweight import effective_sample_size, weighing_penalty
from volscen._statistics import quantile
from volscen._version import __version__
from volscen.risk._measures import sole_share

__all__ = ["overview", "provenance"]

#: Share of effective scenarios below which the reader is warned.
_FEW_EFFECTIVE = 0.1


def overview(subject: Subject) -> str:
    """Main figures as tiles, and cautions."""
    w, returns = subject.weight, subject.growth[:, -1]
    tiles = []
    alpha = subject.levels[-1]
    loss = f"{100 * (1 - alpha):g}%"
    index = [float(f(returns, w, alpha=alpha)) for f in (risk.value_at_risk, risk.expected_shortfall)]
    if subject.book is not None:
        for measure, short in (("value_at_risk", "VaR"), ("expected_shortfall", "ES")):
            value, ends = interval_text(subject, measure, alpha)
            tiles.append((f"book {short} {loss}", value, ends and f"95% interval {ends}"))
    tiles += [
        (f"index VaR {loss}", per_cent(index[0]), f"ES {per_cent(index[1]).text} of spot"),
    ]
    low, middle, high = quantile(subject.atm[:, -1, 0], w, [0.05, 0.5, 0.95])
    tiles.append(
        (
            f"{365 * subject.tenors[0]:.0f}-day volatility",
            per_cent(float(middle)),
            f"median; now {per_cent(float(subject.atm0[0])).text}; 5–95% {per_cent(low).text} to {per_cent(high).text}",
        )
    )
    x, y = np.log1p(returns), np.log(subject.atm[:, -1, 0] / subject.atm0[0])
    sx, sy = (np.sqrt(w @ np.square(v - w @ v)) for v in (x, y))
    if sx > 1e-12 and sy > 1e-12:
        rho = float(w @ ((x - w @ x) * (y - w @ y)) / (sx * sy))
        tiles.append(("return and volatility", number(rho, 2, sign=True), "correlation of log moves, weighted"))
    ess = float(effective_sample_size(w))
    tiles.append(("effective scenarios", Number(ess, f"{ess:,.0f}"), f"{100 * ess / w.size:.1f}% of {w.size:,}"))
    phi = subject.ds[weighing_penalty(subject.ds)].sum("step").values
    tiles.append(
        (
            "arbitrage penalty",
            number(float(w @ phi), 2),
            f"weighted mean; {number(float(phi.mean()), 2).text} before weighting",
        )
    )
    boxes = "".join(
        f'<li><span class="what">{escape(what)}</span><strong data-v="{value.value:.12g}">{escape(value.text)}</strong>'
        f'<span class="more">{escape(more)}</span></li>'
        for what, value, more in tiles
    )
    return caution([*_cautions(subject, ess), *subject.cautions]) + f'<ul class="tiles">{boxes}</ul>'


def _cautions(subject: Subject, ess: float) -> list[str]:
    ds, found = subject.ds, []
    texts = " ".join(str(ds.attrs.get(name, "")) for name in ("title", "source"))
    if "simulated" in texts.lower():
        found.append("The data behind these scenarios are simulated: the figures describe no real market.")
    if "state_clipped" in ds and bool(np.any(ds["state_clipped"].values)):
        found.append("The starting state lies outside what the generator was fitted on.")
    if ess < _FEW_EFFECTIVE * subject.weight.size:
        found.append(f"Only {ess:,.0f} of {subject.weight.size:,} scenarios are effective: tails rest on few of them.")
    for level in subject.levels:
        if (text := sole_text(sole_share(subject.judged, subject.weight, alpha=level), level)) is not None:
            found.append(f"{text[0].upper()}{text[1:]}.")
    if "implausible" in ds.attrs:
        found.append(f"As drawn: {ds.attrs['implausible']}.")
    if "projection_status" in ds and int((ds["projection_status"].values > 1).sum()):
        count = int((ds["projection_status"].values > 1).sum())
        found.append(f"{count:,} projected surfaces may not be the nearest ones.")
    if subject.history is not None:
        last = str(subject.history["date"].values[-1].astype("datetime64[D]"))
        if last != subject.day:
            found.append(
                f"The history ends on {last}, the scenarios start from {subject.day}: lines of the two do not meet."
            )
        elif not _same_start(subject):
            found.append(
                f"On {last} the history holds another surface than the one that the scenarios start from: it is of "
                "another underlying, or was built anew since."
            )
    return found


def _same_start(subject: Subject) -> bool:
    """Whether the history's last surface is that of the scenarios, but for rounding and half a basis point of vol."""
    assert subject.history is not None
    held = subject.history["implied_vol"].isel(date=-1).transpose("tau", "moneyness").values
    began = subject.ds["implied_vol0"].transpose("tau", "moneyness").values
    return bool(np.allclose(held, began, rtol=0, atol=5e-5))


def provenance(subject: Subject) -> str:
    """Where everything comes from, as the files say."""
    a = subject.ds.attrs
    tau, moneyness = subject.start.tau, subject.start.moneyness
    rows: list[tuple[Cell, ...]] = [
        ("scenarios", str(a["title"])),
        ("source", str(a["source"])),
        ("generator", str(a["generator"])),
        ("start", f"{subject.day}, spot {subject.start.spot:,.6g}"),
        ("horizon", f"{subject.horizon}, {len(subject.labels)} step(s), {float(a['periods_per_year']):g} a year"),
        ("grid", f"{tau.size} maturities from {365 * tau[0]:.4g} to {365 * tau[-1]:.4g} days, {moneyness.size} of K/F"
                 f" from {moneyness[0]:.4g} to {moneyness[-1]:.4g}"),
        ("seed", str(a["seed"])),
        ("projected", str(a["projected"])),
        ("calendar", schema.calendar_of(subject.ds)),
        ("day count", str(a["day_count"])),
        ("data fingerprint", str(a["data_fingerprint"])),
        ("written by", f"volscen {a['volscen_version']}"),
    ]  # fmt: skip
    if subject.history is not None:
        dates = subject.history["date"].values.astype("datetime64[D]")
        rows.append(("history", f"{subject.history.attrs['title']}: {dates[0]} to {dates[-1]}, {dates.size:,} dates"))
    if subject.book is not None:
        rows.append(
            ("book", f"{len(subject.book):,} position(s), value {number(float(subject.profit['value0'].sum())).text}")
        )
    rows.append(
        ("page", f"volscen {__version__}; every statistic uses the scenario weights unless it says equal weights")
    )
    return table(("", ""), rows, caption="Where this comes from", id="provenance-table", wrap=True)
