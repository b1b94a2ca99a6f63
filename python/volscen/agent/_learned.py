"""A policy learned on simulated paths: a small network that chooses the hedge so as to lose little at worst."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._files import write_safetensors
from volscen._numbers import finite_number, positive_number, whole_number
from volscen._threads import single_threaded_torch
from volscen._version import __version__, is_other_number, other_number
from volscen.agent._market import OBSERVATIONS, check_market
from volscen.agent._policies import Policy, Seen
from volscen.agent._simulate import growth
from volscen.errors import FileFormatError, InputError
from volscen.risk._measures import one_level

__all__ = ["LearnedPolicy"]

FloatArray = npt.NDArray[np.float64]

_FORMAT = "volscen/policy/1"

#: Standardised observations are clipped here: beyond what was simulated the policy acts as at its edge.
_CLIP = 4.0

_GAINS = ("index_gain", "hedge_gain", "entry_cost", "exit_cost")


@dataclass(frozen=True)
class LearnedPolicy(Policy):
    """All in the underlying; a network of the observations and the hedge held chooses the hedge between 0 and 1.

    Attributes
    ----------
    mean, sd : ndarray, shape (8,)
        Of the observations over the simulated paths.
    layers : tuple of (ndarray, ndarray)
        Weights (out, in) and biases of each layer; tanh between, logistic at the end.
    objective : ndarray
        Value of what was minimised after each iteration.
    settings : dict
        Arguments of :meth:`fit`.
    """

    mean: FloatArray
    sd: FloatArray
    layers: tuple[tuple[FloatArray, FloatArray], ...]
    objective: FloatArray
    settings: dict[str, Any]

    @classmethod
    def fit(
        cls,
        market: xr.Dataset,
        *,
        alpha: float = 0.05,
        mean_weight: float = 1.0,
        hidden: int = 16,
        iterations: int = 300,
        learning_rate: float = 0.01,
        seed: int = 0,
    ) -> Self:
        """Train on the paths of a market, whose weights count.

        Minimised is ES_alpha(L) + ``mean_weight`` E[L], with L = -log of the wealth at the end of a path and the
        expected shortfall in the form of Rockafellar and Uryasev (2000), min over c of c + E[(L - c)+] / alpha,
        by Adam through the account of :func:`simulate`, costs included ("deep hedging", Buehler, Gonon, Teichmann and
        Wood 2019).

        Parameters
        ----------
        market : xarray.Dataset
            Simulated paths; :func:`volscen.agent.pool_markets` puts those of several dates together.
        alpha : float
            Tail probability, in (0, 1]: share of the paths that are the worst.
        mean_weight : float
            Not negative. How much the mean counts besides the worst.
        hidden : int
            Units in each of two layers.
        iterations : int
            Steps of Adam, each on all paths.
        learning_rate : float
        seed : int
            Of the initial weights.

        Raises
        ------
        InputError
            If an argument is out of range, or there are too few paths for a worst share.

        Examples
        --------
        >>> import volscen
        >>> from volscen import agent
        >>> cube = volscen.generate(n_scenarios=200, horizon=5, seed=1)
        >>> market = agent.option_market(cube, agent.RiskSignal.fit(volscen.datasets.sample_history()))
        >>> policy = agent.LearnedPolicy.fit(market, iterations=3)
        >>> policy.objective.shape
        (3,)
        """
        import torch

        check_market(market)
        settings = _settings(market, alpha, mean_weight, hidden, iterations, learning_rate, seed)
        seen = np.stack([market[name].transpose("path", "time").values for name in OBSERVATIONS], axis=-1)
        weight = market["weight"].values
        mean = np.einsum("p,pto->o", weight, seen) / seen.shape[1]
        variance = np.einsum("p,pto->o", weight, np.square(seen - mean)) / seen.shape[1]
        sd = np.where(variance > 1e-20, np.sqrt(variance), 1.0)
        inputs = torch.from_numpy(np.clip((seen - mean) / sd, -_CLIP, _CLIP))
        gains = {name: torch.from_numpy(market[name].transpose("path", "time").values) for name in _GAINS}
        network = _network(len(OBSERVATIONS) + 1, hidden, seed)
        bound = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([*network.parameters(), bound], lr=learning_rate)
        w = torch.from_numpy(weight)
        history = np.empty(iterations)
        with single_threaded_torch(), torch.enable_grad():
            for i in range(iterations):
                loss = -_log_wealth(network, inputs, gains, market["listed"].values, float(market.attrs["index_cost"]))
                if i == 0:
                    with torch.no_grad():  # start the bound where the expected shortfall's is
                        bound.copy_(torch.quantile(loss, 1 - settings["alpha"]))
                worst = bound + (w * torch.relu(loss - bound)).sum() / settings["alpha"]
                objective = worst + mean_weight * (w * loss).sum()
                optimiser.zero_grad()
                objective.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                history[i] = float(objective.detach())
        if not np.all(np.isfinite(history)):
            raise InputError("learning_rate: training diverged; lower it")
        linear = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
        layers = tuple((one.weight.detach().numpy().copy(), one.bias.detach().numpy().copy()) for one in linear)
        return cls(mean, sd, layers, history, settings)

    def decide(self, seen: Seen, hedged: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Evaluate the network."""
        values = np.stack([seen[name] for name in OBSERVATIONS], axis=-1)
        x = np.column_stack([np.clip((values - self.mean) / self.sd, -_CLIP, _CLIP), hedged])
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = np.tanh(x)
        return np.ones_like(hedged), 1 / (1 + np.exp(-x[:, 0]))

    def save(self, path: str | Path) -> Path:
        """Write to one safetensors file, atomically."""
        arrays = {"mean": self.mean, "sd": self.sd, "objective": self.objective}
        for i, (weight, bias) in enumerate(self.layers):
            arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
        about = {"format": _FORMAT, "layers": len(self.layers), "settings": self.settings}
        text = json.dumps({**about, "volscen_version": __version__})
        write_safetensors(path, arrays, text)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            If the file is no such file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                about = dict(json.loads((file.metadata() or {}).get("volscen", "{}")))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
            raise FileFormatError(f"cannot read a policy from {path}: {error}") from None
        found = about.get("format")
        if found != _FORMAT:
            if not is_other_number(found, _FORMAT):
                raise FileFormatError(f"{path} holds no policy of format {_FORMAT}")
            words = other_number(str(found), _FORMAT, about.get("volscen_version"), "fit the policy again")
            raise FileFormatError(f"{path}: a policy of {words}")
        try:
            layers = tuple((arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(about["layers"]))
            return cls(arrays["mean"], arrays["sd"], layers, arrays["objective"], about["settings"])
        except (KeyError, TypeError) as error:
            raise FileFormatError(f"cannot read a policy from {path}: {error!r} is missing or wrong") from None


def _network(n_inputs: int, hidden: int, seed: int) -> Any:
    """Two hidden layers in float64, initialised from a generator of their own; the hedge starts near one half."""
    import torch

    sizes = [n_inputs, hidden, hidden, 1]
    rng = np.random.default_rng(seed)
    parts: list[Any] = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layer = torch.nn.Linear(a, b, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(rng.normal(0, 1 / np.sqrt(a), (b, a)) * (1.0 if b > 1 else 0.1)))
            layer.bias.zero_()
        parts += [layer] + ([torch.nn.Tanh()] if i < len(sizes) - 2 else [])
    return torch.nn.Sequential(*parts)


def _log_wealth(network: Any, inputs: Any, gains: dict[str, Any], roll: npt.NDArray[np.bool_], cost: float) -> Any:
    import torch

    n = inputs.shape[0]
    hedge = torch.zeros(n, dtype=torch.float64)
    held: tuple[Any, Any] = (torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64))
    log_wealth = torch.zeros(n, dtype=torch.float64)
    for time in range(inputs.shape[1]):
        hedge = torch.sigmoid(network(torch.cat([inputs[:, time], hedge[:, None]], dim=1))[:, 0])
        now = {name: values[:, time] for name, values in gains.items()} | {"listed": roll[time]}
        total, _, held = growth(now, torch.ones_like(hedge), hedge, held, cost)
        log_wealth = log_wealth + torch.log(total)
    return log_wealth


def _settings(
    market: xr.Dataset,
    alpha: float,
    mean_weight: float,
    hidden: int,
    iterations: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    alpha = one_level(alpha)
    if market.sizes["path"] * alpha < 1:
        raise InputError(f"market has {market.sizes['path']} paths, too few for a worst {alpha:.3g}; simulate more")
    return {
        "alpha": alpha,
        "mean_weight": finite_number("mean_weight", mean_weight, least=0),
        "hidden": whole_number("hidden", hidden),
        "iterations": whole_number("iterations", iterations),
        "learning_rate": positive_number("learning_rate", learning_rate),
        "seed": whole_number("seed", seed, least=0),
        "market": str(market.attrs["market"]),
        "paths": market.sizes["path"],
        "steps": market.sizes["time"],
    }
