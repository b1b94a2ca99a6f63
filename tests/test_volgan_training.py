"""VolGAN's training against automatic differentiation and torch's own optimiser; its validation score."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from volscen.generators._volgan import VolGAN
from volscen.generators._volgan_data import smoothness, targets_and_conditions, training_data
from volscen.generators._volgan_kernel import AdversarialPair, Network, pack, softplus_
from volscen.generators._volgan_matching import Rows, match_gradient_norms
from volscen.generators._volgan_network import for_sampling, forward
from volscen.generators._volgan_training import Training
from volscen.generators._volgan_validation import ValidationScore, energy_score
from volscen.sources.simulate import SSVIMarket, simulate_market

TAU, MONEYNESS = (0.1, 0.3, 0.5), (0.9, 1.0, 1.15)
CELLS, NOISE = 9, 4


@pytest.fixture(scope="module")
def history():
    return simulate_market(SSVIMarket(TAU, MONEYNESS, 0.01), 250, seed=5)


class Plain:
    """VolGAN as the paper states it, by torch.nn, autograd and torch.optim."""

    def __init__(self, target, condition, along, batch_size, learning_rate=1e-4):
        self.target, self.condition, self.along, self.batch_size = target, condition, along, batch_size
        n_condition, n_target = condition.shape[1], target.shape[1]
        self.generator = nn.Sequential(
            nn.Linear(NOISE + n_condition, 16),
            nn.Softplus(),
            nn.Linear(16, 32),
            nn.Softplus(),
            nn.Linear(32, n_target),
        ).to(target.dtype)
        self.discriminator = nn.Sequential(
            nn.Linear(n_condition + n_target, 16), nn.Softplus(), nn.Linear(16, 1), nn.Sigmoid()
        ).to(target.dtype)
        self.optimisers = [
            torch.optim.RMSprop(net.parameters(), lr=learning_rate) for net in (self.generator, self.discriminator)
        ]
        self.bce = nn.BCELoss()

    def flats(self):
        return [
            pack([(m.weight.detach(), m.bias.detach()) for m in net if isinstance(m, nn.Linear)])
            for net in (self.generator, self.discriminator)
        ]

    def batches(self, order, noise):
        for start in range(0, len(order), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield self.condition[order[rows]], self.target[order[rows]], noise[0, rows], noise[1, rows]

    def judge(self, a, y, label):
        score = self.discriminator(torch.cat([a, y], dim=1))
        return self.bce(score, torch.full_like(score, label))

    def discriminator_loss(self, a, y, z):
        fake = self.generator(torch.cat([z, a], dim=1)).detach()
        return (self.judge(a, fake, 0) + self.judge(a, y, 1)) / 2

    def generator_losses(self, a, z):
        move = self.generator(torch.cat([z, a], dim=1))
        g = a[:, 3:] + move[:, 1:]
        return [self.judge(a, move, 1), *(((g @ d.T) ** 2).sum(dim=1).mean() for d in self.along)]

    def train(self, orders, noises, alpha):
        """Epochs with given shuffles, noise and penalty weights; the losses of each epoch's batches."""
        for order, noise in zip(orders, noises, strict=True):
            for a, y, z_d, z_g in self.batches(order, noise):
                self.optimisers[1].zero_grad()
                self.discriminator_loss(a, y, z_d).backward()
                self.optimisers[1].step()
                self.optimisers[0].zero_grad()
                bce, along_m, along_tau = self.generator_losses(a, z_g)
                (bce + alpha[0] * along_m + alpha[1] * along_tau).backward()
                self.optimisers[0].step()


def make_pair(plain, learning_rate=1e-4):
    pair = AdversarialPair(
        plain.target,
        plain.condition,
        noise_dim=NOISE,
        hidden=(16, 32),
        discriminator_hidden=16,
        batch_size=plain.batch_size,
        learning_rate=learning_rate,
    )
    for network, flat in zip((pair.generator, pair.discriminator), plain.flats(), strict=True):
        network.flat.copy_(flat)
    return pair


