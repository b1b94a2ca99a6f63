"""The configuration that ``volscen config example`` prints."""

from __future__ import annotations

__all__ = ["EXAMPLE"]

EXAMPLE = """\
# A nightly run:  volscen run nightly.toml
# Tables bear the names of commands and hold their options: 'volscen config keys generate' lists them. Steps whose
# table is not here do not run. File names count from the folder of this file.

[run]
history = "history.nc"            # files that the steps share
model = "model.safetensors"
scenarios = "scenarios.nc"
portfolio = "portfolio.csv"
instruments = "instruments.csv"
refit = "year"                    # fit anew when a new year has begun; other nights update the model

[history.build]                   # the first night only
quotes = "quotes.csv"
days = [30, 60, 91]
moneyness = [0.9, 0.95, 1.0, 1.05, 1.1]
# columns = { price = "close", option_type = "type" }    # where your names differ
# calendar = "XNYS"

[history.update]                  # adds the days that are new
quotes = "quotes.csv"             # read as [history.build] reads its own, unless source, read or columns stand here

[monitor]                         # exit code 3 when the model is due for a refit
window = 60

[fit]
generator = "har"
# option = { n_components = 5 }

[generate]                        # without a seed the date is one, so that a night can be run again
n_scenarios = 10_000
horizon = 10

[risk]
alpha = [0.05, 0.01]
out = "positions.csv"

[stress]
shock = ["name=crash,log_return=-0.1,level=0.08,skew=0.02", "name=calm,log_return=0.03,level=-0.02"]

[hedge]
step = 1
out = "hedge.nc"

[export]
out = "scenarios.parquet"
wide = true
"""
