"""``ds.volscen``: there for every dataset, at no cost to the import, and nothing but the plain functions."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import volscen
from scenario_toys import make_scenarios

plt = pytest.importorskip("matplotlib.pyplot")

FOUND = "print(type(xr.Dataset().volscen).__name__)"


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        f"import importlib.util, volscen\nimportlib.util.find_spec('xarray')\nfrom xarray import Dataset\n"
        f"import xarray as xr\n{FOUND}",
        f"import xarray as xr\nimport volscen, importlib\nimportlib.reload(volscen)\n{FOUND}",
    ],
    ids=["before", "after"],
)
def test_registered_whenever_xarray_is_imported(code):
    assert run(code) == "VolscenAccessor"


def test_import_stays_light_and_any_dataset_opened_has_it(tmp_path):
    path = tmp_path / "cube.nc"
    volscen.write(make_scenarios(10), path)
    code = (
        "import json, sys, volscen\nlight = 'xarray' not in sys.modules and 'volscen._accessor' not in sys.modules\n"
        f"import xarray\nwith xarray.open_dataset({str(path)!r}) as ds:\n"
        "    ess = ds.volscen.effective_sample_size()\n"
        "left = [f for f in sys.meta_path if type(f).__module__.startswith('volscen')]\n"
        "import importlib.resources as r\n"
        "print(json.dumps([light, ess, len(left), r.files('xarray').is_dir(), 'matplotlib' in sys.modules]))"
    )
    assert json.loads(run(code)) == [True, pytest.approx(10), 0, True, False]


def test_a_failed_import_of_xarray_is_tried_again(tmp_path):
    """Another package of that name that breaks must not lose the accessor for good."""
    (tmp_path / "xarray.py").write_text("raise ImportError('broken')")
    code = (
        f"import sys, volscen\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "try:\n    import xarray\nexcept ImportError as error:\n    print(error)\n"
        f"sys.path.remove({str(tmp_path)!r})\nimport xarray as xr\n{FOUND}"
    )
    assert run(code).split() == ["broken", "VolscenAccessor"]


def test_figures_are_the_plain_functions():
    weight = np.random.default_rng(0).dirichlet(np.full(50, 0.3))
    cube = make_scenarios(50, steps=2, weight=weight)
    xr.testing.assert_identical(cube.volscen.weighted_mean("spot"), volscen.weighted_mean(cube, "spot"))
    xr.testing.assert_identical(
        cube.volscen.weighted_quantile("spot", [0.1, 0.9]), volscen.weighted_quantile(cube, "spot", [0.1, 0.9])
    )
    assert cube.volscen.effective_sample_size() == pytest.approx(1 / np.sum(weight**2))
    assert cube.volscen.validate() is cube
    assert "volscen/scenarios/1" in repr(cube.volscen)
    assert "no schema" in repr(xr.Dataset().volscen)


def test_effective_sample_size_by_date():
    weights = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    ds = xr.Dataset({"weight": (("as_of", "scenario"), weights)})
    np.testing.assert_allclose(ds.volscen.effective_sample_size(), [2, 1])
    assert ds.volscen.effective_sample_size().dims == ("as_of",)


def test_methods_draw_what_the_functions_draw():
    cube = make_scenarios(60, steps=3, weight=np.random.default_rng(1).dirichlet(np.ones(60)))
    one, ax = cube.isel(step=0), plt.subplots()[1]
    history = volscen.datasets.sample_history()
    hedge = volscen.hedge(cube, volscen.Portfolio.straddle(moneyness=1.0, tau=0.25), [volscen.Underlying()])
    assert cube.volscen.plot_fan("spot", ax=ax) is ax
    pairs = [
        (one.volscen.plot_surface(kind="heatmap", q=0.9), volscen.plot.surface(one, kind="heatmap", q=0.9)),
        (one.volscen.plot_smile(tau="1Y"), volscen.plot.smile(one, tau="1Y")),
        (
            cube.volscen.plot_fan("log_return", levels=(0.1, 0.9)),
            volscen.plot.fan(cube, "log_return", levels=(0.1, 0.9)),
        ),
        (history.volscen.plot_pca(n_components=2), volscen.plot.pca(history, n_components=2)),
        (cube.volscen.plot_weights(kind="sorted"), volscen.plot.weights(cube, kind="sorted")),
        (cube.volscen.plot_arbitrage(weighted=False), volscen.plot.arbitrage(cube, weighted=False)),
        (hedge.volscen.plot_hedge_ratios(kind="residuals"), volscen.plot.hedge_ratios(hedge, kind="residuals")),
    ]
    for own, plain in pairs:
        assert own.get_title() == plain.get_title()
        for a, b in zip(own.lines, plain.lines, strict=True):
            np.testing.assert_array_equal(a.get_data(), b.get_data())
        for a, b in zip(own.collections, plain.collections, strict=True):
            if a.get_array() is not None:
                np.testing.assert_array_equal(a.get_array(), b.get_array())
        assert len(own.patches) == len(plain.patches)
