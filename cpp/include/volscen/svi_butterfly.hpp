// Durrleman's condition on a raw-SVI slice, g >= 0 on the whole line (Durrleman 2005; Gatheral and Jacquier
// 2014):
//
// g(k) = (1 - k w'/(2w))^2 - (w'^2/4)(1/w + 1/4) + w''/2.
//
// Points are k = m + sigma y. With y = sinh(u) the slice is a + R cosh(u - u0), R = sqrt(c^2 - d^2), so that
// nothing happens in less than a unit of u, but near the minimum of a slice with a < 0, where the unit is
// sqrt(2 min(w)/R): that part has points of its own. Beyond the points the slice is two lines, on which
// 4 w^2 g is a parabola in w, open upwards by Lee's bound b (1 + |rho|) < 2 (Lee 2004): where its vertex lies
// out there, as on slices of strikes very close together, the vertex decides.
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

// What g keeps above zero, for rounding in the parameters and the distance of the closest points.
constexpr double svi_margin = 1e-7;

constexpr std::size_t svi_global_points = 256;  // to svi_reach sigma on both sides of m
constexpr double svi_reach = 1e8;
constexpr std::size_t svi_local_points = 192;  // to 1e5 units on both sides of the minimum

// The same for fits, whose last word is a check on the points above.
constexpr std::size_t svi_coarse_points = 112;

template <std::size_t N>
struct SviTable {
    std::array<double, N> y, z, inverse_z;
    explicit SviTable(double reach);
};

struct SviPoints {
    SviTable<svi_global_points> global;
    SviTable<svi_local_points> local;
    SviTable<svi_coarse_points> coarse, coarse_local;
    SviPoints();
};

const SviPoints& svi_points();

VOLSCEN_INLINE double svi_root(const SviSlice& p) {
    const double square = (p.c - p.d) * (p.c + p.d);
    return square > 0.0 ? std::sqrt(square) : 0.0;
}

VOLSCEN_INLINE double svi_minimum(const SviSlice& p) { return p.a + svi_root(p); }

// g at y, and lead = (1 - k w'/(2w)) - |w'|/4, which is positive on a slice without butterfly arbitrage
// (Fukasawa 2012): where it is not, g may still be, but turns negative nearby.
struct SviShape {
    double g, lead;
};

VOLSCEN_INLINE SviShape svi_shape(const SviSlice& p, double over_sigma, double floor, double y, double z,
                                  double inverse_z) {
    const double value = p.a + p.d * y + p.c * z;
    const double over = 1.0 / (value < floor ? floor : value);
    const double first = (p.d + p.c * (y * inverse_z)) * over_sigma;
    const double second = p.c * (inverse_z * inverse_z * inverse_z) * (over_sigma * over_sigma);
    const double lead = 1.0 - 0.5 * (p.m + p.sigma * y) * first * over;
    return {lead * lead - 0.25 * first * first * (over + 0.25) + 0.5 * second,
            lead - 0.25 * __builtin_fabs(first)};
}

// One row of points with g and lead at each.
template <std::size_t N>
struct SviScan {
    static constexpr std::size_t size = N;
    double y[N], g[N], lead[N];
};

template <std::size_t N>
VOLSCEN_INLINE void svi_scan(const SviSlice& p, double floor, const SviTable<N>& at, SviScan<N>& out) {
    const double over_sigma = 1.0 / p.sigma;
    for (std::size_t j = 0; j < N; ++j) {
        const SviShape shape = svi_shape(p, over_sigma, floor, at.y[j], at.z[j], at.inverse_z[j]);
        out.y[j] = at.y[j];
        out.g[j] = shape.g;
        out.lead[j] = shape.lead;
    }
}

template <std::size_t N>
VOLSCEN_INLINE void svi_fill(const SviSlice& p, double floor, SviScan<N>& out) {
    const double over_sigma = 1.0 / p.sigma;
    for (std::size_t j = 0; j < N; ++j) {
        const double z = __builtin_sqrt(out.y[j] * out.y[j] + 1.0);
        const SviShape shape = svi_shape(p, over_sigma, floor, out.y[j], z, 1.0 / z);
        out.g[j] = shape.g;
        out.lead[j] = shape.lead;
    }
}

