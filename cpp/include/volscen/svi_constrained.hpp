// The least-squares slice under Durrleman's condition: sequential quadratic programming.
//
// Each step is a Gauss-Newton step in (a + c, d, c, m, ln sigma) that keeps the linearised conditions at the
// local minima of g (a local reduction of the semi-infinite problem), damped until an l1 merit falls. The
// quadratic programme is solved through its dual, a small non-negative problem, with a little elasticity, so
// that it always has a solution.
#pragma once

#include <cmath>
#include <cstddef>

#include "volscen/dispatch.hpp"
#include "volscen/svi_butterfly.hpp"
#include "volscen/svi_search.hpp"

namespace volscen {

// Quotes of one slice; weights sum to 1, and the padding up to a multiple of svi_lanes has weight 0.
struct SviQuotes {
    std::size_t n;
    const double* __restrict k;
    const double* __restrict w;
    const double* __restrict weight;
    double* __restrict column[5];  // scratch: the Jacobian but for its first column, 1, and the residual
};

VOLSCEN_INLINE double svi_squared_error(const SviQuotes& q, const SviSlice& p) {
    double sum[svi_lanes] = {};
    for (std::size_t begin = 0; begin < q.n; begin += svi_lanes) {
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            const std::size_t i = begin + l;
            const double y = (q.k[i] - p.m) / p.sigma;
            const double r = p.a + p.d * y + p.c * __builtin_sqrt(y * y + 1.0) - q.w[i];
            sum[l] += q.weight[i] * r * r;
        }
    }
    return lane_sum(sum);
}

constexpr std::size_t svi_free = 5;  // a + c, d, c, m, ln(sigma)
constexpr std::size_t svi_conditions = 16;

// value >= 0, and its gradient.
struct SviCondition {
    double value, slope[svi_free];
};

struct SviProblem {
    double unit;    // of the error
    double floor;   // of the slice
    double scale;   // of total variance
    double margin;  // of g and lead
    double sigma_low, sigma_high, m_low, m_high;
    double damping_m, damping_sigma;  // infinite in effect where the shape is held
};

struct SviState {
    SviSlice p;
    double objective, violation;
    double h[svi_free][svi_free], g[svi_free];
    SviCondition condition[svi_conditions];
    std::size_t conditions;
};

VOLSCEN_INLINE void svi_add(SviState& s, const SviCondition& condition) {
    s.violation = condition.value < -s.violation ? -condition.value : s.violation;
    if (s.conditions < svi_conditions) {
        s.condition[s.conditions++] = condition;
    }
}

// g - margin or lead - margin at y as a condition.
VOLSCEN_INLINE SviCondition svi_condition_at(const SviSlice& p, const SviProblem& problem, double y,
                                             bool on_lead) {
    const double z = std::sqrt(y * y + 1.0), over_sigma = 1.0 / p.sigma;
    const double value = p.a + p.d * y + p.c * z;
    const bool low = value < problem.floor;
    const double w = low ? problem.floor : value;
    const double k = p.m + p.sigma * y;
    const double first = (p.d + p.c * (y / z)) * over_sigma;
    const double second = p.c / (z * z * z) * over_sigma * over_sigma;
    const double lead = 1.0 - k * first / (2.0 * w);
    const double lead_w = low ? 0.0 : k * first / (2.0 * w * w);
    const double lead_first = -k / (2.0 * w), lead_k = -first / (2.0 * w);
    double level, by_w, by_first, by_second, by_k;
    if (on_lead) {
        level = lead - 0.25 * std::fabs(first);
        by_w = lead_w;
        by_first = lead_first - (first < 0.0 ? -0.25 : 0.25);
        by_second = 0.0;
        by_k = lead_k;
    } else {
        level = lead * lead - 0.25 * first * first * (1.0 / w + 0.25) + 0.5 * second;
        by_w = 2.0 * lead * lead_w + (low ? 0.0 : 0.25 * first * first / (w * w));
        by_first = 2.0 * lead * lead_first - 0.5 * first * (1.0 / w + 0.25);
        by_second = 0.5;
        by_k = 2.0 * lead * lead_k;
    }
    SviCondition out;
    out.value = level - problem.margin;
    out.slope[0] = by_w;
    out.slope[1] = by_w * y + by_first * over_sigma;
    out.slope[2] = by_w * (z - 1.0) + by_first * (y / z) * over_sigma +
                   by_second * over_sigma * over_sigma / (z * z * z);
    out.slope[3] = by_k;
    out.slope[4] = -by_first * first - 2.0 * by_second * second + by_k * p.sigma * y;
    return out;
}

