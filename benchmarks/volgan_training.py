"""Seconds an epoch of VolGAN training at 4,000 days and 80 cells, against plain torch in the same run.

The peer is the paper (Vuletic and Cont 2024) written down with torch.nn, autograd and torch.optim, penalties
vectorised. Before anything is timed, both train an epoch in float64 on the same shuffle and noise and must end
at the same parameters.

    python benchmarks/volgan_training.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

import pagetables
from volscen.generators._volgan import VolGAN
from volscen.generators._volgan_data import TrainingData, training_data
from volscen.generators._volgan_kernel import AdversarialPair, pack
from volscen.generators._volgan_matching import Rows, match_gradient_norms
from volscen.generators._volgan_training import Training
from volscen.sources.simulate import simulate_market

NOISE, BATCH, RATE = 32, 100, 1e-4
#: Of the table of times in docs/results.md.
SPEED = ["job", "volscen", "beside it, same run"]


class Plain:
    """The paper's training loop, as one would write it first."""

    def __init__(self, data: TrainingData, dtype: torch.dtype) -> None:
        self.target = torch.from_numpy(data.target).to(dtype)
        self.condition = torch.from_numpy(data.condition).to(dtype)
        self.along = [torch.from_numpy(d).to(dtype) for d in (data.along_moneyness, data.along_tau)]
        n_condition, n_target = self.condition.shape[1], self.target.shape[1]
        torch.manual_seed(0)
        self.generator = nn.Sequential(
            nn.Linear(NOISE + n_condition, 16),
            nn.Softplus(),
            nn.Linear(16, 32),
            nn.Softplus(),
            nn.Linear(32, n_target),
        ).to(dtype)
        self.discriminator = nn.Sequential(nn.Linear(n_condition + n_target, 16), nn.Softplus(), nn.Linear(16, 1)).to(
            dtype
        )
        self.generator_step = torch.optim.RMSprop(self.generator.parameters(), lr=RATE)
        self.discriminator_step = torch.optim.RMSprop(self.discriminator.parameters(), lr=RATE)

    def flats(self) -> list[Tensor]:
        """Parameters of generator and discriminator."""
        return [
            pack([(m.weight.detach(), m.bias.detach()) for m in net if isinstance(m, nn.Linear)])
            for net in (self.generator, self.discriminator)
        ]

    def epoch(self, order: Tensor, noise: Tensor, alpha: tuple[float, float]) -> None:
        """Train one epoch on a given shuffle and noise."""
        bce = nn.functional.binary_cross_entropy_with_logits
        for start in range(0, len(order), BATCH):
            rows = slice(start, start + BATCH)
            a, y = self.condition[order[rows]], self.target[order[rows]]
            zero, one = torch.zeros(len(a), 1, dtype=a.dtype), torch.ones(len(a), 1, dtype=a.dtype)
            fake = self.generator(torch.cat([noise[0, rows], a], dim=1)).detach()
            self.discriminator_step.zero_grad()
            on_fake = self.discriminator(torch.cat([a, fake], dim=1))
            on_real = self.discriminator(torch.cat([a, y], dim=1))
            ((bce(on_fake, zero) + bce(on_real, one)) / 2).backward()
            self.discriminator_step.step()
            move = self.generator(torch.cat([noise[1, rows], a], dim=1))
            surface = a[:, 3:] + move[:, 1:]
            self.generator_step.zero_grad()
            loss = bce(self.discriminator(torch.cat([a, move], dim=1)), one)
            for weight, along in zip(alpha, self.along, strict=True):
                loss = loss + weight * (surface @ along.T).square().sum(dim=1).mean()
            loss.backward()
            self.generator_step.step()


