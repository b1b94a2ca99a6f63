// Raw-SVI slices (Gatheral 2004): w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)).
//
// The fit is by variable projection: for given (m, sigma) the slice is linear in (a, d, c) = (a, b rho sigma,
// b sigma), solved exactly on the cone |d| <= c (Zeliade Systems 2009, "Quasi-explicit calibration of
// Gatheral's SVI model"); (m, ln sigma) come from Levenberg-Marquardt steps started at the local minima of a
// grid. A slice that breaks Durrleman's condition is refitted under it (svi_butterfly.hpp).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "volscen/svi_butterfly.hpp"

namespace volscen {

enum class SviStatus : std::int8_t { ok = 0, reduced = 1, no_data = 2 };

constexpr std::size_t svi_lanes = 8;
constexpr std::size_t svi_scratch = 8;  // arrays of the padded length that a fit needs

struct SviTask {
    std::size_t count;     // slices
    std::size_t n;         // quotes of each, padding included
    const double* k;       // (count, n)
    const double* w;       // (count, n)
    const double* weight;  // (count, n), zero where a quote is to be ignored
    bool butterfly;
    double* parameters;   // (count, 5): a, b, rho, m, sigma
    double* rmse;         // (count,)
    std::int8_t* status;  // (count,)
    double* work;         // svi_scratch arrays of n rounded up to svi_lanes
};

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

// Where the units of the search lie: weighted mean of w, middle and half-width of the strikes.
struct SviFrame {
    double level, middle, half_width;
};

// The best slice for given m and sigma, in units of k.
VOLSCEN_INLINE SviSlice svi_slice_at(const SviSearch& s, const SviFrame& frame, double m, double sigma) {
    const SviLinear linear = svi_linear(s, m, sigma);
    return {frame.level - linear.d * linear.mean_y - linear.c * (1.0 + linear.mean_q), linear.d, linear.c,
            frame.middle + frame.half_width * m, frame.half_width * sigma};
}

// The best slice under Durrleman's condition where the least-squares slice breaks it: refitted from that
// slice, and from the best slices of the grid that obey it.
VOLSCEN_INLINE SviSlice svi_constrained(const SviSearch& s, const SviQuotes& quotes, const SviFrame& frame,
                                        const SviSlice& broken, double floor, bool search_grid) {
    const double low = frame.half_width * std::exp(svi_log_sigma_low);
    const double high = frame.half_width * std::exp(svi_log_sigma_high);
    constexpr std::size_t most = 3;
    SviSlice start[most] = {broken};
    double error[most] = {};
    std::size_t count = 1;
    for (std::size_t j = 0; search_grid && j < svi_grid_sigma; ++j) {
        for (std::size_t i = 0; i < svi_grid_m; ++i) {
            const SviSlice trial =
                svi_slice_at(s, frame, svi_grid_m_at(i), std::exp(svi_grid_log_sigma_at(j)));
            const double here = svi_squared_error(quotes, trial);
            if ((count == most && here >= error[most - 1]) || !butterfly_free(trial, floor)) {
                continue;
            }
            count += count < most ? 1 : 0;
            std::size_t place = count - 1;
            for (; place > 1 && error[place - 1] > here; --place) {
                start[place] = start[place - 1];
                error[place] = error[place - 1];
            }
            start[place] = trial;
            error[place] = here;
        }
    }
    SviSlice best = {frame.level, 0.0, 0.0, frame.middle, frame.half_width};
    double lowest = svi_squared_error(quotes, best);
    for (std::size_t c = 0; c < count; ++c) {
        const SviSlice fitted = butterfly_repaired(quotes, start[c], frame.level, floor, low, high);
        const double here = svi_squared_error(quotes, fitted);
        if (here < lowest) {
            lowest = here;
            best = fitted;
        }
    }
    return best;
}

// Number of distinct strikes among the first n of k, which are sorted in place.
VOLSCEN_INLINE std::size_t sorted_distinct(double* k, std::size_t n) {
    for (std::size_t i = 1; i < n; ++i) {
        const double value = k[i];
        std::size_t j = i;
        for (; j > 0 && k[j - 1] > value; --j) {
            k[j] = k[j - 1];
        }
        k[j] = value;
    }
    std::size_t distinct = n > 0 ? 1 : 0;
    for (std::size_t i = 1; i < n; ++i) {
        distinct += k[i] > k[i - 1] ? 1 : 0;
    }
    return distinct;
}

VOLSCEN_INLINE void svi_fit_one(const double* k, const double* w, const double* weight, std::size_t n,
                                bool butterfly, double* work, double* parameters, double* rmse,
                                std::int8_t* status) {
    const std::size_t padded = (n + svi_lanes - 1) / svi_lanes * svi_lanes;
    double* use_k = work;
    double* use_w = use_k + padded;
    double* use_weight = use_w + padded;
    double* x = use_weight + padded;
    double* centred = x + padded;
    double* y = centred + padded;
    double* q = y + padded;
    double* sorted = q + padded;
    std::size_t used = 0;
    double heaviest = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        heaviest = weight[i] > heaviest ? weight[i] : heaviest;
    }
    double total = 0.0, level = 0.0, smallest = std::numeric_limits<double>::max();
    for (std::size_t i = 0; i < n; ++i) {
        if (weight[i] > 0.0) {
            use_k[used] = k[i];
            use_w[used] = w[i];
            use_weight[used] = weight[i] / heaviest;  // no sum of weights overflows
            sorted[used] = k[i];
            total += use_weight[used];
            smallest = std::fmin(smallest, w[i]);
            ++used;
        }
    }
    if (used == 0) {
        for (std::size_t i = 0; i < 5; ++i) {
            parameters[i] = std::numeric_limits<double>::quiet_NaN();
        }
        *rmse = std::numeric_limits<double>::quiet_NaN();
        *status = static_cast<std::int8_t>(SviStatus::no_data);
        return;
    }
    for (std::size_t i = 0; i < used; ++i) {
        use_weight[i] /= total;
        level += use_weight[i] * use_w[i];
    }
    const std::size_t distinct = sorted_distinct(sorted, used);
    const double middle = 0.5 * (sorted[0] + sorted[used - 1]);
    const double half_width = distinct > 1 ? 0.5 * (sorted[used - 1] - sorted[0]) : 1.0;
    const std::size_t lanes_used = (used + svi_lanes - 1) / svi_lanes * svi_lanes;
    SviSearch search = {lanes_used, x, centred, use_weight, y, q, 0.0};
    for (std::size_t i = 0; i < lanes_used; ++i) {
        const bool real = i < used;
        use_weight[i] = real ? use_weight[i] : 0.0;
        x[i] = real ? (use_k[i] - middle) / half_width : 0.0;
        centred[i] = real ? use_w[i] - level : 0.0;
        search.variance += use_weight[i] * centred[i] * centred[i];
    }
    const SviQuotes quotes = {used, use_k, use_w, use_weight};
    SviCandidate found[svi_starts] = {};
    if (distinct >= 5) {
        svi_candidates(search, found);
    } else if (distinct == 4) {
        found[0] = svi_polish(search, {0.0, 0.0, 0.0}, false);
    }
    const SviFrame frame = {level, middle, half_width};
    SviSlice best = {level, 0.0, 0.0, middle, half_width};
    if (distinct >= 3) {
        best = svi_slice_at(search, frame, found[0].m, std::exp(found[0].log_sigma));
        if (butterfly && !butterfly_free(best, svi_floor * smallest)) {
            best = svi_constrained(search, quotes, frame, best, svi_floor * smallest, distinct >= 5);
        }
    }
    parameters[0] = best.a;
    parameters[1] = best.c / best.sigma;
    parameters[2] = best.c > 0.0 ? best.d / best.c : 0.0;
    parameters[3] = best.m;
    parameters[4] = best.sigma;
    *rmse = std::sqrt(svi_squared_error(quotes, best));
    *status = static_cast<std::int8_t>(distinct >= 5 ? SviStatus::ok : SviStatus::reduced);
}

struct SviBody {
    static VOLSCEN_INLINE void run(const SviTask* task) {
        for (std::size_t i = 0; i < task->count; ++i) {
            const std::size_t row = i * task->n;
            svi_fit_one(task->k + row, task->w + row, task->weight + row, task->n, task->butterfly,
                        task->work, task->parameters + 5 * i, task->rmse + i, task->status + i);
        }
    }
};

using SviFunction = void (*)(const SviTask*);

// The kernel at the instruction set in use.
SviFunction svi_fit();

}  // namespace volscen
