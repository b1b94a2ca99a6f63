// Static-arbitrage penalty of Cont and Vuletic (2023) of surfaces on a (tau, moneyness) grid, and its
// gradient with respect to the implied vols: of the sum of its parts, or of any weighting of them.
//
// Calls are split into intrinsic value and time value: slopes of the intrinsic value are exact constants of
// the grid, so that a surface free of arbitrage has a penalty of exactly zero also in wings where a call
// price rounds to its intrinsic value.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "volscen/special.hpp"

namespace volscen {

// Cells are in flat order, tau outer and moneyness inner. Tables have `margin` cells of zeros before the
// first cell and at least as many after the last, so that neighbours of every cell can be read and ignored.
template <class T>
struct PenaltyGrid {
    static constexpr std::size_t lanes = 16;

    std::size_t rows, columns, cells, margin, padded;
    std::vector<T> root_tau;      // sqrt(tau)
    std::vector<T> log_ratio;     // |ln m|
    std::vector<T> lo;            // min(1, m)
    std::vector<T> calendar;      // tau_j/(tau_{j+1} - tau_j), zero on the last tau
    std::vector<T> inverse_step;  // 1/(m_{i+1} - m_i), zero on the last moneyness
    std::vector<T> slope;         // slope of the intrinsic value to the next moneyness, likewise
    std::vector<T> kink;          // fall of that slope from the previous interval to the next
    std::vector<T> interior;      // 1 inside a row of moneyness, 0 at its ends

