"""Networks as peers: a mask-conditional CNN with two heads, and a mask-conditional variational autoencoder.

Both see (quotes less their mean, mask, coordinates) on the grid of 13 x 17 and give mean and standard deviation of
ln(volatility). They live here and not in the package because they lose where one of the package's own families is
left out of training (``python benchmarks/repair.py`` prints by how much), know one grid only, and need torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import nn

from repairbench.cells import TAU, K, masks, noise_sd
from volscen._files import write_safetensors
from volscen._repair._base import Observations, Prediction
from volscen.errors import InputError
from volscen.sources.simulate import simulate_smiles

__all__ = ["NETS", "NetPredictor", "fit", "fitted", "load"]

FloatArray = npt.NDArray[np.float64]
_J, _I = TAU.size, K.size
_POINTS = _J * _I
#: Typical deviation of ln(vol) from the mean of the quotes.
_SCALE = 0.3
#: Surfaces evaluated at once, always so many: the shape of a batch must change no bit.
_BLOCK = 64
_LATENT, _DRAWS = 16, 32
#: Of the training surfaces; none is ever drawn from it for a test.
SEED = 7001


class CNN(nn.Module):
    """Four layers of 3 x 3 convolutions, a head for the mean and one for the logarithm of the variance."""

    def __init__(self, width: int = 32):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(4 if i == 0 else width, width, 3, padding=1), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.Conv2d(width, 2, 1)
        times, strikes = torch.linspace(-1, 1, _J), torch.linspace(-1, 1, _I)
        self.register_buffer("place", torch.stack(torch.meshgrid(times, strikes, indexing="ij")), persistent=False)

    def forward(self, y: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance (n, J, I) of values y (0 where not seen)."""
        place = self.place.expand(len(y), -1, -1, -1)
        out = self.heads(self.body(torch.cat([y[:, None], seen[:, None], place], dim=1)))
        return out[:, 0], out[:, 1].clamp(-12, 2)

    def loss(self, y: torch.Tensor, seen: torch.Tensor, truth: torch.Tensor, warm: bool) -> torch.Tensor:
        """Squared error, five times as much where nothing is seen; after the warm-up a tenth of the NLL besides."""
        mean, log_variance = self(y, seen)
        weight = 5 - 4 * seen
        square = (mean - truth) ** 2
        error = (weight * square).mean()
        if warm:
            return error
        return error + 0.05 * (weight * (square * torch.exp(-log_variance) + log_variance)).mean()


def _perceptron(inputs: int, outputs: int, width: int = 384) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs)
    )


class VAE(nn.Module):
    """Variational autoencoder whose prior and decoder know the quotes (Sohn, Lee and Yan 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _perceptron(3 * _POINTS, 2 * _LATENT)
        self.prior = _perceptron(2 * _POINTS, 2 * _LATENT)
        self.decoder = _perceptron(2 * _POINTS + _LATENT, 2 * _POINTS)
        draws = np.random.default_rng(0).standard_normal((_DRAWS, _LATENT))
        self.register_buffer("draws", torch.tensor(draws, dtype=torch.float32), persistent=False)

    def _decode(self, z: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.decoder(torch.cat([known, z], dim=-1)).unflatten(-1, (2, _J, _I))
        return out[..., 0, :, :], out[..., 1, :, :].clamp(-12, 2)

    def forward(self, y: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance (n, J, I) over draws from the prior given the quotes."""
        known = torch.cat([y, seen], dim=1).flatten(1)
        centre, spread = self.prior(known).chunk(2, dim=-1)
        z = centre[:, None] + torch.exp(0.5 * spread.clamp(-8, 4))[:, None] * self.draws
        mean, log_variance = self._decode(z, known[:, None].expand(-1, _DRAWS, -1))
        return mean.mean(1), torch.log(torch.exp(log_variance).mean(1) + mean.var(1, correction=0))

    def loss(self, y: torch.Tensor, seen: torch.Tensor, truth: torch.Tensor, warm: bool) -> torch.Tensor:
        """Evidence bound, with unit-variance errors during the warm-up."""
        known = torch.cat([y, seen], dim=1).flatten(1)
        p_mean, p_log = self.prior(known).chunk(2, dim=-1)
        q_mean, q_log = self.encoder(torch.cat([known, truth.flatten(1)], dim=1)).chunk(2, dim=-1)
        p_log, q_log = p_log.clamp(-8, 4), q_log.clamp(-8, 4)
        mean, log_variance = self._decode(q_mean + torch.exp(0.5 * q_log) * torch.randn_like(q_mean), known)
        apart = 0.5 * (p_log - q_log + (torch.exp(q_log) + (q_mean - p_mean) ** 2) / torch.exp(p_log) - 1).sum(1).mean()
        square = (mean - truth) ** 2
        if warm:
            return square.sum((1, 2)).mean() * 10 + apart
        return 0.5 * (square * torch.exp(-log_variance) + log_variance).sum((1, 2)).mean() + apart


NETS: dict[str, type[nn.Module]] = {"cnn": CNN, "vae": VAE}


