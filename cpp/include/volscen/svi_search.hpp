// Unconstrained search for a raw-SVI slice: variable projection in (m, ln sigma).
//
// For given (m, sigma) the slice is linear in (a, d, c) = (a, b rho sigma, b sigma), solved exactly on the
// cone |d| <= c (Zeliade Systems 2009, "Quasi-explicit calibration of Gatheral's SVI model"); (m, ln sigma)
// come from Levenberg-Marquardt steps started at the local minima of a grid.
#pragma once

#include <cmath>
#include <cstddef>

#include "volscen/dispatch.hpp"

namespace volscen {

constexpr std::size_t svi_lanes = 8;

// One slice in the units of the search: x = (k - middle)/half_width and w less its weighted mean.
struct SviSearch {
    std::size_t n;  // a multiple of svi_lanes
    const double* __restrict x;
    const double* __restrict w;
    const double* __restrict weight;
    double* __restrict y;
    double* __restrict q;
    double variance;  // weighted mean of w^2
};

struct SviLinear {
    double d, c, mean_y, mean_q, error;
    bool interior;  // inside the cone
    double syy, syq, sqq;
};

VOLSCEN_INLINE double lane_sum(const double (&lane)[svi_lanes]) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// The best (d, c) for given m and sigma, and its squared error. q = sqrt(y^2 + 1) - 1 keeps its digits
// where sigma is large and the slice nearly a parabola.
VOLSCEN_INLINE SviLinear svi_linear(const SviSearch& s, double m, double sigma) {
    const double inverse = 1.0 / sigma;
    double my[svi_lanes] = {}, mq[svi_lanes] = {};
    for (std::size_t begin = 0; begin < s.n; begin += svi_lanes) {
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            const std::size_t i = begin + l;
            const double y = (s.x[i] - m) * inverse;
            const double q = y * y / (__builtin_sqrt(y * y + 1.0) + 1.0);
            s.y[i] = y;
            s.q[i] = q;
            my[l] += s.weight[i] * y;
            mq[l] += s.weight[i] * q;
        }
    }
    SviLinear out;
    out.mean_y = lane_sum(my);
    out.mean_q = lane_sum(mq);
    double yy[svi_lanes] = {}, yq[svi_lanes] = {}, qq[svi_lanes] = {}, yw[svi_lanes] = {}, qw[svi_lanes] = {};
    for (std::size_t begin = 0; begin < s.n; begin += svi_lanes) {
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            const std::size_t i = begin + l;
            const double y = s.y[i] - out.mean_y, q = s.q[i] - out.mean_q;
            const double wy = s.weight[i] * y, wq = s.weight[i] * q;
            yy[l] += wy * y;
            yq[l] += wy * q;
            qq[l] += wq * q;
            yw[l] += wy * s.w[i];
            qw[l] += wq * s.w[i];
        }
    }
    out.syy = lane_sum(yy);
    out.syq = lane_sum(yq);
    out.sqq = lane_sum(qq);
    const double syw = lane_sum(yw), sqw = lane_sum(qw);
    const double det = out.syy * out.sqq - out.syq * out.syq;
    out.d = 0.0;
    out.c = 0.0;
    out.interior = false;
    double gain = 0.0;
    if (det > 1e-14 * out.syy * out.sqq) {
        const double d = (syw * out.sqq - sqw * out.syq) / det;
        const double c = (sqw * out.syy - syw * out.syq) / det;
        if (c >= std::fabs(d)) {
            out.d = d;
            out.c = c;
            out.interior = true;
            gain = d * syw + c * sqw;
        }
    }
    if (!out.interior) {
        for (const double sign : {-1.0, 1.0}) {
            const double top = sign * syw + sqw;
            const double bottom = out.syy + 2.0 * sign * out.syq + out.sqq;
            if (top > 0.0 && bottom > 0.0 && top * top / bottom > gain) {
                out.c = top / bottom;
                out.d = sign * out.c;
                gain = top * top / bottom;
            }
        }
    }
    out.error = std::fmax(s.variance - gain, 0.0);
    return out;
}

struct SviCandidate {
    double m, log_sigma, error;
};

// Box of the search in half-widths of the strikes.
constexpr double svi_m_limit = 4.0;
constexpr double svi_log_sigma_low = -4.6;  // 0.01
constexpr double svi_log_sigma_high = 3.0;  // 20

