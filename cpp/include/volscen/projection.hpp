// Projection of implied-volatility surfaces onto the surfaces without static arbitrage on their grid:
//     minimise sum_n weight_n (s_n - s0_n)^2 subject to the conditions of projection_grid.hpp,
// by sequential quadratic programming in s = sigma sqrt(tau), where the objective is quadratic and the
// calendar conditions are linear as they stand. A row condition v_n <= B is linearised in log v: at an active
// condition this is the first-order condition of the prices, and in deep wings, where a value is exp(-k^2/(2
// s^2)), it stays well scaled. The Lagrangian's second derivatives in prices are diagonal, because every
// value depends on its own s alone; they enter the programme's Hessian where they leave it positive.
//
// Every iterate is made feasible: the greatest convex function below a row's prices with slopes in [-1, 0],
// then the running maximum over tau, which is convex again. So each programme has a feasible point, the
// objective can be compared between iterates, and far-off starts do no harm. Steps are damped after a
// rejection (Levenberg).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "volscen/projection_feasible.hpp"
#include "volscen/projection_grid.hpp"
#include "volscen/projection_qp.hpp"

namespace volscen {

enum class ProjectionStatus : std::int8_t {
    free = 0,
    projected = 1,
    not_converged = 2,
    failed = 3,
    invalid = 4
};

struct ProjectionOptions {
    double rounding;    // relative error of a vol as stored, which the result must bear
    double vega_floor;  // of weights, relative to the surface's largest vega
    int iterations;     // quadratic programmes at most
};

struct ProjectionTask {
    const ProjectionGrid* grid;
    ProjectionOptions options;
    const double* vol;   // one group of surfaces: lane l's cell n at [n * lanes + l]
    double* projected;   // likewise, vols
    double* converged;   // per lane, 1 where the limits were met
    double* iterations;  // per lane, programmes solved
};

constexpr double last_programmes = 8.0;  // kept for finding margins where the minimum was not found
// A lane leaves the minimisation for margins alone: the objective has come to rest (within 1e-4, three times
// in a row, with a step that is small against the distance), or it will not.
constexpr double settled_enough = 1.0, unsettled = 2.0;
constexpr double largest_deviation = 12.0;  // sigma sqrt(tau) beyond which prices no longer tell vols apart

struct ProjectionWork {
    static constexpr std::size_t W = projection_lanes;

    ProjectionQp qp;
    LaneArray start, target, s, weight, trial, value, slope, trial_value, trial_slope, pull, bound;

    explicit ProjectionWork(const ProjectionGrid& grid) : qp(grid.cells, grid.columns, 1) {
        for (LaneArray* a :
             {&start, &target, &s, &weight, &trial, &value, &slope, &trial_value, &trial_slope, &bound}) {
            a->assign((grid.cells + 2) * W, 0.0);
        }
        pull.assign((grid.cells + 2 * qp.margin) * W, 0.0);
    }
};

// ------------------------------------------------------------------------------------------- programmes
// Half the weighted squared distance from the target.
VOLSCEN_INLINE void distance_from(const ProjectionGrid& grid, const double* weight, const double* s,
                                  const double* target, double* __restrict out) {
    constexpr std::size_t W = projection_lanes;
    VOLSCEN_LANES
    for (std::size_t l = 0; l < W; ++l) {
        out[l] = 0.0;
    }
    for (std::size_t n = 0; n < grid.cells; ++n) {
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const double d = s[n * W + l] - target[n * W + l];
            out[l] += 0.5 * weight[n * W + l] * d * d;
        }
    }
}

