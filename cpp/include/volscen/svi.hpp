// Raw-SVI slices (Gatheral 2004): w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)).
//
// The least-squares slice (svi_search.hpp); where it breaks Durrleman's condition, the best slice that obeys
// it (svi_butterfly.hpp).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "volscen/svi_constrained.hpp"
#include "volscen/svi_search.hpp"

namespace volscen {

enum class SviStatus : std::int8_t { ok = 0, reduced = 1, no_data = 2 };

constexpr std::size_t svi_scratch = 13;  // arrays of the padded length that a fit needs

struct SviTask {
    std::size_t count;     // slices
    std::size_t n;         // quotes of each, padding included
    const double* k;       // (count, n)
    const double* w;       // (count, n)
    const double* weight;  // (count, n), zero where a quote is to be ignored
    const double* start;   // (count, 5) or null: slices to start from, none where sigma is not positive
    bool butterfly;
    double* parameters;   // (count, 5): a, b, rho, m, sigma
    double* rmse;         // (count,)
    std::int8_t* status;  // (count,)
    double* work;         // svi_scratch arrays of n rounded up to svi_lanes
};

// Where the units of the search lie: weighted mean of w, middle and half-width of the strikes.
struct SviFrame {
    double level, middle, half_width;
};

// The best slice for given m and sigma, in units of k.
VOLSCEN_INLINE SviSlice svi_slice_at(const SviSearch& s, const SviFrame& frame, double m, double sigma) {
    const SviLinear linear = svi_linear(s, m, sigma);
    return {frame.level - linear.d * linear.mean_y - linear.c * (1.0 + linear.mean_q), linear.d, linear.c,
            frame.middle + frame.half_width * m, frame.half_width * sigma};
}

// Where the quotes' total variance is lowest.
VOLSCEN_INLINE double svi_lowest(const SviSearch& s) {
    std::size_t lowest = 0;
    for (std::size_t i = 1; i < s.used; ++i) {
        lowest = s.w[i] < s.w[lowest] ? i : lowest;
    }
    return s.x[lowest];
}

constexpr int svi_first_steps = 5;
constexpr int svi_last_steps = 30;
constexpr std::size_t svi_finalists = 2;
constexpr std::size_t svi_most_starts = svi_lanes + 4;

struct SviStarts {
    SviSlice slice[svi_most_starts];
    std::size_t count;
};

// The best slice under Durrleman's condition: fits from several slices, of which those that lead after a few
// steps are finished; never worse than the flat slice.
VOLSCEN_INLINE SviSlice svi_constrained(const SviQuotes& quotes, const SviFrame& frame,
                                        const SviStarts& starts, double unit, double floor,
                                        std::size_t distinct) {
    const SviProblem problem = {at_least(1e-6 * frame.level, unit),
                                1.01 * floor,
                                frame.level,
                                2e-5,
                                frame.half_width * svi_sigma_low,
                                frame.half_width * svi_sigma_high,
                                frame.middle - frame.half_width * svi_m_limit,
                                frame.middle + frame.half_width * svi_m_limit,
                                distinct > 3 ? 0.0 : svi_held,
                                distinct > 4 ? 0.0 : svi_held};
    SviRun run[svi_most_starts];
    bool finished[svi_most_starts] = {};
    for (std::size_t c = 0; c < starts.count; ++c) {
        svi_begin(run[c], quotes, starts.slice[c], problem);
        svi_advance(run[c], quotes, problem, svi_first_steps);
    }
    SviSlice best = {frame.level, 0.0, 0.0, frame.middle, frame.half_width};
    double lowest = svi_squared_error(quotes, best);
    for (std::size_t f = 0; f < svi_finalists && f < starts.count; ++f) {
        std::size_t lead = starts.count;
        for (std::size_t c = 0; c < starts.count; ++c) {
            if (!finished[c] && (lead == starts.count || svi_merit(run[c]) < svi_merit(run[lead]))) {
                lead = c;
            }
        }
        finished[lead] = true;
        svi_advance(run[lead], quotes, problem, svi_last_steps);
        SviSlice fitted = run[lead].found ? run[lead].best : run[lead].now.p;
        if (!butterfly_free(fitted, floor)) {
            fitted = svi_pulled(fitted, frame.level, floor);
        }
        const double here = svi_squared_error(quotes, fitted);
        if (here < lowest) {
            lowest = here;
            best = fitted;
        }
    }
    return best;
}

// The best slice from five strikes or more. A fit warm from the slice `start` (unless null) is kept when no
// slice of the coarse grid is better; where `butterfly`, no slice of the grid that obeys Durrleman's
// condition.
VOLSCEN_INLINE SviSlice svi_whole(const SviSearch& s, const SviQuotes& quotes, const SviFrame& frame,
                                  const SviSlice* start, bool butterfly, double floor) {
    const SviLanes grid = svi_grid(s);
    SviSlice best = {};
    bool warm = start != nullptr;
    for (int attempt = warm ? 0 : 1; attempt < 2; ++attempt) {
        warm = attempt == 0;
        SviCandidate plain;
        if (warm) {
            const double m =
                at_most(svi_m_limit, at_least(-svi_m_limit, (start->m - frame.middle) / frame.half_width));
            const double sigma =
                at_most(svi_sigma_high, at_least(svi_sigma_low, start->sigma / frame.half_width));
            plain = svi_polish(s, {m, std::log(sigma), 0.0}, true);
        } else {
            plain = svi_cold(s, grid);
        }
        bool beaten = false;
        for (std::size_t l = 0; warm && l < svi_lanes; ++l) {
            beaten = beaten || grid.error[l] < plain.error;
        }
        if (beaten) {
            continue;
        }
        best = svi_slice_at(s, frame, plain.m, std::exp(plain.log_sigma));
        if (!butterfly || butterfly_free(best, floor)) {
            return best;
        }
        SviStarts starts = {{best}, 1};
        if (warm) {
            starts.slice[starts.count++] = *start;
        } else {
            for (std::size_t l = 0; l < svi_lanes; ++l) {
                starts.slice[starts.count++] = svi_slice_at(s, frame, grid.m[l], grid.sigma[l]);
            }
            // All of these may lie in a valley of steep wings that the condition forbids and whose floor is
            // no slice at all; what turns where the quotes are lowest does not.
            const double turn = svi_lowest(s);
            for (const double sigma : {0.1, 0.3, 1.0}) {
                starts.slice[starts.count++] = svi_slice_at(s, frame, turn, sigma);
            }
        }
        best = svi_constrained(quotes, frame, starts, std::sqrt(plain.error), floor, 5);
        const double error = warm ? svi_squared_error(quotes, best) : 0.0;
        for (std::size_t l = 0; warm && l < svi_lanes && !beaten; ++l) {
            beaten = grid.error[l] < error &&
                     butterfly_free(svi_slice_at(s, frame, grid.m[l], grid.sigma[l]), floor);
        }
        if (!beaten) {
            return best;
        }
    }
    return best;
}

// Number of distinct strikes among the first n of k, which are sorted in place.
VOLSCEN_INLINE std::size_t sorted_distinct(double* k, std::size_t n) {
    for (std::size_t i = 1; i < n; ++i) {
        const double value = k[i];
        std::size_t j = i;
        for (; j > 0 && k[j - 1] > value; --j) {
            k[j] = k[j - 1];
        }
        k[j] = value;
    }
    std::size_t distinct = n > 0 ? 1 : 0;
    for (std::size_t i = 1; i < n; ++i) {
        distinct += k[i] > k[i - 1] ? 1 : 0;
    }
    return distinct;
}

VOLSCEN_INLINE void svi_fit_one(const double* k, const double* w, const double* weight, std::size_t n,
                                const double* start, bool butterfly, double* work, double* parameters,
                                double* rmse, std::int8_t* status) {
    const std::size_t padded = (n + svi_lanes - 1) / svi_lanes * svi_lanes;
    double* use_k = work;
    double* use_w = use_k + padded;
    double* use_weight = use_w + padded;
    double* x = use_weight + padded;
    double* centred = x + padded;
    double* y = centred + padded;
    double* q = y + padded;
    double* sorted = q + padded;
    std::size_t used = 0;
    double heaviest = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        heaviest = weight[i] > heaviest ? weight[i] : heaviest;
    }
    double total = 0.0, level = 0.0, smallest = std::numeric_limits<double>::max();
    for (std::size_t i = 0; i < n; ++i) {
        if (weight[i] > 0.0) {
            use_k[used] = k[i];
            use_w[used] = w[i];
            use_weight[used] = weight[i] / heaviest;  // no sum of weights overflows
            sorted[used] = k[i];
            total += use_weight[used];
            smallest = std::fmin(smallest, w[i]);
            ++used;
        }
    }
    if (used == 0) {
        for (std::size_t i = 0; i < 5; ++i) {
            parameters[i] = std::numeric_limits<double>::quiet_NaN();
        }
        *rmse = std::numeric_limits<double>::quiet_NaN();
        *status = static_cast<std::int8_t>(SviStatus::no_data);
        return;
    }
    for (std::size_t i = 0; i < used; ++i) {
        use_weight[i] /= total;
        level += use_weight[i] * use_w[i];
    }
    const std::size_t distinct = sorted_distinct(sorted, used);
    const double middle = 0.5 * (sorted[0] + sorted[used - 1]);
    const double half_width = distinct > 1 ? 0.5 * (sorted[used - 1] - sorted[0]) : 1.0;
    const std::size_t lanes_used = (used + svi_lanes - 1) / svi_lanes * svi_lanes;
    SviSearch search = {used, lanes_used, x, centred, use_weight, y, q, 0.0, 0.0, 0.0, 0.0};
    for (std::size_t i = 0; i < lanes_used; ++i) {
        const bool real = i < used;
        use_weight[i] = real ? use_weight[i] : 0.0;
        use_k[i] = real ? use_k[i] : middle;
        use_w[i] = real ? use_w[i] : level;
        x[i] = real ? (use_k[i] - middle) / half_width : 0.0;
        centred[i] = real ? use_w[i] - level : 0.0;
        search.variance += use_weight[i] * centred[i] * centred[i];
        search.mean_x += use_weight[i] * x[i];
    }
    for (std::size_t i = 0; i < used; ++i) {
        const double from = x[i] - search.mean_x;
        search.sxx += use_weight[i] * from * from;
        search.sxw += use_weight[i] * from * centred[i];
    }
    double* column = sorted + padded;
    const SviQuotes quotes = {
        lanes_used,
        use_k,
        use_w,
        use_weight,
        {column, column + padded, column + 2 * padded, column + 3 * padded, column + 4 * padded}};
    const SviFrame frame = {level, middle, half_width};
    const double floor = svi_floor * smallest;
    SviSlice best = {level, 0.0, 0.0, middle, half_width};
    if (distinct >= 5) {
        const bool warm = start != nullptr && start[4] > 0.0;
        const SviSlice from =
            warm ? SviSlice{start[0], start[1] * start[2] * start[4], start[1] * start[4], start[3], start[4]}
                 : best;
        best = svi_whole(search, quotes, frame, warm ? &from : nullptr, butterfly, floor);
    } else if (distinct >= 3) {
        const double m = distinct == 4 ? svi_polish(search, {0.0, 0.0, 0.0}, false).m : 0.0;
        best = svi_slice_at(search, frame, m, 1.0);
        if (butterfly && !butterfly_free(best, floor)) {
            best = svi_constrained(quotes, frame, {{best}, 1}, std::sqrt(svi_squared_error(quotes, best)),
                                   floor, distinct);
        }
    }
    parameters[0] = best.a;
    parameters[1] = best.c / best.sigma;
    parameters[2] = best.c > 0.0 ? best.d / best.c : 0.0;
    parameters[3] = best.m;
    parameters[4] = best.sigma;
    *rmse = std::sqrt(svi_squared_error(quotes, best));
    *status = static_cast<std::int8_t>(distinct >= 5 ? SviStatus::ok : SviStatus::reduced);
}

struct SviBody {
    static VOLSCEN_INLINE void run(const SviTask* task) {
        for (std::size_t i = 0; i < task->count; ++i) {
            const std::size_t row = i * task->n;
            svi_fit_one(task->k + row, task->w + row, task->weight + row, task->n,
                        task->start == nullptr ? nullptr : task->start + 5 * i, task->butterfly, task->work,
                        task->parameters + 5 * i, task->rmse + i, task->status + i);
        }
    }
};

using SviFunction = void (*)(const SviTask*);

// The kernel at the instruction set in use.
SviFunction svi_fit();

}  // namespace volscen
