// Values of options on scenarios of a surface: interpolation at every contract's moneyness and remaining
// time, then Black (1976), for a block of scenarios and a tile of contracts.
//
// Scenarios are the lanes. For one contract the maturity is the same in all of them, and a block of scenarios
// whose spots are neighbours needs one or two intervals of the moneyness grid, so that nothing is gathered:
// the vol of each interval is computed for all lanes, and every lane keeps that of its own. Neither the block
// nor its neighbours change the bits of a value.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "volscen/surface.hpp"

namespace volscen {

constexpr std::size_t revalue_lanes = 64;   // scenarios in a block
constexpr std::size_t revalue_tile = 256;   // contracts in a tile
constexpr std::size_t revalue_outputs = 3;  // value, delta, vega

struct RevalueContract {
    SplitLog log_strike;  // of strike over carry
    double strike, carry, discount, root_tau, offset, quantity;
    double sign;  // 1 for a call, -1 for a put
    std::size_t rule;
    bool settled;  // worth its intrinsic value: no time is left, or the strike is zero
};

// One valuation, shared by its tasks.
struct RevaluePlan {
    SurfaceGrid grid;
    std::vector<TauRule> rules;
    std::vector<std::size_t> rows;  // rows of the grid that some rule reads
    std::vector<RevalueContract> contracts;
    std::vector<std::size_t> visit;  // contracts of each tile by maturity and strike
    SurfaceView surfaces;
    std::size_t count;  // scenarios
    const double* spot;
    std::vector<std::size_t> order;  // scenarios by spot, roughly
    double floor;
    bool greeks, total;
    double* out[revalue_outputs];  // rows of scenarios; one number each for totals
    std::ptrdiff_t row_stride[revalue_outputs];
    std::atomic<std::int64_t>* floored;  // per contract
};

// What one thread works with; `room` is the memory of all the tables.
struct RevalueWork {
    std::size_t block = std::numeric_limits<std::size_t>::max();  // loaded
    std::size_t real = 0, lanes = 0;                              // scenarios, and rounded up to 8
    std::size_t lowest = 0, highest = 0;                          // lanes of the extreme spots
    std::size_t scenario[revalue_lanes];
    alignas(64) double spot[revalue_lanes];
    alignas(64) double head[revalue_lanes];
    alignas(64) double tail[revalue_lanes];
    alignas(64) double k[revalue_lanes];
    alignas(64) double vol[revalue_lanes];
    std::vector<double> room;
    double *cells, *nodes, *values[revalue_outputs];
    std::vector<char> ready;  // nodes

    explicit RevalueWork(const RevaluePlan& plan) : ready(plan.grid.columns()) {
        const std::size_t surface = plan.grid.rows() * plan.grid.columns() * revalue_lanes;
        const std::size_t slice = plan.grid.columns() * revalue_lanes;
        const std::size_t tile = revalue_tile * revalue_lanes;
        room.resize(surface + slice + (plan.greeks ? 3 : 1) * tile + 8);
        double* next = room.data();
        while (reinterpret_cast<std::uintptr_t>(next) % 64 != 0) {
            ++next;
        }
        cells = next;
        nodes = cells + surface;
        for (std::size_t o = 0; o < revalue_outputs; ++o) {
            values[o] = nodes + slice + (plan.greeks ? o : 0) * tile;
        }
    }

