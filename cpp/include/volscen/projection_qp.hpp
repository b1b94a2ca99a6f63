// Convex quadratic programmes of one sparsity, eight at once, one per lane:
//     minimise x'Hx/2 + q'x subject to left x_{n-back} + middle x_n + right x_{n+forward} >= bound,
// H diagonal and positive, for families of conditions with one offset back and forward each.
//
// Mehrotra's (1992) predictor-corrector method. With offsets of one cell along a row and of one row in time,
// the normal matrix in flat order is a band, factored as L D L'. Lanes never mix, and one that has finished
// keeps its numbers while others go on: a result does not depend on what stands beside it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "volscen/projection_grid.hpp"
#include "volscen/special.hpp"

namespace volscen {

using LaneArray = std::vector<double>;

struct Conditions {
    std::size_t back = 1, forward = 1, count = 0;  // `count` conditions belong to the first cells
    LaneArray left, middle, right, bound;
    LaneArray slack, multiplier, slack_step, multiplier_step;
    LaneArray inverse_slack, inverse_multiplier, residual, weight;

    void resize(std::size_t size) {
        for (LaneArray* a : {&left, &middle, &right, &bound, &slack, &multiplier, &slack_step,
                             &multiplier_step, &inverse_slack, &inverse_multiplier, &residual, &weight}) {
            a->assign(size, 0.0);
        }
    }
};

struct ProjectionQp {
    static constexpr std::size_t W = projection_lanes;

    std::size_t cells, band, margin;
    std::vector<Conditions> families;
    LaneArray hessian, gradient;        // by cell
    LaneArray x, dx, right_side, dual;  // by cell, after `margin` cells of zeros and before as many
    LaneArray matrix;                   // column n of the lower band: entry k is element (n + k, n)

    ProjectionQp(std::size_t num_cells, std::size_t columns, std::size_t row_families)
        : cells(num_cells), band(columns < 2 ? 2 : columns), margin(band), families(row_families + 1) {
        for (Conditions& f : families) {
            f.count = cells;
            f.resize(cells * W);
        }
        Conditions& calendar = families.back();
        calendar.back = 0;
        calendar.forward = columns;
        calendar.count = cells - columns;
        hessian.assign(cells * W, 0.0);
        gradient.assign(cells * W, 0.0);
        for (LaneArray* a : {&x, &dx, &right_side, &dual}) {
            a->assign((cells + 2 * margin) * W, 0.0);
        }
        matrix.assign((cells + band + 1) * (band + 1) * W, 0.0);
    }

    std::size_t conditions() const {
        std::size_t total = 0;
        for (const Conditions& f : families) {
            total += f.count;
        }
        return total;
    }
};

// out += G'u of one family; `out` points at cell 0.
VOLSCEN_INLINE void add_transposed(const Conditions& f, const double* __restrict u, double* out) {
    constexpr std::size_t W = projection_lanes;
    for (std::size_t n = 0; n < f.count; ++n) {
        double* before = out + (n * W) - f.back * W;
        double* here = out + n * W;
        double* after = out + (n + f.forward) * W;
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            before[l] += f.left[n * W + l] * u[n * W + l];
        }
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            here[l] += f.middle[n * W + l] * u[n * W + l];
        }
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            after[l] += f.right[n * W + l] * u[n * W + l];
        }
    }
}

// out = G x of condition n of one family in all lanes; `x` points at cell 0.
VOLSCEN_INLINE void product(const Conditions& f, const double* x, std::size_t n, double* __restrict out) {
    constexpr std::size_t W = projection_lanes;
    const double* before = x + n * W - f.back * W;
    const double* here = x + n * W;
    const double* after = x + (n + f.forward) * W;
    VOLSCEN_LANES
    for (std::size_t l = 0; l < W; ++l) {
        out[l] =
            f.left[n * W + l] * before[l] + f.middle[n * W + l] * here[l] + f.right[n * W + l] * after[l];
    }
}

VOLSCEN_INLINE void assemble(ProjectionQp& qp) {
    constexpr std::size_t W = projection_lanes;
    const std::size_t width = (qp.band + 1) * W;
    double* A = qp.matrix.data();
    std::fill(qp.matrix.begin(), qp.matrix.end(), 0.0);
    for (std::size_t n = 0; n < qp.cells; ++n) {
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            A[n * width + l] = qp.hessian[n * W + l];
        }
    }
    for (const Conditions& f : qp.families) {
        for (std::size_t n = 0; n < f.count; ++n) {
            const double* __restrict w = f.weight.data() + n * W;
            const double* __restrict a = f.left.data() + n * W;
            const double* __restrict m = f.middle.data() + n * W;
            const double* __restrict b = f.right.data() + n * W;
            double* here = A + n * width;
            double* after = here + f.forward * width;
            if (f.back > 0 && n >= f.back) {
                double* before = here - f.back * width;
                VOLSCEN_LANES
                for (std::size_t l = 0; l < W; ++l) {
                    before[l] += w[l] * a[l] * a[l];
                    before[f.back * W + l] += w[l] * a[l] * m[l];
                    before[(f.back + f.forward) * W + l] += w[l] * a[l] * b[l];
                }
            }
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                here[l] += w[l] * m[l] * m[l];
                here[f.forward * W + l] += w[l] * m[l] * b[l];
                after[l] += w[l] * b[l] * b[l];
            }
        }
    }
}