@pytest.fixture
def plain(history):
    target, condition = targets_and_conditions(history)
    along = [torch.from_numpy(d) for d in smoothness(np.array(TAU), np.array(MONEYNESS))]
    torch.manual_seed(0)
    return Plain(torch.from_numpy(target[:110]), torch.from_numpy(condition[:110]), along, 40)


def draws(n, epochs, seed=0):
    rng = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(n, generator=rng) for _ in range(epochs)]
    return orders, [torch.randn(2, n, NOISE, generator=rng, dtype=torch.float64) for _ in range(epochs)]


def flat_grad(net):
    """Gradients of a torch network in the order of a flat vector."""
    return pack([(m.weight.grad, m.bias.grad) for m in net if isinstance(m, nn.Linear)])


# ------------------------------------------------------------------------------------------------- kernel
def test_softplus():
    x = torch.linspace(-800, 800, 100_001, dtype=torch.float64)
    exact = torch.nn.functional.softplus(x, threshold=1e9).where(x < 700, x)
    torch.testing.assert_close(softplus_(x, torch.empty_like(x)), exact, rtol=1e-15, atol=3e-16)
    x = x.float()
    torch.testing.assert_close(softplus_(x, torch.empty_like(x)), exact.float(), rtol=2e-7, atol=2e-7)


def test_initial_parameters_follow_torchs_linear_layer():
    """Uniform on +-1/sqrt(in), weights and bias alike, each layer by its own width."""
    net = Network((100, 400, 25, 300), torch.float64)
    net.initialise(torch.Generator().manual_seed(0))
    for layer, n_in in zip(net.layers, (100, 400, 25), strict=True):
        bound = n_in**-0.5
        assert layer.abs().max() <= bound
        assert layer.abs().max() > 0.99 * bound
        # sd of the mean of 7,800 to 40,400 uniforms is below .0066 bounds: 4 of them
        assert abs(layer.mean()) < 0.026 * bound
        assert layer[-1].std() > 0.4 * bound  # the bias too; .577 expected


def test_rmsprop_is_torchs():
    net = Network((3, 4, 2), torch.float64)
    net.initialise(torch.Generator().manual_seed(0))
    parameter = net.flat.clone().requires_grad_()
    optimiser = torch.optim.RMSprop([parameter], lr=1e-3)
    rng = torch.Generator().manual_seed(1)
    for scale in (1, 1e-6, 10, 1e-9):
        parameter.grad = scale * torch.randn(net.flat.shape, generator=rng, dtype=torch.float64)
        net.grad.copy_(parameter.grad)
        optimiser.step()
        net.rmsprop(1e-3)
        torch.testing.assert_close(net.flat, parameter.detach(), rtol=1e-14, atol=0)


def test_gradients_are_autograds(plain):
    """Of every loss, in full and partial batches, at parameters away from the start."""
    pair = make_pair(plain)
    (order,), (noise,) = draws(110, 1)
    with torch.no_grad():
        for net in (plain.generator, plain.discriminator):
            for p in net.parameters():
                p.mul_(3)
    for network, flat in zip((pair.generator, pair.discriminator), plain.flats(), strict=True):
        network.flat.copy_(flat)
    pair.start_epoch(order, noise)
    sizes = []
    for batch, (a, y, z_d, z_g) in zip(pair.batches, plain.batches(order, noise), strict=True):
        sizes.append(batch.size)
        plain.discriminator.zero_grad()
        plain.discriminator_loss(a, y, z_d).backward()
        pair.discriminator_gradient(batch)
        expected = flat_grad(plain.discriminator)
        tolerance = 1e-12 * float(expected.abs().max())
        torch.testing.assert_close(pair.discriminator.grad, expected, rtol=1e-9, atol=tolerance)
        pair.forward_generator(batch)
        slopes = [
            lambda b=batch: pair.slope_of_cross_entropy(b),
            *(lambda b=batch, d=d: pair.slope_of_penalty(b, 2 * d.T @ d) for d in plain.along),
        ]
        for i, slope in enumerate(slopes):
            plain.generator.zero_grad()
            plain.generator_losses(a, z_g)[i].backward()
            pair.generator_gradient(batch, slope())
            expected = flat_grad(plain.generator)
            tolerance = 1e-12 * float(expected.abs().max())
            torch.testing.assert_close(pair.generator.grad, expected, rtol=1e-9, atol=tolerance)
    assert sizes == [40, 40, 30]


