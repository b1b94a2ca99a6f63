// Unconstrained search for a raw-SVI slice: variable projection in (m, ln sigma).
//
// For given (m, sigma) the slice is linear in (a, d, c) = (a, b rho sigma, b sigma), solved exactly on the
// cone |d| <= c (Zeliade Systems 2009, "Quasi-explicit calibration of Gatheral's SVI model"). A coarse search
// takes eight widths sigma at once, one a lane: each finds its best m on a grid and makes a few
// Levenberg-Marquardt steps. The lanes that lead are polished, strikes in lanes, in better-kept digits.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include "volscen/dispatch.hpp"

namespace volscen {

constexpr std::size_t svi_lanes = 8;

// One slice in the units of the search: x = (k - middle)/half_width and w less its weighted mean.
struct SviSearch {
    std::size_t used;  // quotes
    std::size_t n;     // the same, rounded up to svi_lanes; padding has weight 0
    const double* __restrict x;
    const double* __restrict w;
    const double* __restrict weight;
    double* __restrict y;
    double* __restrict q;
    double variance;  // weighted mean of w^2
    double mean_x;    // weighted
    double sxx, sxw;  // weighted covariances
};

// Box of the search in half-widths of the strikes.
constexpr double svi_m_limit = 4.0;
constexpr double svi_log_sigma_low = -4.605170185988091;  // ln 0.01
constexpr double svi_log_sigma_high = 2.995732273553991;  // ln 20
constexpr double svi_sigma_low = 0.01;
constexpr double svi_sigma_high = 20.0;

// Below this share of its largest value the determinant of the linear problem leaves too few digits to
// subtract what is explained.
constexpr double svi_ill = 1e-6;

struct SviLinear {
    double d, c, mean_y, mean_q, error;
    bool interior;  // inside the cone
    double syy, syq, sqq;
};

VOLSCEN_INLINE double lane_sum(const double (&lane)[svi_lanes]) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

VOLSCEN_INLINE double at_least(double low, double x) { return x < low ? low : x; }
VOLSCEN_INLINE double at_most(double high, double x) { return x > high ? high : x; }

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
    if (out.interior && det < svi_ill * out.syy * out.sqq) {
        // Far from the strikes of a narrow bend y and q are one line but for rounding, and what (d, c) then
        // seem to explain is rounding too: only the residuals say what is left.
        double left[svi_lanes] = {};
        for (std::size_t begin = 0; begin < s.n; begin += svi_lanes) {
            for (std::size_t l = 0; l < svi_lanes; ++l) {
                const std::size_t i = begin + l;
                const double residual =
                    out.d * (s.y[i] - out.mean_y) + out.c * (s.q[i] - out.mean_q) - s.w[i];
                left[l] += s.weight[i] * residual * residual;
            }
        }
        out.error = lane_sum(left);
    }
    return out;
}

struct SviCandidate {
    double m, log_sigma, error;
};

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

// Eight points (m, sigma) and what the search knows of each: the best linear part p x + b z with z =
// sqrt((x - m)^2 + sigma^2), its squared error, and gradient and curvature of that error with the linear part
// projected out (Kaufman 1975).
constexpr double svi_lane_ill = 1e-9;  // as svi_ill, for an error that need not be known as well

struct SviLanes {
    double m[svi_lanes], sigma[svi_lanes], error[svi_lanes];
    double gm[svi_lanes], gt[svi_lanes], hmm[svi_lanes], hmt[svi_lanes], htt[svi_lanes];
};