// The points around the minimum; false where the global ones are close enough.
template <std::size_t N>
VOLSCEN_INLINE bool svi_scan_minimum(const SviSlice& p, double floor, const SviTable<N>& at,
                                     SviScan<N>& out) {
    const double root = svi_root(p);
    double lowest = p.a + root;
    lowest = lowest < floor ? floor : lowest;
    if (!(4.0 * lowest < root)) {
        return false;
    }
    const double centre = -p.d / root, unit = p.c / root * std::sqrt(2.0 * lowest / root);
    for (std::size_t j = 0; j < N; ++j) {
        out.y[j] = centre + unit * at.y[j];
    }
    svi_fill(p, floor, out);
    return true;
}

template <std::size_t N>
VOLSCEN_INLINE bool svi_all_free(const SviScan<N>& scan) {
    double lowest = 1.0, lead = 1.0;
    for (std::size_t j = 0; j < N; ++j) {
        lowest = scan.g[j] < lowest ? scan.g[j] : lowest;
        lead = scan.lead[j] < lead ? scan.lead[j] : lead;
    }
    return lowest >= svi_margin && lead > 0.0;
}

// Whether g >= 0 between the neighbours of each low point, by closer and closer points there.
template <std::size_t N>
VOLSCEN_INLINE bool svi_free_between(const SviSlice& p, double floor, const SviScan<N>& scan) {
    for (std::size_t j = 1; j + 1 < N; ++j) {
        if (!(scan.g[j] < 0.1 && scan.g[j] <= scan.g[j - 1] && scan.g[j] <= scan.g[j + 1])) {
            continue;
        }
        double left = scan.y[j - 1], right = scan.y[j + 1];
        for (int zoom = 0; zoom < 3; ++zoom) {
            SviScan<32> close;
            const double step = (right - left) / static_cast<double>(close.size - 1);
            for (std::size_t i = 0; i < close.size; ++i) {
                close.y[i] = left + step * static_cast<double>(i);
            }
            svi_fill(p, floor, close);
            if (!svi_all_free(close)) {
                return false;
            }
            std::size_t lowest = 0;
            for (std::size_t i = 1; i < close.size; ++i) {
                lowest = close.g[i] < close.g[lowest] ? i : lowest;
            }
            left = close.y[lowest] - step;
            right = close.y[lowest] + step;
        }
    }
    return true;
}

// Whether g >= 0 on the line w = intercept + slope k, from the total variance `edge` on. There
// 4 w^2 g = (w + intercept)^2 - slope^2 w (1 + w/4).
VOLSCEN_INLINE bool svi_free_on_line(double intercept, double slope, double edge) {
    const double square = slope * slope, lead = 1.0 - 0.25 * square, half = intercept - 0.5 * square;
    const double w = -half / lead;
    return !(w > edge) || intercept * intercept + w * half >= 4.0 * svi_margin * w * w;
}

VOLSCEN_INLINE bool svi_free_beyond(const SviSlice& p) {
    const double right = (p.d + p.c) / p.sigma, left = (p.d - p.c) / p.sigma;
    return svi_free_on_line(p.a - right * p.m, right, p.a + (p.c + p.d) * svi_reach) &&
           svi_free_on_line(p.a - left * p.m, left, p.a + (p.c - p.d) * svi_reach);
}

// Whether the slice is at least `floor` > 0 and free of butterfly arbitrage on the whole line.
VOLSCEN_INLINE bool butterfly_free(const SviSlice& p, double floor) {
    const double steepest = (p.c + std::fabs(p.d)) / p.sigma;
    if (!(p.c >= std::fabs(p.d)) || !(svi_minimum(p) >= floor) || !(steepest <= svi_slope_limit) ||
        !svi_free_beyond(p)) {
        return false;
    }
    SviScan<svi_global_points> scan;
    svi_scan(p, floor, svi_points().global, scan);
    if (!svi_all_free(scan) || !svi_free_between(p, floor, scan)) {
        return false;
    }
    SviScan<svi_local_points> local;
    return !svi_scan_minimum(p, floor, svi_points().local, local) ||
           (svi_all_free(local) && svi_free_between(p, floor, local));
}

}  // namespace volscen