def test_three_epochs_are_those_of_the_plain_implementation(plain):
    """The order of steps, fresh noise, the weighted sum of losses, two optimisers; and the losses reported."""
    alpha = (1e-3, 2e-3)
    pair = make_pair(plain)
    pair.penalty_slope.copy_(sum(2 * a * d.T @ d for a, d in zip(alpha, plain.along, strict=True)))
    orders, noises = draws(110, 3)
    start = [flat.clone() for flat in plain.flats()]
    plain.train(orders, noises, alpha)
    for order, noise in zip(orders, noises, strict=True):
        pair.start_epoch(order, noise)
        for batch in pair.batches:
            pair.train_batch(batch)
    for network, flat, before in zip((pair.generator, pair.discriminator), plain.flats(), start, strict=True):
        assert (flat - before).abs().median() > 1e-3
        torch.testing.assert_close(network.flat, flat, rtol=0, atol=1e-9)


def test_losses_reported(plain):
    """Of networks that do not move, the epoch's averages are the plain losses over all rows."""
    pair = make_pair(plain, learning_rate=0.0)
    (order,), (noise,) = draws(110, 1)
    pair.start_epoch(order, noise)
    for batch in pair.batches:
        pair.train_batch(batch)
    plain.batch_size = 110
    ((a, y, z_d, z_g),) = plain.batches(order, noise)
    with torch.no_grad():
        losses = [plain.discriminator_loss(a, y, z_d), *plain.generator_losses(a, z_g)]
    penalties = [float((pair.surface @ d.T).square().sum()) / 110 for d in plain.along]
    np.testing.assert_allclose([*pair.cross_entropies(), *penalties], [float(x) for x in losses], rtol=1e-12)


@pytest.mark.real
def test_three_epochs_of_the_authors_code(market_data):
    """Their penalties (which take differences along the wrong axes) in our training give their parameters.

    They shuffle the rows that the epoch before left, so the permutations compound.
    """
    with np.load(market_data / "parity" / "volgan_public_code.npz") as file:
        data = {key: torch.from_numpy(file[key]) for key in file}
    n = len(data["target"])
    pair = AdversarialPair(
        data["target"],
        data["condition"],
        noise_dim=32,
        hidden=(16, 32),
        discriminator_hidden=16,
        batch_size=100,
        learning_rate=1e-4,
    )

    def theirs(name, when):
        keys = [f"{name}_{when}.linear{i}" for i in (1, 2, 3)]
        return pack([(data[f"{k}.weight"], data[f"{k}.bias"]) for k in keys if f"{k}.weight" in data])

    networks = {"generator": pair.generator, "discriminator": pair.discriminator}
    for name, network in networks.items():
        network.flat.copy_(theirs(name, "before"))
    along_m = (np.eye(80, k=10) - np.eye(80))[:70] / float(data["m"][1] - data["m"][0])
    weight = np.tile(np.r_[1 / np.diff(data["tau"].numpy()), 0], 10)[:79, None]
    along_tau = (np.eye(80, k=1) - np.eye(80))[:79] * weight
    pair.penalty_slope.copy_(
        torch.from_numpy(2 * (1e-3 * along_m.T @ along_m + 2e-3 * along_tau.T @ along_tau)).float()
    )
    rng = torch.Generator().manual_seed(7)
    for n_in, n_out in ((115, 16), (16, 32), (32, 81), (164, 16), (16, 1)):  # spent on their initial parameters
        torch.empty(n_out, n_in).uniform_(generator=rng)
        torch.empty(n_out).uniform_(generator=rng)
    order, noise = torch.arange(n), torch.empty(2, n, 32)
    for _ in range(3):
        order = order[torch.randperm(n, generator=rng)]
        for rows in ([*range(s, min(s + 100, n))] for s in range(0, n, 100)):
            for step in (0, 1):
                noise[step, rows] = torch.randn(len(rows), 32, generator=rng)
        pair.start_epoch(order, noise)
        for batch in pair.batches:
            pair.train_batch(batch)
    for name, network in networks.items():
        difference = (network.flat - theirs(name, "after")).abs()
        moved = (theirs(name, "before") - theirs(name, "after")).abs()
        assert moved.median() > 1e-3
        assert difference.median() < 1e-7
        assert difference.quantile(0.99) < 1e-5


