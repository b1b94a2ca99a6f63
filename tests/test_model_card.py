"""Model cards: complete, true to the model and its evaluation, and Markdown that renders."""

from __future__ import annotations

import re

import numpy as np
import pytest

import volscen
from volscen import evaluation
from volscen.errors import FileFormatError, InputError
from volscen.history import state_at
from volscen.sources.simulate import simulate_market


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 420, seed=4)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history.isel(date=slice(0, 360)), "pca")


@pytest.fixture(scope="module")
def found(history):
    dates = history.date.values
    return volscen.evaluate(["pca", "fhs"], history, first=dates[360], last=dates[384], n_scenarios=100)


def tables(card):
    """Rows of every table by section; every table is whole."""
    out, section = {}, ""
    for line in card.splitlines():
        if line.startswith("## "):
            section = line[3:]
        if line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows = out.setdefault(section, [])
            assert not rows or section == "Training" or len(cells) == len(rows[-1]) or cells[0] == ""
            rows.append(cells)
    return {name: {row[0]: row[1:] for row in rows} for name, rows in out.items()}


def test_every_figure_is_the_models(history, model):
    card = tables(volscen.model_card(model))
    assert card["Model"]["generator"] == ["`pca`"]
    assert card["Model"]["`residual_days`"] == ["`1000`"]
    assert card["Model"]["fitted with"] == [f"volscen {volscen.__version__}, numpy {np.__version__}"]
    data = card["Data"]
    last = str(history.date.values[359])[:10]
    assert data["period"] == [f"2000-01-03 to {last}, 360 dates"]
    assert data["fingerprint"] == [f"`{model.fingerprint_}`"]
    assert data["source"] == [history.attrs["source"]]
    assert data["moneyness K/F"][0].split(", ")[0] == f"{history.moneyness.values[0]:.4g}"
    fitted = history.isel(date=slice(0, 360))
    low, high = data["log returns"][0].split(" to ")
    assert float(low) == pytest.approx(float(fitted.log_return.min()), abs=5e-5)
    assert float(high) == pytest.approx(float(fitted.log_return.max()), abs=5e-5)
    assert "Training" not in card
    assert not any(name.startswith("Scores") for name in card)


def test_figures_of_the_evaluation(model, found, tmp_path):
    card = volscen.model_card(model, evaluation=found)
    scores = tables(card)["Scores of pca"]
    row = evaluation.table(found).loc[("pca", "raw")]
    assert scores["energy score"][1] == f"{row['energy_score']:.4g}"
    assert scores["skill against bootstrap"][1] == f"{row['skill']:.1%}"
    assert scores["Kupiec rejections at 5%, of 42"][1] == str(row["kupiec"])
    assert scores["calibration bands not kept"][1] == row["broken"]
    assert "in sample" not in scores
    share = found.penalty_share.sel(generator="pca", arm="raw").item()
    limits = tables(card)["Limits"]
    assert limits["scenarios with a static-arbitrage penalty above 1e-6"] == [f"{share:.2%}"]
    path = evaluation.write_evaluation(found, tmp_path / "found.nc")
    assert volscen.model_card(model, evaluation=path) == card
    other = volscen.model_card(model, evaluation=found.sel(generator=["fhs"]))
    assert tables(other)["Scores of fhs"]["energy score"][1] != scores["energy score"][1]


def test_days_that_were_fitted_on_are_called_so(history, found):
    later = volscen.fit(history, "pca")
    scores = tables(volscen.model_card(later, evaluation=found))["Scores of pca"]
    assert scores["in sample"] == [f"the days up to {found.attrs['last']} were fitted on"]


