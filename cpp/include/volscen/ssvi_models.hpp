// The two surfaces as least-squares problems for ssvi_minimise.
//
// eSSVI: theta, p and q of every slice, free but for the inequalities. SSVI (Gatheral and Jacquier 2014):
// theta of every slice, one rho, and psi = eta (theta / (1 + theta))^(1 - gamma), their power law.
#pragma once

#include <cmath>
#include <cstddef>

#include "volscen/ssvi_interior.hpp"
#include "volscen/ssvi_slice.hpp"

namespace volscen {

// Neighbouring slices keep this much, relatively, of each inequality, so that no rounding crosses them.
constexpr double ssvi_margin = 1e-9;
constexpr double ssvi_theta_margin = 1e-7;  // of SSVI, whose p and q grow more slowly than theta
constexpr double ssvi_gamma_low = 0.01;
constexpr double ssvi_gamma_high = 0.99;
constexpr double ssvi_log_eta_low = -16.0;  // flat for all that quotes can tell

// What both models read: the slices with their quotes, and the start.
struct SsviData {
    std::size_t slices;
    const SsviQuotes* quotes;
    const double* theta;  // of the start, increasing
    const double* psi;
    const double* share;           // weight of each slice in the objective
    const unsigned char* reduced;  // slices that their quotes leave undetermined
    const double* aim_p;           // where such a slice is drawn to, weakly
    const double* aim_q;
};

// Weight of what decides where the quotes do not, relative to theirs.
constexpr double ssvi_ridge = 1e-8;

struct SsviRowFiller {
    SsviRow* row;
    VOLSCEN_INLINE void begin(double value) {
        row->value = value;
        row->count = 0;
    }
    VOLSCEN_INLINE SsviRowFiller& add(std::size_t index, double slope) {
        row->index[row->count] = index;
        row->slope[row->count] = slope;
        ++row->count;
        return *this;
    }
    VOLSCEN_INLINE void end() { ++row; }
};

VOLSCEN_INLINE void ssvi_add_block(const SsviSkyline& h, std::size_t at, const double (&lower)[6]) {
    h.row(at)[at] += lower[0];
    h.row(at + 1)[at] += lower[1];
    h.row(at + 1)[at + 1] += lower[2];
    h.row(at + 2)[at] += lower[3];
    h.row(at + 2)[at + 1] += lower[4];
    h.row(at + 2)[at + 2] += lower[5];
}

struct EssviModel {
    static constexpr std::size_t rows_of_slice = 6, rows_of_pair = 3;
    SsviData data;
    std::size_t n, m, size;

    explicit EssviModel(const SsviData& d)
        : data(d),
          n(3 * d.slices),
          m(rows_of_slice * d.slices + rows_of_pair * (d.slices - 1) + 2),
          size(0) {}

    // Columns that row i of the matrix reaches back to: the slice before.
    VOLSCEN_INLINE static std::size_t first_of(std::size_t, std::size_t i) {
        return i < 3 ? 0 : 3 * (i / 3 - 1);
    }

    VOLSCEN_INLINE static SsviSlice slice(const double* x, std::size_t i) {
        return {x[3 * i], x[3 * i + 1], x[3 * i + 2]};
    }

    VOLSCEN_INLINE double pull(std::size_t i) const {
        return data.reduced[i] ? ssvi_ridge * data.share[i] / (data.psi[i] * data.psi[i]) : 0.0;
    }

    VOLSCEN_INLINE double objective(const double* x) const {
        double sum = 0.0;
        for (std::size_t i = 0; i < data.slices; ++i) {
            const SsviSlice s = slice(x, i);
            const double dp = s.p - data.aim_p[i], dq = s.q - data.aim_q[i];
            sum += ssvi_objective(data.quotes[i], s) + 0.5 * pull(i) * (dp * dp + dq * dq);
        }
        return sum;
    }