template <bool want_slopes>
VOLSCEN_INLINE void svi_evaluate(const SviSearch& s, SviLanes& at) {
    constexpr std::size_t L = svi_lanes;
    double z0[L], u0[L], v0[L], square[L];
    double sz[L] = {}, szx[L] = {}, szw[L] = {}, szz[L] = {};
    double su[L] = {}, sux[L] = {}, suw[L] = {}, suz[L] = {}, suu[L] = {};
    double sv[L] = {}, svx[L] = {}, svw[L] = {}, svz[L] = {}, svv[L] = {}, suv[L] = {};
    for (std::size_t l = 0; l < L; ++l) {
        // Sums of differences from the values at x = 0 keep their digits where sigma is large.
        square[l] = at.sigma[l] * at.sigma[l];
        z0[l] = __builtin_sqrt(at.m[l] * at.m[l] + square[l]);
        v0[l] = 1.0 / z0[l];
        u0[l] = -at.m[l] * v0[l];
    }
    for (std::size_t i = 0; i < s.used; ++i) {
        const double x = s.x[i], weight = s.weight[i];
        const double wx = weight * (x - s.mean_x), ww = weight * s.w[i];
        for (std::size_t l = 0; l < L; ++l) {
            const double y = x - at.m[l];
            const double root = __builtin_sqrt(y * y + square[l]);
            const double z = root - z0[l];
            const double wz = weight * z;
            sz[l] += wz;
            szx[l] += wx * z;
            szw[l] += ww * z;
            szz[l] += wz * z;
            if (want_slopes) {
                const double inverse = 1.0 / root;
                const double u = y * inverse - u0[l], v = inverse - v0[l];
                const double wu = weight * u, wv = weight * v;
                su[l] += wu;
                sux[l] += wx * u;
                suw[l] += ww * u;
                suz[l] += wz * u;
                suu[l] += wu * u;
                sv[l] += wv;
                svx[l] += wx * v;
                svw[l] += ww * v;
                svz[l] += wz * v;
                svv[l] += wv * v;
                suv[l] += wu * v;
            }
        }
    }
    for (std::size_t l = 0; l < L; ++l) {
        const double zz = szz[l] - sz[l] * sz[l];
        const double det = s.sxx * zz - szx[l] * szx[l];
        const double over = 1.0 / det;
        const double p_in = (s.sxw * zz - szw[l] * szx[l]) * over;
        const double b_in = (szw[l] * s.sxx - s.sxw * szx[l]) * over;
        const bool inside = (det > svi_lane_ill * s.sxx * zz) & (b_in >= __builtin_fabs(p_in));
        // The two edges of the cone, p = b and p = -b.
        const double top_up = szw[l] + s.sxw, top_down = szw[l] - s.sxw;
        const double bottom_up = zz + 2.0 * szx[l] + s.sxx, bottom_down = zz - 2.0 * szx[l] + s.sxx;
        const double b_up = (top_up > 0.0) & (bottom_up > 0.0) ? top_up / bottom_up : 0.0;
        const double b_down = (top_down > 0.0) & (bottom_down > 0.0) ? top_down / bottom_down : 0.0;
        const double gain_up = b_up * top_up, gain_down = b_down * top_down;
        const bool up = gain_up > gain_down;
        const double sign = up ? 1.0 : -1.0;
        const double b = inside ? b_in : up ? b_up : b_down;
        const double p = inside ? p_in : sign * b;
        const double gain = inside ? p_in * s.sxw + b_in * szw[l] : up ? gain_up : gain_down;
        const double error = s.variance - gain;
        at.error[l] = error > 0.0 ? error : 0.0;
        if (want_slopes) {
            // The derivatives are -b u by m and b sigma^2 v by ln(sigma), here less their means.
            const double scale = b * square[l];
            const double ux = sux[l], uz = suz[l] - su[l] * sz[l], uu = suu[l] - su[l] * su[l];
            const double vx = svx[l], vz = svz[l] - sv[l] * sz[l], vv = svv[l] - sv[l] * sv[l];
            const double uv = suv[l] - su[l] * sv[l];
            const double edge = sign > 0.0 ? bottom_up : bottom_down;
            const double over_edge = edge > 0.0 ? 1.0 / edge : 0.0;
            const double eu = uz + sign * ux, ev = vz + sign * vx;
            const double uu_in = (ux * ux * zz - 2.0 * ux * uz * szx[l] + uz * uz * s.sxx) * over;
            const double uv_in = (ux * vx * zz - (ux * vz + uz * vx) * szx[l] + uz * vz * s.sxx) * over;
            const double vv_in = (vx * vx * zz - 2.0 * vx * vz * szx[l] + vz * vz * s.sxx) * over;
            at.gm[l] = -b * (p * ux + b * uz - suw[l]);
            at.gt[l] = scale * (p * vx + b * vz - svw[l]);
            at.hmm[l] = b * b * (uu - (inside ? uu_in : eu * eu * over_edge));
            at.hmt[l] = -b * scale * (uv - (inside ? uv_in : eu * ev * over_edge));
            at.htt[l] = scale * scale * (vv - (inside ? vv_in : ev * ev * over_edge));
        }
    }
}

