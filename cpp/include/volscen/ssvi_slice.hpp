// One slice of an SSVI surface in the coordinates (theta, p, q), and the set in which it is free of
// butterfly arbitrage.
//
// w(k) = (theta + rho psi k + sqrt((psi k + rho theta)^2 + (1 - rho^2) theta^2)) / 2, with p = psi (1 + rho)
// and q = psi (1 - rho): twice the slopes of w far to the right and to the left. In these coordinates the
// hyperbola is theta w = (w - p k/2) (w + q k/2), w is homogeneous of degree one, and what keeps two slices
// from crossing (Hendriks and Martini 2019) is nearly linear: p and q increase, (p + q)/theta does not.
#pragma once

#include <cmath>
#include <cstddef>

#include "volscen/dispatch.hpp"

namespace volscen {

constexpr std::size_t ssvi_lanes = 8;

// Quotes of one slice, padded to a multiple of ssvi_lanes with weights of zero.
struct SsviQuotes {
    std::size_t n;
    const double* __restrict k;
    const double* __restrict w;
    const double* __restrict weight;
};

struct SsviSlice {
    double theta, p, q;
};

// Half the weighted squared error, its gradient, and the lower triangle of the Gauss-Newton matrix:
// tt, pt, pp, qt, qp, qq.
struct SsviSums {
    double objective, g[3], h[6];
};

VOLSCEN_INLINE double ssvi_lane_sum(const double (&lane)[ssvi_lanes]) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// w(k); the other root of the quadratic serves where this one would cancel.
VOLSCEN_INLINE double ssvi_value(const SsviSlice& s, double k) {
    const double z = s.theta + 0.5 * (s.p - s.q) * k;
    const double c = s.p * s.q * k * k;
    const double root = __builtin_sqrt(z * z + c);
    return z > 0.0 ? 0.5 * (z + root) : 0.5 * c / (root - z);
}

VOLSCEN_INLINE double ssvi_objective(const SsviQuotes& quotes, const SsviSlice& s) {
    const double half = 0.5 * (s.p - s.q), product = s.p * s.q;
    double sum[ssvi_lanes] = {};
    for (std::size_t begin = 0; begin < quotes.n; begin += ssvi_lanes) {
        for (std::size_t l = 0; l < ssvi_lanes; ++l) {
            const std::size_t i = begin + l;
            const double k = quotes.k[i];
            const double z = s.theta + half * k;
            const double residual = 0.5 * (z + __builtin_sqrt(z * z + product * k * k)) - quotes.w[i];
            sum[l] += quotes.weight[i] * residual * residual;
        }
    }
    return 0.5 * ssvi_lane_sum(sum);
}

VOLSCEN_INLINE SsviSums ssvi_sums(const SsviQuotes& quotes, const SsviSlice& s) {
    const double half = 0.5 * (s.p - s.q), product = s.p * s.q, p = s.p, q = s.q;
    double sum[10][ssvi_lanes] = {};
    for (std::size_t begin = 0; begin < quotes.n; begin += ssvi_lanes) {
        // hot loop
        for (std::size_t l = 0; l < ssvi_lanes; ++l) {
            const std::size_t i = begin + l;
            const double k = quotes.k[i], weight = quotes.weight[i];
            const double z = s.theta + half * k;
            const double root = __builtin_sqrt(z * z + product * k * k);
            const double inverse = 1.0 / root;
            const double residual = 0.5 * (z + root) - quotes.w[i];
            const double jt = 0.5 + 0.5 * z * inverse;
            const double jp = 0.25 * k * (1.0 + (z + q * k) * inverse);
            const double jq = 0.25 * k * ((p * k - z) * inverse - 1.0);
            const double wr = weight * residual, wt = weight * jt, wp = weight * jp, wq = weight * jq;
            sum[0][l] += wr * residual;
            sum[1][l] += wr * jt;
            sum[2][l] += wr * jp;
            sum[3][l] += wr * jq;
            sum[4][l] += wt * jt;
            sum[5][l] += wp * jt;
            sum[6][l] += wp * jp;
            sum[7][l] += wq * jt;
            sum[8][l] += wq * jp;
            sum[9][l] += wq * jq;
        }
    }
    SsviSums out;
    out.objective = 0.5 * ssvi_lane_sum(sum[0]);
    for (std::size_t i = 0; i < 3; ++i) {
        out.g[i] = ssvi_lane_sum(sum[1 + i]);
    }
    for (std::size_t i = 0; i < 6; ++i) {
        out.h[i] = ssvi_lane_sum(sum[4 + i]);
    }
    return out;
}

// Far slopes of at most ssvi_slope / 2, below Lee's bound of 2 (R. Lee 2004).
constexpr double ssvi_slope = 3.999;
// q >= ssvi_narrow p and p >= ssvi_narrow q: abs(rho) stays below 0.9998, where w > 0.
constexpr double ssvi_narrow = 1e-4;

// Largest psi^2/theta without butterfly arbitrage as psi tends to 0, for rho = r >= 0; a cubic that lies
// below it by up to 1.2%, and above its value at abs(r) where r < 0.
VOLSCEN_INLINE double ssvi_intercept(double r) { return 19.797 + r * (-28.75 + r * (23.08 - 10.128 * r)); }
VOLSCEN_INLINE double ssvi_intercept_slope(double r) { return -28.75 + r * (46.16 - 30.384 * r); }

// A sufficient condition for no butterfly arbitrage is value >= 0 for side = 1 and side = -1, with
// psi (1 + abs(rho)) < 4.
//
// For given rho and x = psi k / theta Durrleman's function is g = G(x) - u H(x) - v L(x) with u = psi^2/theta
// and v = psi^2: the (u, v) without arbitrage are a convex set (an intersection of half-planes). It holds
// (ssvi_intercept, 0) and, by Gatheral and Jacquier (2014, theorem 4.2), (4/(1 + abs(rho)),
// 16/(1 + abs(rho))^2), hence what lies under the line between the two.
struct SsviButterfly {
    double value, theta, psi, rho;  // and its derivatives
};

VOLSCEN_INLINE SsviButterfly ssvi_butterfly(double theta, double psi, double rho, double side) {
    const double r = side * rho, wing = psi * (1.0 + r);
    const double left = 1.0 - wing * wing / 16.0;
    const double u = ssvi_intercept(r);
    const double a = u * left + 0.25 * psi * wing;
    SsviButterfly out;
    out.value = theta * a - psi * psi;
    out.theta = a;
    out.psi = theta * wing * (0.5 - 0.125 * u * (1.0 + r)) - 2.0 * psi;
    out.rho = side * theta * (ssvi_intercept_slope(r) * left - 0.125 * u * wing * psi + 0.25 * psi * psi);
    return out;
}

}  // namespace volscen