    VOLSCEN_INLINE double linearise(const double* x, double* g, const SsviSkyline& h) const {
        for (std::size_t i = 0; i < size; ++i) {
            h.a[i] = 0.0;
        }
        double sum = 0.0;
        for (std::size_t i = 0; i < data.slices; ++i) {
            const SsviSlice s = slice(x, i);
            SsviSums sums = ssvi_sums(data.quotes[i], s);
            const double k = pull(i), dp = s.p - data.aim_p[i], dq = s.q - data.aim_q[i];
            sums.h[2] += k;
            sums.h[5] += k;
            sum += sums.objective + 0.5 * k * (dp * dp + dq * dq);
            g[3 * i] = sums.g[0];
            g[3 * i + 1] = sums.g[1] + k * dp;
            g[3 * i + 2] = sums.g[2] + k * dq;
            ssvi_add_block(h, 3 * i, sums.h);
        }
        return sum;
    }

    VOLSCEN_INLINE void values(const double* x, double* value) const {
        for (std::size_t i = 0; i < data.slices; ++i) {
            const SsviSlice s = slice(x, i);
            const double psi = 0.5 * (s.p + s.q), rho = (s.p - s.q) / (s.p + s.q);
            const double unit = 1.0 / data.psi[i], per_theta = 0.25 / data.theta[i];
            if (i > 0) {
                const SsviSlice b = slice(x, i - 1);
                *value++ = (s.p - (1.0 + ssvi_margin) * b.p) * unit;
                *value++ = (s.q - (1.0 + ssvi_margin) * b.q) * unit;
                *value++ = ((b.p + b.q) * s.theta - (1.0 + ssvi_margin) * (s.p + s.q) * b.theta) * 0.5 /
                           (data.psi[i - 1] * data.theta[i]);
            } else {
                *value++ = s.p * unit - 1e-8;
                *value++ = s.q * unit - 1e-8;
            }
            *value++ = (s.q - ssvi_narrow * s.p) * unit;
            *value++ = (s.p - ssvi_narrow * s.q) * unit;
            *value++ = 1.0 - s.p / ssvi_slope;
            *value++ = 1.0 - s.q / ssvi_slope;
            *value++ = ssvi_butterfly(s.theta, psi, rho, 1.0).value * per_theta;
            *value++ = ssvi_butterfly(s.theta, psi, rho, -1.0).value * per_theta;
        }
    }

    VOLSCEN_INLINE void rows(const double* x, SsviRow* row) const {
        SsviRowFiller to = {row};
        for (std::size_t i = 0; i < data.slices; ++i) {
            const std::size_t t = 3 * i, p = t + 1, q = t + 2;
            const SsviSlice s = slice(x, i);
            const double sum = s.p + s.q, psi = 0.5 * sum, rho = (s.p - s.q) / sum;
            const double unit = 1.0 / data.psi[i], per_theta = 0.25 / data.theta[i];
            constexpr double more = 1.0 + ssvi_margin;
            if (i > 0) {
                const SsviSlice b = slice(x, i - 1);
                to.begin((s.p - more * b.p) * unit);
                to.add(t - 2, -more * unit).add(p, unit).end();
                to.begin((s.q - more * b.q) * unit);
                to.add(t - 1, -more * unit).add(q, unit).end();
                const double c = 0.5 / (data.psi[i - 1] * data.theta[i]);
                to.begin(((b.p + b.q) * s.theta - more * sum * b.theta) * c);
                to.add(t - 3, -more * sum * c).add(t - 2, s.theta * c).add(t - 1, s.theta * c);
                to.add(t, (b.p + b.q) * c).add(p, -more * b.theta * c).add(q, -more * b.theta * c).end();
            } else {
                to.begin(s.p * unit - 1e-8);
                to.add(p, unit).end();
                to.begin(s.q * unit - 1e-8);
                to.add(q, unit).end();
            }
            to.begin((s.q - ssvi_narrow * s.p) * unit);
            to.add(p, -ssvi_narrow * unit).add(q, unit).end();
            to.begin((s.p - ssvi_narrow * s.q) * unit);
            to.add(p, unit).add(q, -ssvi_narrow * unit).end();
            to.begin(1.0 - s.p / ssvi_slope);
            to.add(p, -1.0 / ssvi_slope).end();
            to.begin(1.0 - s.q / ssvi_slope);
            to.add(q, -1.0 / ssvi_slope).end();
            const double rho_p = 2.0 * s.q / (sum * sum), rho_q = -2.0 * s.p / (sum * sum);
            for (const double side : {1.0, -1.0}) {
                const SsviButterfly b = ssvi_butterfly(s.theta, psi, rho, side);
                to.begin(b.value * per_theta);
                to.add(t, b.theta * per_theta).add(p, (0.5 * b.psi + rho_p * b.rho) * per_theta);
                to.add(q, (0.5 * b.psi + rho_q * b.rho) * per_theta).end();
            }
        }
    }
};

// x: theta of each slice, then rho, ln eta, gamma.
struct SsviModel {
    static constexpr std::size_t rows_of_slice = 5;
    SsviData data;
    std::size_t n, m, size;