// Conditions at the local minima of one of the rows of a scan that are low enough to matter.
template <std::size_t N>
VOLSCEN_INLINE void svi_add_minima(SviState& s, const SviProblem& problem, const SviScan<N>& scan,
                                   bool on_lead) {
    const double* row = on_lead ? scan.lead : scan.g;
    const double high = on_lead ? 0.05 : 0.25;
    std::size_t found[N], count = 0;
    for (std::size_t j = 1; j + 1 < N; ++j) {
        found[count] = j;
        count += (row[j] < high) & (row[j] <= row[j - 1]) & (row[j] < row[j + 1]) ? 1 : 0;
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t j = found[i];
        // Vertex of the parabola through three points of equal distance in the index.
        const double rise = row[j + 1] - row[j - 1], bend = row[j + 1] - 2.0 * row[j] + row[j - 1];
        const double t = bend > 0.0 ? -0.5 * rise / bend : 0.0;
        const double y = scan.y[j] + 0.5 * t * (scan.y[j + 1] - scan.y[j - 1]) +
                         0.5 * t * t * (scan.y[j + 1] - 2.0 * scan.y[j] + scan.y[j - 1]);
        const SviCondition vertex = svi_condition_at(s.p, problem, y, on_lead);
        if (vertex.value <= row[j] - problem.margin) {
            svi_add(s, vertex);
        } else {
            svi_add(s, svi_condition_at(s.p, problem, scan.y[j], on_lead));
        }
    }
}

VOLSCEN_INLINE double weighted_product(const SviQuotes& q, const double* __restrict left,
                                       const double* __restrict right) {
    double sum[svi_lanes] = {};
    for (std::size_t begin = 0; begin < q.n; begin += svi_lanes) {
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            sum[l] += q.weight[begin + l] * left[begin + l] * right[begin + l];
        }
    }
    return lane_sum(sum);
}

VOLSCEN_INLINE double weighted_sum(const SviQuotes& q, const double* __restrict column) {
    double sum[svi_lanes] = {};
    for (std::size_t begin = 0; begin < q.n; begin += svi_lanes) {
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            sum[l] += q.weight[begin + l] * column[begin + l];
        }
    }
    return lane_sum(sum);
}

