"""The accessor ``ds.volscen``: pictures and weighted figures of a dataset as methods.

>>> import volscen
>>> cube = volscen.generate(n_scenarios=1000, horizon=5, seed=1)
>>> cube.volscen
<volscen accessor of a dataset 'volscen/scenarios/1'; ds.volscen.plot_fan() and other methods: dir(ds.volscen)>
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["VolscenAccessor", "register"]


class VolscenAccessor:
    """What volscen does with a dataset, as its methods; each is short for a plain function.

    Parameters
    ----------
    ds : xarray.Dataset
        A history, surface, scenarios or the result of a hedge.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> history.isel(date=-1).volscen.plot_smile().get_xlabel()
    'moneyness K/F'
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def __repr__(self) -> str:
        kind = self._ds.attrs.get("schema", "of no schema of volscen")
        return f"<volscen accessor of a dataset {kind!r}; ds.volscen.plot_fan() and other methods: dir(ds.volscen)>"

    # -------------------------------------------------------------------------------------------- pictures
    def plot_surface(self, *, kind: Any = "3d", q: float | None = None, ax: Axes | None = None, **style: Any) -> Axes:
        """Surface of one date and step, as a solid or a map (``kind="heatmap"``): :func:`volscen.plot.surface`."""
        from volscen import plot

        return plot.surface(self._ds, kind=kind, q=q, ax=ax, **style)

    def plot_smile(self, *, tau: Any = None, levels: Any = "auto", ax: Axes | None = None, **style: Any) -> Axes:
        """Smiles by maturity: :func:`volscen.plot.smile`."""
        from volscen import plot

        return plot.smile(self._ds, tau=tau, levels=levels, ax=ax, **style)

    def plot_fan(self, of: str = "atm_vol", *, ax: Axes | None = None, **options: Any) -> Axes:
        """Weighted quantiles of a vol, a return or any variable over the steps: :func:`volscen.plot.fan`."""
        from volscen import plot

        return plot.fan(self._ds, of, ax=ax, **options)

    def plot_pca(self, *, history: xr.Dataset | None = None, ax: Axes | None = None, **options: Any) -> Axes:
        """Weighted principal components of the moves, beside a history's: :func:`volscen.plot.pca`."""
        from volscen import plot

        return plot.pca(self._ds, history=history, ax=ax, **options)

    def plot_weights(self, *, kind: Any = "lorenz", ax: Axes | None = None, **style: Any) -> Axes:
        """How the weight is spread, with the effective sample size: :func:`volscen.plot.weights`."""
        from volscen import plot

        return plot.weights(self._ds, kind=kind, ax=ax, **style)

    def plot_arbitrage(self, *, weighted: bool = True, ax: Axes | None = None, **options: Any) -> Axes:
        """Map of the violations of static arbitrage: :func:`volscen.plot.arbitrage`."""
        from volscen import plot

        return plot.arbitrage(self._ds, weighted=weighted, ax=ax, **options)

    def plot_hedge_ratios(self, *, kind: str = "ratios", ax: Axes | None = None, **style: Any) -> Axes:
        """Ratios of a hedge, or what it leaves (``kind="residuals"``): :func:`volscen.plot.hedge_ratios`."""
        from volscen import plot

        return plot.hedge_ratios(self._ds, kind=kind, ax=ax, **style)

    # -------------------------------------------------------------------------------------------- figures
    def validate(self) -> xr.Dataset:
        """Check the dataset against its schema and return it: :func:`volscen.validate`."""
        import volscen

        return volscen.validate(self._ds)

    def weighted_mean(self, name: str) -> xr.DataArray:
        """Mean of a variable over scenarios: :func:`volscen.weighted_mean`."""
        import volscen

        return volscen.weighted_mean(self._ds, name)

    def weighted_quantile(self, name: str, q: Any) -> xr.DataArray:
        """Quantiles of a variable over scenarios: :func:`volscen.weighted_quantile`."""
        import volscen

        return volscen.weighted_quantile(self._ds, name, q)

    def effective_sample_size(self) -> Any:
        """Effective sample size of the weights, by date where there are several: :func:`volscen.effective_sample_size`.

        Returns
        -------
        float or xarray.DataArray
        """
        import volscen
        from volscen._statistics import _weight_of

        weight = _weight_of(self._ds).transpose(..., "scenario")
        ess = volscen.effective_sample_size(weight.values)
        return float(ess) if ess.ndim == 0 else weight.isel(scenario=0, drop=True).copy(data=ess).rename("ess")


def register() -> None:
    """Give every dataset the accessor, once."""
    if vars(xr.Dataset).get("volscen") is None:
        xr.register_dataset_accessor("volscen")(VolscenAccessor)  # type: ignore[no-untyped-call]