    bool determined;           // a slice has three strikes
    double start[2], pull[3];  // rho and ln eta; weights of what draws rho, ln eta and gamma

    SsviModel(const SsviData& d, double rho, double log_eta)
        : data(d), n(d.slices + 3), m(rows_of_slice * d.slices + 5), size(0), start{rho, log_eta} {
        determined = false;
        for (std::size_t i = 0; i < d.slices; ++i) {
            determined = determined || !d.reduced[i];
        }
        pull[0] = pull[1] = determined ? 0.0 : 100.0 * ssvi_ridge;
        pull[2] = determined ? 0.1 * ssvi_ridge : 100.0 * ssvi_ridge;
    }

    VOLSCEN_INLINE static std::size_t first_of(std::size_t slices, std::size_t i) {
        return i == 0 || i >= slices ? 0 : i - 1;
    }

    struct Point {
        SsviSlice slice;
        double psi, log_ratio, growth;  // growth = d ln psi / d theta
    };

    VOLSCEN_INLINE Point point(const double* x, std::size_t i) const {
        const double theta = x[i], rho = x[data.slices], gamma = x[data.slices + 2];
        Point out;
        out.log_ratio = std::log(theta / (1.0 + theta));
        out.growth = (1.0 - gamma) / (theta * (1.0 + theta));
        out.psi = std::exp(x[data.slices + 1] + (1.0 - gamma) * out.log_ratio);
        out.slice = {theta, out.psi * (1.0 + rho), out.psi * (1.0 - rho)};
        return out;
    }

    // Draws to gamma = 1/2 and, where no slice determines its smile, to the start.
    VOLSCEN_INLINE double ridge(const double* x, double* g, const SsviSkyline* h) const {
        const std::size_t r = data.slices;
        const double off[3] = {x[r] - start[0], x[r + 1] - start[1], x[r + 2] - 0.5};
        double sum = 0.0;
        for (std::size_t i = 0; i < 3; ++i) {
            sum += 0.5 * pull[i] * off[i] * off[i];
            if (g != nullptr) {
                g[r + i] += pull[i] * off[i];
                h->row(r + i)[r + i] += pull[i];
            }
        }
        return sum;
    }

    VOLSCEN_INLINE double objective(const double* x) const {
        double sum = ridge(x, nullptr, nullptr);
        for (std::size_t i = 0; i < data.slices; ++i) {
            sum += ssvi_objective(data.quotes[i], point(x, i).slice);
        }
        return sum;
    }

    VOLSCEN_INLINE double linearise(const double* x, double* g, const SsviSkyline& h) const {
        for (std::size_t i = 0; i < size; ++i) {
            h.a[i] = 0.0;
        }
        for (std::size_t i = 0; i < n; ++i) {
            g[i] = 0.0;
        }
        double total = ridge(x, g, &h);
        for (std::size_t i = 0; i < data.slices; ++i) {
            const Point at = point(x, i);
            const SsviSums s = ssvi_sums(data.quotes[i], at.slice);
            total += s.objective;
            const double p = at.slice.p, q = at.slice.q;
            // Derivatives of theta, p and q by theta, rho, ln eta and gamma.
            const double j[4][3] = {{1.0, at.growth * p, at.growth * q},
                                    {0.0, at.psi, -at.psi},
                                    {0.0, p, q},
                                    {0.0, -at.log_ratio * p, -at.log_ratio * q}};
            const std::size_t index[4] = {i, data.slices, data.slices + 1, data.slices + 2};
            for (std::size_t a = 0; a < 4; ++a) {
                const double* ja = j[a];
                g[index[a]] += ja[0] * s.g[0] + ja[1] * s.g[1] + ja[2] * s.g[2];
                const double ha[3] = {ja[0] * s.h[0] + ja[1] * s.h[1] + ja[2] * s.h[3],
                                      ja[0] * s.h[1] + ja[1] * s.h[2] + ja[2] * s.h[4],
                                      ja[0] * s.h[3] + ja[1] * s.h[4] + ja[2] * s.h[5]};
                for (std::size_t b = 0; b <= a; ++b) {
                    h.row(index[a])[index[b]] += ha[0] * j[b][0] + ha[1] * j[b][1] + ha[2] * j[b][2];
                }
            }
        }
        return total;
    }

