// Durrleman's condition on a raw-SVI slice: scan of the whole line, and the fit that obeys it.
//
// g(k) = (1 - k w'/(2w))^2 - (w'^2/4)(1/w + 1/4) + w''/2 >= 0 (Durrleman 2005; Gatheral and Jacquier 2014).
// Points are k = m + sigma sinh(u) with u on a fixed grid, which reaches 1e8 sigma on both sides; beyond it
// g tends to 1/4 - (b (1 +- rho))^2/16, positive by Lee's bound b (1 + |rho|) < 2 (Lee 2004).
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include "volscen/dispatch.hpp"

namespace volscen {

// w = a + d y + c sqrt(y^2 + 1) with y = (k - m)/sigma: raw SVI with b = c/sigma and rho = d/c.
struct SviSlice {
    double a, d, c, m, sigma;
};

// Lee's bound, a little inside 2.
constexpr double svi_slope_limit = 2.0 - 1e-6;

// Smallest total variance of a slice, over the smallest quoted one: below it g turns too sharply to be
// scanned.
constexpr double svi_floor = 1e-3;

// What g keeps above zero, for rounding in the parameters.
constexpr double svi_margin = 1e-10;

struct SviPoint {
    double w, first, second, k;
};

VOLSCEN_INLINE SviPoint svi_point(const SviSlice& p, double y, double z) {
    const double inverse = 1.0 / p.sigma;
    return {p.a + p.d * y + p.c * z, (p.d + p.c * (y / z)) * inverse, p.c / (z * z * z) * inverse * inverse,
            p.m + p.sigma * y};
}

VOLSCEN_INLINE double durrleman(const SviPoint& v) {
    const double lead = 1.0 - v.k * v.first / (2.0 * v.w);
    return lead * lead - 0.25 * v.first * v.first * (1.0 / v.w + 0.25) + 0.5 * v.second;
}

VOLSCEN_INLINE double svi_minimum(const SviSlice& p) {
    const double square = p.c * p.c - p.d * p.d;
    return p.a + (square > 0.0 ? std::sqrt(square) : 0.0);
}

template <std::size_t N>
struct SinhGrid {
    static constexpr std::size_t size = N;
    double step, reach;
    std::array<double, N> sinh, cosh;
    explicit SinhGrid(double top) : step(2.0 * top / static_cast<double>(N - 1)), reach(top) {
        for (std::size_t j = 0; j < N; ++j) {
            const double u = -top + step * static_cast<double>(j);
            sinh[j] = std::sinh(u);
            cosh[j] = std::cosh(u);
        }
    }
};

using ScanGrid = SinhGrid<512>;
using PenaltyPoints = SinhGrid<80>;
const ScanGrid& svi_scan_grid();            // to 1e8 sigma
const PenaltyPoints& svi_penalty_points();  // to 1e3 sigma

VOLSCEN_INLINE double durrleman_at(const SviSlice& p, double u) {
    return durrleman(svi_point(p, std::sinh(u), std::cosh(u)));
}

// Smallest g on an interval around one minimum, by golden section.
VOLSCEN_INLINE double golden_minimum(const SviSlice& p, double left, double right) {
    constexpr double golden = 0.61803398874989485;
    double u1 = right - golden * (right - left), u2 = left + golden * (right - left);
    double g1 = durrleman_at(p, u1), g2 = durrleman_at(p, u2);
    double best = std::fmin(g1, g2);
    for (int i = 0; i < 32; ++i) {
        if (g1 < g2) {
            right = u2;
            u2 = u1;
            g2 = g1;
            u1 = right - golden * (right - left);
            g1 = durrleman_at(p, u1);
        } else {
            left = u1;
            u1 = u2;
            g1 = g2;
            u2 = left + golden * (right - left);
            g2 = durrleman_at(p, u2);
        }
        best = std::fmin(best, std::fmin(g1, g2));
    }
    return best;
}

// Whether g >= 0 on [left, right], by a finer scan refined at each of its minima.
VOLSCEN_INLINE bool nowhere_negative(const SviSlice& p, double left, double right) {
    constexpr std::size_t points = 65;
    const double step = (right - left) / static_cast<double>(points - 1);
    double g[points];
    for (std::size_t j = 0; j < points; ++j) {
        g[j] = durrleman_at(p, left + step * static_cast<double>(j));
        if (!(g[j] >= svi_margin)) {
            return false;
        }
    }
    for (std::size_t j = 0; j < points; ++j) {
        const double u = left + step * static_cast<double>(j);
        if ((j == 0 || g[j] <= g[j - 1]) && (j + 1 == points || g[j] <= g[j + 1]) &&
            !(golden_minimum(p, u - step, u + step) >= svi_margin)) {
            return false;
        }
    }
    return true;
}

// Whether the slice is at least `floor` > 0 and free of butterfly arbitrage on the whole line.
VOLSCEN_INLINE bool butterfly_free(const SviSlice& p, double floor) {
    const double steepest = (p.c + std::fabs(p.d)) / p.sigma;
    if (!(p.c >= std::fabs(p.d)) || !(svi_minimum(p) >= floor) || !(steepest <= svi_slope_limit)) {
        return false;
    }
    const ScanGrid& grid = svi_scan_grid();
    double g[ScanGrid::size], lead[ScanGrid::size];
    double lowest = 1.0;
    for (std::size_t j = 0; j < ScanGrid::size; ++j) {
        const SviPoint v = svi_point(p, grid.sinh[j], grid.cosh[j]);
        lead[j] = 1.0 - v.k * v.first / (2.0 * v.w);
        g[j] = durrleman(v);
    }
    for (std::size_t j = 0; j < ScanGrid::size; ++j) {
        lowest = g[j] < lowest ? g[j] : lowest;
    }
    if (!(lowest >= svi_margin)) {
        return false;
    }
    for (std::size_t j = 1; j + 1 < ScanGrid::size; ++j) {
        // Minima of g, and places where its square is about to touch zero, perhaps twice.
        const bool minimum = g[j] < 0.05 && g[j] <= g[j - 1] && g[j] <= g[j + 1];
        const bool touching = std::fabs(lead[j]) < 0.02 || lead[j] * lead[j + 1] < 0.0;
        const double u = -grid.reach + grid.step * static_cast<double>(j);
        if ((minimum || touching) && !nowhere_negative(p, u - grid.step, u + grid.step)) {
            return false;
        }
    }
    return true;
}

// Quotes of one slice; weights sum to 1 and are zero in the padding.
struct SviQuotes {
    std::size_t n;
    const double* k;
    const double* w;
    const double* weight;
};

VOLSCEN_INLINE double svi_squared_error(const SviQuotes& q, const SviSlice& p) {
    double sum = 0.0;
    for (std::size_t i = 0; i < q.n; ++i) {
        const double y = (q.k[i] - p.m) / p.sigma;
        const double r = p.a + p.d * y + p.c * std::sqrt(y * y + 1.0) - q.w[i];
        sum += q.weight[i] * r * r;
    }
    return sum;
}

constexpr std::size_t svi_free = 5;  // a, d, c, m, ln(sigma)

// Normal equations of a least-squares step.
struct SviNormal {
    double h[svi_free][svi_free];
    double g[svi_free];
    double objective;
};

VOLSCEN_INLINE void add_residual(SviNormal& out, double weight, double r, const double (&j)[svi_free]) {
    out.objective += weight * r * r;
    for (std::size_t s = 0; s < svi_free; ++s) {
        const double wj = weight * j[s];
        out.g[s] += wj * r;
        for (std::size_t t = 0; t <= s; ++t) {
            out.h[s][t] += wj * j[t];
        }
    }
}

// Squared error over `unit`^2 plus `strength` times the squared violations of: g >= margin, w > 0, |d| <= c,
// and Lee's bound.
template <bool want_normal>
VOLSCEN_INLINE SviNormal penalised(const SviQuotes& q, const SviSlice& p, double unit, double floor,
                                   double scale, double strength) {
    constexpr double margin = 2e-5;
    SviNormal out = {};
    const double over = 1.0 / (unit * unit);
    for (std::size_t i = 0; i < q.n; ++i) {
        const double y = (q.k[i] - p.m) / p.sigma;
        const double z = std::sqrt(y * y + 1.0);
        const double r = p.a + p.d * y + p.c * z - q.w[i];
        if (want_normal) {
            const double bend = p.d + p.c * (y / z);
            add_residual(out, q.weight[i] * over, r, {1.0, y, z, -bend / p.sigma, -bend * y});
        } else {
            out.objective += q.weight[i] * over * r * r;
        }
    }
    const PenaltyPoints& grid = svi_penalty_points();
    for (std::size_t j = 0; j < PenaltyPoints::size; ++j) {
        const double y = grid.sinh[j], z = grid.cosh[j];
        SviPoint v = svi_point(p, y, z);
        const bool low = v.w < floor;
        v.w = low ? floor : v.w;
        const double short_by = durrleman(v) - margin;
        if (!(short_by < 0.0)) {
            continue;
        }
        if (!want_normal) {
            out.objective += strength * short_by * short_by;
            continue;
        }
        const double inverse = 1.0 / p.sigma;
        const double lead = 1.0 - v.k * v.first / (2.0 * v.w);
        const double by_w =
            low ? 0.0 : lead * v.k * v.first / (v.w * v.w) + 0.25 * v.first * v.first / (v.w * v.w);
        const double by_first = -lead * v.k / v.w - 0.5 * v.first * (1.0 / v.w + 0.25);
        const double by_k = -lead * v.first / v.w;
        add_residual(out, strength, short_by,
                     {by_w, by_w * y + by_first * inverse,
                      by_w * z + by_first * (y / z) * inverse + 0.5 * inverse * inverse / (z * z * z), by_k,
                      -by_first * v.first - v.second + by_k * p.sigma * y});
    }
    // The remaining bounds, each over its own scale.
    const double side = p.d < 0.0 ? -1.0 : 1.0;
    const double outside = (side * p.d - p.c) / scale;
    if (outside > 0.0) {
        add_residual(out, strength, outside, {0.0, side / scale, -1.0 / scale, 0.0, 0.0});
    }
    const double steep = (p.c + side * p.d) / p.sigma - (svi_slope_limit - 1e-4);
    if (steep > 0.0) {
        const double inverse = 1.0 / p.sigma;
        add_residual(out, strength, steep,
                     {0.0, side * inverse, inverse, 0.0, -(p.c + side * p.d) * inverse});
    }
    const double square = p.c * p.c - p.d * p.d;
    const double root = square > 0.0 ? std::sqrt(square) : 0.0;
    const double negative = (p.a + root - floor) / scale;
    if (negative < 0.0) {
        const double turn = root > 0.0 ? 1.0 / root : 0.0;
        add_residual(out, strength, negative,
                     {1.0 / scale, -p.d * turn / scale, p.c * turn / scale, 0.0, 0.0});
    }
    return out;
}

// Solves (H + damping diag H) step = -g by Cholesky; false when H is not positive definite.
VOLSCEN_INLINE bool damped_step(const SviNormal& normal, double damping, double (&step)[svi_free]) {
    double l[svi_free][svi_free];
    for (std::size_t i = 0; i < svi_free; ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            double sum = normal.h[i][j];
            if (i == j) {
                sum += damping * sum + 1e-300;
            }
            for (std::size_t k = 0; k < j; ++k) {
                sum -= l[i][k] * l[j][k];
            }
            if (i == j) {
                if (!(sum > 0.0)) {
                    return false;
                }
                l[i][i] = std::sqrt(sum);
            } else {
                l[i][j] = sum / l[j][j];
            }
        }
    }
    for (std::size_t i = 0; i < svi_free; ++i) {
        double sum = -normal.g[i];
        for (std::size_t k = 0; k < i; ++k) {
            sum -= l[i][k] * step[k];
        }
        step[i] = sum / l[i][i];
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

VOLSCEN_INLINE SviSlice moved(const SviSlice& p, const double (&step)[svi_free]) {
    const double stretch = std::fmin(std::fmax(step[4], -1.0), 1.0);
    return {p.a + step[0], p.d + step[1], p.c + step[2], p.m + step[3], p.sigma * std::exp(stretch)};
}

// The part of the way from the slice to the flat slice at `level` that first obeys Durrleman's condition.
VOLSCEN_INLINE SviSlice pulled_flat(const SviSlice& p, double level, double floor) {
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

// The least-squares slice under Durrleman's condition, from an unconstrained one that breaks it: penalised
// least squares with a penalty that grows, then a small pull towards a flat slice where one is left to do.
VOLSCEN_INLINE SviSlice butterfly_repaired(const SviQuotes& q, SviSlice p, double level, double floor,
                                           double sigma_low, double sigma_high) {
    const double unit = std::sqrt(std::fmax(svi_squared_error(q, p), 1e-12 * level * level));
    double strength = 1.0;
    for (int round = 0; round < 6; ++round) {
        strength *= 30.0;
        double damping = 1e-3;
        SviNormal normal = penalised<true>(q, p, unit, 1.1 * floor, level, strength);
        for (int i = 0; i < 40; ++i) {
            double step[svi_free];
            if (!damped_step(normal, damping, step)) {
                damping = std::fmax(10.0 * damping, 1e-6);
                continue;
            }
            SviSlice trial = moved(p, step);
            trial.sigma = std::fmin(std::fmax(trial.sigma, sigma_low), sigma_high);
            trial.c = std::fmax(trial.c, 0.0);
            const double objective = penalised<false>(q, trial, unit, 1.1 * floor, level, strength).objective;
            if (objective < normal.objective) {
                const bool small = normal.objective - objective < 1e-7 * normal.objective;
                p = trial;
                normal = penalised<true>(q, p, unit, 1.1 * floor, level, strength);
                damping = std::fmax(0.2 * damping, 1e-12);
                if (small) {
                    break;
                }
            } else {
                damping *= 8.0;
                if (damping > 1e12) {
                    break;
                }
            }
        }
        const double bound = p.c;
        p.d = std::fmin(std::fmax(p.d, -bound), bound);
        if (butterfly_free(p, floor)) {
            return p;
        }
    }
    return pulled_flat(p, level, floor);
}

}  // namespace volscen
