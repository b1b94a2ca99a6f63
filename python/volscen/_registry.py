"""Names of the generators, without what they need: the command line lists them before anything heavy is imported."""

from __future__ import annotations

__all__ = ["DEFAULT", "REGISTRY"]

#: Generator where none is named.
DEFAULT = "har"

#: Name of each generator -> module and class, imported on first use.
REGISTRY: dict[str, tuple[str, str]] = {
    "bootstrap": ("volscen.generators._bootstrap", "Bootstrap"),
    "ddpm": ("volscen.generators._ddpm", "Diffusion"),
    "fhs": ("volscen.generators._fhs", "FilteredHistorical"),
    "har": ("volscen.generators._har", "RobustHAR"),
    "heston": ("volscen.generators._heston", "Heston"),
    "pca": ("volscen.generators._pca", "ScaledPCA"),
    "residual_net": ("volscen.generators._residual_net", "ResidualNet"),
    "sabr": ("volscen.generators._sabr", "SABR"),
    "vae_lstm": ("volscen.generators._vae_lstm", "VaeLstm"),
    "volgan": ("volscen.generators._volgan", "VolGAN"),
    "world": ("volscen.generators._world", "WorldModel"),
}
