// First approximations of an implied vol, to about 2e-4, and the first correction of them, to full accuracy.
//
// Bachelier's option of time value v, at a distance m from the money, is v = s phi(a) y(a) with a = m/s and
// y(a) = 1 - a R(a), R being Mills' ratio: a is a function of m/v alone. Black's time value over
// sqrt(F K), at x = ln(hi/lo), is s phi(a) exp(-s^2/8) times y(a) and small terms in s^2 (Taylor's series of
// Mills' ratio about x/s), so that Bachelier's s needs a factor 1 + s^2 C only.
#pragma once

#include <cstddef>

#include "volscen/exact.hpp"

namespace volscen {

// ln(2^600), the scale of tiny numbers.
constexpr double log_scale = 600.0 * (coefficients::ln2_head_double + coefficients::ln2_tail_double);

// Logarithm of a positive normal number to about 1e-5.
VOLSCEN_INLINE double rough_logarithm(double x) {
    constexpr std::uint64_t root_half = 0x3fe6a09e667f3bcdULL;  // sqrt(1/2)
    constexpr std::uint64_t one = 0x3ff0000000000000ULL;
    const std::uint64_t bits = bit_cast<std::uint64_t>(x);
    const std::uint64_t biased = (bits + (one - root_half)) >> 52;
    const double f = bit_cast<double>(bits - ((biased - 1023) << 52)) - 1.0;
    const double k = (bit_cast<double>(biased | 0x4330000000000000ULL) - 4503599627370496.0) - 1023.0;
    return k * coefficients::ln2_head_double + f * horner(f, coefficients::rough_log);
}

// The variables of the rational functions below, for the distance m >= 0 from the money and the time value
// v 2^-shift: m swell/v where that is small, and the root of its logarithm where it is not.
struct BachelierRatio {
    double near, root;
};

VOLSCEN_INLINE BachelierRatio bachelier_ratio(double m, double v, double swell, double shift) {
    const double quotient = m * swell / v;
    const bool scaled = shift > 0.0;
    const double grown = scaled ? quotient * 0x1p600 : quotient;
    const double ratio = shift > 600.0 ? grown * 0x1p600 : grown;
    // Where the ratio is too small for a root the root is not used.
    const double safe =
        ratio < coefficients::bachelier_seed_split ? coefficients::bachelier_seed_split : quotient;
    const double log_ratio = rough_logarithm(safe) + shift * (log_scale / 600.0);
    return {ratio, __builtin_sqrt(log_ratio)};
}

// Bachelier's s, to 2e-5.
VOLSCEN_INLINE double bachelier_seed(double m, double v, double swell, double shift, BachelierRatio ratio) {
    const bool near = ratio.near < coefficients::bachelier_seed_split;
    const double near_p = horner(ratio.near, coefficients::bachelier_near_p);
    const double near_q = horner(ratio.near, coefficients::bachelier_near_q);
    const double far_p = horner(ratio.root, coefficients::bachelier_far_p);
    const double far_q = horner(ratio.root, coefficients::bachelier_far_q);
    // m/a, written so that m = 0 needs no exception.
    const double s = (near ? v * near_q : m * far_q) / (near ? swell * near_p : far_p);
    // Only the near branch has the scale of v.
    const double scale = near ? shift : 0.0;
    const double shrunk = scale > 0.0 ? s * 0x1p-600 : s;
    return scale > 600.0 ? shrunk * 0x1p-600 : shrunk;
}

// Black's s from Bachelier's, for the latter up to coefficients::black_seed_top.
VOLSCEN_INLINE double black_seed(double x, double s) {
    const double z = s / (s + coefficients::black_seed_pole * x);
    const double w = s * s;
    const double c = horner(z, coefficients::black_seed_0) +
                     w * (horner(z, coefficients::black_seed_1) + w * horner(z, coefficients::black_seed_2));
    return s + s * (w * (z * c));
}

// y(a) = 1 - a R(a), a >= 0.
VOLSCEN_INLINE double mills_slope(double a) {
    return horner(a, coefficients::mills_slope_p) / horner(a, coefficients::mills_slope_q);
}

// ln(target/value) for numbers that are close.
VOLSCEN_INLINE double log_of_near(double target, double value) {
    const double z = (target - value) / (target + value);
    const double w = z * z;
    return 2.0 * z *
           (1.0 + w * (1.0 / 3.0 + w * (1.0 / 5.0 + w * (1.0 / 7.0 + w * (1.0 / 9.0 + w * (1.0 / 11.0))))));
}

// The relative change of s that changes the logarithm of a value by `distance`, to fifth order: Taylor's
// series of the inverse function. `flow` is value/(s value'); c, c2, c3 are s^k value^(k+1)/value'.
VOLSCEN_INLINE double inverse_step(double distance, double flow, double c, double c2, double c3) {
    const double k2 = c * flow - 1.0;
    const double k3 = (c2 * flow - 3.0 * c) * flow + 2.0;
    const double k4 = ((c3 * flow - (4.0 * c2 + 3.0 * c * c)) * flow + 12.0 * c) * flow - 6.0;
    const double b1 = -0.5 * k2;
    const double b2 = 0.5 * k2 * k2 - (1.0 / 6.0) * k3;
    const double b3 = k2 * ((5.0 / 12.0) * k3 - 0.625 * k2 * k2) - (1.0 / 24.0) * k4;
    return distance * flow * (1.0 + distance * (b1 + distance * (b2 + distance * b3)));
}

// s (1 + change)/sqrt(tau), s of 26 bits; squares keep all but two roundings out.
VOLSCEN_INLINE double vol_of_total(double s, double change, double tau) {
    const bool small = s < 1e-90, brief = tau < 1e-100, lasting = tau > 1e100;
    const double big = small ? s * 0x1p512 : s;
    const double square = big * big;
    const double long_tau = brief ? tau * 0x1p600 : tau;
    const double fair_tau = lasting ? tau * 0x1p-600 : long_tau;
    const double vol = __builtin_sqrt((square + square * (change * (2.0 + change))) / fair_tau);
    const double small_vol = small ? vol * 0x1p-512 : vol;
    return small_vol * (brief ? 0x1p300 : (lasting ? 0x1p-300 : 1.0));
}

}  // namespace volscen
