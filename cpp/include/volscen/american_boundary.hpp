// Exercise boundaries of American puts struck at 1, lanes of eight.
//
// The boundary B solves Kim's integral equation (1990) in the form of
// Andersen, Lake and Offengenden (2016, system B): with X the boundary just before expiry, ln(X/B)^2 is a
// polynomial in the root of time to expiry through Chebyshev points, found by fixed-point sweeps. Integrals
// over the time u to expiry from 0 to t are taken in the angle a of u = t cos^2 a: the root of u, in which
// the boundary is smooth, and the root of t - u, in which the density is, then both are smooth at both ends.
#pragma once

#include <cstddef>

#include "volscen/american_nodes.hpp"
#include "volscen/black.hpp"

namespace volscen {

constexpr std::size_t american_lanes = 8;

// The put's rate times its life beyond which the boundary is found at more points.
constexpr double american_long = 0.06;

// What takes the boundary's values at the times to those at quadrature points: barycentric interpolation of a
// polynomial that is 0 at expiry. Made once, in plain arithmetic.
template <class Nodes>
struct AmericanTables {
    double inner[Nodes::times][Nodes::inner][Nodes::times];
    double outer[Nodes::outer][Nodes::times];

    AmericanTables() {
        for (std::size_t k = 0; k < Nodes::inner; ++k) {
            for (std::size_t i = 0; i < Nodes::times; ++i) {
                shares(Nodes::root_time[i] * Nodes::inner_cosine[k], inner[i][k]);
            }
        }
        for (std::size_t k = 0; k < Nodes::outer; ++k) {
            shares(Nodes::outer_cosine[k], outer[k]);
        }
    }

private:
    static void shares(double at, double* out) {
        double total = 0.5 / at;  // of the point at expiry
        for (std::size_t j = 0; j < Nodes::times; ++j) {
            const double end = j + 1 == Nodes::times ? 0.5 : 1.0;
            out[j] = (j % 2 == 0 ? -end : end) / (at - Nodes::root_time[j]);
            total += out[j];
        }
        for (std::size_t j = 0; j < Nodes::times; ++j) {
            out[j] /= total;
        }
    }
};

// The tables, made with the first use.
template <class Nodes>
const AmericanTables<Nodes>& american_tables();

// Eight puts struck at 1: what does not change with the volatility.
struct AmericanLanes {
    alignas(64) double x[american_lanes];      // spot
    alignas(64) double log_x[american_lanes];  // its logarithm
    alignas(64) double tau[american_lanes], root_tau[american_lanes];
    alignas(64) double r[american_lanes], q[american_lanes];
    alignas(64) double forward[american_lanes], discount[american_lanes];
    alignas(64) double limit[american_lanes];     // ln X
    alignas(64) double exercise[american_lanes];  // 1 where there may be reason to exercise early
    alignas(64) double fine[american_lanes];      // 1 where the boundary is found at more points
};

// What one resolution adds.
template <class Nodes>
struct AmericanGains {
    bool any;                                  // whether any of the eight is solved at this resolution
    alignas(64) double early[american_lanes];  // 1 where it is, and there may be reason to exercise early
    // r e^{r u} and q e^{q u} times the weights, at every time and quadrature point.
    alignas(64) double r[Nodes::times][Nodes::inner][american_lanes];
    alignas(64) double q[Nodes::times][Nodes::inner][american_lanes];
};

// Boundaries of eight puts: ln B and ln(X/B)^2 at the times, kept from one volatility to the next.
template <class Nodes>
struct AmericanBoundary {
    alignas(64) double log_b[Nodes::times][american_lanes];
    alignas(64) double square[Nodes::times][american_lanes];
    alignas(64) double change[american_lanes];  // of the last sweep, in ln B
    alignas(64) double vol[american_lanes];     // at which it was found; 0 before it was