// Levenberg-Marquardt in (m, ln sigma) with the linear parameters projected out (Kaufman 1975).
VOLSCEN_INLINE SviCandidate svi_polish(const SviSearch& s, SviCandidate start, bool free_sigma) {
    double damping = 1e-2;
    double sigma = std::exp(start.log_sigma);
    SviLinear now = svi_linear(s, start.m, sigma);
    start.error = now.error;
    for (int iteration = 0; iteration < 60; ++iteration) {
        // y and q hold the values at the current point: svi_linear was called there last.
        const double inverse = 1.0 / sigma;
        double sums[12][svi_lanes] = {};
        for (std::size_t begin = 0; begin < s.n; begin += svi_lanes) {
            for (std::size_t l = 0; l < svi_lanes; ++l) {
                const std::size_t i = begin + l;
                const double yi = s.y[i], y = yi - now.mean_y, q = s.q[i] - now.mean_q;
                const double residual = now.d * y + now.c * q - s.w[i];
                const double bend = now.d + now.c * (yi / (s.q[i] + 1.0));
                const double jm = -bend * inverse, js = -bend * yi;
                const double w = s.weight[i];
                sums[0][l] += w * jm;
                sums[1][l] += w * js;
                sums[2][l] += w * jm * jm;
                sums[3][l] += w * jm * js;
                sums[4][l] += w * js * js;
                sums[5][l] += w * jm * residual;
                sums[6][l] += w * js * residual;
                sums[7][l] += w * jm * y;
                sums[8][l] += w * jm * q;
                sums[9][l] += w * js * y;
                sums[10][l] += w * js * q;
            }
        }
        const double mean_m = lane_sum(sums[0]), mean_s = lane_sum(sums[1]);
        double hmm = lane_sum(sums[2]) - mean_m * mean_m;
        double hms = lane_sum(sums[3]) - mean_m * mean_s;
        double hss = lane_sum(sums[4]) - mean_s * mean_s;
        const double gm = lane_sum(sums[5]), gs = free_sigma ? lane_sum(sums[6]) : 0.0;
        const double my = lane_sum(sums[7]), mq = lane_sum(sums[8]);
        const double sy = lane_sum(sums[9]), sq = lane_sum(sums[10]);
        // Less what the free linear directions explain.
        if (now.interior) {
            const double det = now.syy * now.sqq - now.syq * now.syq;
            hmm -= (my * my * now.sqq - 2.0 * my * mq * now.syq + mq * mq * now.syy) / det;
            hms -= (my * sy * now.sqq - (my * sq + mq * sy) * now.syq + mq * sq * now.syy) / det;
            hss -= (sy * sy * now.sqq - 2.0 * sy * sq * now.syq + sq * sq * now.syy) / det;
        } else if (now.c > 0.0) {
            const double sign = now.d < 0.0 ? -1.0 : 1.0;
            const double bottom = now.syy + 2.0 * sign * now.syq + now.sqq;
            const double pm = sign * my + mq, ps = sign * sy + sq;
            hmm -= pm * pm / bottom;
            hms -= pm * ps / bottom;
            hss -= ps * ps / bottom;
        }
        hmm = std::fmax(hmm, 0.0);
        hss = free_sigma ? std::fmax(hss, 0.0) : 1.0;
        hms = free_sigma ? hms : 0.0;
        bool better = false, tiny = false;
        while (!better && damping < 1e8) {
            const double amm = hmm * (1.0 + damping) + 1e-14 * s.variance;
            const double ass = hss * (1.0 + damping) + 1e-14 * s.variance;
            const double det = amm * ass - hms * hms;
            double dm = -(gm * ass - gs * hms) / det, ds = -(gs * amm - gm * hms) / det;
            if (!(det > 0.0)) {
                damping *= 8.0;
                continue;
            }
            const double cut = std::fmax(1.0, std::fmax(std::fabs(dm), std::fabs(ds)));
            dm /= cut;
            ds /= cut;
            const double m = std::fmin(std::fmax(start.m + dm, -svi_m_limit), svi_m_limit);
            const double t =
                std::fmin(std::fmax(start.log_sigma + ds, svi_log_sigma_low), svi_log_sigma_high);
            const double trial_sigma = std::exp(t);
            const SviLinear trial = svi_linear(s, m, trial_sigma);
            if (trial.error < start.error) {
                tiny = start.error - trial.error < 1e-9 * start.error;
                better = true;
                now = trial;
                sigma = trial_sigma;
                start = {m, t, trial.error};
                damping = std::fmax(0.15 * damping, 1e-9);
            } else {
                if (std::fabs(dm) + std::fabs(ds) < 1e-9) {
                    return start;
                }
                damping *= 8.0;
            }
        }
        if (!better || tiny || start.error < 1e-24 * s.variance) {
            break;
        }
    }
    return start;
}

constexpr std::size_t svi_grid_m = 9;
constexpr std::size_t svi_grid_sigma = 8;
constexpr std::size_t svi_starts = 4;

VOLSCEN_INLINE double svi_grid_m_at(std::size_t i) {
    return -2.0 + 4.0 / static_cast<double>(svi_grid_m - 1) * static_cast<double>(i);
}

VOLSCEN_INLINE double svi_grid_log_sigma_at(std::size_t j) {
    return -3.6 + 5.4 / static_cast<double>(svi_grid_sigma - 1) * static_cast<double>(j);
}

// The best few local minima of the error on a grid of (m, ln sigma), each polished; best first.
VOLSCEN_INLINE void svi_candidates(const SviSearch& s, SviCandidate (&found)[svi_starts]) {
    double error[svi_grid_sigma][svi_grid_m];
    for (std::size_t j = 0; j < svi_grid_sigma; ++j) {
        const double sigma = std::exp(svi_grid_log_sigma_at(j));
        for (std::size_t i = 0; i < svi_grid_m; ++i) {
            error[j][i] = svi_linear(s, svi_grid_m_at(i), sigma).error;
        }
    }
    std::size_t count = 0;
    for (std::size_t j = 0; j < svi_grid_sigma; ++j) {
        for (std::size_t i = 0; i < svi_grid_m; ++i) {
            const double here = error[j][i];
            const bool lowest =
                (i == 0 || here <= error[j][i - 1]) && (i + 1 == svi_grid_m || here <= error[j][i + 1]) &&
                (j == 0 || here <= error[j - 1][i]) && (j + 1 == svi_grid_sigma || here <= error[j + 1][i]);
            if (!lowest || (count == svi_starts && here >= found[count - 1].error)) {
                continue;
            }
            count += count < svi_starts ? 1 : 0;
            std::size_t place = count - 1;
            for (; place > 0 && found[place - 1].error > here; --place) {
                found[place] = found[place - 1];
            }
            found[place] = {svi_grid_m_at(i), svi_grid_log_sigma_at(j), here};
        }
    }
    for (std::size_t c = 0; c < count; ++c) {
        const SviCandidate polished = svi_polish(s, found[c], true);
        std::size_t place = c;
        for (; place > 0 && found[place - 1].error > polished.error; --place) {
            found[place] = found[place - 1];
        }
        found[place] = polished;
    }
}

}  // namespace volscen
