// American options on an underlying with a continuous yield: price and early-exercise premium, lanes of
// eight.
//
// A call is a put with spot and strike, rate and yield exchanged (McDonald and Schroder 1998), and a put is
// priced per unit of strike. Its exercise boundary B solves Kim's integral equation (1990) in the form of
// Andersen, Lake and Offengenden (2016, system B): with X the boundary just before expiry, ln(X/B)^2 is a
// polynomial in the root of time to expiry through Chebyshev points, found by fixed-point sweeps. Integrals
// over the time u to expiry from 0 to t are taken in the angle a of u = t cos^2 a: the root of u, in which
// the boundary is smooth, and the root of t - u, in which the density is, then both are smooth at both ends.
// That leaves prices within some 1e-8 of the strike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "volscen/american_nodes.hpp"
#include "volscen/black.hpp"
#include "volscen/implied_vol_status.hpp"

namespace volscen {

constexpr std::size_t american_lanes = 8;
constexpr std::size_t american_block = 64;  // a multiple of the lanes
constexpr std::size_t american_times = sizeof(american::root_time) / sizeof(double);
constexpr std::size_t american_inner = sizeof(american::inner_sine) / sizeof(double);
constexpr std::size_t american_outer = sizeof(american::outer_sine) / sizeof(double);

// A negative rate above a still lower yield makes two boundaries, which are not treated.
constexpr double american_two_boundaries = 7.0;

// What takes the boundary's values at the times to those at quadrature points: barycentric interpolation of a
// polynomial that is 0 at expiry. Made once, in plain arithmetic.
struct AmericanTables {
    double inner[american_times][american_inner][american_times];
    double outer[american_outer][american_times];

    AmericanTables() {
        for (std::size_t k = 0; k < american_inner; ++k) {
            for (std::size_t i = 0; i < american_times; ++i) {
                shares(american::root_time[i] * american::inner_cosine[k], inner[i][k]);
            }
        }
        for (std::size_t k = 0; k < american_outer; ++k) {
            shares(american::outer_cosine[k], outer[k]);
        }
    }

private:
    static void shares(double at, double* out) {
        double total = 0.5 / at;  // of the point at expiry
        for (std::size_t j = 0; j < american_times; ++j) {
            const double end = j + 1 == american_times ? 0.5 : 1.0;
            out[j] = (j % 2 == 0 ? -end : end) / (at - american::root_time[j]);
            total += out[j];
        }
        for (std::size_t j = 0; j < american_times; ++j) {
            out[j] /= total;
        }
    }
};

const AmericanTables& american_tables();

// Eight puts struck at 1: what does not change with the volatility.
struct AmericanLanes {
    alignas(64) double x[american_lanes];      // spot
    alignas(64) double log_x[american_lanes];  // its logarithm
    alignas(64) double tau[american_lanes], root_tau[american_lanes];
    alignas(64) double r[american_lanes], q[american_lanes];
    alignas(64) double forward[american_lanes], discount[american_lanes];
    alignas(64) double limit[american_lanes];     // ln X
    alignas(64) double exercise[american_lanes];  // 1 where there may be reason to exercise early
    // r e^{r u} and q e^{q u} times the weights, at every time and quadrature point.
    alignas(64) double gain_r[american_times][american_inner][american_lanes];
    alignas(64) double gain_q[american_times][american_inner][american_lanes];
};

// Boundaries of eight puts: ln B and ln(X/B)^2 at the times, kept from one volatility to the next.
struct AmericanBoundary {
    alignas(64) double log_b[american_times][american_lanes];
    alignas(64) double square[american_times][american_lanes];
    alignas(64) double change[american_lanes];  // of the last sweep, in ln B
    alignas(64) double vol[american_lanes];     // at which it was found; 0 before it was