// Error, its Gauss-Newton equations and the conditions at a slice.
VOLSCEN_INLINE void svi_assess(const SviQuotes& q, const SviProblem& problem, const SviSlice& p,
                               SviState& out) {
    out.p = p;
    const double inverse = 1.0 / p.sigma, level = p.a + p.c;
    for (std::size_t i = 0; i < q.n; ++i) {
        const double y = (q.k[i] - p.m) * inverse;
        const double z = __builtin_sqrt(y * y + 1.0);
        const double bend = p.d + p.c * (y / z), rise = y * y / (z + 1.0);
        q.column[0][i] = y;
        q.column[1][i] = rise;
        q.column[2][i] = -bend * inverse;
        q.column[3][i] = -bend * y;
        q.column[4][i] = level + p.d * y + p.c * rise - q.w[i];
    }
    const double over = 1.0 / (problem.unit * problem.unit);
    out.h[0][0] = over;
    out.g[0] = over * weighted_sum(q, q.column[4]);
    for (std::size_t s = 1; s < svi_free; ++s) {
        out.h[s][0] = over * weighted_sum(q, q.column[s - 1]);
        out.g[s] = over * weighted_product(q, q.column[s - 1], q.column[4]);
        for (std::size_t t = 1; t <= s; ++t) {
            out.h[s][t] = over * weighted_product(q, q.column[s - 1], q.column[t - 1]);
        }
    }
    out.objective = 0.5 * over * weighted_product(q, q.column[4], q.column[4]);

    out.conditions = 0;
    out.violation = 0.0;
    const double root = svi_root(p);
    const double turn = 1.0 / at_least(1e-8 * p.c + 1e-300, root), over_scale = 1.0 / problem.scale;
    svi_add(out, {(p.a + root - problem.floor) * over_scale,
                  {over_scale, -p.d * turn * over_scale, (p.c * turn - 1.0) * over_scale, 0.0, 0.0}});
    for (const double side : {-1.0, 1.0}) {
        svi_add(out, {(p.c - side * p.d) * over_scale, {0.0, -side * over_scale, over_scale, 0.0, 0.0}});
        const double steep = (p.c + side * p.d) * inverse;
        if (steep > 0.5) {
            svi_add(out, {svi_slope_limit - 1e-5 - steep, {0.0, -side * inverse, -inverse, 0.0, steep}});
        }
    }
    if (p.sigma < 4.0 * problem.sigma_low) {
        svi_add(out, {std::log(p.sigma / problem.sigma_low), {0.0, 0.0, 0.0, 0.0, 1.0}});
    }
    if (p.sigma > 0.25 * problem.sigma_high) {
        svi_add(out, {std::log(problem.sigma_high / p.sigma), {0.0, 0.0, 0.0, 0.0, -1.0}});
    }
    const double over_range = 1.0 / (problem.m_high - problem.m_low);
    const double place = (p.m - problem.m_low) * over_range;
    if (place < 0.25) {
        svi_add(out, {place, {0.0, 0.0, 0.0, over_range, 0.0}});
    }
    if (place > 0.75) {
        svi_add(out, {1.0 - place, {0.0, 0.0, 0.0, -over_range, 0.0}});
    }
    SviScan<svi_coarse_points> scan;
    svi_scan(p, problem.floor, svi_points().coarse, scan);
    svi_add_minima(out, problem, scan, false);
    svi_add_minima(out, problem, scan, true);
    SviScan<svi_coarse_points> local;
    if (svi_scan_minimum(p, problem.floor, svi_points().coarse_local, local)) {
        svi_add_minima(out, problem, local, false);
        svi_add_minima(out, problem, local, true);
    }
}

// Cholesky factor of the leading n by n block of h in place of its lower half; false where it has none.
template <std::size_t N>
VOLSCEN_INLINE bool svi_cholesky(double (&h)[N][N], std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            double sum = h[i][j];
            for (std::size_t k = 0; k < j; ++k) {
                sum -= h[i][k] * h[j][k];
            }
            if (i == j) {
                if (!(sum > 0.0)) {
                    return false;
                }
                h[i][i] = std::sqrt(sum);
            } else {
                h[i][j] = sum / h[j][j];
            }
        }
    }
    return true;
}

