import numpy as np
from numpy.typing import NDArray

_Float64 = NDArray[np.float64]
_Float32 = NDArray[np.float32]
_Bool = NDArray[np.bool_]

def simd_level() -> str: ...
def american_price(
    spot: _Float64,
    strike: _Float64,
    tau: _Float64,
    implied_vol: _Float64,
    is_call: _Bool,
    rate: _Float64,
    dividend_yield: _Float64,
    num_threads: int,
) -> tuple[_Float64, _Float64, NDArray[np.int8]]: ...
def american_implied_vol(
    price: _Float64,
    spot: _Float64,
    strike: _Float64,
    tau: _Float64,
    is_call: _Bool,
    rate: _Float64,
    dividend_yield: _Float64,
    start: _Float64,
    num_threads: int,
) -> tuple[_Float64, NDArray[np.int8]]: ...
def bachelier_price(
    forward: _Float64,
    strike: _Float64,
    tau: _Float64,
    normal_vol: _Float64,
    is_call: _Bool,
    discount_factor: _Float64,
    num_threads: int,
) -> _Float64: ...
def bachelier_implied_vol(
    price: _Float64,
    forward: _Float64,
    strike: _Float64,
    tau: _Float64,
    is_call: _Bool,
    discount_factor: _Float64,
    num_threads: int,
) -> tuple[_Float64, NDArray[np.int8]]: ...
def black_price(
    forward: _Float64,
    strike: _Float64,
    tau: _Float64,
    implied_vol: _Float64,
    is_call: _Bool,
    discount_factor: _Float64,
    num_threads: int,
) -> _Float64: ...
def black_delta(
    forward: _Float64,
    strike: _Float64,
    tau: _Float64,
    implied_vol: _Float64,
    is_call: _Bool,
    discount_factor: _Float64,
    num_threads: int,
) -> _Float64: ...
def black_gamma(
    forward: _Float64,
    strike: _Float64,
    tau: _Float64,
    implied_vol: _Float64,
    is_call: _Bool,
    discount_factor: _Float64,
    num_threads: int,
) -> _Float64: ...
def black_vega(
    forward: _Float64,
    strike: _Float64,
    tau: _Float64,
    implied_vol: _Float64,
    is_call: _Bool,
    discount_factor: _Float64,
    num_threads: int,
) -> _Float64: ...
def black_theta(
    forward: _Float64,
    strike: _Float64,
    tau: _Float64,
    implied_vol: _Float64,
    is_call: _Bool,
    discount_factor: _Float64,
    num_threads: int,
) -> _Float64: ...
def implied_vol(
    price: _Float64,
    forward: _Float64,
    strike: _Float64,
    tau: _Float64,
    is_call: _Bool,
    discount_factor: _Float64,
    num_threads: int,
) -> tuple[_Float64, NDArray[np.int8]]: ...
def implied_total_vol(
    normalised_price: _Float64, log_moneyness: _Float64, is_call: _Bool, num_threads: int
) -> tuple[_Float64, NDArray[np.int8]]: ...
def svi_fit(
    log_moneyness: _Float64,
    total_variance: _Float64,
    weight: _Float64,
    start: _Float64,
    butterfly: bool,
    num_threads: int,
) -> tuple[_Float64, _Float64, NDArray[np.int8]]: ...
def ssvi_fit(
    log_moneyness: _Float64,
    total_variance: _Float64,
    weight: _Float64,
    shared: bool,
    num_threads: int,
) -> tuple[_Float64, _Float64, NDArray[np.int8], _Float64]: ...
def arbitrage_penalty_double(
    implied_vol: _Float64, tau: _Float64, moneyness: _Float64, gradient: bool, num_threads: int
) -> tuple[_Float64, _Float64]: ...
def arbitrage_penalty_float(
    implied_vol: _Float32, tau: _Float64, moneyness: _Float64, gradient: bool, num_threads: int
) -> tuple[_Float32, _Float32]: ...
def arbitrage_pullback_double(
    implied_vol: _Float64, tau: _Float64, moneyness: _Float64, weight: _Float64, num_threads: int
) -> _Float64: ...
def arbitrage_pullback_float(
    implied_vol: _Float32, tau: _Float64, moneyness: _Float64, weight: _Float32, num_threads: int
) -> _Float32: ...
def revalue(
    implied_vol: _Float32 | _Float64,
    tau: _Float64,
    moneyness: _Float64,
    spot: _Float64,
    strike: _Float64,
    remaining: _Float64,
    is_call: _Bool,
    carry: _Float64,
    discount_factor: _Float64,
    vol_offset: _Float64,
    quantity: _Float64,
    vol_floor: float,
    extrapolation: int,
    out: tuple[_Float64, ...],
    num_threads: int,
) -> NDArray[np.int64]: ...
def interpolate_vol(
    implied_vol: _Float32 | _Float64,
    tau: _Float64,
    moneyness: _Float64,
    tau_query: _Float64,
    moneyness_query: _Float64,
    extrapolation: int,
    num_threads: int,
) -> _Float64: ...
def project_surfaces(
    implied_vol: _Float64,
    tau: _Float64,
    moneyness: _Float64,
    single: bool,
    vega_floor: float,
    iterations: int,
    num_threads: int,
) -> tuple[_Float64, NDArray[np.int8], NDArray[np.int16]]: ...
