"""Make the sample history and the default generator that ship in ``python/volscen/data``.

Run from the repository root after changing the simulated market or the default generator:

    python tools/make_embedded_default.py
"""

from __future__ import annotations

from pathlib import Path

import volscen
from volscen._files import atomic_path
from volscen._io import read_dataset
from volscen.sources.simulate import simulate_market

DATA = Path(__file__).parents[1] / "python" / "volscen" / "data"
SEED = 20240102
N_DAYS = 1500
# Steps of the stored vols: far below the market's noise (0.1% of the vol), and up to 131% in 16 bits.
VOL_STEP = 2e-5


def main() -> None:
    """Write both files."""
    DATA.mkdir(exist_ok=True)
    history = simulate_market("A", N_DAYS, seed=SEED, start="2019-01-02")
    path = DATA / "sample_history.nc"
    packed = {"dtype": "uint16", "scale_factor": VOL_STEP, "_FillValue": 65535, "zlib": True, "complevel": 9}
    with atomic_path(path) as temporary:
        history.to_netcdf(temporary, encoding={"implied_vol": {**packed, "shuffle": True}})
    # Fitted on what a user reads, which is the history after packing.
    model = volscen.fit(read_dataset(path))
    model.save(DATA / "default_generator.safetensors")
    for file in sorted(DATA.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
