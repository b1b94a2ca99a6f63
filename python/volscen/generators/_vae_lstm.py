"""A variational autoencoder of surfaces, and an LSTM with attention that foresees its latents; one asset or several.

After D. Novak and A. Sato, "Hybrid VAE-LSTM framework for multi-asset implied volatility forecasting with
cross-sectional constraints". Training needs torch; forecasting and sampling evaluate the networks in NumPy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._numbers import whole_number
from volscen._progress import bar_is_off
from volscen.generators._base import FloatArray
from volscen.generators._cell_regression import CellRegression
from volscen.generators._neural_options import check_checkpoint, check_device
from volscen.generators._record import TrainingCurve
from volscen.generators._vae_lstm_features import N_FEATURES, Points
from volscen.generators._vae_lstm_forecast import all_horizons, look
from volscen.generators._vae_lstm_foreseer import Foreseer
from volscen.generators._vae_lstm_law import N_PAST, DayLaw, Pool
from volscen.generators._vae_lstm_numpy import Nets
from volscen.generators._vae_lstm_options import FRAME_DAYS, make_vae_lstm_options
from volscen.generators._vae_lstm_panel import own_arrays
from volscen.history import State

if TYPE_CHECKING:
    from volscen.generators._vae_lstm_assets import VaeLstmAssets
    from volscen.generators._vae_lstm_fit import Trained

__all__ = ["VaeLstm"]

_CHUNK = 512
_TEXT = {
    "training_loss": "Huber loss of forecasts and the return, penalties, and a tenth of the autoencoder's objective",
    "validation_loss": "Huber loss of forecasts and the return, and penalties, on the validation days",
}


class VaeLstm(Foreseer):
    """Variational autoencoder and attentive LSTM of its latents, with fitted residuals.

    Surfaces are log vols in units of the mean and deviation of each cell over the last 60 days. An autoencoder with
    ELU layers turns them, beside engineered features (return, skew, slope, curvature, level, realised vol, lagged
    changes), into ``latent_dim`` numbers and back; a stacked LSTM with attention over its states forecasts how these
    move. A forecast is a base forecast of every cell plus what the decoder makes of the move. Static arbitrage of
    decoded surfaces and forecasts is penalised by smooth squares, through both networks. Scenarios add a past day's
    residuals of return and latents, in units of their scale, and its shock to what latents miss; the latents they
    start from are drawn from the posterior. Several assets are trained together by :meth:`fit_assets`.

    Parameters
    ----------
    latent_dim : int
        15 to 40 in the paper.
    hidden : sequence of int
        Widths of the encoder; the first layer, and the decoder's last, is each asset's own.
    lstm_hidden : sequence of int
        Widths of the stacked LSTM; (512, 256, 128) in the paper.
    window : int
        Days the LSTM sees, at most 60.
    attention : {"multi_head", "additive", "dot"}
    heads : int
        Of "multi_head"; divides the last width.
    dynamics : {"direct", "iterated"}
        All horizons at once; or a day at a time, fed with its own forecasts: trained with the true values (teacher
        forcing) for a third of the epochs, then with fewer and fewer of them (scheduled sampling).
    horizons : sequence of int
        Days ahead that are trained for and, linearly between, forecast; 1 first. "iterated" needs the last only.
    rollout : int
        Days that "iterated" is trained over.
    base : {"har", "mean_reversion", "no_change", "none"}
        Forecast that the networks add to: regressions of each cell, today's surface, or none:
        the forecast is the decoded surface itself.
    beta : float
        Weight of the Kullback-Leibler divergence against the sum of squared errors of the cells.
    free_bits : float
        Nats of each latent's divergence that cost nothing; against latents that switch off.
    penalty : float
        Weight of the mean squares of calendar and butterfly violations; 0 for none.
    dropout : float
        Between the layers of the LSTM.
    market_dim : int
        Numbers to which the LSTM's input condenses the latents of all assets; of several assets only.
    vae_epochs, epochs : int
        Most epochs of the autoencoder alone and of all networks together.
    patience : int, optional
        Epochs without a better validation loss before training stops.
    batch_size : int
        Pairs of an asset and a date.
    learning_rate, dynamics_learning_rate : float
        Of Adam for the autoencoder alone and for all together, at the start; they fall to zero along a cosine.
    weight_decay, averaging : float
        Per unit of the rate; of the running mean of the parameters, which is what is judged and kept.
    scale : {"fitted", "ewma", "none"}
        Scale of the residuals, as in the generator "world".
    posterior_noise : bool
        The LSTM sees, and scenarios start from, draws of the encoder's posterior.
    residual_days : int
        Residuals are drawn from the last days fitted on or updated with.
    validation_days : int or float
        Last days that are not trained on: their number, or share when below 1. They choose the epoch, the
        weight of the networks' forecasts, and how far residuals spread beyond those of the days before.
    seed : int
        Same seed, data and settings: same bits on one machine's CPU.
    device : str
        Where ``fit`` trains: ``"cpu"``, ``"cuda"`` (the first) or ``"cuda:1"``. For drawing
        scenarios, see ``device`` of :func:`volscen.generate`.
    checkpoint : path, optional
        File that holds the whole state of training, with one of the autoencoder's beside it (``-autoencoder``); when
        they exist, ``fit`` goes on to the bits of an uninterrupted run. They stay after the end.
    checkpoint_every : int
        Epochs between two writings.
    progress : bool or "auto"
        Show a progress bar; ``"auto"`` shows it on a terminal only.

    Attributes
    ----------
    trust_ : ndarray, shape (horizon,)
        Weight of the networks' move in forecasts, by horizon: that with the least Huber loss on the
        validation days; 1 without a base.
    spread_ : ndarray, shape (2,)
        Factors by which residuals of return and latents are widened.
    active_units_ : int
        Latents whose posterior mean varies (variance above .01) over the days fitted on.
    epochs_kept_ : tuple of int
        Best epochs of the two trainings; 0 of the second where nothing learnt was better than the base forecast.
    vae_curve_ : ndarray, shape (epochs, 2)
        Loss and validation loss of the autoencoder.

    Notes
    -----
    A law of the last 60 + 63 days: units of the last 60 for each of the 63 moves that scales look back on.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history, "vae_lstm", latent_dim=4, hidden=(8,), lstm_hidden=(8,), heads=2, window=5,
    ...                     vae_epochs=1, epochs=1, progress=False)
    >>> cube = volscen.generate(model, history, n_scenarios=100, seed=1)
    >>> dict(cube.sizes)["scenario"]
    100
    """

    name: ClassVar[str] = "vae_lstm"
    _SCALES_DAYS: ClassVar[bool] = True
    _PACKAGES: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    n_returns = N_PAST - 1
    n_surfaces = N_PAST

    active_units_: int
    epochs_kept_: tuple[int, int]
    vae_curve_: FloatArray
    residual_: FloatArray
    rest_: FloatArray
    _networks: dict[str, npt.NDArray[Any]]
    _points: Points

    def __init__(
        self,
        *,
        latent_dim: int = 16,
        hidden: Sequence[int] = (64, 32),
        lstm_hidden: Sequence[int] = (32, 32),
        window: int = 20,
        attention: Literal["multi_head", "additive", "dot"] = "multi_head",
        heads: int = 4,
        dynamics: Literal["direct", "iterated"] = "direct",
        horizons: Sequence[int] = (1, 5, 10, 20, 30),
        rollout: int = 10,
        base: Literal["har", "mean_reversion", "no_change", "none"] = "har",
        beta: float = 0.05,
        free_bits: float = 0.02,
        penalty: float = 10.0,
        dropout: float = 0.2,
        market_dim: int = 16,
        vae_epochs: int = 40,
        epochs: int = 40,
        patience: int | None = 8,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        dynamics_learning_rate: float = 1e-4,
        weight_decay: float = 1.0,
        averaging: float = 0.98,
        scale: Literal["fitted", "ewma", "none"] = "fitted",
        posterior_noise: bool = True,
        residual_days: int = 1000,
        validation_days: int | float = 0.15,
        seed: int = 0,
        device: str = "cpu",
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 5,
        progress: bool | Literal["auto"] = "auto",
    ) -> None:
        self.options = make_vae_lstm_options(
            latent_dim=latent_dim, hidden=hidden, lstm_hidden=lstm_hidden, window=window, attention=attention,
            heads=heads, dynamics=dynamics, horizons=horizons, rollout=rollout, base=base, beta=beta,
            free_bits=free_bits, penalty=penalty, dropout=dropout, market_dim=market_dim, vae_epochs=vae_epochs,
            epochs=epochs, patience=patience, batch_size=batch_size, learning_rate=learning_rate,
            dynamics_learning_rate=dynamics_learning_rate, weight_decay=weight_decay, averaging=averaging, scale=scale,
            posterior_noise=posterior_noise, residual_days=residual_days, validation_days=validation_days, seed=seed,
        )  # fmt: skip
        bar_is_off(progress)  # or says what it may be
        self.device = check_device(device)
        self.checkpoint = check_checkpoint(checkpoint)
        self.checkpoint_every, self.progress = whole_number("checkpoint_every", checkpoint_every), progress

    def parameters(self) -> dict[str, Any]:
        """Return the constructor arguments that belong to the law, JSON-serialisable."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.options).items()}

    # ------------------------------------------------------------------------------------------- fitting
    def fit(self, history: xr.Dataset) -> Self:
        """Train on a history of one asset.

        Raises
        ------
        InputError
            If the history is too short or has holes, the device is not there, or ``checkpoint`` belongs to
            another run.
        FileFormatError
            If ``checkpoint`` exists and is no readable checkpoint.
        FitError
            If training diverges or something never moves.
        KeyboardInterrupt
            On Ctrl-C, after the checkpoint has been written. A model fitted before stays as it was.
        """
        self._check_history(history, N_PAST + FRAME_DAYS)
        from volscen.generators._vae_lstm_assets import trust

        trained = self._train({"asset": history})
        fresh = copy.copy(self)
        fresh._adopt(trained, "asset", history)
        fresh.trust_ = trust(trained, {"asset": fresh}, None)
        self.__dict__.update(fresh.__dict__)
        return self

    @classmethod
    def fit_assets(
        cls, histories: Mapping[str, xr.Dataset] | xr.Dataset, *, dates: npt.ArrayLike | None = None, **options: Any
    ) -> VaeLstmAssets:
        """Train on several assets at once: ends of their own, one trunk, one LSTM that sees the latents of all.

        Parameters
        ----------
        histories : mapping of str to xarray.Dataset, or xarray.Dataset
            By asset; grids and dates may differ, ``periods_per_year`` may not. Or one with the dimension ``asset``.
        dates : array of datetime64, optional
            Calendar that days ahead are counted on; all dates of all assets when omitted. Days without a surface of an
            asset count for nothing in its losses.
        **options
            Constructor arguments.

        Returns
        -------
        VaeLstmAssets
            With ``models``, a generator of each asset, and ``forecast``.

        Raises
        ------
        InputError
            If an asset has too few days, or shares fewer than 50 dates with the others.

        Examples
        --------
        >>> import volscen
        >>> from volscen.generators import generator_class
        >>> history = volscen.datasets.sample_history().isel(date=slice(-500, None))
        >>> both = generator_class("vae_lstm").fit_assets(
        ...     {"A": history, "B": history.isel(moneyness=slice(1, None))}, latent_dim=4, hidden=(8,),
        ...     lstm_hidden=(8,), heads=2, window=5, vae_epochs=1, epochs=1, progress=False)
        >>> volscen.generate(both.models["A"], history, n_scenarios=10, seed=1).sizes["step"]
        1
        """
        from volscen.generators._vae_lstm_assets import fit_assets

        return fit_assets(cls(**options), histories, dates)

    def _train(self, histories: Mapping[str, xr.Dataset], dates: npt.NDArray[np.datetime64] | None = None) -> Trained:
        # Here, so that loading, forecasting and sampling never import torch.
        from volscen.generators._vae_lstm_fit import RunSettings, train_networks

        settings = RunSettings(self.device, self.checkpoint, self.checkpoint_every, self.progress)
        return train_networks(histories, self.options, settings, dates)

    def _adopt(self, trained: Trained, name: str, history: xr.Dataset) -> None:
        """Take one asset's networks and fit its law of a day to its own dates."""
        options = self.options
        panel, units = trained.panels[name], trained.units[name]
        self._networks = trained.networks[name]
        self._extra = 0 if trained.market is None else 2 + options.market_dim
        self._base = trained.bases[name]
        self._remember(history)
        self._build()
        logs, returns = own_arrays(history)
        first = trained.dates[trained.n_train] if trained.n_train < len(trained.dates) else None
        days = history["date"].values.astype("datetime64[D]")
        n_train = len(days) if first is None else int(np.searchsorted(days, first))
        base = self._base
        if options.base in ("no_change", "none"):  # paths must come back from wherever they go
            base = CellRegression.fit(logs, np.arange(21, n_train), (1,), "mean_reversion")
        law = DayLaw.begin(logs, units, base, options.latent_dim)
        found = law.moves_of(logs, returns, self._points, self._nets, options, self._extra)
        self._law = law.fitted(found, n_train - FRAME_DAYS, options.scale, options.residual_days)
        found = replace(found, shock=found.shock + self._law.reversion * found.rest)
        self._take_pool(self._law.pool(found, options.residual_days))
        seen = look(panel, units, self._nets, options, np.flatnonzero(panel.active & panel.seen))
        self.active_units_ = int((seen.latent[:, -1].var(axis=0) > 0.01).sum())
        self.trust_ = np.ones(len(all_horizons(options)))
        coder, foresight = trained.coder, trained.foresight
        self.epochs_kept_ = (coder.best_epoch, foresight.best_epoch)
        self.vae_curve_ = np.column_stack([coder.losses, coder.scores[:, 1]])
        self.curve_ = TrainingCurve(
            {"training_loss": foresight.losses}, {"validation_loss": foresight.scores[1:, 1]},
            foresight.scores[1:, 0].astype(np.int64), foresight.best_epoch, _TEXT,
        )  # fmt: skip

    def _build(self) -> None:
        cells = self.tau_.size * self.moneyness_.size
        self._points = Points.of(self.tau_, self.moneyness_)
        self._nets = Nets.from_arrays(self._networks, self.options, cells, N_FEATURES, self._extra)

    def _take_pool(self, pool: Pool) -> None:
        self.residual_, self.rest_ = pool.residual, pool.rest

    def update(self, history: xr.Dataset) -> Self:
        """Renew the pool of residuals with the last ``residual_days`` days of ``history``; no network is retrained."""
        self._check_update(history, N_PAST + 1)
        recent = history.isel(date=slice(-(self.options.residual_days + N_PAST), None))
        logs, returns = own_arrays(recent)
        found = self._law.moves_of(logs, returns, self._points, self._nets, self.options, self._extra)
        self._take_pool(self._law.pool(found, self.options.residual_days))
        return self

    # ------------------------------------------------------------------------------------------- the law
    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths of ``horizon`` steps from a state; see :meth:`Generator.sample`."""
        law, options, annual = self._law, self.options, math.sqrt(self.periods_per_year_)
        logs = state.log_iv[-N_PAST:].reshape(N_PAST, -1)
        returns = annual * np.r_[0.0, state.log_return[-(N_PAST - 1) :]]
        path = law.start(logs, returns, self._points, self._nets, options)
        # A stream of its own: days are drawn by the same numbers whatever the posterior takes.
        noise = np.random.default_rng(rng.integers(2**62))
        pool = Pool(self.residual_, self.rest_)
        log_return = np.empty((n, horizon))
        log_iv = np.empty((n, horizon, logs.shape[1]))
        for step in range(horizon):
            moved, log_iv[:, step] = law.step(path, n, pool, self._points, self._nets, options, self._extra, rng, noise)
            log_return[:, step] = moved / annual
        np.exp(log_iv, out=log_iv)
        return log_return, log_iv.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def _twins(self, device: str) -> dict[str, Any]:
        from volscen.generators._vae_lstm_twin import NetsTwin

        names = ("hidden", "lstm_hidden", "attention", "heads")
        return {"_nets": NetsTwin(device, self._networks, **{name: getattr(self.options, name) for name in names})}

    def is_outside(self, state: State) -> bool:
        """Whether a log vol at this state lies beyond the days fitted on, or the scales' inputs do, and are clipped."""
        law = self._law
        logs = state.log_iv[-N_PAST:].reshape(N_PAST, -1)
        returns = math.sqrt(self.periods_per_year_) * np.r_[0.0, state.log_return[-(N_PAST - 1) :]]
        path = law.start(logs, returns, self._points, self._nets, self.options)
        own, shared = law.features(path.variance, logs[-1:].mean(axis=1))
        return bool(
            np.any((logs[-1] < law.low) | (logs[-1] > law.high))
            or np.any(own[0] > law.own_high + 1e-6)
            or np.any(shared[0] > law.shared_high + 1e-6)
        )

    # ------------------------------------------------------------------------------------------- keeping
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Networks, law, pool and training curves."""
        return {
            **{f"network.{name}": array for name, array in self._networks.items()},
            **{f"law.{name}": array for name, array in self._law.arrays().items()},
            "base": self._base.coefficients,
            "residual": self.residual_,
            "rest": self.rest_.astype(np.float32),
            "trust": self.trust_,
            "figures": np.array([self.active_units_, *self.epochs_kept_, self._extra]),
            "vae_curve": self.vae_curve_,
        }

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        def group(head: str) -> dict[str, npt.NDArray[Any]]:
            return {name[len(head) :]: array for name, array in arrays.items() if name.startswith(head)}

        options, cells = self.options, self.tau_.size * self.moneyness_.size
        self.active_units_, *kept, self._extra = (int(value) for value in arrays["figures"])
        self.epochs_kept_ = (kept[0], kept[1])
        self._networks = group("network.")
        self._build()
        self._law = DayLaw.restore(group("law."), options.latent_dim, cells)
        self.residual_, self.rest_ = arrays["residual"], arrays["rest"].astype(np.float64)
        self.trust_, self.vae_curve_ = arrays["trust"], arrays["vae_curve"]
        self._base = CellRegression(arrays["base"])
        horizons, days = len(all_horizons(options)), len(self.residual_)
        shapes = {"base": (horizons, cells, 4), "trust": (horizons,), "rest": (days, cells),
                  "residual": (days, options.latent_dim + 1)}  # fmt: skip
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not days:
                raise ValueError(f"{name} must be of shape {shape}, not {arrays[name].shape}")
