"""What the VAE-LSTM trains on: panels of assets as padded tensors, base forecasts, days to train and judge on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from volscen.generators._cell_regression import CellRegression
from volscen.generators._vae_lstm_options import VaeLstmOptions
from volscen.generators._vae_lstm_panel import Panel, Units

__all__ = ["Tables"]


@dataclass(frozen=True)
class Tables:
    """Tensors over (assets, days, ...); cells are padded to the largest grid.

    Attributes
    ----------
    logs, mean, sd : Tensor, shape (A, T, cells)
        Log vols; mean and deviation of the 60 days up to each.
    features : Tensor, shape (A, T, features)
    log_return : Tensor, shape (A, T)
        In standard deviations.
    seen, active : Tensor of bool, shape (A, T)
    stale : Tensor, shape (A, T)
    cells : Tensor of bool, shape (A, cells)
        What is no padding.
    base : Tensor, shape (A, T, horizons, cells)
        Changes that the base forecasts.
    unit : Tensor, shape (A, horizons, cells)
        Root mean square change over the training days.
    grids : list of (indices of assets, tau, moneyness)
    train, held : Tensor of int
        Days to forecast from: to train on, and to choose the epoch by.
    n_train : int
        Days of the calendar whose surfaces may be trained on.
    horizons : tuple of int
    """

    logs: Tensor
    mean: Tensor
    sd: Tensor
    features: Tensor
    log_return: Tensor
    seen: Tensor
    active: Tensor
    stale: Tensor
    cells: Tensor
    base: Tensor
    unit: Tensor
    grids: list[tuple[list[int], Tensor, Tensor]]
    train: Tensor
    held: Tensor
    n_train: int
    horizons: tuple[int, ...]

    @classmethod
    def of(
        cls,
        panels: list[Panel],
        units: list[Units],
        bases: list[CellRegression],
        horizons: tuple[int, ...],
        n_train: int,
        options: VaeLstmOptions,
        device: torch.device,
    ) -> Tables:
        """Assemble from the panels of all assets, on one calendar."""
        days, width = len(panels[0].logs), max(panel.logs.shape[1] for panel in panels)

        def padded(arrays: list[npt.NDArray[np.float64]], fill: float = 0.0) -> Tensor:
            out = np.full((len(arrays), *arrays[0].shape[:-1], width), fill, dtype=np.float32)
            for i, array in enumerate(arrays):
                out[i, ..., : array.shape[-1]] = array
            return torch.from_numpy(out).to(device)

        def stacked(arrays: list[npt.NDArray[np.float64]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays).astype(np.float32)).to(device)

        def flags(arrays: list[npt.NDArray[np.bool_]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(device)

        changes, unit = [], []
        rows = np.arange(21, days)
        for panel, base in zip(panels, bases, strict=True):
            foreseen = np.zeros((days, len(horizons), panel.logs.shape[1]))
            foreseen[21:] = base.change(CellRegression.inputs(panel.logs, rows))
            changes.append(foreseen)
            moved = []
            for h in horizons:
                both = (panel.seen[h:] & panel.seen[:-h])[: n_train - h]
                change = (panel.logs[h:n_train] - panel.logs[: n_train - h])[both]
                # Where no two days so far apart were seen, none is judged: any unit will do.
                moved.append(np.sqrt(np.mean(change**2, axis=0)) if len(change) else np.ones(panel.logs.shape[1]))
            unit.append(np.maximum(np.stack(moved), 1e-6))
        grids: dict[tuple[float, ...], list[int]] = {}
        for i, panel in enumerate(panels):
            grids.setdefault((panel.tau.size, *panel.tau, *panel.moneyness), []).append(i)
        active = np.stack([panel.active for panel in panels])
        usable = np.flatnonzero((active & np.stack([panel.seen for panel in panels])).any(axis=0))
        usable = usable[usable >= options.window - 1]
        reach = max(horizons)
        return cls(
            padded([panel.logs for panel in panels]),
            padded([panel.mean for panel in panels]),
            padded([np.maximum(p.sd, u.sd_floor) for p, u in zip(panels, units, strict=True)], 1.0),
            stacked([u.features(p.features) for p, u in zip(panels, units, strict=True)]),
            stacked([np.clip(p.log_return / u.return_sd, -10, 10) for p, u in zip(panels, units, strict=True)]),
            flags([panel.seen for panel in panels]),
            flags([panel.active for panel in panels]),
            stacked([np.log1p(panel.stale) for panel in panels]),
            flags([np.arange(width) < panel.logs.shape[1] for panel in panels]),
            padded(changes),
            padded(unit, 1.0),
            [
                (
                    assets,
                    torch.from_numpy(panels[assets[0]].tau.astype(np.float32)).to(device),
                    torch.from_numpy(panels[assets[0]].moneyness.astype(np.float32)).to(device),
                )
                for assets in grids.values()
            ],
            torch.from_numpy(usable[usable + reach < n_train]),
            torch.from_numpy(usable[(usable >= n_train) & (usable + reach < days)]),
            n_train,
            horizons,
        )