// Programme of the step x, s -> s (1 + x). Multipliers of the last programme give the curvature of the
// conditions; `follow` is zero in lanes without one, and `damping` is Levenberg's.
VOLSCEN_INLINE void linearise(const ProjectionGrid& grid, double rounding, ProjectionWork& work,
                              const double* follow, const double* damping) {
    constexpr std::size_t W = projection_lanes;
    ProjectionQp& qp = work.qp;
    Conditions& row = qp.families.front();
    Conditions& calendar = qp.families.back();
    double* pull = work.pull.data() + qp.margin * W;
    std::fill(work.pull.begin(), work.pull.end(), 0.0);
    add_transposed(row, row.multiplier.data(), pull);
    for (std::size_t n = 0; n < grid.cells; ++n) {
        const double k2 = grid.distance[n % grid.columns] * grid.distance[n % grid.columns];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const std::size_t i = n * W + l;
            const double s2 = work.s[i] * work.s[i];
            const double own = work.weight[i] * s2;
            const double bent = own - follow[l] * pull[i] * (k2 / s2 - 0.25 * s2);
            const double least = 0.2 * own;
            qp.hessian[i] = (bent > least ? bent : least) + damping[l] * own;
            qp.gradient[i] = work.weight[i] * work.s[i] * (work.s[i] - work.target[i]);
        }
    }
    for (std::size_t n = 0; n < grid.cells; ++n) {
        const std::size_t i = n % grid.columns;
        const std::size_t below = i == 0 ? n : n - 1, above = i + 1 == grid.columns ? n : n + 1;
        double bound[W];
        row_bound(grid, work.value.data(), n, 1.0, bound);
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const std::size_t c = n * W + l;
            const double v = work.value[c];
            const bool counts = v >= value_dust;
            const double safe = counts ? v : 1.0;
            const double elasticity = counts ? work.slope[c] * work.s[c] / safe : 1.0;
            // By how much s may grow until v meets its bound, and the derivative of that: with e the
            // elasticity of v, which falls like 1/s^2 towards 1, log v grows by log(1 + 2 g u...)/... on the
            // way (see below).
            const double g = (logarithm(bound[l]) - logarithm(safe)) / elasticity;
            const double bend = elasticity > 3.003 ? (elasticity - 3.0) / elasticity : 0.001;
            const double left_over = 1.0 - 2.0 * bend * g;
            const double base = left_over > 0.2 ? left_over : 0.2;
            const double growth = exponential(-logarithm(base) / (2.0 * bend));
            const double rate = left_over > 0.2 ? growth / base : growth;
            // A bound at the dust does not move with the neighbours.
            const double share = (counts & (bound[l] > value_dust)) ? rate / (bound[l] * elasticity) : 0.0;
            const double left = grid.left[i] * work.slope[below * W + l] * work.s[below * W + l] * share;
            const double right = grid.right[i] * work.slope[above * W + l] * work.s[above * W + l] * share;
            row.left[c] = left;
            row.right[c] = right;
            row.middle[c] = counts ? -1.0 : 0.0;
            row.bound[c] = counts ? rounding * (1.0 + left + right) - (growth - 1.0) : -1.0;
        }
    }
    for (std::size_t c = 0; c < calendar.count * W; ++c) {
        const double before = (1.0 + rounding) * (work.s[c] / work.s[c + grid.columns * W]);
        calendar.left[c] = 0.0;
        calendar.middle[c] = -before;
        calendar.right[c] = 1.0;
        calendar.bound[c] = before - 1.0;
    }
}

// Weights (vega/sqrt(tau))^2 of the starting vols, with vegas below `floor` times the largest raised to it,
// normalised so that the largest weight times s^2 is 1.
VOLSCEN_INLINE void vega_weights(const ProjectionGrid& grid, double floor, ProjectionWork& work) {
    constexpr std::size_t W = projection_lanes;
    double top[W] = {}, scale[W] = {};
    for (std::size_t n = 0; n < grid.cells; ++n) {
        const double root = grid.root_tau[n / grid.columns];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const double vega = work.slope[n * W + l] * root;
            top[l] = vega > top[l] ? vega : top[l];
        }
    }
    for (std::size_t n = 0; n < grid.cells; ++n) {
        const double inverse = 1.0 / grid.root_tau[n / grid.columns];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const std::size_t i = n * W + l;
            const double least = floor * top[l] * inverse;
            const double density = (work.slope[i] > least ? work.slope[i] : least) / value_scale;
            work.weight[i] = density * density;
            const double size = work.weight[i] * work.start[i] * work.start[i];
            scale[l] = size > scale[l] ? size : scale[l];
        }
    }
    for (std::size_t n = 0; n < grid.cells; ++n) {
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            work.weight[n * W + l] /= scale[l];
        }
    }
}