class NetPredictor:
    """A fitted network as a predictor of the package's protocol; it knows the grid of 13 x 17 only."""

    def __init__(self, kind: str, net: nn.Module):
        self.kind, self.net = kind, net.eval()

    def predict(self, observed: Observations) -> Prediction:
        """Mean and standard deviation of ln(vol)."""
        if (
            observed.off_grid
            or observed.grid != (_J, _I)
            or not (np.allclose(observed.grid_tau, TAU) and np.allclose(observed.grid_log_moneyness, K))
        ):
            raise InputError("this network knows the grid of 13 times and 17 strikes that it was trained on only")
        log_vol = observed.log_vol.reshape(-1, _J, _I)
        mean, sd = np.empty(log_vol.shape), np.empty(log_vol.shape)
        with torch.no_grad():
            for start in range(0, len(log_vol), _BLOCK):
                part = log_vol[start : start + _BLOCK]
                whole = np.concatenate([part, np.zeros((_BLOCK - len(part), _J, _I))])
                y, seen, level = _inputs(whole)
                found, log_variance = self.net(y, seen)
                rows = slice(start, start + len(part))
                mean[rows] = (found.double().numpy() * _SCALE + level[:, None, None])[: len(part)]
                sd[rows] = (torch.exp(0.5 * log_variance).double().numpy() * _SCALE)[: len(part)]
        shape = observed.log_vol.shape
        return Prediction(mean.reshape(shape), sd.reshape(shape))

    def save(self, path: str | Path) -> None:
        """Write weights and kind to one safetensors file."""
        arrays = {name: value.numpy() for name, value in self.net.state_dict().items()}
        write_safetensors(path, arrays, json.dumps({"kind": self.kind}))


def load(path: str | Path) -> NetPredictor:
    """Read what :meth:`NetPredictor.save` wrote."""
    with safe_open(path, framework="pt") as file:
        kind = json.loads(file.metadata()["volscen"])["kind"]
        net = NETS[kind]()
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return NetPredictor(kind, net)


def _inputs(log_vol: FloatArray) -> tuple[torch.Tensor, torch.Tensor, FloatArray]:
    """Quotes less their mean over the scale (0 where there are none), mask, and that mean."""
    seen = ~np.isnan(log_vol)
    level = np.nansum(log_vol, axis=(1, 2)) / np.maximum(seen.sum(axis=(1, 2)), 1)
    y = np.where(seen, (log_vol - level[:, None, None]) / _SCALE, 0.0)
    return torch.tensor(y, dtype=torch.float32), torch.tensor(seen, dtype=torch.float32), level


class _Stream:
    """Training pairs: library surfaces under fresh masks of both regimes, with fresh noise."""

    def __init__(self, vol: FloatArray, rng: np.random.Generator, n_masks: int):
        self.vol, self.rng = vol, rng
        self.masks = np.concatenate([masks(kind, n_masks // 2, rng) for kind in ("regular", "adversarial")])

    def batch(self, rows: npt.NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, FloatArray]:
        truth = self.vol[rows]
        seen = self.masks[self.rng.integers(len(self.masks), size=len(rows))]
        noisy = np.clip(truth + noise_sd() * self.rng.standard_normal(truth.shape), 0.03, 2.0)
        y, shown, level = _inputs(np.where(seen, np.log(noisy), np.nan))
        target = (np.log(truth) - level[:, None, None]) / _SCALE
        return y, shown, torch.tensor(target, dtype=torch.float32), level


def fit(
    kind: str,
    vol: FloatArray,
    *,
    seed: int,
    epochs: int = 30,
    warm: int = 6,
    patience: int = 8,
    batch: int = 128,
    rate: float = 2e-3,
    say: Any = None,
) -> NetPredictor:
    """Train a network on library surfaces (n, J, I); a tenth of them is held out, for early stopping."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    held = max(len(vol) // 10, 1)
    stream = _Stream(vol[held:], rng, min(4000, 2 * len(vol)))
    check = _Stream(vol[:held], np.random.default_rng(seed + 1), 400).batch(np.arange(held))
    net = NETS[kind]()
    steps = epochs * int(np.ceil(len(stream.vol) / batch))
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.15)
    best, since, kept = np.inf, 0, {}
    for epoch in range(epochs):
        net.train()
        for rows in np.array_split(rng.permutation(len(stream.vol)), int(np.ceil(len(stream.vol) / batch))):
            y, seen, truth, _ = stream.batch(rows)
            loss = net.loss(y, seen, truth, epoch < warm)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        error = _error(net.eval(), check)
        if say:
            say(f"{kind} epoch {epoch + 1}: held-out RMSE {error:.4f}")
        # The variance head is untrained during the warm-up: nothing is kept from there.
        if epoch < warm:
            continue
        since += 1
        if error < best:
            best, since = error, 0
            kept = {name: value.clone() for name, value in net.state_dict().items()}
        elif since >= patience:
            break
    net.load_state_dict(kept or net.state_dict())
    return NetPredictor(kind, net)


def _error(net: nn.Module, check: tuple[torch.Tensor, torch.Tensor, torch.Tensor, FloatArray]) -> float:
    """Mean over surfaces of the RMSE in vol where nothing is seen."""
    y, seen, truth, level = check
    with torch.no_grad():
        mean = net(y, seen)[0]
    base = level[:, None, None]
    found, true = (np.exp(x.double().numpy() * _SCALE + base) for x in (mean, truth))
    hidden = seen.numpy() == 0
    square = np.where(hidden, (found - true) ** 2, 0).sum((1, 2)) / np.maximum(hidden.sum((1, 2)), 1)
    return float(np.sqrt(square).mean())


def fitted(
    kind: str, families: dict[str, float] | None, n: int, epochs: int, folder: Path, say: Any = None
) -> NetPredictor:
    """Network trained on n library surfaces of some families, from the folder if it was trained before."""
    name = "all" if families is None else "-".join(families)
    path = folder / f"{kind}-{name}-{n}-{epochs}.safetensors"
    if not path.exists():
        smiles = simulate_smiles(n, families=families, seed=SEED)
        vol = np.sqrt(smiles["total_variance"] / smiles["tau"]).values
        fit(kind, vol, seed=0, epochs=epochs, warm=max(epochs // 5, 1), say=say).save(path)
    return load(path)