    AmericanBoundary() {
        for (std::size_t l = 0; l < american_lanes; ++l) {
            vol[l] = 0.0;
            change[l] = 0.0;
            for (std::size_t i = 0; i < Nodes::times; ++i) {
                log_b[i][l] = 0.0;
            }
        }
    }
};

// By what factor volatility may move for the boundary to be taken along.
constexpr double american_reach = 1.5;

// Sweeps end when ln B moves by no more than this; one that still moves by the second after the most is no
// solution.
constexpr double american_tolerance = 5e-7;
constexpr double american_failure = 1e-4;
constexpr int american_sweeps = 60;
constexpr double american_play = 0.01;  // how far below its floor a boundary may be taken to lie

template <std::size_t N, std::size_t J = 0>
VOLSCEN_INLINE double american_interpolate(const double* share, const double (*value)[american_lanes],
                                           std::size_t lane) {
    if constexpr (J + 1 == N) {
        return share[J] * value[J][lane];
    } else {
        return share[J] * value[J][lane] + american_interpolate<N, J + 1>(share, value, lane);
    }
}

// Phi(d).
VOLSCEN_INLINE double normal_cdf(double d) {
    const double size = absolute(d);
    const double tail =
        0.5 * exponential(-0.5 * size * size) * erfcx_positive(size * coefficients::sqrt_half);
    return d > 0.0 ? 1.0 - tail : tail;
}

// Whether any of the eight flags is set.
VOLSCEN_INLINE bool american_any(const double* flag) {
    double any = 0.0;
    for (std::size_t l = 0; l < american_lanes; ++l) {
        any += flag[l];
    }
    return any > 0.0;
}

VOLSCEN_INLINE void american_prepare(AmericanLanes& o) {
    // hot loop
    for (std::size_t l = 0; l < american_lanes; ++l) {
        const double r = o.r[l], q = o.q[l], t = o.tau[l];
        o.root_tau[l] = __builtin_sqrt(t);
        o.log_x[l] = logarithm(o.x[l]);
        o.discount[l] = exponential(-r * t);
        o.forward[l] = o.x[l] * exponential((r - q) * t);
        const bool early = (r > 0.0) | ((r == 0.0) & (q < 0.0));
        o.exercise[l] = early ? 1.0 : 0.0;
        o.fine[l] = early & (r * t > american_long) ? 1.0 : 0.0;
        const double ratio = (q > r) & (r > 0.0) ? r / q : 1.0;
        o.limit[l] = logarithm(ratio);
    }
}

// The terms of the lanes whose flag `fine` is the one given.
template <class Nodes>
VOLSCEN_INLINE void american_gains(const AmericanLanes& o, double fine, AmericanGains<Nodes>& gains) {
    gains.any = false;
    for (std::size_t l = 0; l < american_lanes; ++l) {
        gains.any = gains.any || o.fine[l] == fine;
        gains.early[l] = o.fine[l] == fine ? o.exercise[l] : 0.0;
    }
    if (!american_any(gains.early)) {
        return;
    }
    for (std::size_t i = 0; i < Nodes::times; ++i) {
        const double share = Nodes::root_time[i] * Nodes::root_time[i];
        for (std::size_t k = 0; k < Nodes::inner; ++k) {
            const double ahead = share * (Nodes::inner_cosine[k] * Nodes::inner_cosine[k]);
            const double weight = share * Nodes::inner_weight[k];
            // hot loop
            for (std::size_t l = 0; l < american_lanes; ++l) {
                const double r = o.r[l], q = o.q[l], t = o.tau[l];
                gains.r[i][k][l] = r * t * weight * exponential(r * t * ahead);
                gains.q[i][k][l] = q * t * weight * exponential(q * t * ahead);
            }
        }
    }
}

// ln of the boundary of an option that never expires, below which no boundary lies.
VOLSCEN_INLINE void american_floor(const AmericanLanes& o, const double* vol, double* floor) {
    // hot loop
    for (std::size_t l = 0; l < american_lanes; ++l) {
        const double variance = vol[l] * vol[l];
        const double rate = o.r[l] > 0.0 ? o.r[l] : 0.0;
        const double h = (rate - o.q[l]) / variance - 0.5;
        const double root = __builtin_sqrt(h * h + 2.0 * rate / variance);
        const double t = h >= 0.0 ? h + root : (2.0 * rate / variance) / (root - h);
        const double perpetual = t > 1e300 ? 1.0 : t / (1.0 + t);
        const double found = logarithm(perpetual > 1e-300 ? perpetual : 1e-300);
        floor[l] = found < o.limit[l] ? found : o.limit[l];
    }
}

// A first boundary where there is none near: between its limits at expiry and for ever, as Barone-Adesi and
// Whaley (1987) start.
template <class Nodes>
VOLSCEN_INLINE void american_start(const AmericanLanes& o, const double* vol, const double* floor,
                                   AmericanBoundary<Nodes>& b) {
    for (std::size_t i = 0; i < Nodes::times; ++i) {
        for (std::size_t l = 0; l < american_lanes; ++l) {
            const double top = exponential(o.limit[l]), low = exponential(floor[l]);
            const double root = Nodes::root_time[i] * o.root_tau[l];
            const double gap = top - low > 1e-12 ? top - low : 1e-12;
            const double drift = ((o.r[l] - o.q[l]) * root * root - 2.0 * vol[l] * root) * top / gap;
            const double value = low + (top - low) * exponential(drift < 0.0 ? drift : 0.0);
            const double found = logarithm(value > 1e-300 ? value : 1e-300);
            const double below = o.limit[l] - 1e-9;
            const double first = found < below ? found : below;
            const bool near = (vol[l] < b.vol[l] * american_reach) & (vol[l] * american_reach > b.vol[l]);
            const double log_b = near ? b.log_b[i][l] : first;
            b.log_b[i][l] = log_b < floor[l] ? floor[l] : log_b;
            b.square[i][l] = (b.log_b[i][l] - o.limit[l]) * (b.log_b[i][l] - o.limit[l]);
        }
    }
    for (std::size_t l = 0; l < american_lanes; ++l) {
        b.vol[l] = vol[l];
    }
}

// Solves for the boundaries at the volatilities, from where they are or anew. A lane that has settled rests,
// so that it does not depend on the others.
template <class Nodes>
VOLSCEN_INLINE void american_solve(const AmericanTables<Nodes>& tables, const AmericanLanes& o,
                                   const AmericanGains<Nodes>& gains, const double* vol,
                                   AmericanBoundary<Nodes>& b) {
    alignas(64) double floor[american_lanes], moving[american_lanes];
    american_floor(o, vol, floor);
    american_start(o, vol, floor, b);
    for (std::size_t l = 0; l < american_lanes; ++l) {
        moving[l] = gains.early[l];
        b.change[l] = 0.0;
        // The polynomial swings about the boundary, and below its floor where it lies close: held there it
        // would be worse everywhere else.
        floor[l] -= american_play * (o.limit[l] - floor[l]);
    }
    if (!american_any(gains.early)) {
        return;
    }
    alignas(64) double next[Nodes::times][american_lanes];
    for (int sweep = 0; sweep < american_sweeps; ++sweep) {
        alignas(64) double change[american_lanes] = {};
        for (std::size_t i = 0; i < Nodes::times; ++i) {
            alignas(64) double top[american_lanes], bottom[american_lanes], drift[american_lanes];
            alignas(64) double inverse[american_lanes], half[american_lanes];
            const double root = Nodes::root_time[i];
            // hot loop
            for (std::size_t l = 0; l < american_lanes; ++l) {
                const double sd = vol[l] * root * o.root_tau[l];
                drift[l] = (o.r[l] - o.q[l]) * o.tau[l] * root * root;
                inverse[l] = 1.0 / sd;
                half[l] = 0.5 * sd;
                const double d = (b.log_b[i][l] + drift[l]) * inverse[l];
                top[l] = normal_cdf(d - half[l]);
                bottom[l] = normal_cdf(d + half[l]);
            }
            for (std::size_t k = 0; k < Nodes::inner; ++k) {
                const double sine = Nodes::inner_sine[k], back = sine * sine, over = 1.0 / sine;
                // hot loop
                for (std::size_t l = 0; l < american_lanes; ++l) {
                    const double square = american_interpolate<Nodes::times>(tables.inner[i][k], b.square, l);
                    const double gap = __builtin_sqrt(square > 0.0 ? square : 0.0);
                    const double moved = (b.log_b[i][l] - o.limit[l]) + gap;
                    const double d = (moved + drift[l] * back) * (inverse[l] * over);
                    const double shift = half[l] * sine;
                    top[l] += gains.r[i][k][l] * normal_cdf(d - shift);
                    bottom[l] += gains.q[i][k][l] * normal_cdf(d + shift);
                }
            }
            // hot loop
            for (std::size_t l = 0; l < american_lanes; ++l) {
                // Where the volatility is next to nothing both sums may vanish, and the boundary stays. Under
                // a negative yield only the second may, where the boundary lies too low.
                const bool some = top[l] > 1e-290, sound = some & (bottom[l] > 1e-290);
                const double ratio = logarithm(sound ? top[l] : 1.0) - logarithm(sound ? bottom[l] : 1.0);
                const double up = some ? 0.5 * (b.log_b[i][l] + o.limit[l]) : b.log_b[i][l];
                double moved = sound ? ratio - drift[l] : up;
                moved = moved < o.limit[l] ? moved : o.limit[l];
                moved = moved > floor[l] ? moved : floor[l];
                moved = moving[l] > 0.0 ? moved : b.log_b[i][l];
                next[i][l] = moved;
                const double step = absolute(moved - b.log_b[i][l]);
                change[l] = step > change[l] ? step : change[l];
            }
        }
        double left = 0.0;
        for (std::size_t l = 0; l < american_lanes; ++l) {
            b.change[l] = moving[l] > 0.0 ? change[l] : b.change[l];
            moving[l] = change[l] > american_tolerance ? moving[l] : 0.0;
            left += moving[l];
        }
        for (std::size_t i = 0; i < Nodes::times; ++i) {
            for (std::size_t l = 0; l < american_lanes; ++l) {
                b.log_b[i][l] = next[i][l];
                b.square[i][l] = (next[i][l] - o.limit[l]) * (next[i][l] - o.limit[l]);
            }
        }
        if (left == 0.0) {
            break;
        }
    }
}

}  // namespace volscen