constexpr std::size_t svi_grid_m = 9;

VOLSCEN_INLINE double svi_grid_m_at(std::size_t i) {
    return -2.0 + 4.0 / static_cast<double>(svi_grid_m - 1) * static_cast<double>(i);
}

// Widths of the lanes in half-widths of the strikes: from 0.027 to 6.
constexpr double svi_grid_sigma[svi_lanes] = {0.027, 0.059, 0.128, 0.276, 0.597, 1.29, 2.8, 6.0};

constexpr int svi_coarse_steps = 6;

// The best m of the grid in each lane.
VOLSCEN_INLINE SviLanes svi_grid(const SviSearch& s) {
    SviLanes best = {}, trial;
    for (std::size_t l = 0; l < svi_lanes; ++l) {
        trial.sigma[l] = svi_grid_sigma[l];
        best.sigma[l] = svi_grid_sigma[l];
        best.error[l] = std::numeric_limits<double>::infinity();
    }
    for (std::size_t i = 0; i < svi_grid_m; ++i) {
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            trial.m[l] = svi_grid_m_at(i);
        }
        svi_evaluate<false>(s, trial);
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            const bool better = trial.error[l] < best.error[l];
            best.error[l] = better ? trial.error[l] : best.error[l];
            best.m[l] = better ? trial.m[l] : best.m[l];
        }
    }
    return best;
}

// The lanes after a few Levenberg-Marquardt steps.
VOLSCEN_INLINE SviLanes svi_coarse(const SviSearch& s, SviLanes now) {
    SviLanes trial = now;
    double damping[svi_lanes];
    for (std::size_t l = 0; l < svi_lanes; ++l) {
        damping[l] = 1e-2;
    }
    svi_evaluate<true>(s, now);
    for (int step = 0; step < svi_coarse_steps; ++step) {
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            const double hmm = at_least(0.0, now.hmm[l]), htt = at_least(0.0, now.htt[l]);
            const double amm = hmm * (1.0 + damping[l]) + 1e-14 * s.variance;
            const double att = htt * (1.0 + damping[l]) + 1e-14 * s.variance;
            const double square = now.hmt[l] * now.hmt[l], product = amm * att;
            const double cross = square < product ? now.hmt[l] : 0.0;
            const double over = 1.0 / (product - cross * cross);
            const double dm = -(now.gm[l] * att - now.gt[l] * cross) * over;
            const double dt = -(now.gt[l] * amm - now.gm[l] * cross) * over;
            const double long_m = __builtin_fabs(dm), long_t = __builtin_fabs(dt);
            const double longer = long_m > long_t ? long_m : long_t;
            const double cut = longer > 1.0 ? 1.0 / longer : 1.0;
            // (2 + t)/(2 - t) is near exp(t).
            const double t = dt * cut, sigma = now.sigma[l] * ((2.0 + t) / (2.0 - t));
            trial.m[l] = at_most(svi_m_limit, at_least(-svi_m_limit, now.m[l] + dm * cut));
            trial.sigma[l] = at_most(svi_sigma_high, at_least(svi_sigma_low, sigma));
        }
        svi_evaluate<true>(s, trial);
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            const bool better = trial.error[l] < now.error[l];
            damping[l] = better ? 0.15 * damping[l] : 8.0 * damping[l];
            now.m[l] = better ? trial.m[l] : now.m[l];
            now.sigma[l] = better ? trial.sigma[l] : now.sigma[l];
            now.error[l] = better ? trial.error[l] : now.error[l];
            now.gm[l] = better ? trial.gm[l] : now.gm[l];
            now.gt[l] = better ? trial.gt[l] : now.gt[l];
            now.hmm[l] = better ? trial.hmm[l] : now.hmm[l];
            now.hmt[l] = better ? trial.hmt[l] : now.hmt[l];
            now.htt[l] = better ? trial.htt[l] : now.htt[l];
        }
    }
    return now;
}

