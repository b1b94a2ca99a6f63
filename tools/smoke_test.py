"""Whether an installed volscen works: ``python tools/smoke_test.py``, from any folder, with its dependencies alone.

A few seconds: kernels against closed forms, the embedded model, files, the command line. For wheels, before anybody
installs them; the test suite judges everything else.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path


def main() -> None:
    """Stop with an error at the first thing that is wrong."""
    os.chdir(tempfile.gettempdir())  # never the sources beside the script
    import numpy as np

    import volscen
    from volscen import _core, arbitrage, black, svi

    assert volscen.__version__ == version("volscen")
    assert (files("volscen") / "py.typed").is_file()
    price = float(black.price(100.0, 100.0, 1.0, 0.2))
    assert abs(price - 100 * math.erf(0.1 / math.sqrt(2))) < 1e-13, price
    vol, status = black.implied_vol(price, 100.0, 100.0, 1.0)
    assert abs(float(vol) - 0.2) < 1e-15
    assert int(status) == 0
    k = np.linspace(-0.4, 0.3, 15)
    truth = [0.02, 0.1, -0.4, 0.05, 0.2]
    assert np.allclose(svi.fit(k, svi.total_variance(truth, k)).parameters, truth, atol=1e-6)
    assert float(arbitrage.penalty(np.full((3, 4), 0.2), [0.1, 0.2, 0.3], [0.8, 0.9, 1.0, 1.1])) == 0

    cube = volscen.generate(n_scenarios=1000, horizon=2, seed=1)
    assert abs(float(cube.weight.sum()) - 1) < 1e-12
    assert bool((cube.implied_vol > 0).all())
    call = volscen.Option("call", moneyness=1.0, tau=60 / 365)
    hedge = volscen.hedge(cube, volscen.Portfolio.straddle(moneyness=1.0, tau=0.25), [volscen.Underlying(), call])
    assert float(hedge.r_squared) > 0.9
    with tempfile.TemporaryDirectory() as folder:
        path = volscen.write(cube, Path(folder) / "scenarios.nc")
        assert volscen.read(path).equals(cube)
        model = volscen.fit(volscen.datasets.sample_history(), "bootstrap")
        model.save(Path(folder) / "model.safetensors")
        assert volscen.load(Path(folder) / "model.safetensors").name == "bootstrap"
        told = subprocess.check_output([sys.executable, "-m", "volscen.cli", "info", str(path)], text=True)
        assert "volscen/scenarios/1" in told
    print(f"volscen {volscen.__version__} works: Python {sys.version.split()[0]}, instruction set {_core.simd_level()}")


if __name__ == "__main__":
    main()
