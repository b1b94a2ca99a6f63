"""Repair on published evaluation cells and on closing quotes: accuracy, coverage, stale quotes, arbitrage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import volscen
from volscen._repair._base import Observations, load_predictor, quote_noise

pytestmark = pytest.mark.real

#: Largest error in vol and least area under the curve of each cell; families the library does not have come last.
CELLS = {
    "shifted_ssvi_regular": (0.0035, 0.78),
    "shifted_ssvi_adversarial": (0.0075, 0.76),
    "sabr_event_regular": (0.0075, 0.70),
    "sabr_event_adversarial": (0.021, 0.67),
}


@pytest.mark.parametrize("name", CELLS)
def test_published_cells(market_data, name):
    with np.load(market_data / "repair" / "repair_cells.npz") as file:
        w, mask, quoted = (file[f"{name}__{part}"].astype(float) for part in ("true_w", "mask", "obs_w"))
        tau, k = file["T_GRID"], file["K_GRID"]
    mask = mask > 0
    truth = np.sqrt(w / tau[:, None])
    vol = np.where(mask, np.sqrt(quoted / tau[:, None]), np.nan)
    noise = quote_noise(tau[:, None], k)
    found = volscen.repair(vol, tau=tau, moneyness=np.exp(k), noise=noise)
    error = np.where(mask, np.nan, found.implied_vol.values - truth)
    largest, least = CELLS[name]
    assert np.sqrt(np.nanmean(error**2, axis=(1, 2))).mean() < largest
    ends = found.sel(level=0.8)
    inside = ((ends.lower.values <= truth) & (truth <= ends.upper.values))[~mask].mean()
    assert 0.74 <= inside <= 0.88
    judged = volscen.surface.diagnose(found[["implied_vol"]])
    for violation in ("calendar", "butterfly", "call_spread", "durrleman"):
        assert int(judged[f"{violation}_violations"].sum()) == 0
    assert (found.durrleman_g_min >= 2e-4).all()
    alarm = ((found.surface_flag.values & 2) > 0).mean()
    assert alarm > 0.9 if name.startswith("sabr") else alarm < 0.1
    rng = np.random.default_rng(3)
    stale = mask & (rng.random(mask.shape) < 0.08)
    wrong = vol + stale * rng.choice([-1, 1], mask.shape) * rng.uniform(0.005, 0.011, mask.shape)
    score = volscen.repair(wrong, tau=tau, moneyness=np.exp(k), noise=noise, free="none").stale_score.values
    assert roc_auc_score(stale[mask], score[mask]) > least


def test_hidden_closing_quotes_are_predicted_better_than_by_slices(market_data):
    table = pd.read_parquet(market_data / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    table = table.rename(columns={"close": "price", "type": "option_type"})
    rng = np.random.default_rng(0)
    errors: dict[str, list[float]] = {"default": [], "svi": [], "essvi": [], "linear": []}
    for day in rng.choice(sorted(table["date"].unique())[50:], 20, replace=False):
        rows = table.loc[table["date"] == day, ["date", "expiry", "option_type", "strike", "price"]]
        quotes = volscen.Chain(rows).quotes
        tau, k, vol = (quotes[name].to_numpy() for name in ("tau", "log_moneyness", "implied_vol"))
        hidden = rng.random(tau.size) < 0.6
        log_vol = np.where(hidden, np.nan, np.log(vol))[None]
        observed = Observations(tau, k, (1, 1), log_vol, (quote_noise(tau, k) / vol)[None])
        for name, found in errors.items():
            miss = np.exp(load_predictor(name).predict(observed).mean[0]) - vol
            found.append(float(np.sqrt((miss[hidden] ** 2).mean())))
    mean = {name: np.mean(values) for name, values in errors.items()}
    assert mean["default"] < 0.75 * min(mean["svi"], mean["essvi"], mean["linear"])