    VOLSCEN_INLINE double order(const double* x, std::size_t i) const {
        return (i > 0 ? x[i] - (1.0 + ssvi_theta_margin) * x[i - 1] : x[0]) / data.theta[i];
    }

    VOLSCEN_INLINE void values(const double* x, double* value) const {
        const double rho = x[data.slices], gamma = x[data.slices + 2];
        constexpr double limit = (1.0 - ssvi_narrow) / (1.0 + ssvi_narrow);
        *value++ = limit - rho;
        *value++ = limit + rho;
        *value++ = gamma - ssvi_gamma_low;
        *value++ = ssvi_gamma_high - gamma;
        *value++ = x[data.slices + 1] - ssvi_log_eta_low;
        for (std::size_t i = 0; i < data.slices; ++i) {
            *value++ = order(x, i);
            if (!(x[i] > 0.0)) {  // refused by the line above
                for (std::size_t j = 0; j < 4; ++j) {
                    *value++ = -1.0;
                }
                continue;
            }
            const Point at = point(x, i);
            *value++ = 1.0 - at.slice.p / ssvi_slope;
            *value++ = 1.0 - at.slice.q / ssvi_slope;
            for (const double side : {1.0, -1.0}) {
                *value++ = ssvi_butterfly(x[i], at.psi, rho, side).value * 0.25 / data.theta[i];
            }
        }
    }

    VOLSCEN_INLINE void rows(const double* x, SsviRow* row) const {
        SsviRowFiller to = {row};
        const std::size_t r = data.slices;
        const double rho = x[r], gamma = x[r + 2];
        constexpr double limit = (1.0 - ssvi_narrow) / (1.0 + ssvi_narrow);
        to.begin(limit - rho);
        to.add(r, -1.0).end();
        to.begin(limit + rho);
        to.add(r, 1.0).end();
        to.begin(gamma - ssvi_gamma_low);
        to.add(r + 2, 1.0).end();
        to.begin(ssvi_gamma_high - gamma);
        to.add(r + 2, -1.0).end();
        to.begin(x[r + 1] - ssvi_log_eta_low);
        to.add(r + 1, 1.0).end();
        for (std::size_t i = 0; i < data.slices; ++i) {
            const double unit = 1.0 / data.theta[i];
            to.begin(order(x, i));
            if (i > 0) {
                to.add(i - 1, -(1.0 + ssvi_theta_margin) * unit);
            }
            to.add(i, unit).end();
            const Point at = point(x, i);
            for (const double side : {1.0, -1.0}) {
                const double wing = (side > 0.0 ? at.slice.p : at.slice.q) / ssvi_slope;
                to.begin(1.0 - wing);
                to.add(i, -wing * at.growth).add(r, -side * at.psi / ssvi_slope).add(r + 1, -wing);
                to.add(r + 2, wing * at.log_ratio).end();
            }
            for (const double side : {1.0, -1.0}) {
                const SsviButterfly b = ssvi_butterfly(x[i], at.psi, rho, side);
                const double c = 0.25 * unit, by_log = b.psi * at.psi * c;
                to.begin(b.value * c);
                to.add(i, b.theta * c + by_log * at.growth).add(r, b.rho * c).add(r + 1, by_log);
                to.add(r + 2, -by_log * at.log_ratio).end();
            }
        }
    }
};

}  // namespace volscen