def test_what_came_since(history, model):
    since = tables(volscen.model_card(model, history=history))["Since the fit"]
    assert since["dates after the fit"] == ["60"]
    assert "holds the data fitted on" in since["history"][0]
    dates = history.date.values[360:]
    outside = [
        model.is_outside(state_at(history, day, n_returns=model.n_returns, n_surfaces=model.n_surfaces))
        for day in dates
    ]
    assert since["their states outside what was fitted on"] == [f"{np.mean(outside):.2%}"]
    stormy = history.copy(deep=True)
    stormy.implied_vol[375:] *= 4
    stormy.log_return[390:] = 0.5
    since = tables(volscen.model_card(model, history=stormy))["Since the fit"]
    vol, low, high = stormy.implied_vol.values[360:], *model.record_.implied_vol
    beyond = [(day < low).any() or (day > high).any() for day in vol]
    assert since["their surfaces with a vol beyond those fitted on"] == [f"{sum(beyond) / 60:.2%}"]
    assert 45 <= sum(beyond) < 60
    assert since["their returns beyond those fitted on"] == [f"{30 / 60:.2%}"]
    changed = history.copy(deep=True)
    changed.implied_vol[5, 0, 0] *= 1.01
    since = tables(volscen.model_card(model, history=changed))["Since the fit"]
    assert "does not hold the data fitted on" in since["history"][0]


def test_a_history_that_begins_earlier_still_holds_the_data(history):
    """A model fitted on a history of its own, which has no return on its first day."""
    part = history.isel(date=slice(100, 300)).copy(deep=True)
    part.log_return[0] = np.nan
    for fitted_on in (part, history.isel(date=slice(100, 300))):
        model = volscen.fit(fitted_on, "bootstrap")
        since = tables(volscen.model_card(model, history=history))["Since the fit"]
        assert "; holds the data" in since["history"][0]


def test_training_and_its_curve(history):
    one = volscen.fit(history, "volgan", epochs=4, validate_every=2, matching_epochs=1, progress=False)
    training = tables(volscen.model_card(one))["Training"]
    assert training["epochs trained"] == ["4"]
    assert training["epoch kept"] == [str(one.epoch_)]
    best = one.validation_curve_[:, 1].min()
    assert training["best fair energy score on the validation days"][0].startswith(f"{best:.5g} at epoch {one.epoch_}")
    loss = one.training_curve_[:, 0]
    assert training["cross-entropy of the discriminator"] == [f"{loss[i]:.5g}" for i in sorted({0, one.epoch_ - 1, 3})]


def test_text_stays_in_its_cell(history):
    odd = history.assign_attrs(source="a | b\nc <script>")
    card = volscen.model_card(volscen.fit(odd, "bootstrap"), intended_use="One desk's nightly run.")
    assert "| source | a \\| b c &lt;script> |" in card
    assert tables(card)["Data"]["source"] == ["a | b c &lt;script>"]
    assert "## Intended use\n\nOne desk's nightly run.\n" in card
    assert "None stated." in volscen.model_card(volscen.fit(history, "bootstrap"))


def test_a_card_renders(history, model, found):
    """Where a Markdown parser is installed, every table is one."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    card = volscen.model_card(model, history=history, evaluation=found)
    html = markdown.render(card)
    assert html.count("<table>") == 6
    assert "|" not in re.sub(r"<code>.*?</code>", "", html)


def test_what_a_card_refuses(history, model, found):
    with pytest.raises(InputError, match="fitted generator"):
        volscen.model_card(volscen.generators.generator_class("pca")())
    with pytest.raises(InputError, match=r"volscen\.evaluate returns"):
        volscen.model_card(model, evaluation=history)
    with pytest.raises(InputError, match="none named 'har'"):
        volscen.model_card(volscen.fit(history, "har"), evaluation=found)
    with pytest.raises(InputError, match=r"give the \.nc file"):
        volscen.model_card(model, evaluation="found.csv")
    with pytest.raises(FileFormatError, match="not a readable evaluation"):
        volscen.model_card(model, evaluation="absent.nc")
    with pytest.raises(InputError, match="intended_use"):
        volscen.model_card(model, intended_use=" ")
    with pytest.raises(InputError, match="tau"):
        volscen.model_card(model, history=history.isel(tau=slice(1, None)))