def check(data: TrainingData) -> tuple[float, float]:
    """Train one epoch both ways in float64; return the penalty weights used."""
    plain = Plain(data, torch.float64)
    pair = AdversarialPair(
        plain.target,
        plain.condition,
        noise_dim=NOISE,
        hidden=(16, 32),
        discriminator_hidden=16,
        batch_size=BATCH,
        learning_rate=RATE,
    )
    before = plain.flats()
    networks = (pair.generator, pair.discriminator)
    along = (plain.along[0], plain.along[1])
    for network, flat in zip(networks, before, strict=True):
        network.flat.copy_(flat)
    alpha = match_gradient_norms(pair, along, 1, Rows(pair, torch.Generator().manual_seed(1)))
    for network, flat in zip(networks, before, strict=True):  # matching trains, and training begins where it began
        network.flat.copy_(flat)
        network.square.zero_()
    pair.penalty_slope.copy_(2 * sum(a * d.T @ d for a, d in zip(alpha, along, strict=True)))
    rng = torch.Generator().manual_seed(2)
    order = torch.randperm(pair.n, generator=rng)
    noise = torch.randn(2, pair.n, NOISE, generator=rng, dtype=torch.float64)
    plain.epoch(order, noise, alpha)
    pair.start_epoch(order, noise)
    for batch in pair.batches:
        pair.train_batch(batch)
    for network, flat, start in zip(networks, plain.flats(), before, strict=True):
        assert (flat - start).abs().median() > 1e-4, "nothing was trained"
        error = float((network.flat - flat).abs().max())
        assert error < 1e-8, f"the two implementations differ by {error}"
    return alpha


def median_seconds(prepare: Callable[[], Callable[[], object]], repeats: int) -> float:
    """Median time of what ``prepare`` returns; preparing is not timed."""
    times = []
    for _ in range(repeats):
        run = prepare()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=20, help="epochs a measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements; the median is printed")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    pages = pagetables.Pages(arguments, {"speed": [SPEED]}, kind="timing", minutes=1)
    held_out = arguments.days // 10
    history = simulate_market("A", arguments.days + 22 + held_out, seed=0)
    data = training_data(history, held_out, 10)
    assert len(data.target) == arguments.days
    alpha = check(data)
    print(f"{arguments.days} days, {data.target.shape[1] - 1} cells, batches of {BATCH}: one epoch agrees in float64")

    plain = Plain(data, torch.float32)

    def peer() -> None:
        for _ in range(arguments.epochs):
            order = torch.randperm(len(plain.target))
            plain.epoch(order, torch.randn(2, len(plain.target), NOISE), alpha)

    def ours(validate_every: int) -> Callable[[], object]:
        training = Training(data, VolGAN(epochs=arguments.epochs, validate_every=validate_every).options)
        training.snapshot = replace(training.snapshot, alpha=alpha)  # matching is not what is timed
        return lambda: training.run(progress=False)

    def per_epoch(prepare: Callable[[], Callable[[], object]]) -> float:
        return median_seconds(prepare, arguments.repeats) / arguments.epochs

    threads = torch.get_num_threads()
    rows = []
    for label, count in ((f"plain torch, {threads} threads", threads), ("plain torch, 1 thread", 1)):
        torch.set_num_threads(count)
        rows.append((label, per_epoch(lambda: peer)))
    torch.set_num_threads(threads)
    rows.append(("volscen", per_epoch(lambda: ours(10**9))))
    score = (per_epoch(lambda: ours(arguments.epochs)) - rows[-1][1]) * arguments.epochs
    rows.append(("volscen, validating every 50", rows[-1][1] + score / 50))
    print(f"{'':32}{'s/epoch':>10}{'10,000 epochs':>16}{'against best peer':>20}")
    best = min(rows[0][1], rows[1][1])
    for label, value in rows:
        print(f"{label:32}{value:10.4f}{value * 1e4 / 60:12.1f} min{best / value:19.1f}x")
    row = [f"VolGAN training, {arguments.days:,} days, one epoch", f"{rows[2][1]:.3f} s", f"plain torch: {best:.3f} s"]
    pages.add("speed", pagetables.table(SPEED, [row]))
    pages.write()


if __name__ == "__main__":
    main()
