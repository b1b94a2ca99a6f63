// Elementary and error functions without branches, written so that loops over them vectorise, in plain
// arithmetic: each gives the same bits on every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "volscen/coefficients.hpp"
#include "volscen/dispatch.hpp"

namespace volscen {

template <class T>
struct Constants;

template <>
struct Constants<double> {
    using Bits = std::uint64_t;
    static constexpr const double (&erfcx_p)[11] = coefficients::erfcx_p_double;
    static constexpr const double (&erfcx_q)[12] = coefficients::erfcx_q_double;
    static constexpr const double (&exp)[11] = coefficients::exp_double;
    static constexpr double ln2_head = coefficients::ln2_head_double;
    static constexpr double ln2_tail = coefficients::ln2_tail_double;
    static constexpr double round_magic = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double exp_low = -746.0;                  // exp is 0 below, infinite above
    static constexpr double exp_high = 710.0;
    static constexpr double erfcx_top = 1e10;
    static constexpr int mantissa = 52;
    static constexpr Bits bias = 1023;
};

template <>
struct Constants<float> {
    using Bits = std::uint32_t;
    static constexpr const float (&erfcx_p)[6] = coefficients::erfcx_p_float;
    static constexpr const float (&erfcx_q)[7] = coefficients::erfcx_q_float;
    static constexpr const float (&exp)[6] = coefficients::exp_float;
    static constexpr float ln2_head = coefficients::ln2_head_float;
    static constexpr float ln2_tail = coefficients::ln2_tail_float;
    static constexpr float round_magic = 12582912.0F;  // 1.5 * 2^23
    static constexpr float exp_low = -104.0F;
    static constexpr float exp_high = 89.0F;
    static constexpr float erfcx_top = 1e4F;
    static constexpr int mantissa = 23;
    static constexpr Bits bias = 127;
};

template <class To, class From>
VOLSCEN_INLINE To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

// Horner's rule by recursion: a loop in its place stops the vectorisation of the caller's loop.
template <std::size_t I, class T, std::size_t N>
VOLSCEN_INLINE T horner_from(T x, const T (&c)[N]) {
    if constexpr (I + 1 == N) {
        return c[I];
    } else {
        return c[I] + x * horner_from<I + 1>(x, c);
    }
}

template <class T, std::size_t N>
VOLSCEN_INLINE T horner(T x, const T (&c)[N]) {
    return horner_from<0>(x, c);
}

template <class T>
VOLSCEN_INLINE T absolute(T x) {
    return x < T(0) ? -x : x;
}

// exp(x) to about one unit in the last place, with gradual underflow; NaN stays NaN.
template <class T>
VOLSCEN_INLINE T exponential(T x) {
    using C = Constants<T>;
    using Bits = typename C::Bits;
    x = x < C::exp_low ? C::exp_low : x;
    x = x > C::exp_high ? C::exp_high : x;
    const T shifted = x * T(coefficients::log2_e) + C::round_magic;
    const T n = shifted - C::round_magic;
    const T r = (x - n * C::ln2_head) - n * C::ln2_tail;
    const T p = T(1) + (r + r * r * horner(r, C::exp));
    // 2^n as a product of two powers, so that neither factor leaves the normal range.
    const Bits whole = bit_cast<Bits>(shifted) - bit_cast<Bits>(C::round_magic);
    const Bits half = ((whole + 4 * (C::bias + 1)) >> 1) - 2 * (C::bias + 1);
    const T scale = bit_cast<T>((half + C::bias) << C::mantissa);
    const T rest = bit_cast<T>((whole - half + C::bias) << C::mantissa);
    return p * scale * rest;
}

// log((x + carry) 2^-shift) from the bits of a positive normal x; the carry is small beside x.
VOLSCEN_INLINE double log_with_carry(double x, double carry, double shift) {
    constexpr std::uint64_t root_half = 0x3fe6a09e667f3bcdULL;  // sqrt(1/2)
    constexpr std::uint64_t one = 0x3ff0000000000000ULL;
    const std::uint64_t bits = bit_cast<std::uint64_t>(x);
    const std::uint64_t biased = (bits + (one - root_half)) >> 52;
    const std::uint64_t power = (biased - 1023) << 52;
    const double m = bit_cast<double>(bits - power);
    const double f = (m - 1.0) + carry * bit_cast<double>(one - power);
    // The biased exponent as a double, by writing it into the mantissa of 2^52.
    const double k =
        (bit_cast<double>(biased | 0x4330000000000000ULL) - 4503599627370496.0) - (1023.0 + shift);
    const double s = f / (2.0 + f);
    const double s2 = s * s;
    const double half_square = 0.5 * f * f;
    // log(1 + f) = f - f^2/2 + s (f^2/2 + s^2 P(s^2)): f is exact, and the rest is small beside it.
    const double tail = s * (half_square + s2 * horner(s2, coefficients::log_double));
    return k * coefficients::ln2_head_double +
           (f - (half_square - (tail + k * coefficients::ln2_tail_double)));
}

// log(x) for x > 0, subnormal numbers included; anything else gives an unspecified number.
VOLSCEN_INLINE double logarithm(double x) {
    const bool tiny = x < 2.2250738585072014e-308;
    const double scaled = tiny ? x * 18014398509481984.0 : x;  // 2^54
    return log_with_carry(scaled, 0.0, tiny ? 54.0 : 0.0);
}

// log(hi/lo) for hi >= lo > 0, to about one unit in the last place also where they are close: log1p of
// (hi - lo)/lo, whose rounding is carried along. Quotients that would overflow are scaled by 2^-1200.
VOLSCEN_INLINE double log_ratio_of(double hi, double lo) {
    const bool fits = hi * 1e-300 < lo;
    const double r = (fits ? hi - lo : hi * 0x1p-600) / (fits ? lo : lo * 0x1p600);
    const double u = 1.0 + r;
    const double carry = r < 1.0 ? r - (u - 1.0) : 1.0 - (u - r);
    return log_with_carry(fits ? u : r, fits ? carry : 0.0, fits ? 0.0 : -1200.0);
}

// exp(z^2) erfc(z) for z >= 0 (Faddeeva's function on the imaginary axis).
template <class T>
VOLSCEN_INLINE T erfcx_positive(T z) {
    using C = Constants<T>;
    z = z > C::erfcx_top ? C::erfcx_top : z;
    return horner(z, C::erfcx_p) / horner(z, C::erfcx_q);
}

}  // namespace volscen
