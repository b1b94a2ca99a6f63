"""The two trainings of the VAE-LSTM, as tasks of the shared training: the autoencoder, then everything together."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from volscen.generators._vae_lstm_network import Coder, Foresight
from volscen.generators._vae_lstm_options import VaeLstmOptions
from volscen.generators._vae_lstm_panel import REACH
from volscen.generators._vae_lstm_penalty import arbitrage_squares
from volscen.generators._vae_lstm_tables import Tables
from volscen.generators._world_torch import initialise

__all__ = ["CoderTask", "ForesightTask", "Networks", "flatten", "named_arrays"]

#: Dates judged at once.
_CHUNK = 64
#: Days after a date whose surfaces the autoencoder sees in that date's units as well.
_AHEAD = 5
#: What the return and the autoencoder's own objective count for beside the forecast of surfaces.
_RETURN, _OWN = 0.1, 0.1
#: Share of the examples from which the other assets are hidden, so that one asset alone can be forecast too.
_ALONE = 0.5


class Networks(nn.Module):
    """The autoencoder, and with ``outputs`` what foresees its latents."""

    def __init__(self, options: VaeLstmOptions, assets: int, cells: int, features: int, outputs: int | None) -> None:
        super().__init__()
        latents = options.latent_dim
        self.coder = Coder(assets, cells, features, options.hidden, latents)
        if outputs is not None:
            inputs = latents + features
            if assets > 1:
                self.market = nn.Linear(assets * latents, options.market_dim, bias=False)
                inputs += 2 + options.market_dim
            self.foresight = Foresight(
                inputs, options.lstm_hidden, outputs * (latents + 1), options.attention, options.heads, options.dropout
            )

    def forward(self, run: Callable[[Networks], Any]) -> Any:
        """Run a function of the networks; how parameters are swapped in."""
        return run(self)


def flatten(networks: Networks) -> Tensor:
    """All parameters in one row."""
    return torch.cat([value.detach().reshape(-1) for value in networks.parameters()])[None]


def _unflatten(networks: Networks, flat: Tensor) -> dict[str, Tensor]:
    out, start = {}, 0
    for name, value in networks.named_parameters():
        out[name] = flat[start : start + value.numel()].view(value.shape)
        start += value.numel()
    return out


def named_arrays(networks: Networks, flat: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """Parameters by name, of one row."""
    found = _unflatten(networks, torch.from_numpy(np.ascontiguousarray(flat)))
    return {name: value.numpy().copy() for name, value in found.items()}


class CoderTask:
    """Reconstruct surfaces from a draw of their latents; stay near a normal law and free of arbitrage."""

    label = "vae_lstm: autoencoder"
    scores_start = False

    def __init__(self, tables: Tables, options: VaeLstmOptions, device: torch.device) -> None:
        self.tables, self.options, self.device = tables, options, device
        assets, _, cells = tables.logs.shape
        rng = torch.Generator().manual_seed(options.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.networks = Networks(options, assets, cells, tables.features.shape[2], self._outputs())
        initialise(self.networks, rng)
        self.dates = max(1, math.ceil(options.batch_size / assets))
        self.batches = max(1, len(tables.train) // self.dates)

    def _outputs(self) -> int | None:
        return None

    def start(self) -> Tensor:
        """Initial parameters."""
        return flatten(self.networks)

    def loss(self, flat: Tensor, rng: torch.Generator) -> Tensor:
        """Loss of a batch of all assets on some dates."""
        rows = self.tables.train[torch.randint(len(self.tables.train), (self.dates,), generator=rng)]
        return self._run(flat, partial(self._objective, rows=rows, rng=rng))[None].cpu()

    @torch.no_grad()
    def score(self, flat: Tensor) -> float:
        """The same on the validation days, without noise."""
        held, total = self.tables.held, 0.0
        for start in range(0, len(held), _CHUNK):
            rows = held[start : start + _CHUNK]
            total += len(rows) * float(self._run(flat, partial(self._objective, rows=rows, rng=None)))
        return total / len(held)

    def _run(self, flat: Tensor, run: Callable[[Networks], Tensor]) -> Tensor:
        parameters = _unflatten(self.networks, flat[0].to(self.device))
        found: Tensor = torch.func.functional_call(self.networks, parameters, (run,))
        return found

    def _objective(self, networks: Networks, rows: Tensor, rng: torch.Generator | None) -> Tensor:
        return self.own_loss(networks, rows, rng)

    def own_loss(self, networks: Networks, rows: Tensor, rng: torch.Generator | None) -> Tensor:
        """Objective of the autoencoder on surfaces of days near some dates, in the dates' units."""
        tables, options = self.tables, self.options
        rows = rows.to(self.device)
        near = rows
        if rng is not None:
            shift = torch.randint(1 - options.window, _AHEAD + 1, (len(rows),), generator=rng).to(self.device)
            near = (rows + shift).clamp(max=tables.n_train - 1)
        mean, sd = tables.mean[:, rows], tables.sd[:, rows]
        x = ((tables.logs[:, near] - mean) / sd).clamp(-REACH, REACH)
        latent, log_variance = networks.coder.encode(x, tables.features[:, near])
        decoded = networks.coder.decode(_drawn(latent, log_variance, rng))
        counts = (tables.active[:, rows] & tables.seen[:, near])[..., None] & tables.cells[:, None]
        error = _masked_mean((decoded - x).square(), counts)
        divergence = 0.5 * (latent.square() + log_variance.exp() - 1 - log_variance)
        on = (tables.active[:, rows] & tables.seen[:, near])[..., None].expand_as(divergence)
        by_latent = (divergence * on).sum(dim=(0, 1)) / on[..., 0].sum().clamp_min(1)
        loss = error + options.beta * by_latent.clamp(min=options.free_bits).sum() / x.shape[-1]
        return loss + self.penalty((mean + sd * decoded)[:, :, None], tables.active[:, rows])

    def penalty(self, log_vol: Tensor, counts: Tensor) -> Tensor:
        """Penalty of log surfaces (assets, dates, horizons, cells) on the dates that count."""
        if self.options.penalty == 0:
            return torch.zeros((), device=self.device)
        total = torch.zeros((), device=self.device)
        for assets, tau, moneyness in self.tables.grids:
            n, m = len(tau), len(moneyness)
            part = log_vol[assets][..., : n * m].clamp(-7.0, 3.0).exp()
            calendar, butterfly = arbitrage_squares(part.reshape(*part.shape[:-1], n, m), tau, moneyness)
            total = total + ((calendar + butterfly).mean(dim=-1) * counts[assets]).sum()
        return self.options.penalty * total / counts.sum().clamp_min(1)