// matrix = L D L' in place: inverse pivots at entry 0 of each column, L below.
VOLSCEN_INLINE void factor(ProjectionQp& qp) {
    constexpr std::size_t W = projection_lanes;
    const std::size_t band = qp.band, width = (band + 1) * W;
    double* A = qp.matrix.data();
    for (std::size_t n = 0; n < qp.cells; ++n) {
        double* __restrict column = A + n * width;
        double inverse[W];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            inverse[l] = 1.0 / column[l];
            column[l] = inverse[l];
        }
        for (std::size_t j = 1; j <= band; ++j) {
            double* __restrict target = A + (n + j) * width;
            double ratio[W];
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                ratio[l] = column[j * W + l] * inverse[l];
            }
            for (std::size_t i = j; i <= band; ++i) {
                VOLSCEN_LANES
                for (std::size_t l = 0; l < W; ++l) {
                    target[(i - j) * W + l] -= ratio[l] * column[i * W + l];
                }
            }
        }
        for (std::size_t j = 1; j <= band; ++j) {
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                column[j * W + l] *= inverse[l];
            }
        }
    }
}

// Solves matrix y = y in place; `y` points at cell 0 and has zeros after the last.
VOLSCEN_INLINE void solve(const ProjectionQp& qp, double* y) {
    constexpr std::size_t W = projection_lanes;
    const std::size_t band = qp.band, width = (band + 1) * W;
    const double* __restrict A = qp.matrix.data();
    for (std::size_t n = 0; n < qp.cells; ++n) {
        const double* column = A + n * width;
        double here[W];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            here[l] = y[n * W + l];
        }
        for (std::size_t j = 1; j <= band; ++j) {
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                y[(n + j) * W + l] -= column[j * W + l] * here[l];
            }
        }
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            y[n * W + l] = here[l] * column[l];
        }
    }
    for (std::size_t n = qp.cells; n-- > 0;) {
        const double* column = A + n * width;
        double sum[W];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            sum[l] = y[n * W + l];
        }
        for (std::size_t j = 1; j <= band; ++j) {
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                sum[l] -= column[j * W + l] * y[(n + j) * W + l];
            }
        }
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            y[n * W + l] = sum[l];
        }
    }
}

// Right side and solution of one Newton step towards the complementarity `target`; the corrector takes off
// the product of the predictor's steps. `blocking` becomes the largest -step/value of slacks and multipliers.
VOLSCEN_INLINE void newton_step(ProjectionQp& qp, const double* __restrict target, bool corrector,
                                double* __restrict blocking) {
    constexpr std::size_t W = projection_lanes;
    double* dx = qp.dx.data() + qp.margin * W;
    const double* dual = qp.dual.data() + qp.margin * W;
    for (std::size_t i = 0; i < qp.cells * W; ++i) {
        dx[i] = -dual[i];
    }
    for (Conditions& f : qp.families) {
        // multiplier_step holds the wanted product over the slack, less the multiplier, on its way to the
        // step.
        for (std::size_t n = 0; n < f.count; ++n) {
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                const std::size_t i = n * W + l;
                const double cross = corrector ? f.slack_step[i] * f.multiplier_step[i] : 0.0;
                f.multiplier_step[i] =
                    (target[l] - cross) * f.inverse_slack[i] - f.multiplier[i] - f.weight[i] * f.residual[i];
            }
        }
        add_transposed(f, f.multiplier_step.data(), dx);
    }
    solve(qp, dx);
    VOLSCEN_LANES
    for (std::size_t l = 0; l < W; ++l) {
        blocking[l] = 0.0;
    }
    for (Conditions& f : qp.families) {
        for (std::size_t n = 0; n < f.count; ++n) {
            double moved[W];
            product(f, dx, n, moved);
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                const std::size_t i = n * W + l;
                f.slack_step[i] = moved[l] + f.residual[i];
                f.multiplier_step[i] -= f.weight[i] * moved[l];
                const double a = -f.slack_step[i] * f.inverse_slack[i];
                const double b = -f.multiplier_step[i] * f.inverse_multiplier[i];
                const double worse = a > b ? a : b;
                blocking[l] = worse > blocking[l] ? worse : blocking[l];
            }
        }
    }
}

struct QpLimits {
    int iterations = 60;
    double gap = 1e-9;        // of multipliers times slacks, beside the objective's scale given per lane
    double residual = 1e-13;  // of conditions
};

