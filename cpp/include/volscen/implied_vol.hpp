// Black-76 implied volatility on dense blocks, without guesses from the caller.
//
// The price is reduced to the time value beta = v/lo of the out-of-the-money option on the same strike
// (lo = min(F, K), hi = max(F, K)), a function of s = vol sqrt(tau) that rises from 0 to 1; x = ln(hi/lo).
// Nearly all options (x <= 2, s below some 1.9) are found by one correction of fifth order to a first
// approximation; the others by the iteration in implied_vol_far.hpp.
#pragma once

#include "volscen/implied_vol_extreme.hpp"
#include "volscen/implied_vol_far.hpp"
#include "volscen/implied_vol_status.hpp"

namespace volscen {

constexpr std::size_t implied_vol_block = 256;  // a multiple of 8
// Largest x for the series below.
constexpr double near_distance = 6.0;
// Largest |ln(K/F)| of normalised prices: no doubles K and F are further apart.
constexpr double normalised_limit = 1400.0;

// One block of equations beta(x, s) = beta exp(-shift ln 2), as the solvers see it.
struct ImpliedVolEquations {
    double x[implied_vol_block];
    double beta[implied_vol_block];   // scaled by 2^shift
    double shift[implied_vol_block];  // 0, 600 or 1200, the greater the smaller beta
    double room[implied_vol_block];   // 1 - beta is room/unit
    double unit[implied_vol_block];
    double swell[implied_vol_block];  // sqrt(hi/lo)
    double tau[implied_vol_block];
    double status[implied_vol_block];
    double extreme[implied_vol_block];  // 1 where the equation is to be put in place with more care
};

// Factors of the recurrence below.
template <int K>
constexpr double series_factor = 1.0 / static_cast<double>((2 * K + 2) * (2 * K + 3));

// The terms z_k = y_(2k+1) u^k/(2k+1)! from number K + 1 on, y_n being derivatives of N/phi at h <= 0, by
// y_(n+2) = (2n + 1 + h^2) y_n - n (n-1) y_(n-2): for x <= 2 its rounding errors stay small beside y_1.
template <int K, int Last>
VOLSCEN_INLINE double series_tail(double square, double u, double before, double term) {
    const double next =
        (u * series_factor<K>)*((static_cast<double>(4 * K + 3) + square) * term - u * before);
    if constexpr (K + 1 == Last) {
        return next;
    } else {
        return next + series_tail<K + 1, Last>(square, u, term, next);
    }
}

// beta over exp(-(h + t)^2/2) s/sqrt(2 pi), h = -a and t = s/2: Taylor's series of N/phi about h. At u = t^2
// < 1 what is left out is below 1e-17.
VOLSCEN_INLINE double relative_value(double square, double y1, double u) {
    const double z1 = u * (1.0 / 6.0) * ((3.0 + square) * y1 - 1.0);
    return y1 + (z1 + series_tail<1, 14>(square, u, y1, z1));
}

// First approximations, of 26 bits; 1 in `far` where the equation is one for the iteration.
VOLSCEN_INLINE void implied_vol_seeds(std::size_t n, const ImpliedVolEquations& e, double* __restrict s,
                                      double* __restrict far) {
    // Loops of one piece each: short chains of operations overlap better.
    double ratio[implied_vol_block], root[implied_vol_block];
    for (std::size_t i = 0; i < n; ++i) {
        const BachelierRatio r = bachelier_ratio(e.x[i], e.beta[i], e.swell[i], e.shift[i]);
        ratio[i] = r.near;
        root[i] = r.root;
    }
    for (std::size_t i = 0; i < n; ++i) {
        const double normal = bachelier_seed(e.x[i], e.beta[i], e.swell[i], e.shift[i], {ratio[i], root[i]});
        // NaN and infinity are far, too.
        const bool near = normal <= coefficients::black_seed_top;
        const double start = leading_bits(black_seed(e.x[i], near ? normal : 1.0));
        // Beyond x = 600 the seed's ratio may overflow.
        s[i] = near ? (e.x[i] < 600.0 ? start : 0.0) : 0.0;
        far[i] = near ? (e.x[i] <= near_distance ? 0.0 : 1.0) : 1.0;
    }
}

// beta at s over s/sqrt(2 pi), as its two factors.
VOLSCEN_INLINE void implied_vol_values(std::size_t n, const ImpliedVolEquations& e,
                                       const double* __restrict s, double* __restrict square,
                                       double* __restrict gauss, double* __restrict flow) {
    for (std::size_t i = 0; i < n; ++i) {
        const double inverse = 1.0 / s[i], x = e.x[i];
        // x/s in two parts, the first of 26 bits: its square is exact.
        const double head = leading_bits(x * inverse);
        const double tail = (x - head * s[i]) * inverse;
        const double a = head + tail;
        const double u = 0.25 * s[i] * s[i];
        square[i] = a * a;
        gauss[i] = exponential_of_sum(-0.5 * head * head, (0.5 * x - 0.5 * u) - tail * (head + 0.5 * tail),
                                      e.shift[i]);
        flow[i] = mills_slope(a);
    }
    for (std::size_t i = 0; i < n; ++i) {
        flow[i] = relative_value(square[i], flow[i], 0.25 * s[i] * s[i]);
    }
}

// The correction, as a relative change of s.
VOLSCEN_INLINE void implied_vol_changes(std::size_t n, const ImpliedVolEquations& e,
                                        const double* __restrict s, const double* __restrict square,
                                        const double* __restrict gauss, const double* __restrict flow,
                                        double* __restrict change) {
    for (std::size_t i = 0; i < n; ++i) {
        const double value = gauss[i] * (s[i] * coefficients::inverse_sqrt_two_pi) * flow[i];
        const double distance = log_of_near(e.beta[i], value);
        // d beta/ds = phi(h + t), so that s beta''/beta' = h^2 - t^2, and so on.
        const double h2 = square[i], t2 = 0.25 * s[i] * s[i];
        const double c = h2 - t2;
        const double c2 = c * c - 3.0 * h2 - t2;
        const double c3 = c2 * (c - 2.0) - 4.0 * c * (h2 + t2) + 6.0 * h2 - 2.0 * t2;
        change[i] = inverse_step(distance, flow[i], c, c2, c3);
    }
}

// s (1 + change) for every equation with status 0.
VOLSCEN_INLINE void implied_vol_solve(std::size_t n, ImpliedVolEquations& e, double* __restrict s,
                                      double* __restrict change) {
    double far[implied_vol_block], square[implied_vol_block], gauss[implied_vol_block];
    double flow[implied_vol_block], start[implied_vol_block], step[implied_vol_block];
    std::size_t place[implied_vol_block];
    implied_vol_seeds(n, e, start, far);
    std::uint64_t any_far = 0;
    for (std::size_t i = 0; i < n; ++i) {
        any_far |= bit_cast<std::uint64_t>(far[i]);
    }
    // The others close up, so that every loop is dense.
    FarEquations open;
    std::size_t near_count = n;
    if (any_far != 0) {
        near_count = 0;
        for (std::size_t i = 0; i < n; ++i) {
            s[i] = change[i] = 0.0;
            if (far[i] > 0.5) {
                open.add(e.x[i], e.beta[i], e.shift[i], e.room[i] / e.unit[i], start[i], i);
            } else {
                e.x[near_count] = e.x[i];
                e.beta[near_count] = e.beta[i];
                e.shift[near_count] = e.shift[i];
                start[near_count] = start[i];
                place[near_count] = i;
                ++near_count;
            }
        }
    }
    implied_vol_values(near_count, e, start, square, gauss, flow);
    implied_vol_changes(near_count, e, start, square, gauss, flow, step);
    if (any_far == 0) {
        for (std::size_t i = 0; i < n; ++i) {
            s[i] = start[i];
            change[i] = step[i];
        }
    } else {
        for (std::size_t i = 0; i < near_count; ++i) {
            s[place[i]] = start[i];
            change[place[i]] = step[i];
        }
        open.solve(s, change, e.status);
    }
}

// Equations from prices, and a status for prices that have no equation.
VOLSCEN_INLINE void implied_vol_equations(std::size_t n, const double* __restrict price,
                                          const double* __restrict forward, const double* __restrict strike,
                                          const double* __restrict tau, const double* __restrict call,
                                          const double* __restrict discount, ImpliedVolEquations& e) {
    for (std::size_t i = 0; i < n; ++i) {
        const double f = forward[i], k = strike[i], p = price[i], df = discount[i];
        const double lo = f < k ? f : k, hi = f < k ? k : f;
        const double inside = call[i] > 0.5 ? f - k : k - f;
        // Time value: the price less the product df (hi - lo), with the rounding errors carried along.
        const double difference = hi - lo;
        const double gap = inside > 0.0 ? inside : 0.0;
        const double missing = sum_error(hi, -lo, difference);
        const double error = inside > 0.0 ? missing : 0.0;
        const double intrinsic = df * gap;
        const double value = ((p - intrinsic) - product_error(df, gap, intrinsic)) - df * error;
        const double unit = df * lo;
        const double room = unit - value;
        double code = 0.0;
        // A price that rounds to its intrinsic value counts as that value.
        code = value <= 0.0 ? 1.0 : code;
        code = value < -4.5e-16 * p ? 2.0 : code;
        code = room <= 0.0 ? 3.0 : code;
        code = tau[i] == 0.0 ? 4.0 : code;
        // One comparison at a time: the vectoriser gives up on chains of booleans. NaN where one is not
        // finite:
        const double finite = ((f - f) + (k - k)) + ((p - p) + (df - df)) + (tau[i] - tau[i]);
        code = finite == 0.0 ? code : 5.0;
        code = f > 0.0 ? code : 5.0;
        code = k > 0.0 ? code : 5.0;
        code = p >= 0.0 ? code : 5.0;
        code = df > 0.0 ? code : 5.0;
        code = tau[i] >= 0.0 ? code : 5.0;
        e.status[i] = code;
        // The sum above is right to a rounding of a rounding of the price.
        const double unsure = inside > 0.0 ? 1e-15 * p : 0.0;
        const double small = value > 0.0 ? value : unsure;
        e.extreme[i] = small < unsure ? 1.0 : is_extreme(p, lo, hi, df);
        // A tiny time value is scaled up, so that neither it nor quotients leave the normal range.
        const bool tiny = value < 1e-200 * unit;
        // Twice where the price may be subnormal, except at the money, where the density would overflow.
        const double away = hi > lo ? unit : 0.0;
        const double large_scale = away > 1.0 ? 1200.0 : 600.0;
        const double large_unit = away > 1.0 ? unit * 0x1p-600 : unit;
        const double beta = (tiny ? value * 0x1p600 : value) / (tiny ? large_unit : unit);
        // Equations that are not to be solved get numbers that do no harm.
        const bool sound = code == 0.0;
        const double growth = difference / lo;
        e.x[i] = sound ? log_ratio_of(hi, lo) : 0.1;
        e.swell[i] = __builtin_sqrt(sound ? 1.0 + growth : 1.0);
        e.beta[i] = sound ? beta : 0.25;
        e.room[i] = sound ? room : 0.75;
        e.unit[i] = sound ? unit : 1.0;
        e.shift[i] = sound ? (tiny ? large_scale : 0.0) : 0.0;
        e.tau[i] = sound ? tau[i] : 1.0;
    }
}

// Puts the equations of the extreme options of a block in place; `power` is what their vols are scaled by.
inline void place_extremes(std::size_t n, const double* price, const double* forward, const double* strike,
                           const double* tau, const double* call, const double* discount,
                           ImpliedVolEquations& e, int* power) {
    for (std::size_t i = 0; i < n; ++i) {
        power[i] = 0;
        // Whatever is invalid, or has no time, is so at any size.
        if (e.extreme[i] < 0.5 || e.status[i] > 3.5) {
            continue;
        }
        const ExtremeEquation found =
            extreme_equation(price[i], forward[i], strike[i], call[i] > 0.5, discount[i]);
        e.status[i] = found.status;
        e.x[i] = found.x;
        e.beta[i] = found.beta;
        e.shift[i] = found.shift;
        e.room[i] = found.room;
        e.unit[i] = found.unit;
        e.swell[i] = found.swell;
        e.tau[i] = found.status == 0.0 ? tau[i] : 1.0;
        power[i] = found.power;
    }
}

inline void scale_extremes(std::size_t n, const ImpliedVolEquations& e, const int* power, double* vol,
                           double* status) {
    for (std::size_t i = 0; i < n; ++i) {
        if (e.extreme[i] > 0.5 && status[i] == 0.0) {
            vol[i] = std::ldexp(vol[i], power[i]);
            status[i] = vol[i] > 0.0 ? 0.0 : 1.0;
        }
    }
}

// One block of at most implied_vol_block options; `call` is 1 or 0, `status` takes ImpliedVolStatus.
struct ImpliedVolBody {
    static VOLSCEN_INLINE void run(std::size_t n, const double* __restrict price,
                                   const double* __restrict forward, const double* __restrict strike,
                                   const double* __restrict tau, const double* __restrict call,
                                   const double* __restrict discount, double* __restrict vol,
                                   double* __restrict status) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        ImpliedVolEquations e;
        double s[implied_vol_block], change[implied_vol_block];
        int power[implied_vol_block];
        implied_vol_equations(n, price, forward, strike, tau, call, discount, e);
        std::uint64_t any_extreme = 0;
        for (std::size_t i = 0; i < n; ++i) {
            any_extreme |= bit_cast<std::uint64_t>(e.extreme[i]);
        }
        if (any_extreme != 0) {
            place_extremes(n, price, forward, strike, tau, call, discount, e, power);
        }
        implied_vol_solve(n, e, s, change);
        for (std::size_t i = 0; i < n; ++i) {
            const double found = vol_of_total(s[i], change[i], e.tau[i]);
            // A vol below the smallest number is none.
            double code = e.status[i];
            const double settled = found > 0.0 ? code : 1.0;
            code = code == 0.0 ? settled : code;
            vol[i] = code == 0.0 ? found : (code == 1.0 ? 0.0 : nan);
            status[i] = code;
        }
        if (any_extreme != 0) {
            scale_extremes(n, e, power, vol, status);
        }
    }
};