    AmericanBoundary() {
        for (std::size_t l = 0; l < american_lanes; ++l) {
            vol[l] = 0.0;
            for (std::size_t i = 0; i < american_times; ++i) {
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

template <std::size_t J = 0>
VOLSCEN_INLINE double american_interpolate(const double* share, const double (*value)[american_lanes],
                                           std::size_t lane) {
    if constexpr (J + 1 == american_times) {
        return share[J] * value[J][lane];
    } else {
        return share[J] * value[J][lane] + american_interpolate<J + 1>(share, value, lane);
    }
}

// Phi(d).
VOLSCEN_INLINE double normal_cdf(double d) {
    const double size = absolute(d);
    const double tail =
        0.5 * exponential(-0.5 * size * size) * erfcx_positive(size * coefficients::sqrt_half);
    return d > 0.0 ? 1.0 - tail : tail;
}

// Whether any of the eight may be exercised early.
VOLSCEN_INLINE bool american_early(const AmericanLanes& o) {
    double any = 0.0;
    for (std::size_t l = 0; l < american_lanes; ++l) {
        any += o.exercise[l];
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
        const double ratio = (q > r) & (r > 0.0) ? r / q : 1.0;
        o.limit[l] = logarithm(ratio);
    }
    if (!american_early(o)) {
        return;
    }
    for (std::size_t i = 0; i < american_times; ++i) {
        const double share = american::root_time[i] * american::root_time[i];
        for (std::size_t k = 0; k < american_inner; ++k) {
            const double ahead = share * (american::inner_cosine[k] * american::inner_cosine[k]);
            const double weight = share * american::inner_weight[k];
            // hot loop
            for (std::size_t l = 0; l < american_lanes; ++l) {
                const double r = o.r[l], q = o.q[l], t = o.tau[l];
                o.gain_r[i][k][l] = r * t * weight * exponential(r * t * ahead);
                o.gain_q[i][k][l] = q * t * weight * exponential(q * t * ahead);
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
VOLSCEN_INLINE void american_start(const AmericanLanes& o, const double* vol, const double* floor,
                                   AmericanBoundary& b) {
    for (std::size_t i = 0; i < american_times; ++i) {
        for (std::size_t l = 0; l < american_lanes; ++l) {
            const double top = exponential(o.limit[l]), low = exponential(floor[l]);
            const double root = american::root_time[i] * o.root_tau[l];
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
VOLSCEN_INLINE void american_solve(const AmericanTables& tables, const AmericanLanes& o, const double* vol,
                                   AmericanBoundary& b) {
    alignas(64) double floor[american_lanes], moving[american_lanes];
    american_floor(o, vol, floor);
    american_start(o, vol, floor, b);
    for (std::size_t l = 0; l < american_lanes; ++l) {
        moving[l] = o.exercise[l];
        b.change[l] = 0.0;
    }
    if (!american_early(o)) {
        return;
    }
    alignas(64) double next[american_times][american_lanes];
    for (int sweep = 0; sweep < american_sweeps; ++sweep) {
        alignas(64) double change[american_lanes] = {};
        for (std::size_t i = 0; i < american_times; ++i) {
            alignas(64) double top[american_lanes], bottom[american_lanes], drift[american_lanes];
            alignas(64) double inverse[american_lanes], half[american_lanes];
            const double root = american::root_time[i];
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
            for (std::size_t k = 0; k < american_inner; ++k) {
                const double sine = american::inner_sine[k], back = sine * sine, over = 1.0 / sine;
                // hot loop
                for (std::size_t l = 0; l < american_lanes; ++l) {
                    const double square = american_interpolate(tables.inner[i][k], b.square, l);
                    const double gap = __builtin_sqrt(square > 0.0 ? square : 0.0);
                    const double moved = (b.log_b[i][l] - o.limit[l]) + gap;
                    const double d = (moved + drift[l] * back) * (inverse[l] * over);
                    const double shift = half[l] * sine;
                    top[l] += o.gain_r[i][k][l] * normal_cdf(d - shift);
                    bottom[l] += o.gain_q[i][k][l] * normal_cdf(d + shift);
                }
            }
            // hot loop
            for (std::size_t l = 0; l < american_lanes; ++l) {
                // Where the volatility is next to nothing both sums may vanish, and the boundary stays.
                const bool sound = (top[l] > 1e-290) & (bottom[l] > 1e-290);
                const double ratio = logarithm(sound ? top[l] : 1.0) - logarithm(sound ? bottom[l] : 1.0);
                double moved = sound ? ratio - drift[l] : b.log_b[i][l];
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
        for (std::size_t i = 0; i < american_times; ++i) {
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

// Prices, premiums over European prices, and derivatives of European prices in volatility, for the boundaries
// found.
VOLSCEN_INLINE void american_value(const AmericanTables& tables, const AmericanLanes& o, const double* vol,
                                   const AmericanBoundary& b, double* price, double* premium, double* vega) {
    alignas(64) double sum[american_lanes] = {};
    const std::size_t points = american_early(o) ? american_outer : 0;
    for (std::size_t k = 0; k < points; ++k) {
        const double sine = american::outer_sine[k], back = sine * sine, weight = american::outer_weight[k];
        // hot loop
        for (std::size_t l = 0; l < american_lanes; ++l) {
            const double square = american_interpolate(tables.outer[k], b.square, l);
            const double gap = __builtin_sqrt(square > 0.0 ? square : 0.0);
            const double t = o.tau[l] * back;
            const double sd = vol[l] * o.root_tau[l] * sine;
            const double d = ((o.log_x[l] - o.limit[l]) + gap + (o.r[l] - o.q[l]) * t) / sd;
            const double cash = o.r[l] * exponential(-o.r[l] * t) * normal_cdf(0.5 * sd - d);
            const double asset = o.q[l] * o.x[l] * exponential(-o.q[l] * t) * normal_cdf(-0.5 * sd - d);
            sum[l] += o.tau[l] * weight * (cash - asset);
        }
    }
    // hot loop
    for (std::size_t l = 0; l < american_lanes; ++l) {
        const BlackOption option{o.forward[l], 1.0, o.tau[l], o.root_tau[l], vol[l], o.discount[l], false};
        const BlackTerms terms = black_terms(option.forward, 1.0, vol[l] * o.root_tau[l]);
        const double plain = PriceFormula::value(option, terms);
        vega[l] = VegaFormula::value(option, terms);
        const double at_once = 1.0 - o.x[l];
        const bool early = o.exercise[l] > 0.0;
        const bool now = early & (o.log_x[l] <= b.log_b[american_times - 1][l]);
        double extra = early & (sum[l] > 0.0) ? sum[l] : 0.0;
        extra = early & (plain + extra < at_once) ? at_once - plain : extra;
        premium[l] = now ? at_once - plain : extra;
        price[l] = now ? at_once : plain + extra;
    }
}

VOLSCEN_INLINE double american_rate(double rate) { return absolute(rate) < 1e-12 ? 0.0 : rate; }

// Eight options as puts struck at 1 per `unit`. An operand that cannot be priced is put aside: `status` says
// why, and a harmless option takes its place.
VOLSCEN_INLINE void american_load(std::size_t n, const double* spot, const double* strike, const double* tau,
                                  const double* call, const double* rate, const double* dividend_yield,
                                  AmericanLanes& o, double* unit, double* status) {
    constexpr double top = std::numeric_limits<double>::max();
    for (std::size_t l = 0; l < american_lanes; ++l) {
        const std::size_t i = l < n ? l : 0;
        const bool is_call = call[i] > 0.5;
        const double mine = is_call ? strike[i] : spot[i], other = is_call ? spot[i] : strike[i];
        // A rate that is worth less than rounding is none: ratios of such rates mean nothing.
        const double r = american_rate(is_call ? dividend_yield[i] : rate[i]);
        const double q = american_rate(is_call ? rate[i] : dividend_yield[i]);
        const double t = tau[i];
        const double size_r = absolute(r), size_q = absolute(q);
        // Beyond these ranges factors overflow, and nothing is quoted.
        const bool sound = (mine > 0.0) & (mine <= top) & (other > 0.0) & (other <= top) & (t >= 0.0) &
                           (t <= 1e3) & (size_r <= 10.0) & (size_q <= 10.0) & (size_r * t <= 100.0) &
                           (size_q * t <= 100.0) & (mine / other < 1e100) & (mine / other > 1e-100);
        const bool two = sound & (q < r) & (r < 0.0) & (t > 0.0);
        const bool use = sound & !two & (t > 0.0);
        status[l] = sound ? (two ? american_two_boundaries : (t > 0.0 ? 0.0 : 4.0)) : 5.0;
        unit[l] = sound ? other : 1.0;
        o.x[l] = sound ? mine / other : 1.0;
        o.tau[l] = use ? t : 1.0;
        o.r[l] = use ? r : 0.0;
        o.q[l] = use ? q : 0.0;
    }
}

struct AmericanPriceTask {
    std::size_t n;
    const double *spot, *strike, *tau, *vol, *call, *rate, *dividend_yield;
    double *price, *premium, *status;
};

struct AmericanPriceBody {
    static VOLSCEN_INLINE void run(const AmericanPriceTask* task) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        const AmericanTables& tables = american_tables();
        for (std::size_t begin = 0; begin < task->n; begin += american_lanes) {
            const std::size_t n = task->n - begin < american_lanes ? task->n - begin : american_lanes;
            AmericanLanes o;
            AmericanBoundary b;
            alignas(64) double unit[american_lanes], status[american_lanes], vol[american_lanes];
            alignas(64) double price[american_lanes], premium[american_lanes], vega[american_lanes];
            american_load(n, task->spot + begin, task->strike + begin, task->tau + begin, task->call + begin,
                          task->rate + begin, task->dividend_yield + begin, o, unit, status);
            for (std::size_t l = 0; l < american_lanes; ++l) {
                const double given = task->vol[begin + (l < n ? l : 0)];
                const bool sound = (given > 0.0) & (given <= 100.0);
                status[l] = (status[l] != 5.0) & !(given >= 0.0 && given <= 100.0) ? 5.0 : status[l];
                vol[l] = sound ? given : 1.0;
            }
            american_prepare(o);
            american_solve(tables, o, vol, b);
            american_value(tables, o, vol, b, price, premium, vega);
            for (std::size_t l = 0; l < n; ++l) {
                const double s = status[l] == 0.0 && b.change[l] > american_failure ? 6.0 : status[l];
                const bool zero = task->vol[begin + l] == 0.0;
                const double at_once = o.x[l] < 1.0 ? 1.0 - o.x[l] : 0.0;
                double value = price[l], extra = premium[l];
                if (s == 4.0) {
                    value = at_once;
                    extra = 0.0;
                } else if (s == 0.0 && zero) {
                    const double plain = o.discount[l] * (1.0 - o.forward[l]);
                    value = american_certain(o, l);
                    extra = value - (plain > 0.0 ? plain : 0.0);
                }
                const bool known = (s == 0.0) | (s == 4.0);
                task->price[begin + l] = known ? value * unit[l] : nan;
                task->premium[begin + l] = known ? extra * unit[l] : nan;
                task->status[begin + l] = s == 4.0 ? 0.0 : s;
            }
        }
    }

    // Value without volatility: the best of all times to exercise, of which one may lie inside.
    static VOLSCEN_INLINE double american_certain(const AmericanLanes& o, std::size_t l) {
        const double r = o.r[l], q = o.q[l], x = o.x[l];
        double best = 1.0 - x;
        const double last = o.discount[l] * (1.0 - o.forward[l]);
        best = last > best ? last : best;
        if (r * q > 0.0 && q != r) {
            const double t = (logarithm(q / r) + o.log_x[l]) / (q - r);
            if (t > 0.0 && t < o.tau[l]) {
                const double inside = exponential(-r * t) - x * exponential(-q * t);
                best = inside > best ? inside : best;
            }
        }
        return best > 0.0 ? best : 0.0;
    }
};

using AmericanPriceFunction = void (*)(const AmericanPriceTask*);

// The kernel at the instruction set in use.
AmericanPriceFunction american_price();

}  // namespace volscen
