// Least squares under smooth inequalities by a primal-dual interior-point method whose points obey every
// inequality strictly, so that what it returns obeys them whenever it stops.
//
// S. J. Wright (1997), "Primal-dual interior-point methods"; A. Waechter and L. T. Biegler (2006) for the
// step rules. The Gauss-Newton matrix with the inequalities added is factored by rows of varying length
// (skyline), which suits both a chain of slices and a few parameters shared by all.
#pragma once

#include <cmath>
#include <cstddef>

#include "volscen/dispatch.hpp"

namespace volscen {

constexpr std::size_t ssvi_row_length = 6;

// One inequality value >= 0 and its gradient at the current point; z is its multiplier.
struct SsviRow {
    double value, z;
    std::size_t count;
    std::size_t index[ssvi_row_length];  // increasing
    double slope[ssvi_row_length];
};

// A symmetric matrix by rows: row i holds columns first[i]..i at a[start[i]..].
struct SsviSkyline {
    std::size_t n;
    const std::size_t* first;
    const std::size_t* start;
    double* a;

    VOLSCEN_INLINE double* row(std::size_t i) const { return a + start[i] - first[i]; }
};

// Cholesky factor in place; false where the matrix is not positive definite.
VOLSCEN_INLINE bool ssvi_factor(const SsviSkyline& m) {
    for (std::size_t i = 0; i < m.n; ++i) {
        double* ri = m.row(i);
        for (std::size_t j = m.first[i]; j < i; ++j) {
            const double* rj = m.row(j);
            double sum = ri[j];
            for (std::size_t k = m.first[i] > m.first[j] ? m.first[i] : m.first[j]; k < j; ++k) {
                sum -= ri[k] * rj[k];
            }
            ri[j] = sum * rj[j];
        }
        double sum = ri[i];
        for (std::size_t k = m.first[i]; k < i; ++k) {
            sum -= ri[k] * ri[k];
        }
        if (!(sum > 1e-14 * ri[i])) {
            return false;
        }
        ri[i] = 1.0 / __builtin_sqrt(sum);  // the diagonal is kept inverted
    }
    return true;
}

VOLSCEN_INLINE void ssvi_solve(const SsviSkyline& m, double* x) {
    for (std::size_t i = 0; i < m.n; ++i) {
        const double* ri = m.row(i);
        double sum = x[i];
        for (std::size_t k = m.first[i]; k < i; ++k) {
            sum -= ri[k] * x[k];
        }
        x[i] = sum * ri[i];
    }
    for (std::size_t i = m.n; i-- > 0;) {
        const double* ri = m.row(i);
        x[i] *= ri[i];
        for (std::size_t k = m.first[i]; k < i; ++k) {
            x[k] -= ri[k] * x[i];
        }
    }
}

// Memory of the solver: arrays of n, of the skyline's size, and of the number of inequalities.
struct SsviWork {
    double *x, *trial, *g, *step;
    double *hessian, *matrix;
    std::size_t size;  // of the skyline
    const std::size_t *first, *start;
    SsviRow* row;
    double* value;  // of the inequalities at the trial point
};

// Sum of logarithms, several to a call of log: values are within 1e-60..1e60.
VOLSCEN_INLINE double ssvi_log_sum(const double* value, std::size_t n) {
    double sum = 0.0, product = 1.0;
    for (std::size_t i = 0; i < n; ++i) {
        product *= value[i];
        if (product < 1e-200 || product > 1e200 || i + 1 == n) {
            sum += std::log(product);
            product = 1.0;
        }
    }
    return sum;
}

// Minimises model.objective from the strictly feasible work.x; true where it converged. A model has n and m,
// objective(x), linearise(x, g, skyline) which adds the Gauss-Newton matrix and returns the objective,
// values(x, value) and rows(x, row).
template <class Model>
VOLSCEN_INLINE bool ssvi_minimise(const Model& model, const SsviWork& work) {
    const std::size_t n = model.n, m = model.m;
    const SsviSkyline hessian = {n, work.first, work.start, work.hessian};
    const SsviSkyline matrix = {n, work.first, work.start, work.matrix};
    SsviRow* row = work.row;
    double* value = work.value;
    const double inverse_m = 1.0 / static_cast<double>(m);
    double damping = 1e-4;
    double objective = model.linearise(work.x, work.g, hessian);
    model.rows(work.x, row);
    double mu = std::fmax(0.1 * objective * inverse_m, 1e-26);
    for (std::size_t j = 0; j < m; ++j) {
        row[j].z = mu / row[j].value;
        value[j] = row[j].value;
    }
    double barrier = ssvi_log_sum(value, m);
    for (int iteration = 0; iteration < 200; ++iteration) {
        for (std::size_t i = 0; i < work.size; ++i) {
            work.matrix[i] = work.hessian[i];
        }
        for (std::size_t i = 0; i < n; ++i) {
            double& diagonal = matrix.row(i)[i];
            diagonal += damping * diagonal;
            work.step[i] = -work.g[i];
        }
        for (std::size_t j = 0; j < m; ++j) {
            const SsviRow& r = row[j];
            const double inverse = 1.0 / r.value, pull = r.z * inverse;
            for (std::size_t a = 0; a < r.count; ++a) {
                double* line = matrix.row(r.index[a]);
                const double scaled = pull * r.slope[a];
                work.step[r.index[a]] += mu * inverse * r.slope[a];
                for (std::size_t b = 0; b <= a; ++b) {
                    line[r.index[b]] += scaled * r.slope[b];
                }
            }
        }
        double slope = 0.0;  // of the barrier function along the step
        for (std::size_t i = 0; i < n; ++i) {
            work.trial[i] = work.step[i];
        }
        if (!ssvi_factor(matrix)) {
            damping = std::fmax(10.0 * damping, 1e-6);
            if (damping > 1e12) {
                return false;
            }
            continue;
        }
        ssvi_solve(matrix, work.step);
        for (std::size_t i = 0; i < n; ++i) {
            slope -= work.trial[i] * work.step[i];
        }
        // Longest step that leaves a part of each inequality.
        const double keep = 0.01;
        double length = 1.0, dual = 1.0;
        for (std::size_t j = 0; j < m; ++j) {
            const SsviRow& r = row[j];
            double change = 0.0;
            for (std::size_t a = 0; a < r.count; ++a) {
                change += r.slope[a] * work.step[r.index[a]];
            }
            if (change < 0.0) {
                length = std::fmin(length, (1.0 - keep) * r.value / -change);
            }
            const double dz = mu / r.value - r.z - r.z / r.value * change;
            if (dz < 0.0) {
                dual = std::fmin(dual, (1.0 - keep) * r.z / -dz);
            }
        }
        bool better = false;
        double trial_objective = 0.0, trial_barrier = 0.0;
        for (int attempt = 0; attempt < 12; ++attempt, length *= 0.5) {
            for (std::size_t i = 0; i < n; ++i) {
                work.trial[i] = work.x[i] + length * work.step[i];
            }
            model.values(work.trial, value);
            bool inside = true;
            for (std::size_t j = 0; j < m; ++j) {
                inside = inside && value[j] > 0.5 * keep * row[j].value;
            }
            if (!inside) {
                continue;
            }
            trial_objective = model.objective(work.trial);
            trial_barrier = ssvi_log_sum(value, m);
            const double gain = objective - trial_objective - mu * (barrier - trial_barrier);
            if (gain >= -1e-4 * length * slope ||
                (-slope < 1e-12 * objective && gain >= -1e-14 * objective)) {
                better = true;
                break;
            }
        }
        if (!better) {
            if (mu * static_cast<double>(m) < 1e-4 * objective && -slope < 1e-4 * objective) {
                return true;
            }
            damping = std::fmax(8.0 * damping, 1e-6);
            if (damping > 1e12) {
                return false;
            }
            continue;
        }
        for (std::size_t j = 0; j < m; ++j) {
            SsviRow& r = row[j];
            double change = 0.0;
            for (std::size_t a = 0; a < r.count; ++a) {
                change += r.slope[a] * work.step[r.index[a]];
            }
            const double dz = mu / r.value - r.z - r.z / r.value * change;
            r.z = std::fmin(std::fmax(r.z + dual * dz, 1e-8 * mu / value[j]), 1e8 * mu / value[j]);
        }
        for (std::size_t i = 0; i < n; ++i) {
            work.x[i] = work.trial[i];
        }
        const double before = objective;
        objective = model.linearise(work.x, work.g, hessian);
        model.rows(work.x, row);
        barrier = trial_barrier;
        if (length > 0.3) {
            damping = std::fmax((length > 0.9 ? 0.1 : 0.5) * damping, 1e-12);
        } else if (length < 0.1) {  // the model is wrong so far out: a curved valley or edge
            damping = std::fmax(5.0 * damping, 1e-9);
        }
        const double gap = mu * static_cast<double>(m);
        const bool settled = -slope < 1e-6 * objective + 0.1 * gap;
        if (objective < 1e-20 ||
            (gap < 1e-5 * objective && settled && before - objective < 1e-6 * objective)) {
            return true;
        }
        if (settled || length > 0.9) {
            mu = std::fmax(0.1 * mu, std::fmin(1e-26, mu));
        } else if (length > 0.3) {
            mu = std::fmax(0.5 * mu, std::fmin(1e-26, mu));
        }
    }
    return objective < 1e-12;
}

}  // namespace volscen
