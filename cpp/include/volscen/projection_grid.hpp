// Out-of-the-money values on a grid for the projection onto arbitrage-free surfaces: eight surfaces side by
// side, one per lane, and the grid's constants of the conditions along moneyness.
//
// With v the out-of-the-money value and s = sigma sqrt(tau), a surface is free of static arbitrage on the
// grid exactly where every value is at most the line through its neighbours in moneyness, and s rises in tau:
//     v_i <= left_i v_{i-1} + right_i v_{i+1} + gap_i,     s_j <= s_{j+1}.
// Inside a row that is convexity of calls; at its ends it is a first slope of at least -1 and a last slope of
// at most 0, and gap_i is what the kink of the intrinsic value adds. All parts of it are without
// cancellation.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "volscen/special.hpp"

// Lanes never share a number, which compilers cannot see through the pointers.
#if defined(__clang__)
#define VOLSCEN_LANES _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define VOLSCEN_LANES _Pragma("GCC ivdep")
#else
#define VOLSCEN_LANES
#endif

namespace volscen {

constexpr std::size_t projection_lanes = 8;

// Values are held times 2^200: the smallest positive double then lies far below the smallest value that the
// penalty can tell from zero.
constexpr double value_scale = 0x1p200;
constexpr double value_dust = 1.6e-266;   // scaled; the penalty reads it as zero
constexpr double value_grain = 1.6e-261;  // rounding among subnormal values, scaled

struct ProjectionGrid {
    std::size_t rows, columns, cells;
    std::vector<double> tau, root_tau, moneyness;
    std::vector<double> distance;          // |ln m|
    std::vector<double> lo;                // min(1, m)
    std::vector<double> left, right, gap;  // of each moneyness; gap is scaled

    ProjectionGrid(const double* tau_axis, std::size_t num_tau, const double* m, std::size_t num_moneyness)
        : rows(num_tau),
          columns(num_moneyness),
          cells(num_tau * num_moneyness),
          tau(tau_axis, tau_axis + num_tau),
          moneyness(m, m + num_moneyness) {
        for (const double t : tau) {
            root_tau.push_back(std::sqrt(t));
        }
        const std::size_t last = columns - 1;
        for (std::size_t i = 0; i < columns; ++i) {
            distance.push_back(std::fabs(std::log(m[i])));
            lo.push_back(m[i] < 1.0 ? m[i] : 1.0);
            left.push_back(i == 0 ? 0.0 : (i == last ? 1.0 : (m[i + 1] - m[i]) / (m[i + 1] - m[i - 1])));
            right.push_back(i == last ? 0.0 : (i == 0 ? 1.0 : (m[i] - m[i - 1]) / (m[i + 1] - m[i - 1])));
            double between = 0.0;
            if (columns == 1) {
                between = 1.0;  // no neighbours, no condition
            } else if (i == 0) {
                between = first_gap(0, 1);
            } else if (i == last) {
                between = last_gap(last - 1, last);
            } else {
                between = chord_gap(i - 1, i, i + 1);
            }
            gap.push_back(between * value_scale);
        }
    }

    // What a bound on c adds for v, c = v + max(1 - m, 0): of the chord through cells l < i < r, ...
    double chord_gap(std::size_t l, std::size_t i, std::size_t r) const {
        const double a = moneyness[l], x = moneyness[i], b = moneyness[r];
        if (a >= 1.0 || b <= 1.0) {
            return 0.0;
        }
        return (x <= 1.0 ? (x - a) * (b - 1.0) : (b - x) * (1.0 - a)) / (b - a);
    }
    // ... of c_i <= c_r + m_r - m_i, i < r, ...
    double first_gap(std::size_t i, std::size_t r) const {
        const double x = moneyness[i], b = moneyness[r];
        return b <= 1.0 ? 0.0 : (x >= 1.0 ? b - x : b - 1.0);
    }
    // ... and of c_i <= c_l, l < i.
    double last_gap(std::size_t l, std::size_t i) const {
        const double a = moneyness[l], x = moneyness[i];
        return a >= 1.0 ? 0.0 : (x <= 1.0 ? x - a : 1.0 - a);
    }
};

// Scaled value of an out-of-the-money option at s in eight lanes, and its derivative in s.
VOLSCEN_INLINE void lane_values(const double* __restrict s, double distance, double lo,
                                double* __restrict value, double* __restrict slope) {
    constexpr double root_half = coefficients::sqrt_half;
    VOLSCEN_LANES
    for (std::size_t l = 0; l < projection_lanes; ++l) {
        const double h = -distance / s[l];
        const double t = 0.5 * s[l];
        const double d1 = h + t;
        // As a square: the factors stay normal where exp(-d1^2/2) itself would lose digits.
        const double root = exponential(-0.25 * d1 * d1) * 0x1p100;
        const double gauss = root * root;
        const double near_term = erfcx_positive(absolute(d1) * root_half);
        const double far_term = erfcx_positive((t - h) * root_half);
        const double half = 0.5 * gauss;
        const double outside = half * (near_term - far_term);
        const double inside = value_scale - half * (near_term + far_term);
        value[l] = lo * (d1 > 0.0 ? inside : outside);
        slope[l] = lo * gauss * coefficients::inverse_sqrt_two_pi;
    }
}

}  // namespace volscen