// 2 sinh(x/2) for x >= 0, given exp(x/2).
VOLSCEN_INLINE double normalised_intrinsic(double x, double root) {
    const double y = 0.5 * (x < 2.0 ? x : 2.0), w = y * y;
    const double series =
        1.0 +
        w / 6.0 *
            (1.0 +
             w / 20.0 *
                 (1.0 +
                  w / 42.0 *
                      (1.0 +
                       w / 72.0 *
                           (1.0 + w / 110.0 * (1.0 + w / 156.0 * (1.0 + w / 210.0 * (1.0 + w / 272.0)))))));
    return x < 2.0 ? x * series : root - 1.0 / root;
}

// Equations from prices over sqrt(F K) and log-moneyness ln(K/F); `size` is what s is to be multiplied by.
VOLSCEN_INLINE void normalised_equations(std::size_t n, const double* __restrict price,
                                         const double* __restrict log_moneyness,
                                         const double* __restrict call, ImpliedVolEquations& e,
                                         double* __restrict size) {
    for (std::size_t i = 0; i < n; ++i) {
        const double p = price[i], k = log_moneyness[i];
        const double inside = (call[i] > 0.5 ? -1.0 : 1.0) * k;
        const double x = absolute(k);
        const double root = exponential(0.5 * (x < normalised_limit ? x : normalised_limit));
        const double intrinsic = normalised_intrinsic(x, root);
        const double value = p - (inside > 0.0 ? intrinsic : 0.0);
        const double whole = value * root;
        double code = 0.0;
        // A price that rounds to its intrinsic value counts as that value.
        code = value <= 0.0 ? 1.0 : code;
        code = value < -9e-16 * p ? 2.0 : code;
        code = whole >= 1.0 ? 3.0 : code;
        code = x <= normalised_limit ? code : 5.0;
        code = p >= 0.0 ? code : 5.0;
        code = p <= std::numeric_limits<double>::max() ? code : 5.0;
        e.status[i] = code;
        // Equations that are not to be solved get numbers that do no harm.
        const bool sound = code == 0.0;
        const double distance = sound ? x : 0.0;
        const double beta = sound ? whole : 0.25;
        const double larger = distance > beta ? distance : beta;
        const double scaled = sound ? (value * 0x1p600) * root : 0.25;
        // Below some 1e-280 only the ratio of x to the value counts, and both are scaled.
        const double up = larger < 1e-280 ? 0x1p600 : 1.0;
        e.x[i] = distance * up;
        e.swell[i] = sound ? root : 1.0;
        e.beta[i] = beta < 1e-200 ? scaled * up : beta;
        e.room[i] = 1.0 - beta;
        e.unit[i] = 1.0;
        e.shift[i] = beta < 1e-200 ? 600.0 : 0.0;
        size[i] = larger < 1e-280 ? 0x1p-600 : 1.0;
    }
}

