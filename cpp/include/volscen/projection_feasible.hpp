// Feasibility of surfaces, eight at once: whether all conditions are kept with a margin, and the nearest
// feasible surface in closed form, which needs no programme: the greatest convex function below each row of
// prices with slopes in [-1, 0], then the running maximum in tau, which is convex again.
#pragma once

#include <cmath>
#include <cstddef>

#include "volscen/projection_grid.hpp"

namespace volscen {

VOLSCEN_INLINE void surface_values(const ProjectionGrid& grid, const double* s, double* value,
                                   double* slope) {
    constexpr std::size_t W = projection_lanes;
    for (std::size_t n = 0; n < grid.cells; ++n) {
        const std::size_t i = n % grid.columns;
        lane_values(s + n * W, grid.distance[i], grid.lo[i], value + n * W, slope + n * W);
    }
}

// The bound on v_n from its neighbours, less what the penalty's own rounding may take (times `share`).
VOLSCEN_INLINE void row_bound(const ProjectionGrid& grid, const double* value, std::size_t n, double share,
                              double* __restrict bound) {
    constexpr std::size_t W = projection_lanes;
    const std::size_t i = n % grid.columns;
    const double* below = i == 0 ? value + n * W : value + (n - 1) * W;
    const double* above = i + 1 == grid.columns ? value + n * W : value + (n + 1) * W;
    const double keep = 1.0 - share * 1e-12;
    const double spare = share * ((grid.gap[i] > 0.0 ? 3e-15 * value_scale : 0.0) + value_grain);
    VOLSCEN_LANES
    for (std::size_t l = 0; l < W; ++l) {
        const double line = grid.left[i] * below[l] + grid.right[i] * above[l] + grid.gap[i];
        const double tight = line * keep - spare;
        bound[l] = tight > value_dust ? tight : value_dust;
    }
}

// Whether s keeps all conditions with half the margin of the linearised ones; per lane.
VOLSCEN_INLINE void check_margins(const ProjectionGrid& grid, double rounding, const double* s,
                                  const double* value, const double* slope, double* __restrict kept) {
    constexpr std::size_t W = projection_lanes;
    const double half = 0.5 * rounding;
    VOLSCEN_LANES
    for (std::size_t l = 0; l < W; ++l) {
        kept[l] = 1.0;
    }
    for (std::size_t n = 0; n < grid.cells; ++n) {
        const std::size_t i = n % grid.columns;
        const std::size_t below = i == 0 ? n : n - 1, above = i + 1 == grid.columns ? n : n + 1;
        double bound[W];
        row_bound(grid, value, n, 0.5, bound);
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const double noise = slope[n * W + l] * s[n * W + l] +
                                 grid.left[i] * slope[below * W + l] * s[below * W + l] +
                                 grid.right[i] * slope[above * W + l] * s[above * W + l];
            const double v = value[n * W + l];
            const bool fine = (v + half * noise <= bound[l]) | (v < value_dust);
            kept[l] = fine ? kept[l] : 0.0;
        }
    }
    for (std::size_t n = 0; n + grid.columns < grid.cells; ++n) {
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const bool fine = s[(n + grid.columns) * W + l] >= (1.0 + half) * s[n * W + l];
            kept[l] = fine ? kept[l] : 0.0;
        }
    }
}

// Lowers every value of a row to the greatest convex function below it with slopes in [-1, 0].
VOLSCEN_INLINE void envelope(const ProjectionGrid& grid, const double* __restrict value,
                             double* __restrict bound) {
    constexpr std::size_t W = projection_lanes;
    const std::size_t M = grid.columns;
    for (std::size_t i = 0; i < M * W; ++i) {
        bound[i] = value[i];
    }
    for (std::size_t a = 0; a < M; ++a) {
        for (std::size_t b = a + 1; b < M; ++b) {
            const double up = grid.last_gap(a, b) * value_scale, down = grid.first_gap(a, b) * value_scale;
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                const double later = value[a * W + l] + up, earlier = value[b * W + l] + down;
                bound[b * W + l] = later < bound[b * W + l] ? later : bound[b * W + l];
                bound[a * W + l] = earlier < bound[a * W + l] ? earlier : bound[a * W + l];
            }
            const double span = grid.moneyness[b] - grid.moneyness[a];
            for (std::size_t i = a + 1; i < b; ++i) {
                const double wa = (grid.moneyness[b] - grid.moneyness[i]) / span;
                const double wb = (grid.moneyness[i] - grid.moneyness[a]) / span;
                const double gap = grid.chord_gap(a, i, b) * value_scale;
                VOLSCEN_LANES
                for (std::size_t l = 0; l < W; ++l) {
                    const double line = wa * value[a * W + l] + wb * value[b * W + l] + gap;
                    bound[i * W + l] = line < bound[i * W + l] ? line : bound[i * W + l];
                }
            }
        }
    }
}

// Lowers s where the value is above `wanted`: Newton in 1/s^2, in which log v is convex below the money's far
// side, so that iterates come down to the root without passing it.
VOLSCEN_INLINE void lower_to(double distance, double lo, const double* __restrict wanted,
                             double* __restrict s, double* __restrict value, double* __restrict slope) {
    constexpr std::size_t W = projection_lanes;
    double goal[W], open[W], any = 0.0;
    VOLSCEN_LANES
    for (std::size_t l = 0; l < W; ++l) {
        open[l] = wanted[l] < value[l] ? 1.0 : 0.0;
        any += open[l];
        goal[l] = logarithm(wanted[l] > value_dust ? wanted[l] : 0.1 * value_dust);
    }
    for (int iteration = 0; iteration < 60 && any > 0.0; ++iteration) {
        any = 0.0;
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const double v = value[l] > 1e-300 ? value[l] : 1e-300;
            const double excess = logarithm(v) - goal[l];
            const double elasticity = slope[l] * s[l] / v;
            double ratio = 1.0 + 2.0 * excess / (elasticity > 1e-9 ? elasticity : 1e-9);
            ratio = ratio > 4.0 ? 4.0 : (ratio < 0.25 ? 0.25 : ratio);
            open[l] = absolute(ratio - 1.0) > 1e-12 ? open[l] : 0.0;
            s[l] = open[l] > 0.0 ? s[l] / std::sqrt(ratio) : s[l];
            any += open[l];
        }
        lane_values(s, distance, lo, value, slope);
    }
}

// Makes s feasible, without margin, where `wanted` is set: envelopes along moneyness, then running maxima in
// tau.
VOLSCEN_INLINE void restore(const ProjectionGrid& grid, const double* wanted, double* s, double* value,
                            double* slope, double* bound) {
    constexpr std::size_t W = projection_lanes;
    const std::size_t M = grid.columns;
    for (std::size_t j = 0; j < grid.rows; ++j) {
        const std::size_t first = j * M * W;
        envelope(grid, value + first, bound);
        for (std::size_t i = 0; i < M; ++i) {
            const std::size_t at = first + i * W;
            double limit[W];
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                limit[l] = wanted[l] > 0.0 ? bound[i * W + l] : value[at + l];
            }
            lower_to(grid.distance[i], grid.lo[i], limit, s + at, value + at, slope + at);
        }
    }
    for (std::size_t n = M; n < grid.cells; ++n) {
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const std::size_t here = n * W + l, before = here - M * W;
            const bool raise = (wanted[l] > 0.0) & (s[before] > s[here]);
            s[here] = raise ? s[before] : s[here];
            value[here] = raise ? value[before] : value[here];
            slope[here] = raise ? slope[before] : slope[here];
        }
    }
}

}  // namespace volscen
