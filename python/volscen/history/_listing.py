"""What is listed and where it trades forward on one day: what the next day's return is measured against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from volscen.chain import Chain

__all__ = ["Listing"]

FloatArray = npt.NDArray[np.float64]

#: Contracts are kept of the first expiries only: a corporate action alters those of all.
_EXPIRIES_WITH_CONTRACTS = 3


@dataclass(frozen=True)
class Listing:
    """Forwards by expiry and contracts of the nearest expiries, of one day.

    Attributes
    ----------
    date : str
        ISO 8601, with a time of day where there are several snapshots a day.
    spot : float
        Price of the underlying.
    forward : dict of str to (float, float, float)
        By expiry (ISO 8601): time to expiry in years, forward, and its standard error (infinite where unknown).
    contracts : dict of str to (list of float, list of float)
        By expiry: strikes of standard and of adjusted contracts.
    """

    date: str
    spot: float
    forward: dict[str, tuple[float, float, float]]
    contracts: dict[str, tuple[list[float], list[float]]]

    @classmethod
    def of(cls, chain: Chain, clean: pd.DataFrame, date: np.datetime64) -> Listing:
        """Read it from a day's chain and the sound rows that the chain was made of."""
        table = chain.forwards[np.isfinite(chain.forwards["forward"].to_numpy())]
        names = np.datetime_as_string(table["expiry"].to_numpy().astype("datetime64[s]"))
        error = table["forward_error"].to_numpy()
        forward = {
            str(name): (float(tau), float(level), float(noise) if np.isfinite(noise) else np.inf)
            for name, tau, level, noise in zip(
                names, table["tau"].to_numpy(), table["forward"].to_numpy(), error, strict=True
            )
        }
        expiry = clean["expiry_time" if "expiry_time" in clean else "expiry"].to_numpy().astype("datetime64[s]")
        strike = clean["strike"].to_numpy(dtype=np.float64)
        adjusted = clean["adjusted"].to_numpy(dtype=bool) if "adjusted" in clean else np.zeros(len(clean), dtype=bool)
        contracts = {}
        for name in list(forward)[:_EXPIRIES_WITH_CONTRACTS]:
            here = expiry == np.datetime64(name)
            contracts[name] = (
                np.unique(strike[here & ~adjusted]).tolist(),
                np.unique(strike[here & adjusted]).tolist(),
            )
        return cls(str(date), float(chain.spot), forward, contracts)

    def to_text(self) -> str:
        """JSON text; numbers come back to the last bit."""
        forward = {name: (t, f, e if np.isfinite(e) else None) for name, (t, f, e) in self.forward.items()}
        return json.dumps({**vars(self), "forward": forward}, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_text(cls, text: str, where: str) -> Listing:
        """Inverse of :meth:`to_text`.

        Raises
        ------
        InputError
            If the text is not of such a listing.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            return cls(
                str(data["date"]),
                float(data["spot"]),
                {
                    str(k): (float(v[0]), float(v[1]), np.inf if v[2] is None else float(v[2]))
                    for k, v in data["forward"].items()
                },
                {str(k): ([float(x) for x in v[0]], [float(x) for x in v[1]]) for k, v in data["contracts"].items()},
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise InputError(f"{where} holds no readable record of its last day; build it anew") from None
