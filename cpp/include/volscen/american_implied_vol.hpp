// Volatility that reproduces the price of an American option, lanes of eight.
//
// The price rises with volatility: secant steps within a bracket, the first along the slope of the European
// price. The boundary of one step is the start of the next.
#pragma once

#include "volscen/american.hpp"

namespace volscen {

struct AmericanImpliedVolTask {
    std::size_t n;  // at most american_block
    const double *price, *spot, *strike, *tau, *call, *rate, *dividend_yield;
    const double* start;  // a guess, or NaN
    double *vol, *status;
};

// Steps end when the volatility moves by no more than this part of itself. A step is superlinear: what is
// left is far below.
constexpr double american_vol_tolerance = 1e-7;
constexpr int american_vol_steps = 100;

struct AmericanImpliedVolBody {
    static VOLSCEN_INLINE void run(const AmericanImpliedVolTask* task) {
        std::size_t order[american_block];
        american_order(task->n, task->tau, task->call, task->rate, task->dividend_yield, order);
        for (std::size_t begin = 0; begin < task->n; begin += american_lanes) {
            const std::size_t n = task->n - begin < american_lanes ? task->n - begin : american_lanes;
            const std::size_t* at = order + begin;
            AmericanSolver solver;
            AmericanLanes& o = solver.o;
            alignas(64) double unit[american_lanes], status[american_lanes], vol[american_lanes];
            american_load(n, at, task->spot, task->strike, task->tau, task->call, task->rate,
                          task->dividend_yield, o, unit, status);
            solver.prepare();
            alignas(64) double target[american_lanes], low[american_lanes], high[american_lanes];
            alignas(64) double before[american_lanes], missed[american_lanes];
            bool searching[american_lanes];
            for (std::size_t l = 0; l < american_lanes; ++l) {
                const std::size_t i = at[l < n ? l : 0];
                target[l] = task->price[i] / unit[l];
                if (status[l] == 0.0) {
                    status[l] = judged(o, l, target[l]);
                } else if (status[l] == 4.0 && !(task->price[i] >= 0.0)) {
                    status[l] = 5.0;
                }
                searching[l] = status[l] == 0.0;
                low[l] = 0.0;
                high[l] = std::numeric_limits<double>::infinity();
                before[l] = missed[l] = 0.0;
                const double guess = task->start[i];
                vol[l] = searching[l] && guess > 1e-6 && guess < 50.0 ? guess : 0.3;
            }
            search(solver, target, searching, low, high, before, missed, vol, status);
            for (std::size_t l = 0; l < n; ++l) {
                constexpr double nan = std::numeric_limits<double>::quiet_NaN();
                task->vol[at[l]] = status[l] == 0.0 ? vol[l] : (status[l] == 1.0 ? 0.0 : nan);
                task->status[at[l]] = status[l];
            }
        }
    }

private:
    // Status of a price before any search.
    static VOLSCEN_INLINE double judged(const AmericanLanes& o, std::size_t l, double target) {
        if (!(target >= 0.0) || !(target <= std::numeric_limits<double>::max())) {
            return 5.0;
        }
        const double least = AmericanPriceBody::american_certain(o, l);
        // Prices per unit of strike carry a rounding or two.
        if (target <= least + 5e-16) {
            return target >= least - 5e-16 ? 1.0 : 2.0;
        }
        // The most that the strike is worth at any time before expiry.
        const double most = o.discount[l] > 1.0 ? o.discount[l] : 1.0;
        return target >= most ? 3.0 : 0.0;
    }

    static VOLSCEN_INLINE void search(AmericanSolver& solver, const double* target, bool* searching,
                                      double* low, double* high, double* before, double* missed, double* vol,
                                      double* status) {
        for (int step = 0; step < american_vol_steps; ++step) {
            bool any = false;
            for (std::size_t l = 0; l < american_lanes; ++l) {
                any = any || searching[l];
            }
            if (!any) {
                return;
            }
            solver.run(vol);
            for (std::size_t l = 0; l < american_lanes; ++l) {
                if (!searching[l]) {
                    continue;
                }
                if (solver.change[l] > american_failure) {
                    status[l] = 6.0;
                    searching[l] = false;
                    continue;
                }
                const double miss = solver.price[l] - target[l];
                low[l] = miss < 0.0 ? vol[l] : low[l];
                high[l] = miss < 0.0 ? high[l] : vol[l];
                const double slope = step == 0 ? solver.vega[l] : (miss - missed[l]) / (vol[l] - before[l]);
                double moved = vol[l] - miss / slope;
                // Every other late step halves the bracket, should the others dawdle.
                const bool inside = moved > low[l] && moved < high[l] && slope > 0.0;
                if (!inside || (step > 8 && step % 2 == 0)) {
                    moved = high[l] > 1e300
                                ? 2.0 * vol[l]
                                : (low[l] > 0.0 ? __builtin_sqrt(low[l] * high[l]) : 0.25 * high[l]);
                }
                moved = moved < 4.0 * vol[l] ? moved : 4.0 * vol[l];
                before[l] = vol[l];
                missed[l] = miss;
                const bool settled = absolute(moved - vol[l]) <= american_vol_tolerance * vol[l];
                if (miss == 0.0 || settled) {
                    searching[l] = false;
                    vol[l] = miss == 0.0 ? vol[l] : moved;
                } else if (!(moved < 100.0) || !(moved > 1e-8)) {
                    status[l] = 6.0;
                    searching[l] = false;
                } else {
                    vol[l] = moved;
                }
            }
        }
        for (std::size_t l = 0; l < american_lanes; ++l) {
            status[l] = searching[l] ? 6.0 : status[l];
        }
    }
};

using AmericanImpliedVolFunction = void (*)(const AmericanImpliedVolTask*);

// The kernel at the instruction set in use.
AmericanImpliedVolFunction american_implied_vol();

}  // namespace volscen