// Smallest 1/2 x'Mx + r'x over x >= 0, one variable entering or leaving at a time (Lawson and Hanson 1974).
VOLSCEN_INLINE void svi_nonnegative(const double (&matrix)[svi_conditions][svi_conditions],
                                    const double (&r)[svi_conditions], std::size_t n,
                                    double (&x)[svi_conditions]) {
    bool inside[svi_conditions] = {};
    for (std::size_t j = 0; j < n; ++j) {
        x[j] = 0.0;
    }
    for (std::size_t round = 0; round < 3 * svi_conditions; ++round) {
        std::size_t enters = n;
        double steepest = 1e-12;
        for (std::size_t j = 0; j < n; ++j) {
            double slope = r[j];
            for (std::size_t i = 0; i < n; ++i) {
                slope += matrix[j][i] * x[i];
            }
            // In units in which each diagonal is 1.
            const double gain = -slope / std::sqrt(matrix[j][j]);
            if (!inside[j] && gain > steepest) {
                steepest = gain;
                enters = j;
            }
        }
        if (enters == n) {
            return;
        }
        inside[enters] = true;
        for (std::size_t trial = 0; trial < svi_conditions; ++trial) {
            std::size_t index[svi_conditions], size = 0;
            for (std::size_t j = 0; j < n; ++j) {
                if (inside[j]) {
                    index[size++] = j;
                }
            }
            double block[svi_conditions][svi_conditions], solution[svi_conditions];
            for (std::size_t i = 0; i < size; ++i) {
                for (std::size_t j = 0; j <= i; ++j) {
                    block[i][j] = matrix[index[i]][index[j]];
                }
            }
            if (!svi_cholesky(block, size)) {
                inside[enters] = false;
                return;
            }
            for (std::size_t i = 0; i < size; ++i) {
                double sum = -r[index[i]];
                for (std::size_t k = 0; k < i; ++k) {
                    sum -= block[i][k] * solution[k];
                }
                solution[i] = sum / block[i][i];
            }
            for (std::size_t i = size; i-- > 0;) {
                double sum = solution[i];
                for (std::size_t k = i + 1; k < size; ++k) {
                    sum -= block[k][i] * solution[k];
                }
                solution[i] = sum / block[i][i];
            }
            double share = 1.0;
            std::size_t leaves = size;
            for (std::size_t i = 0; i < size; ++i) {
                if (solution[i] <= 0.0) {
                    const double old = x[index[i]];
                    const double here = old / (old - solution[i]);
                    if (leaves == size || here < share) {
                        share = here;
                        leaves = i;
                    }
                }
            }
            for (std::size_t i = 0; i < size; ++i) {
                x[index[i]] += share * (solution[i] - x[index[i]]);
            }
            if (leaves == size) {
                break;
            }
            x[index[leaves]] = 0.0;
            inside[index[leaves]] = false;
        }
    }
}

// The damped step under the linearised conditions; the sum of their multipliers comes back in `force`.
VOLSCEN_INLINE bool svi_step(const SviState& s, const double (&damping)[svi_free], double (&step)[svi_free],
                             double& force) {
    double l[svi_free][svi_free];
    for (std::size_t i = 0; i < svi_free; ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            l[i][j] = s.h[i][j];
        }
        l[i][i] += damping[i] * l[i][i] + 1e-300;
    }
    if (!svi_cholesky(l, svi_free)) {
        return false;
    }
    double g[svi_free];
    for (std::size_t i = 0; i < svi_free; ++i) {
        double sum = s.g[i];
        for (std::size_t k = 0; k < i; ++k) {
            sum -= l[i][k] * g[k];
        }
        g[i] = sum / l[i][i];
    }
    double b[svi_conditions][svi_free], r[svi_conditions], x[svi_conditions];
    double matrix[svi_conditions][svi_conditions];
    for (std::size_t c = 0; c < s.conditions; ++c) {
        r[c] = s.condition[c].value;
        for (std::size_t i = 0; i < svi_free; ++i) {
            double sum = s.condition[c].slope[i];
            for (std::size_t k = 0; k < i; ++k) {
                sum -= l[i][k] * b[c][k];
            }
            b[c][i] = sum / l[i][i];
            r[c] -= b[c][i] * g[i];
        }
        for (std::size_t e = 0; e <= c; ++e) {
            double sum = 0.0;
            for (std::size_t i = 0; i < svi_free; ++i) {
                sum += b[c][i] * b[e][i];
            }
            matrix[c][e] = sum;
            matrix[e][c] = sum;
        }
        matrix[c][c] = matrix[c][c] * (1.0 + 1e-9) + 1e-300;
    }
    svi_nonnegative(matrix, r, s.conditions, x);
    force = 0.0;
    for (std::size_t i = 0; i < svi_free; ++i) {
        step[i] = -g[i];
    }
    for (std::size_t c = 0; c < s.conditions; ++c) {
        force += x[c];
        for (std::size_t i = 0; i < svi_free; ++i) {
            step[i] += b[c][i] * x[c];
        }
    }
    for (std::size_t i = svi_free; i-- > 0;) {
        double sum = step[i];
        for (std::size_t k = i + 1; k < svi_free; ++k) {
            sum -= l[k][i] * step[k];
        }
        step[i] = sum / l[i][i];
    }
    return true;
}