# ------------------------------------------------------------------------------- gradient-norm matching
def test_gradient_norm_matching_is_the_plain_one(plain):
    pair = make_pair(plain)
    alpha = match_gradient_norms(pair, tuple(plain.along), 3, Rows(pair, torch.Generator().manual_seed(4)))

    rng, ratios = torch.Generator().manual_seed(4), []
    for _ in range(3):
        order = torch.randperm(110, generator=rng)
        noise = torch.randn(2, 110, NOISE, generator=rng, dtype=torch.float64)
        for a, y, z_d, z_g in plain.batches(order, noise):
            plain.optimisers[1].zero_grad()
            plain.discriminator_loss(a, y, z_d).backward()
            plain.optimisers[1].step()
            norms = []
            for i in (1, 2, 0):  # the cross-entropy last: its gradient makes the step
                plain.optimisers[0].zero_grad()
                plain.generator_losses(a, z_g)[i].backward()
                norms.append(float(flat_grad(plain.generator).norm()))
            plain.optimisers[0].step()
            ratios.append((norms[2] / norms[0], norms[2] / norms[1]))
    np.testing.assert_allclose(alpha, np.mean(ratios, axis=0), rtol=1e-9)


def test_training_starts_where_matching_started(history):
    """Whatever matching did in between, the first epoch leaves from the initial parameters."""
    model = VolGAN(epochs=1, matching_epochs=2, validation_days=0, progress=False)
    training = Training(training_data(history, 0, 10), model.options)
    start = training.snapshot
    training._weigh_penalties()
    assert training.snapshot.alpha is not None
    np.testing.assert_array_equal(training._pair.generator.flat.numpy(), start.generator)
    np.testing.assert_array_equal(training._pair.discriminator.flat.numpy(), start.discriminator)
    assert not training._pair.generator.square.any()
    expected = sum(
        2 * a * d.T.double() @ d.double() for a, d in zip(training.snapshot.alpha, training._along, strict=True)
    )
    torch.testing.assert_close(training._pair.penalty_slope, expected.float())


# --------------------------------------------------------------------------------------------- validation
def test_energy_score_by_hand():
    rng = np.random.default_rng(0)
    draws, outcome = rng.standard_normal((3, 6, 4)), rng.standard_normal((3, 4))
    by_hand = []
    for x, y in zip(draws, outcome, strict=True):
        to_outcome = np.mean([np.linalg.norm(xi - y) for xi in x])
        pairs = np.mean([np.linalg.norm(xi - xj) for xi, xj in itertools.permutations(x, 2)])
        by_hand.append(to_outcome - pairs / 2)
    scores = energy_score(torch.from_numpy(draws), torch.from_numpy(outcome))
    np.testing.assert_allclose(scores.numpy(), by_hand, rtol=1e-12)


def test_validation_score_scores_what_sampling_draws(plain):
    pair = make_pair(plain)
    scale = plain.target.std(dim=0)
    score = ValidationScore(
        plain.target[:40] / scale,
        plain.condition[:40],
        NOISE,
        5,
        torch.Generator().manual_seed(9),
        scale=1 / scale[None],
    )
    noise = torch.randn(40, 5, NOISE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    layers = for_sampling(
        [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in plain.generator if isinstance(m, nn.Linear)]
    )
    known = plain.condition[:40].numpy()
    x = np.stack([forward(layers, np.column_stack([noise[:, k].numpy(), known])) for k in range(5)], axis=1)
    expected = energy_score(torch.from_numpy(x) / scale, plain.target[:40] / scale).mean()
    found = score(pair.generator, pair.generator.flat)
    assert found == pytest.approx(float(expected), rel=1e-12)
    assert score(pair.generator, pair.generator.flat) == found
    assert score(pair.generator, 1.1 * pair.generator.flat) != found
