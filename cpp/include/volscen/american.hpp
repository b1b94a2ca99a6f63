// American options on an underlying with a continuous yield: price and early-exercise premium, lanes of
// eight.
//
// A call is a put with spot and strike, rate and yield exchanged (McDonald and Schroder 1998), and a put is
// priced per unit of strike, by an integral over its exercise boundary (american_boundary.hpp). Errors grow
// with the interest on the strike over the option's life, so where that is large more points are taken. That
// leaves prices within some 1e-8 of the strike, and within 5e-7 at worst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "volscen/american_boundary.hpp"
#include "volscen/black.hpp"
#include "volscen/implied_vol_status.hpp"

namespace volscen {

constexpr std::size_t american_block = 64;  // a multiple of the lanes

// A negative rate above a still lower yield makes two boundaries, which are not treated.
constexpr double american_two_boundaries = 7.0;

// Prices, premiums over European prices, and derivatives of European prices in volatility, for the boundaries
// found.
template <class Nodes>
VOLSCEN_INLINE void american_value(const AmericanTables<Nodes>& tables, const AmericanLanes& o,
                                   const AmericanGains<Nodes>& gains, const double* vol,
                                   const AmericanBoundary<Nodes>& b, double* price, double* premium,
                                   double* vega) {
    alignas(64) double sum[american_lanes] = {};
    const std::size_t points = american_any(gains.early) ? Nodes::outer : 0;
    for (std::size_t k = 0; k < points; ++k) {
        const double sine = Nodes::outer_sine[k], back = sine * sine, weight = Nodes::outer_weight[k];
        // hot loop
        for (std::size_t l = 0; l < american_lanes; ++l) {
            const double square = american_interpolate<Nodes::times>(tables.outer[k], b.square, l);
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
        const bool early = gains.early[l] > 0.0;
        const bool now = early & (o.log_x[l] <= b.log_b[Nodes::times - 1][l]);
        double extra = early & (sum[l] > 0.0) ? sum[l] : 0.0;
        extra = early & (plain + extra < at_once) ? at_once - plain : extra;
        premium[l] = now ? at_once - plain : extra;
        price[l] = now ? at_once : plain + extra;
    }
}

// Eight options at both resolutions, each lane at its own. Boundaries are kept from one volatility to the
// next.
struct AmericanSolver {
    AmericanLanes o;
    AmericanGains<AmericanNodes> gains;
    AmericanGains<AmericanFineNodes> fine_gains;
    AmericanBoundary<AmericanNodes> boundary;
    AmericanBoundary<AmericanFineNodes> fine_boundary;
    alignas(64) double price[american_lanes], premium[american_lanes], vega[american_lanes];
    alignas(64) double change[american_lanes];  // of the last sweep, in ln B

    VOLSCEN_INLINE void prepare() {
        american_prepare(o);
        american_gains(o, 0.0, gains);
        american_gains(o, 1.0, fine_gains);
    }

    VOLSCEN_INLINE void run(const double* vol) {
        if (gains.any) {
            at(gains, boundary, vol, price, premium, vega);
            for (std::size_t l = 0; l < american_lanes; ++l) {
                change[l] = boundary.change[l];
            }
        }
        if (fine_gains.any) {
            alignas(64) double fine_price[american_lanes], fine_premium[american_lanes];
            alignas(64) double fine_vega[american_lanes];
            at(fine_gains, fine_boundary, vol, fine_price, fine_premium, fine_vega);
            for (std::size_t l = 0; l < american_lanes; ++l) {
                if (o.fine[l] > 0.0) {
                    price[l] = fine_price[l];
                    premium[l] = fine_premium[l];
                    vega[l] = fine_vega[l];
                    change[l] = fine_boundary.change[l];
                }
            }
        }
    }

private:
    template <class Nodes>
    VOLSCEN_INLINE void at(const AmericanGains<Nodes>& g, AmericanBoundary<Nodes>& b, const double* vol,
                           double* out_price, double* out_premium, double* out_vega) {
        const AmericanTables<Nodes>& tables = american_tables<Nodes>();
        american_solve(tables, o, g, vol, b);
        american_value(tables, o, g, vol, b, out_price, out_premium, out_vega);
    }
};

VOLSCEN_INLINE double american_rate(double rate) { return absolute(rate) < 1e-12 ? 0.0 : rate; }

// Order in which the options of a block are taken: those of one resolution side by side, so that few lanes
// wait for neighbours at the other.
VOLSCEN_INLINE void american_order(std::size_t n, const double* tau, const double* call, const double* rate,
                                   const double* dividend_yield, std::size_t* order) {
    std::size_t front = 0, back = n;
    for (std::size_t i = 0; i < n; ++i) {
        const double r = call[i] > 0.5 ? dividend_yield[i] : rate[i];
        order[r * tau[i] > american_long ? --back : front++] = i;
    }
}

// Eight options, those named by `at`, as puts struck at 1 per `unit`. An operand that cannot be priced is put
// aside: `status` says why, and a harmless option takes its place.
VOLSCEN_INLINE void american_load(std::size_t n, const std::size_t* at, const double* spot,
                                  const double* strike, const double* tau, const double* call,
                                  const double* rate, const double* dividend_yield, AmericanLanes& o,
                                  double* unit, double* status) {
    constexpr double top = std::numeric_limits<double>::max();
    for (std::size_t l = 0; l < american_lanes; ++l) {
        const std::size_t i = at[l < n ? l : 0];
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
    std::size_t n;  // at most american_block
    const double *spot, *strike, *tau, *vol, *call, *rate, *dividend_yield;
    double *price, *premium, *status;
};

struct AmericanPriceBody {
    static VOLSCEN_INLINE void run(const AmericanPriceTask* task) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        std::size_t order[american_block];
        american_order(task->n, task->tau, task->call, task->rate, task->dividend_yield, order);
        for (std::size_t begin = 0; begin < task->n; begin += american_lanes) {
            const std::size_t n = task->n - begin < american_lanes ? task->n - begin : american_lanes;
            AmericanSolver solver;
            AmericanLanes& o = solver.o;
            alignas(64) double unit[american_lanes], status[american_lanes], vol[american_lanes];
            const std::size_t* at = order + begin;
            american_load(n, at, task->spot, task->strike, task->tau, task->call, task->rate,
                          task->dividend_yield, o, unit, status);
            for (std::size_t l = 0; l < american_lanes; ++l) {
                const double given = task->vol[at[l < n ? l : 0]];
                const bool sound = (given > 0.0) & (given <= 100.0);
                status[l] = (status[l] != 5.0) & !(given >= 0.0 && given <= 100.0) ? 5.0 : status[l];
                vol[l] = sound ? given : 1.0;
            }
            solver.prepare();
            solver.run(vol);
            for (std::size_t l = 0; l < n; ++l) {
                const double s = status[l] == 0.0 && solver.change[l] > american_failure ? 6.0 : status[l];
                const bool zero = task->vol[at[l]] == 0.0;
                const double at_once = o.x[l] < 1.0 ? 1.0 - o.x[l] : 0.0;
                double value = solver.price[l], extra = solver.premium[l];
                if (s == 4.0) {
                    value = at_once;
                    extra = 0.0;
                } else if (s == 0.0 && zero) {
                    const double plain = o.discount[l] * (1.0 - o.forward[l]);
                    value = american_certain(o, l);
                    extra = value - (plain > 0.0 ? plain : 0.0);
                }
                const bool known = (s == 0.0) | (s == 4.0);
                task->price[at[l]] = known ? value * unit[l] : nan;
                task->premium[at[l]] = known ? extra * unit[l] : nan;
                task->status[at[l]] = s == 4.0 ? 0.0 : s;
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