struct ProjectionBody {
    static VOLSCEN_INLINE void run(const ProjectionTask* task, ProjectionWork* scratch) {
        constexpr std::size_t W = projection_lanes;
        const ProjectionGrid& grid = *task->grid;
        ProjectionWork& work = *scratch;
        const double rounding = task->options.rounding;
        const std::size_t size = grid.cells * W;
        double active[W], follow[W], damping[W], distance[W], rescue[W], stalled[W], wanted[W], solved[W];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            active[l] = 1.0;
            follow[l] = damping[l] = rescue[l] = stalled[l] = 0.0;
            task->converged[l] = task->iterations[l] = 0.0;
            wanted[l] = 1.0;
        }
        for (std::size_t i = 0; i < size; ++i) {
            work.start[i] = task->vol[i] * grid.root_tau[i / (grid.columns * W)];
            work.start[i] = work.start[i] < largest_deviation ? work.start[i] : largest_deviation;
            work.target[i] = work.s[i] = work.start[i];
        }
        surface_values(grid, work.s.data(), work.value.data(), work.slope.data());
        vega_weights(grid, task->options.vega_floor, work);
        restore(grid, wanted, work.s.data(), work.value.data(), work.slope.data(), work.bound.data());
        distance_from(grid, work.weight.data(), work.s.data(), work.target.data(), distance);
        for (int iteration = 0; iteration < task->options.iterations; ++iteration) {
            double any = 0.0;
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                any += active[l];
            }
            if (!(any > 0.0)) {
                break;
            }
            linearise(grid, rounding, work, follow, damping);
            double scale[W];
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                scale[l] = distance[l] > 1e-10 ? distance[l] : 1e-10;
            }
            QpLimits limits;
            limits.gap = iteration == 0 ? 1e-4 : limits.gap;  // the first programme only points the way
            solve_qp(work.qp, limits, scale, active, 1e-2, 1e-5, solved);
            advance(task, work, solved, active, follow, damping, distance, rescue, stalled);
        }
        for (std::size_t i = 0; i < size; ++i) {
            task->projected[i] = work.s[i] / grid.root_tau[i / (grid.columns * W)];
        }
    }

    // Tries the programme's step in every active lane and decides: accept, damp, rescue or finish.
    static VOLSCEN_INLINE void advance(const ProjectionTask* task, ProjectionWork& work, const double* solved,
                                       double* active, double* follow, double* damping, double* distance,
                                       double* rescue, double* stalled) {
        constexpr std::size_t W = projection_lanes;
        const ProjectionGrid& grid = *task->grid;
        const std::size_t size = grid.cells * W;
        const double* x = work.qp.x.data() + work.qp.margin * W;
        double longest[W] = {}, length[W], kept[W], wanted[W], fresh[W], moved[W] = {};
        for (std::size_t i = 0; i < size; ++i) {
            // Up to 1.5 times s more, or .6 times less.
            const double step = x[i] > 0.0 ? x[i] * (1.0 / 1.5) : x[i] * (-1.0 / 0.6);
            longest[i % W] = step > longest[i % W] ? step : longest[i % W];
        }
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            length[l] = longest[l] > 1.0 ? 1.0 / longest[l] : 1.0;
        }
        for (std::size_t i = 0; i < size; ++i) {
            const double step = active[i % W] > 0.0 ? length[i % W] * x[i] : 0.0;
            work.trial[i] = work.s[i] * (1.0 + step);
            moved[i % W] += work.weight[i] * work.s[i] * work.s[i] * step * step;
        }
        surface_values(grid, work.trial.data(), work.trial_value.data(), work.trial_slope.data());
        check_margins(grid, task->options.rounding, work.trial.data(), work.trial_value.data(),
                      work.trial_slope.data(), kept);
        double repairs = 0.0;
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            // Lanes in rescue look for margins only, and restoring would take them away.
            wanted[l] = (active[l] > 0.0) & !(kept[l] > 0.0) & !(rescue[l] > 0.0) ? 1.0 : 0.0;
            repairs += wanted[l];
        }
        if (repairs > 0.0) {
            restore(grid, wanted, work.trial.data(), work.trial_value.data(), work.trial_slope.data(),
                    work.bound.data());
        }
        distance_from(grid, work.weight.data(), work.trial.data(), work.target.data(), fresh);
        double accepted[W];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const bool better = (fresh[l] <= distance[l] * (1.0 + 1e-4) + 1e-20) | (rescue[l] > 0.0);
            const bool take = (active[l] > 0.0) & better;
            const bool settled = moved[l] <= 1e-9 * fresh[l] + 1e-18;
            const bool done = take & (kept[l] > 0.0) & (solved[l] > 0.0) & !(length[l] < 1.0) &
                              (settled | (rescue[l] > 0.0));
            accepted[l] = take ? 1.0 : 0.0;
            task->iterations[l] += active[l];
            task->converged[l] = done & !(rescue[l] == unsettled) ? 1.0 : task->converged[l];
            const bool still = take & (absolute(fresh[l] - distance[l]) <= 1e-4 * distance[l]) &
                               (moved[l] <= 1e-2 * fresh[l]);
            stalled[l] = still ? stalled[l] + 1.0 : 0.0;
            follow[l] = take & (solved[l] > 0.0) ? 1.0 : follow[l];
            const double eased = damping[l] > 0.1 ? 0.25 * damping[l] : 0.0;
            const double raised = damping[l] > 0.0 ? 8.0 * damping[l] : 1.0;
            damping[l] = take ? eased : (active[l] > 0.0 ? raised : damping[l]);
            distance[l] = take ? fresh[l] : distance[l];
            const bool late = task->iterations[l] >= task->options.iterations - last_programmes;
            const bool enough = stalled[l] >= 3.0;
            const bool leave = (active[l] > 0.0) & !done & (enough | late | (damping[l] > 1e5));
            rescue[l] = leave & !(rescue[l] > 0.0) ? (enough ? settled_enough : unsettled) : rescue[l];
            active[l] = done ? 0.0 : active[l];
        }
        for (std::size_t i = 0; i < size; ++i) {
            const bool take = accepted[i % W] > 0.0;
            work.s[i] = take ? work.trial[i] : work.s[i];
            work.value[i] = take ? work.trial_value[i] : work.value[i];
            work.slope[i] = take ? work.trial_slope[i] : work.slope[i];
        }
        // A lane in rescue looks for the nearest surface to where it stands that keeps the margins.
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            if (rescue[l] > 0.0 && active[l] > 0.0) {
                for (std::size_t n = 0; n < grid.cells; ++n) {
                    work.target[n * W + l] = work.s[n * W + l];
                }
                damping[l] = 0.0;
                follow[l] = 0.0;
                distance[l] = 0.0;
            }
        }
    }
};

using ProjectionFunction = void (*)(const ProjectionTask*, ProjectionWork*);
ProjectionFunction projection();

}  // namespace volscen