// Solves from x = 0; `scale` is what a gap is compared with in each lane, and lanes with `active` zero are
// left alone. Sets solved[l] to 1 where the limits were met.
VOLSCEN_INLINE void solve_qp(ProjectionQp& qp, const QpLimits& limits, const double* scale,
                             const double* active, double start_slack, double start_product, double* solved) {
    constexpr std::size_t W = projection_lanes;
    const double count = static_cast<double>(qp.conditions());
    double* x = qp.x.data() + qp.margin * W;
    const double* dx = qp.dx.data() + qp.margin * W;
    double* dual = qp.dual.data() + qp.margin * W;
    std::fill(qp.x.begin(), qp.x.end(), 0.0);
    std::fill(qp.dx.begin(), qp.dx.end(), 0.0);
    double going[W];
    VOLSCEN_LANES
    for (std::size_t l = 0; l < W; ++l) {
        going[l] = active[l];
        solved[l] = 0.0;
    }
    for (Conditions& f : qp.families) {
        for (std::size_t i = 0; i < f.count * W; ++i) {
            const double room = -f.bound[i];
            f.slack[i] = room > start_slack ? room : start_slack;
            f.multiplier[i] = start_product / f.slack[i];
        }
    }
    for (int iteration = 0; iteration < limits.iterations; ++iteration) {
        double product_sum[W] = {}, worst[W] = {};
        std::fill(qp.dual.begin(), qp.dual.end(), 0.0);
        for (Conditions& f : qp.families) {
            for (std::size_t n = 0; n < f.count; ++n) {
                double moved[W];
                product(f, x, n, moved);
                VOLSCEN_LANES
                for (std::size_t l = 0; l < W; ++l) {
                    const std::size_t i = n * W + l;
                    f.residual[i] = moved[l] - f.slack[i] - f.bound[i];
                    const double size = absolute(f.residual[i]);
                    worst[l] = size > worst[l] ? size : worst[l];
                    product_sum[l] += f.slack[i] * f.multiplier[i];
                    f.inverse_slack[i] = 1.0 / f.slack[i];
                    f.inverse_multiplier[i] = 1.0 / f.multiplier[i];
                    f.weight[i] = f.multiplier[i] * f.inverse_slack[i];
                }
            }
            add_transposed(f, f.multiplier.data(), dual);
        }
        double any = 0.0;
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const bool met = (product_sum[l] <= limits.gap * scale[l]) & (worst[l] <= limits.residual);
            solved[l] = (going[l] > 0.0) & met ? 1.0 : solved[l];
            going[l] = met ? 0.0 : going[l];
            any += going[l];
        }
        if (!(any > 0.0)) {
            return;
        }
        for (std::size_t i = 0; i < qp.cells * W; ++i) {
            dual[i] = (qp.hessian[i] * x[i] + qp.gradient[i]) - dual[i];
        }
        assemble(qp);
        factor(qp);
        double target[W] = {}, blocking[W];
        newton_step(qp, target, false, blocking);
        double ahead[W] = {}, length[W];
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            length[l] = blocking[l] > 1.0 ? 1.0 / blocking[l] : 1.0;
        }
        for (const Conditions& f : qp.families) {
            for (std::size_t n = 0; n < f.count; ++n) {
                VOLSCEN_LANES
                for (std::size_t l = 0; l < W; ++l) {
                    const std::size_t i = n * W + l;
                    ahead[l] += (f.slack[i] + length[l] * f.slack_step[i]) *
                                (f.multiplier[i] + length[l] * f.multiplier_step[i]);
                }
            }
        }
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const double ratio = ahead[l] / product_sum[l];
            target[l] = ratio * ratio * ratio * product_sum[l] / count;
        }
        newton_step(qp, target, true, blocking);
        VOLSCEN_LANES
        for (std::size_t l = 0; l < W; ++l) {
            const double full = blocking[l] * (1.0 / 0.995);
            length[l] = full > 1.0 ? 1.0 / full : 1.0;
            // No way on: no point meets the conditions, or rounding has the better of the matrix.
            const bool moves = (length[l] > 1e-7) & (absolute(target[l]) <= 1e100) & (blocking[l] <= 1e100);
            going[l] = moves ? going[l] : 0.0;
        }
        for (std::size_t n = 0; n < qp.cells; ++n) {
            VOLSCEN_LANES
            for (std::size_t l = 0; l < W; ++l) {
                const double moved = x[n * W + l] + length[l] * dx[n * W + l];
                x[n * W + l] = going[l] > 0.0 ? moved : x[n * W + l];
            }
        }
        for (Conditions& f : qp.families) {
            for (std::size_t n = 0; n < f.count; ++n) {
                VOLSCEN_LANES
                for (std::size_t l = 0; l < W; ++l) {
                    const std::size_t i = n * W + l;
                    const double z = f.slack[i] + length[l] * f.slack_step[i];
                    const double y = f.multiplier[i] + length[l] * f.multiplier_step[i];
                    f.slack[i] = going[l] > 0.0 ? z : f.slack[i];
                    f.multiplier[i] = going[l] > 0.0 ? y : f.multiplier[i];
                }
            }
        }
    }
}

}  // namespace volscen