VOLSCEN_INLINE SviSlice svi_moved(const SviSlice& p, const double (&step)[svi_free], double share) {
    const double c = at_least(0.0, p.c + share * step[2]);
    return {p.a + p.c + share * step[0] - c, at_most(c, at_least(-c, p.d + share * step[1])), c,
            p.m + share * step[3], p.sigma * std::exp(share * step[4])};
}

// The part of the way from the slice to one that obeys the conditions at which they are first obeyed.
VOLSCEN_INLINE SviSlice svi_pulled(const SviSlice& p, double level, double floor) {
    double below = 0.0, above = 1.0;
    SviSlice best = {level, 0.0, 0.0, p.m, p.sigma};
    for (int i = 0; i < 40 && above - below > 1e-7; ++i) {
        // Small pulls are the likely ones.
        const double t = i < 6 && below == 0.0 ? std::pow(10.0, i - 7) : 0.5 * (below + above);
        const SviSlice trial = {p.a + t * (level - p.a), (1.0 - t) * p.d, (1.0 - t) * p.c, p.m, p.sigma};
        if (butterfly_free(trial, floor)) {
            above = t;
            best = trial;
            if (i < 6) {
                i = 6;
            }
        } else {
            below = t;
        }
    }
    return best;
}

// Damping that holds a parameter where it is.
constexpr double svi_held = 1e15;

// A fit under way.
struct SviRun {
    SviState now;
    double damping, price;
    SviSlice best;  // of those that obeyed the conditions
    double lowest;
    bool found, done;
};

VOLSCEN_INLINE double svi_merit(const SviRun& run) {
    return run.found ? run.lowest : run.now.objective + at_least(1e3, run.price) * run.now.violation;
}

VOLSCEN_INLINE void svi_keep(SviRun& run, const SviProblem& problem) {
    if (run.now.violation < 0.5 * problem.margin && (!run.found || run.now.objective < run.lowest)) {
        run.best = run.now.p;
        run.lowest = run.now.objective;
        run.found = true;
    }
}

VOLSCEN_INLINE void svi_begin(SviRun& run, const SviQuotes& q, const SviSlice& start,
                              const SviProblem& problem) {
    svi_assess(q, problem, start, run.now);
    run.damping = 1e-4;
    run.price = 1.0;
    run.best = start;
    run.lowest = 0.0;
    run.found = false;
    run.done = false;
    svi_keep(run, problem);
}

// Up to that many steps towards the least-squares slice under Durrleman's condition. After each step the
// linear parameters make one more of their own, which follows the curved valleys of (m, sigma).
VOLSCEN_INLINE void svi_advance(SviRun& run, const SviQuotes& q, const SviProblem& problem, int steps) {
    SviState trial;
    for (int i = 0; i < steps && !run.done; ++i) {
        const double d = run.damping;
        double step[svi_free], force;
        if (!svi_step(run.now, {d, d, d, d + problem.damping_m, d + problem.damping_sigma}, step, force)) {
            run.damping = at_least(1e-8, 10.0 * d);
            continue;
        }
        run.price = at_least(0.5 * run.price, 1.5 * force + 1e-3);
        const double far = std::fabs(step[3]) / (0.25 * (problem.m_high - problem.m_low));
        const double longest = at_least(std::fabs(step[4]), far);
        svi_assess(q, problem, svi_moved(run.now.p, step, longest > 1.0 ? 1.0 / longest : 1.0), trial);
        if (svi_step(trial, {d, d, d, svi_held, svi_held}, step, force)) {
            SviState again;
            svi_assess(q, problem, svi_moved(trial.p, step, 1.0), again);
            if (again.objective + run.price * again.violation <
                trial.objective + run.price * trial.violation) {
                trial = again;
            }
        }
        const double before = run.now.objective + run.price * run.now.violation;
        const double after = trial.objective + run.price * trial.violation;
        if (after < before) {
            run.now = trial;
            run.damping = at_least(1e-10, 0.1 * run.damping);
            svi_keep(run, problem);
            run.done = before - after < 1e-6 * before && run.now.violation < 0.5 * problem.margin;
        } else {
            run.damping *= 10.0;
            run.done = run.damping > 1e8;
        }
    }
}

}  // namespace volscen