    PenaltyGrid(const double* tau, std::size_t num_tau, const double* moneyness, std::size_t num_moneyness)
        : rows(num_tau),
          columns(num_moneyness),
          cells(num_tau * num_moneyness),
          margin((num_moneyness + lanes) / lanes * lanes),
          padded(2 * margin + (cells + lanes - 1) / lanes * lanes) {
        for (std::vector<T>* table :
             {&root_tau, &log_ratio, &lo, &calendar, &inverse_step, &slope, &kink, &interior}) {
            table->assign(padded, T(0));
        }
        for (std::size_t j = 0; j < rows; ++j) {
            double previous = 0.0;
            for (std::size_t i = 0; i < columns; ++i) {
                const std::size_t cell = margin + j * columns + i;
                const double m = moneyness[i];
                root_tau[cell] = static_cast<T>(std::sqrt(tau[j]));
                log_ratio[cell] = static_cast<T>(std::fabs(std::log(m)));
                lo[cell] = static_cast<T>(m < 1.0 ? m : 1.0);
                if (j + 1 < rows) {
                    calendar[cell] = static_cast<T>(tau[j] / (tau[j + 1] - tau[j]));
                }
                if (i + 1 < columns) {
                    const double next = moneyness[i + 1];
                    // -1 below m = 1, 0 above, and between where the interval holds m = 1.
                    const double fall = next <= 1.0 ? -1.0 : (m >= 1.0 ? 0.0 : (m - 1.0) / (next - m));
                    inverse_step[cell] = static_cast<T>(1.0 / (next - m));
                    slope[cell] = static_cast<T>(fall);
                    if (i > 0) {
                        kink[cell] = static_cast<T>(previous - fall);
                        interior[cell] = T(1);
                    }
                    previous = fall;
                }
            }
        }
    }
};

template <class T>
struct PenaltyTask {
    const PenaltyGrid<T>* grid;
    std::size_t count;  // surfaces
    const T* vol;       // (count, rows, columns), contiguous
    const T* weight;    // (count, 3), what each part counts in the gradient; null: 1 each
    T* parts;           // (count, 3)
    T* gradient;        // like vol, or null
    T* work;            // 4 * grid->padded numbers of scratch
};

// Positive part that lets NaN through.
template <class T>
VOLSCEN_INLINE T positive_part(T x) {
    return T(0) > x ? T(0) : x;
}

// Out-of-the-money value of every cell, and its derivative in vol where wanted.
template <class T, bool want_vega>
VOLSCEN_INLINE void time_values(const PenaltyGrid<T>& grid, const T* __restrict vol, T* __restrict value,
                                T* __restrict vega) {
    const T* __restrict root_tau = grid.root_tau.data() + grid.margin;
    const T* __restrict log_ratio = grid.log_ratio.data() + grid.margin;
    const T* __restrict lo = grid.lo.data() + grid.margin;
    constexpr T root_half = static_cast<T>(coefficients::sqrt_half);
    constexpr T top = std::numeric_limits<T>::max();
    // hot loop
    for (std::size_t i = 0; i < grid.cells; ++i) {
        const T sigma = vol[i];
        const T s = sigma * root_tau[i];
        const T t = T(0.5) * s;
        const T h = -log_ratio[i] / s;
        const T d1 = h + t;
        const T gauss = exponential(T(-0.5) * d1 * d1);
        const T near_term = erfcx_positive(absolute(d1) * root_half);
        const T far_term = erfcx_positive((t - h) * root_half);
        const T half = T(0.5) * gauss;
        const T outside = half * (near_term - far_term);
        const T inside = T(1) - half * (near_term + far_term);
        const bool valid = (sigma > T(0)) & (s > T(0)) & (s <= top);
        const T result = lo[i] * (d1 > T(0) ? inside : outside);
        value[i] = valid ? result : std::numeric_limits<T>::quiet_NaN();
        if (want_vega) {
            vega[i] = lo[i] * gauss * static_cast<T>(coefficients::inverse_sqrt_two_pi) * root_tau[i];
        }
    }
}

// The sums run in `lanes` interleaved partial sums, the same on every instruction set.
template <class T>
VOLSCEN_INLINE void penalty_parts(const PenaltyGrid<T>& grid, const T* __restrict value, T* __restrict slope,
                                  T* __restrict parts) {
    constexpr std::size_t lanes = PenaltyGrid<T>::lanes;
    const std::size_t columns = grid.columns;
    const T* __restrict calendar = grid.calendar.data() + grid.margin;
    const T* __restrict inverse_step = grid.inverse_step.data() + grid.margin;
    const T* __restrict base = grid.slope.data() + grid.margin;
    const T* __restrict kink = grid.kink.data() + grid.margin;
    const T* __restrict interior = grid.interior.data() + grid.margin;
    T p1[lanes] = {}, p2[lanes] = {}, p3[lanes] = {};
    for (std::size_t begin = 0; begin < grid.cells; begin += lanes) {
        for (std::size_t l = 0; l < lanes; ++l) {
            const std::size_t i = begin + l;
            slope[i] = (value[i + 1] - value[i]) * inverse_step[i];
        }
    }
    for (std::size_t begin = 0; begin < grid.cells; begin += lanes) {
        // hot loop
        for (std::size_t l = 0; l < lanes; ++l) {
            const std::size_t i = begin + l;
            p1[l] += positive_part(calendar[i] * (value[i] - value[i + columns]));
            p2[l] += positive_part(base[i] + slope[i]);
        }
    }
    for (std::size_t begin = 0; begin < grid.cells; begin += lanes) {
        for (std::size_t l = 0; l < lanes; ++l) {
            const std::size_t i = begin + l;
            p3[l] += positive_part(kink[i] + interior[i] * (slope[i - 1] - slope[i]));
        }
    }
    for (std::size_t width = lanes / 2; width > 0; width /= 2) {
        for (std::size_t l = 0; l < width; ++l) {
            p1[l] += p1[l + width];
            p2[l] += p2[l + width];
            p3[l] += p3[l + width];
        }
    }
    parts[0] = p1[0];
    parts[1] = p2[0];
    parts[2] = p3[0];
}

// d(w1 p1 + w2 p2 + w3 p3)/d vol; at a kink of the positive part its derivative is taken as zero.
template <class T>
VOLSCEN_INLINE void penalty_gradient(const PenaltyGrid<T>& grid, const T* __restrict value,
                                     const T* __restrict slope, const T* __restrict vega, const T* weight,
                                     T* __restrict pull, T* __restrict gradient) {
    const T w1 = weight == nullptr ? T(1) : weight[0];
    const T w2 = weight == nullptr ? T(1) : weight[1];
    const T w3 = weight == nullptr ? T(1) : weight[2];
    const std::size_t columns = grid.columns;
    const T* __restrict calendar = grid.calendar.data() + grid.margin;
    const T* __restrict inverse_step = grid.inverse_step.data() + grid.margin;
    const T* __restrict base = grid.slope.data() + grid.margin;
    const T* __restrict kink = grid.kink.data() + grid.margin;
    const T* __restrict interior = grid.interior.data() + grid.margin;
    // Derivative with respect to each slope, over the step it was divided by. Factors of 0 and 1, as loads
    // under a condition would stop vectorisation where there are no masked ones.
    // hot loop
    for (std::size_t i = 0; i < grid.cells; ++i) {
        const T rising = base[i] + slope[i] > T(0) ? w2 : T(0);
        const T here = kink[i] + interior[i] * (slope[i - 1] - slope[i]) > T(0) ? T(1) : T(0);
        const T next = kink[i + 1] + interior[i + 1] * (slope[i] - slope[i + 1]) > T(0) ? T(1) : T(0);
        pull[i] = (rising + w3 * (next * interior[i + 1] - here * interior[i])) * inverse_step[i];
    }
    // hot loop
    for (std::size_t i = 0; i < grid.cells; ++i) {
        const T now = value[i] > value[i + columns] ? T(1) : T(0);
        const T before = value[i - columns] > value[i] ? T(1) : T(0);
        const T along_tau = now * calendar[i] - before * calendar[i - columns];
        gradient[i] = (w1 * along_tau + (pull[i - 1] - pull[i])) * vega[i];
    }
}

template <class T>
struct PenaltyBody {
    static VOLSCEN_INLINE void run(const PenaltyTask<T>* task) {
        const PenaltyGrid<T>& grid = *task->grid;
        T* value = task->work + grid.margin;
        T* slope = value + grid.padded;
        T* vega = slope + grid.padded;
        T* pull = vega + grid.padded;
        for (std::size_t n = 0; n < task->count; ++n) {
            const T* vol = task->vol + n * grid.cells;
            if (task->gradient == nullptr) {
                time_values<T, false>(grid, vol, value, vega);
            } else {
                time_values<T, true>(grid, vol, value, vega);
            }
            penalty_parts(grid, value, slope, task->parts + 3 * n);
            if (task->gradient != nullptr) {
                const T* weight = task->weight == nullptr ? nullptr : task->weight + 3 * n;
                penalty_gradient(grid, value, slope, vega, weight, pull, task->gradient + n * grid.cells);
            }
        }
    }
};

// The kernel at the instruction set in use. `work` must be zero at the first call.
template <class T>
using PenaltyFunction = void (*)(const PenaltyTask<T>*);
PenaltyFunction<double> penalty_double();
PenaltyFunction<float> penalty_float();

}  // namespace volscen