class ForesightTask(CoderTask):
    """Foresee latents so that the decoded surfaces come out right; the autoencoder learns on."""

    label = "vae_lstm"
    scores_start = True
    #: Share of the steps of a rollout that are fed with what came, not with what was foreseen; falls with the epochs.
    teacher = 1.0

    def __init__(
        self, tables: Tables, options: VaeLstmOptions, device: torch.device, coder: npt.NDArray[np.float32]
    ) -> None:
        super().__init__(tables, options, device)
        self._coder = coder

    def _outputs(self) -> int:
        return len(self.options.horizons) if self.options.dynamics == "direct" else 1

    def start(self) -> Tensor:
        """The trained autoencoder, and a head that says nothing yet."""
        flat = flatten(self.networks)
        flat[0, : self._coder.shape[1]] = torch.from_numpy(self._coder[0])
        return flat

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Teacher forcing in the first third of the epochs, then less and less."""
        self.teacher = min(1.0, max(0.0, 1.5 * (1 - epoch / max(1, epochs))))

    def _objective(self, networks: Networks, rows: Tensor, rng: torch.Generator | None) -> Tensor:
        tables, options = self.tables, self.options
        there = rows.to(self.device)
        days, latent = self._days(networks, there, rng)
        assets, dates, latents = latent.shape
        active = tables.active[:, there]
        if options.dynamics == "direct":
            states, _ = networks.foresight(days, None, rng)
            out = networks.foresight.foresee(states)[0].view(assets, dates, -1, latents + 1)
            moved, first = latent[:, :, None] + out[..., :latents], out[:, :, 0, latents]
        else:
            moved, first = self._rollout(networks, days, latent, there, rng)
        forecast = self.forecast(networks, latent, moved, there)
        ahead = there[:, None] + torch.tensor(tables.horizons, device=self.device)
        counts = (active[:, :, None] & tables.seen[:, ahead])[..., None] & tables.cells[:, None, None]
        error = (forecast - tables.logs[:, ahead]) / tables.unit[:, None]
        loss = _masked_mean(smooth_l1_loss(error, torch.zeros_like(error), reduction="none"), counts)
        came = tables.log_return[:, there + 1]
        on = active & tables.seen[:, there] & tables.seen[:, there + 1]
        loss = loss + _RETURN * _masked_mean(smooth_l1_loss(first, came, reduction="none"), on)
        loss = loss + self.penalty(forecast, active)
        return loss if rng is None else loss + _OWN * self.own_loss(networks, rows, rng)

    def forecast(self, networks: Networks, latent: Tensor, moved: Tensor, rows: Tensor) -> Tensor:
        """Log surfaces (assets, dates, horizons, cells) that moved latents mean."""
        tables = self.tables
        mean, sd = tables.mean[:, rows, None], tables.sd[:, rows, None]
        decoded = networks.coder.decode(moved)
        if self.options.base == "none":
            return mean + sd * decoded
        move = sd * (decoded - networks.coder.decode(latent)[:, :, None])
        return tables.logs[:, rows, None] + tables.base[:, rows] + move

    def _days(self, networks: Networks, rows: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """What the LSTM sees, (assets * dates, window, inputs), and the latents of the dates themselves."""
        tables, options = self.tables, self.options
        window = rows[:, None] + torch.arange(1 - options.window, 1, device=self.device)
        mean, sd = tables.mean[:, rows, None], tables.sd[:, rows, None]
        x = ((tables.logs[:, window] - mean) / sd).clamp(-REACH, REACH)
        features = tables.features[:, window]
        latent, log_variance = networks.coder.encode(x, features)
        if options.posterior_noise:
            latent = _drawn(latent, log_variance, rng)
        parts = [latent, features]
        if len(tables.logs) > 1:
            parts += [tables.stale[:, window][..., None], *self._market(networks, latent, tables.active[:, rows], rng)]
        return torch.cat(parts, dim=-1).flatten(0, 1), latent[:, :, -1]

    def _market(self, networks: Networks, latent: Tensor, active: Tensor, rng: torch.Generator | None) -> list[Tensor]:
        """What all assets' latents, side by side, say of the market; in training hidden from half of the examples."""
        assets, dates, window, _ = latent.shape
        beside = (latent * active[:, :, None, None]).permute(1, 2, 0, 3).flatten(2)
        told = networks.market(beside)[None].expand(assets, -1, -1, -1)
        known = torch.ones(assets, dates)
        if rng is not None:
            known = (torch.rand(assets, dates, generator=rng) >= _ALONE).float()
        flag = known.to(self.device)[:, :, None, None].expand(-1, -1, window, 1)
        return [told * flag, flag]

    def _rollout(
        self, networks: Networks, days: Tensor, latent: Tensor, rows: Tensor, rng: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Latents (assets, dates, horizons, latents) foreseen a day at a time, and the first day's return."""
        tables = self.tables
        assets, dates, latents = latent.shape
        states, memory = networks.foresight(days, None, rng)
        last, now, first = days[:, -1], latent.flatten(0, 1), None
        moved = []
        mean, sd = tables.mean[:, rows], tables.sd[:, rows]
        for step, h in enumerate(tables.horizons):
            out, _ = networks.foresight.foresee(states)
            now = now + out[:, :latents]
            first = out[:, latents] if first is None else first
            moved.append(now)
            if step + 1 == len(tables.horizons):
                break
            if rng is not None:
                came = tables.logs[:, rows + h] - tables.base[:, rows, step]
                true, _ = networks.coder.encode(((came - mean) / sd).clamp(-REACH, REACH), tables.features[:, rows])
                told = (torch.rand(len(now), 1, generator=rng) < self.teacher).to(self.device)
                told = told & tables.seen[:, rows + h].flatten()[:, None]
                now = torch.where(told, true.flatten(0, 1), now)
            day = torch.cat([now, last[:, latents:]], dim=-1)[:, None]
            new, memory = networks.foresight(day, memory, rng)
            states = torch.cat([states[:, 1:], new], dim=1)
        assert first is not None
        return torch.stack(moved, dim=1).view(assets, dates, -1, latents), first.view(assets, dates)


def _drawn(mean: Tensor, log_variance: Tensor, rng: torch.Generator | None) -> Tensor:
    if rng is None:
        return mean
    return mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=rng).to(mean.device)


def _masked_mean(values: Tensor, counts: Tensor) -> Tensor:
    counts = counts.expand_as(values)
    return torch.where(counts, values, 0.0).sum() / counts.sum().clamp_min(1)