    // Read the scenarios of a block: spots, logarithms, and the rows of their surfaces in use.
    void load(const RevaluePlan& plan, std::size_t wanted) {
        if (block == wanted) {
            return;
        }
        block = wanted;
        const std::size_t first = block * revalue_lanes;
        real = std::min(revalue_lanes, plan.count - first);
        lanes = (real + 7) / 8 * 8;
        lowest = highest = 0;
        for (std::size_t l = 0; l < lanes; ++l) {
            const std::size_t s = plan.order[first + std::min(l, real - 1)];
            const SplitLog log = split_log(plan.spot[s]);
            scenario[l] = s;
            spot[l] = plan.spot[s];
            head[l] = log.head;
            tail[l] = log.tail;
            lowest = spot[l] < spot[lowest] ? l : lowest;
            highest = spot[l] > spot[highest] ? l : highest;
        }
        const std::size_t columns = plan.grid.columns();
        for (const std::size_t row : plan.rows) {
            for (std::size_t i = 0; i < columns; ++i) {
                double* cell = cells + (row * columns + i) * revalue_lanes;
                for (std::size_t l = 0; l < lanes; ++l) {
                    cell[l] = plan.surfaces.at(scenario[l], row, i);
                }
            }
        }
    }
};

// A tile of contracts on a block of scenarios that `work` holds.
struct RevalueTask {
    const RevaluePlan* plan;
    RevalueWork* work;
    std::size_t begin, end;  // contracts
};

template <TauRule::Kind kind>
VOLSCEN_INLINE void revalue_node(const TauRule& rule, std::size_t lanes, const double* __restrict near,
                                 const double* __restrict far, double* __restrict node) {
    // hot loop
    for (std::size_t l = 0; l < lanes; ++l) {
        node[l] = slice_vol<kind>(rule, near[l], far[l]);
    }
}

// Vol of the slice at grid moneyness i in every lane, computed once for all contracts of the maturity.
VOLSCEN_INLINE const double* revalue_slice(const RevaluePlan& plan, RevalueWork& work, const TauRule& rule,
                                           std::size_t i) {
    double* node = work.nodes + i * revalue_lanes;
    if (work.ready[i] == 0) {
        work.ready[i] = 1;
        const std::size_t columns = plan.grid.columns();
        const std::size_t lanes = work.lanes / 8 * 8;
        const double* near = work.cells + (rule.near * columns + i) * revalue_lanes;
        const double* far = work.cells + (rule.far * columns + i) * revalue_lanes;
        if (rule.kind == TauRule::Kind::between) {
            revalue_node<TauRule::Kind::between>(rule, lanes, near, far, node);
        } else if (rule.kind == TauRule::Kind::beyond) {
            revalue_node<TauRule::Kind::beyond>(rule, lanes, near, far, node);
        } else {
            revalue_node<TauRule::Kind::edge>(rule, lanes, near, far, node);
        }
    }
    return node;
}

// Log-moneyness and vol of one contract in every lane. `guess` is an interval near the last contract's.
VOLSCEN_INLINE void revalue_vol(const RevaluePlan& plan, RevalueWork& work, const RevalueContract& c,
                                std::size_t& guess) {
    const SurfaceGrid& grid = plan.grid;
    const TauRule& rule = plan.rules[c.rule];
    const std::size_t lanes = work.lanes / 8 * 8;
    const double* __restrict head = work.head;
    const double* __restrict tail = work.tail;
    double* __restrict k = work.k;
    double* __restrict vol = work.vol;
    // hot loop
    for (std::size_t l = 0; l < lanes; ++l) {
        k[l] = (c.log_strike.head - head[l]) + (c.log_strike.tail - tail[l]);
    }
    if (grid.columns() == 1) {
        const double* __restrict node = revalue_slice(plan, work, rule, 0);
        // hot loop
        for (std::size_t l = 0; l < lanes; ++l) {
            vol[l] = node[l];
        }
        return;
    }
    // The margin covers roundings of k; an interval too many changes nothing.
    constexpr double margin = 1e-12;
    const double lowest = work.k[work.highest], highest = work.k[work.lowest];
    const std::size_t first = guess = grid.interval(lowest - margin, guess);
    const std::size_t last = grid.interval(highest + margin, first);
    for (std::size_t i = first; i <= last; ++i) {
        const double* __restrict left = revalue_slice(plan, work, rule, i);
        const double* __restrict right = revalue_slice(plan, work, rule, i + 1);
        const double edge = grid.edge[i], inverse_width = grid.inverse_width[i];
        if (i == first) {
            // hot loop
            for (std::size_t l = 0; l < lanes; ++l) {
                vol[l] = vol_between(left[l], right[l], k[l], edge, inverse_width);
            }
        } else {
            // hot loop
            for (std::size_t l = 0; l < lanes; ++l) {
                const double here = vol_between(left[l], right[l], k[l], edge, inverse_width);
                vol[l] = k[l] >= edge ? here : vol[l];
            }
        }
    }
    if (grid.extrapolation != Extrapolation::linear) {
        return;
    }
    const std::size_t top = grid.columns() - 1;
    if (lowest - margin < grid.edge[0]) {
        const double* __restrict outer = revalue_slice(plan, work, rule, 0);
        const double* __restrict inner = revalue_slice(plan, work, rule, 1);
        const double edge = grid.edge[0], inverse_width = grid.inverse_width[0], steepest = rule.steepest;
        // hot loop
        for (std::size_t l = 0; l < lanes; ++l) {
            const double distance = edge - k[l];
            const double wing = wing_vol(outer[l], inner[l], inverse_width, distance, steepest);
            vol[l] = distance > 0.0 ? wing : vol[l];
        }
    }
    if (highest + margin > grid.edge[top]) {
        const double* __restrict outer = revalue_slice(plan, work, rule, top);
        const double* __restrict inner = revalue_slice(plan, work, rule, top - 1);
        const double edge = grid.edge[top], inverse_width = grid.inverse_width[top - 1];
        const double steepest = rule.steepest;
        // hot loop
        for (std::size_t l = 0; l < lanes; ++l) {
            const double distance = k[l] - edge;
            const double wing = wing_vol(outer[l], inner[l], inverse_width, distance, steepest);
            vol[l] = distance > 0.0 ? wing : vol[l];
        }
    }
}

// Black's formula as in black.hpp, with the logarithm of the moneyness known. Delta is per unit of spot at a
// vol held fixed.
template <bool greeks>
VOLSCEN_INLINE void revalue_black(const RevalueContract& c, double floor, std::size_t lanes,
                                  const double* __restrict spot, const double* __restrict k,
                                  const double* __restrict vol, double* __restrict value,
                                  double* __restrict delta, double* __restrict vega) {
    constexpr double root_half = coefficients::sqrt_half;
    const double strike = c.strike, carry = c.carry, discount = c.discount, root_tau = c.root_tau;
    const double offset = c.offset, sign = c.sign;
    // hot loop
    for (std::size_t l = 0; l < lanes; ++l) {
        const double raw = vol[l] + offset;
        const double sigma = raw < floor ? floor : raw;
        const double product = sigma * root_tau;
        const double s = product < 1e-300 ? 1e-300 : product;
        const double forward = spot[l] * carry;
        const bool below = forward < strike;
        const double lo = below ? forward : strike;
        const double h = -absolute(k[l]) / s;
        const double t = 0.5 * s;
        const double d1 = h + t;
        const double half = 0.5 * exponential(-0.5 * d1 * d1);
        const double near_term = half * erfcx_positive(absolute(d1) * root_half);
        const double far_term = half * erfcx_positive((t - h) * root_half);
        const double time_value = d1 > 0.0 ? 1.0 - (near_term + far_term) : near_term - far_term;
        const double difference = sign * (forward - strike);
        value[l] = discount * (lo * time_value + (difference > 0.0 ? difference : 0.0));
        if (greeks) {
            const double hi = below ? strike : forward;
            const double near_cdf = d1 > 0.0 ? 1.0 - near_term : near_term;
            // N of the out-of-the-money call's d1, or of the put's -d1.
            const double outside = below ? near_cdf : far_term * (lo / hi);
            const double call = below ? outside : 1.0 - outside;
            const double put = below ? outside - 1.0 : -outside;
            delta[l] = discount * (carry * (sign > 0.0 ? call : put));
            vega[l] = discount * (lo * (2.0 * coefficients::inverse_sqrt_two_pi) * half * root_tau);
        }
    }
}

// Discounted intrinsic value, and its slope: half of it where the forward is at the strike.
template <bool greeks>
VOLSCEN_INLINE void revalue_settled(const RevalueContract& c, std::size_t lanes,
                                    const double* __restrict spot, double* __restrict value,
                                    double* __restrict delta, double* __restrict vega) {
    // hot loop
    for (std::size_t l = 0; l < lanes; ++l) {
        const double difference = c.sign * (spot[l] * c.carry - c.strike);
        value[l] = c.discount * (difference > 0.0 ? difference : 0.0);
        if (greeks) {
            const double share = difference > 0.0 ? 1.0 : (difference < 0.0 ? 0.0 : 0.5);
            delta[l] = c.discount * (c.carry * (c.sign * share));
            vega[l] = 0.0;
        }
    }
}

// Rows of scenarios from columns of lanes.
VOLSCEN_INLINE void revalue_store(const RevaluePlan& plan, const RevalueWork& work, std::size_t begin,
                                  std::size_t end, std::size_t o) {
    const double* __restrict values = work.values[o];
    for (std::size_t first = begin; first < end; first += 8) {
        const std::size_t n = std::min<std::size_t>(8, end - first);
        const double* __restrict column = values + (first - begin) * revalue_lanes;
        for (std::size_t l = 0; l < work.real; ++l) {
            double* __restrict row =
                plan.out[o] + static_cast<std::ptrdiff_t>(work.scenario[l]) * plan.row_stride[o] + first;
            if (n == 8) {
                for (std::size_t j = 0; j < 8; ++j) {
                    row[j] = column[j * revalue_lanes + l];
                }
            } else {
                for (std::size_t j = 0; j < n; ++j) {
                    row[j] = column[j * revalue_lanes + l];
                }
            }
        }
    }
}

// Sums over the contracts, in their order.
VOLSCEN_INLINE void revalue_sum(const RevaluePlan& plan, const RevalueWork& work, std::size_t begin,
                                std::size_t end, std::size_t o) {
    alignas(64) double sum[revalue_lanes];
    for (std::size_t l = 0; l < work.lanes; ++l) {
        sum[l] = plan.out[o][work.scenario[l]];
    }
    for (std::size_t i = begin; i < end; ++i) {
        const double* __restrict column = work.values[o] + (i - begin) * revalue_lanes;
        const double quantity = plan.contracts[i].quantity;
        // hot loop
        for (std::size_t l = 0; l < work.lanes; ++l) {
            sum[l] += quantity * column[l];
        }
    }
    for (std::size_t l = 0; l < work.real; ++l) {
        plan.out[o][work.scenario[l]] = sum[l];
    }
}

template <bool greeks>
struct RevalueBody {
    static VOLSCEN_INLINE void run(const RevalueTask* task) {
        const RevaluePlan& plan = *task->plan;
        RevalueWork& work = *task->work;
        const std::size_t lanes = work.lanes / 8 * 8;
        std::size_t rule = std::numeric_limits<std::size_t>::max(), guess = 0;
        for (std::size_t v = task->begin; v < task->end; ++v) {
            const std::size_t i = plan.visit[v];
            const RevalueContract& c = plan.contracts[i];
            const std::size_t place = (i - task->begin) * revalue_lanes;
            double* value = work.values[0] + place;
            double* delta = work.values[1] + place;
            double* vega = work.values[2] + place;
            if (c.settled) {
                revalue_settled<greeks>(c, lanes, work.spot, value, delta, vega);
                continue;
            }
            if (c.rule != rule) {
                rule = c.rule;
                for (char& ready : work.ready) {
                    ready = 0;
                }
            }
            revalue_vol(plan, work, c, guess);
            std::uint64_t low = 0;  // as wide as the numbers compared, or no width vectorises
            // hot loop, not in the baseline
            for (std::size_t l = 0; l < lanes; ++l) {
                low |= work.vol[l] + c.offset < plan.floor ? std::uint64_t(1) : std::uint64_t(0);
            }
            if (low != 0) {
                std::int64_t count = 0;
                for (std::size_t l = 0; l < work.real; ++l) {
                    count += work.vol[l] + c.offset < plan.floor ? 1 : 0;
                }
                plan.floored[i].fetch_add(count, std::memory_order_relaxed);
            }
            revalue_black<greeks>(c, plan.floor, lanes, work.spot, work.k, work.vol, value, delta, vega);
        }
        for (std::size_t o = 0; o < (greeks ? revalue_outputs : 1); ++o) {
            if (plan.total) {
                revalue_sum(plan, work, task->begin, task->end, o);
            } else {
                revalue_store(plan, work, task->begin, task->end, o);
            }
        }
    }
};

// The kernel at the instruction set in use.
using RevalueFunction = void (*)(const RevalueTask*);
RevalueFunction revalue_values();
RevalueFunction revalue_values_and_greeks();

}  // namespace volscen