// Slices that turn within less than the strikes' distances have an optimum in every gap between strikes, of
// which the lanes see few: those of the narrowest bend, by a closer scan of m.
constexpr double svi_sharp = -3.5;            // ln(sigma) below which the scan is made
constexpr std::size_t svi_sharp_points = 96;  // a multiple of the lanes
constexpr std::size_t svi_sharp_polished = 3;

VOLSCEN_INLINE SviCandidate svi_sharpest(const SviSearch& s, SviCandidate best) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    double m[svi_sharp_points], error[svi_sharp_points];
    for (std::size_t begin = 0; begin < svi_sharp_points; begin += svi_lanes) {
        SviLanes at = {};
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            const double share =
                (static_cast<double>(begin + l) + 0.5) / static_cast<double>(svi_sharp_points);
            m[begin + l] = at.m[l] = 2.0 * share - 1.0;
            at.sigma[l] = svi_sigma_low;
        }
        svi_evaluate<false>(s, at);
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            error[begin + l] = at.error[l];
        }
    }
    for (std::size_t c = 0; c < svi_sharp_polished; ++c) {
        std::size_t lead = svi_sharp_points;
        for (std::size_t i = 0; i < svi_sharp_points; ++i) {
            const bool valley = (i == 0 || error[i] <= error[i - 1]) &&
                                (i + 1 == svi_sharp_points || error[i] <= error[i + 1]);
            if (valley && error[i] < infinity && (lead == svi_sharp_points || error[i] < error[lead])) {
                lead = i;
            }
        }
        if (lead == svi_sharp_points || error[lead] > 2.0 * best.error) {
            break;
        }
        const SviCandidate polished = svi_polish(s, {m[lead], svi_log_sigma_low, error[lead]}, true);
        best = polished.error < best.error ? polished : best;
        // Its valley is done.
        error[lead] = infinity;
        for (std::size_t i = lead + 1; i < svi_sharp_points && error[i] < infinity; ++i) {
            const bool rises = i + 1 == svi_sharp_points || error[i + 1] >= error[i];
            error[i] = infinity;
            if (!rises) {
                break;
            }
        }
        for (std::size_t i = lead; i-- > 0 && error[i] < infinity;) {
            const bool rises = i == 0 || error[i - 1] >= error[i];
            error[i] = infinity;
            if (!rises) {
                break;
            }
        }
    }
    return best;
}

constexpr std::size_t svi_polished = 2;

// The best slice found from anywhere. Lanes are polished in order of their errors, each only where it lies
// apart from those polished before it and could still win.
VOLSCEN_INLINE SviCandidate svi_cold(const SviSearch& s, const SviLanes& grid) {
    const SviLanes lanes = svi_coarse(s, grid);
    bool done[svi_lanes] = {};
    SviCandidate best = {0.0, 0.0, std::numeric_limits<double>::infinity()};
    for (std::size_t c = 0; c < svi_polished; ++c) {
        std::size_t lead = svi_lanes;
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            if (!done[l] && (lead == svi_lanes || lanes.error[l] < lanes.error[lead])) {
                lead = l;
            }
        }
        if (lead == svi_lanes || (c > 0 && lanes.error[lead] > 1.5 * best.error)) {
            break;
        }
        const SviCandidate polished =
            svi_polish(s, {lanes.m[lead], std::log(lanes.sigma[lead]), lanes.error[lead]}, true);
        if (polished.error < best.error) {
            best = polished;
        }
        for (std::size_t l = 0; l < svi_lanes; ++l) {
            const double ratio = lanes.sigma[l] / lanes.sigma[lead];
            const double far = 0.3 * at_least(lanes.sigma[l], lanes.sigma[lead]);
            const bool near = std::fabs(lanes.m[l] - lanes.m[lead]) < far && ratio > 0.7 && ratio < 1.4;
            done[l] = done[l] || near;
        }
    }
    return best.log_sigma < svi_sharp ? svi_sharpest(s, best) : best;
}

}  // namespace volscen