// Total vols from normalised prices, else as ImpliedVolBody.
struct ImpliedTotalVolBody {
    static VOLSCEN_INLINE void run(std::size_t n, const double* __restrict price,
                                   const double* __restrict log_moneyness, const double* __restrict call,
                                   double* __restrict total_vol, double* __restrict status) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        ImpliedVolEquations e;
        double s[implied_vol_block], change[implied_vol_block], size[implied_vol_block];
        normalised_equations(n, price, log_moneyness, call, e, size);
        implied_vol_solve(n, e, s, change);
        for (std::size_t i = 0; i < n; ++i) {
            const double found = (s[i] + s[i] * change[i]) * size[i];
            double code = e.status[i];
            const double settled = found > 0.0 ? code : 1.0;
            code = code == 0.0 ? settled : code;
            total_vol[i] = code == 0.0 ? found : (code == 1.0 ? 0.0 : nan);
            status[i] = code;
        }
    }
};

using ImpliedTotalVolFunction = void (*)(std::size_t, const double*, const double*, const double*, double*,
                                         double*);
using ImpliedVolFunction = void (*)(std::size_t, const double*, const double*, const double*, const double*,
                                    const double*, const double*, double*, double*);

// The dense kernels at the instruction set in use.
ImpliedVolFunction implied_vol_block_function();
ImpliedTotalVolFunction implied_total_vol_block_function();

}  // namespace volscen
