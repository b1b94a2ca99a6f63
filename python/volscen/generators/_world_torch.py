"""Networks of the world model in torch: the convolutional autoencoder and the recurrent dynamics.

After Ha and Schmidhuber (2018), "World models"; the autoencoder's objective is that of Higgins et al. (2017),
"beta-VAE", with the free bits of Kingma et al. (2016).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Dynamics", "RasterVAE"]

_SLOPE = 0.2


class RasterVAE(nn.Module):
    """Convolutional variational autoencoder of one-channel rasters.

    Three convolutions (kernel 4, stride 2, padding 1, batch norm, leaky ReLU) and two linear heads, mean and log
    variance; the decoder mirrors them. With ``loadings`` the latents and the picture are linear in principal
    components, to which the networks add what is not linear.
    """

    loadings: Tensor

    def __init__(
        self, size: int, channels: tuple[int, int, int], latent_dim: int, loadings: Tensor | None = None
    ) -> None:
        super().__init__()
        a, b, c = channels
        small = size // 8
        self.encoder = nn.Sequential(
            *_down(1, a), *_down(a, b), *_down(b, c), nn.Flatten(), nn.Linear(c * small * small, 2 * latent_dim)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, c * small * small),
            nn.Unflatten(1, (c, small, small)),
            *_up(c, b),
            *_up(b, a),
            nn.ConvTranspose2d(a, 1, 4, 2, 1),
        )
        self.latent_dim, self.linear = latent_dim, loadings is not None
        # Rows: standardised pixel patterns of unit-variance scores; saved with the network, not trained.
        self.register_buffer("loadings", torch.zeros(latent_dim, 0) if loadings is None else loadings)
        if self.linear:
            # The networks start at nothing, so that training starts from the principal components.
            for layer in (self.encoder[-1], self.decoder[-1]):
                assert isinstance(layer, nn.Linear | nn.ConvTranspose2d)
                nn.init.zeros_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
            with torch.no_grad():
                head = self.encoder[-1]
                assert isinstance(head, nn.Linear)
                head.bias[latent_dim:] = -4.0

    def encode(self, raster: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (n, latent_dim) each, of rasters (n, 1, size, size)."""
        mean, log_variance = self.encoder(raster).chunk(2, dim=1)
        if self.linear:
            mean = mean + raster.flatten(1) @ torch.linalg.pinv(self.loadings)
        return mean, log_variance.clamp(-12.0, 4.0)

    def decode(self, latent: Tensor) -> Tensor:
        """Rasters (n, 1, size, size) of latents."""
        picture: Tensor = self.decoder(latent)
        if self.linear:
            picture = picture + (latent @ self.loadings).reshape(picture.shape)
        return picture

    def loss(self, raster: Tensor, noise: Tensor, beta: float, free_bits: float) -> tuple[Tensor, Tensor, Tensor]:
        """Objective, mean squared error and Kullback-Leibler divergence (nats a picture).

        Each latent's mean divergence counts as at least ``free_bits`` nats: below that there is nothing to gain
        from switching a latent off.
        """
        mean, log_variance = self.encode(raster)
        picture = self.decode(mean + torch.exp(0.5 * log_variance) * noise)
        error = (picture - raster).square().mean()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(dim=0)
        penalty = divergence.clamp(min=free_bits).sum()
        return error + beta * penalty / raster[0].numel(), error, divergence.sum()


class Dynamics(nn.Module):
    """LSTM on a window of latents and returns; a linear head on its last hidden state, which starts at zero."""

    def __init__(self, n: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n, hidden, batch_first=True)
        self.head = nn.Linear(hidden, n)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, window: Tensor) -> Tensor:
        """Map (n, window, factors) to (n, factors)."""
        out, _ = self.lstm(window)
        prediction: Tensor = self.head(out[:, -1])
        return prediction


def initialise(module: nn.Module, rng: torch.Generator) -> None:
    """Draw the weights from a generator of its own, uniformly as torch's layers do by default, unless they are zero."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            fan = part.weight[0].numel() if not isinstance(part, nn.ConvTranspose2d) else part.weight[:, 0].numel()
            parameters, bound = [p for p in (part.weight, part.bias) if p is not None], 1 / math.sqrt(fan)
        elif isinstance(part, nn.LSTM):
            parameters, bound = list(part.parameters()), 1 / math.sqrt(part.hidden_size)
        else:
            continue
        if bool(next(part.parameters()).any()):
            for parameter in parameters:
                assert isinstance(parameter, Tensor)
                with torch.no_grad():
                    parameter.copy_(torch.rand(parameter.shape, generator=rng) * 2 * bound - bound)


def _down(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, 4, 2, 1), nn.BatchNorm2d(n_out), nn.LeakyReLU(_SLOPE)]


def _up(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(n_in, n_out, 4, 2, 1), nn.BatchNorm2d(n_out), nn.LeakyReLU(_SLOPE)]
