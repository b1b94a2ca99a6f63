// Arithmetic that carries its own rounding errors (Dekker 1971), without fused operations, so that every
// instruction set gives the same bits.
#pragma once

#include "volscen/special.hpp"

namespace volscen {

// The leading 26 bits of a number. Products of two such numbers are exact.
VOLSCEN_INLINE double leading_bits(double x) {
    return bit_cast<double>(bit_cast<std::uint64_t>(x) & 0xfffffffff8000000ULL);
}

// a b - product, for product = a b as rounded.
VOLSCEN_INLINE double product_error(double a, double b, double product) {
    const double a_high = leading_bits(a), a_low = a - a_high;
    const double b_high = leading_bits(b), b_low = b - b_high;
    return (((a_high * b_high - product) + a_high * b_low) + a_low * b_high) + a_low * b_low;
}

// a + b - sum, for sum = a + b as rounded (Knuth).
VOLSCEN_INLINE double sum_error(double a, double b, double sum) {
    const double back = sum - a;
    return (a - (sum - back)) + (b - back);
}

// exp(high + low) 2^shift, where low corrects a rounded argument; the result must be a normal number.
VOLSCEN_INLINE double exponential_of_sum(double high, double low, double shift) {
    using C = Constants<double>;
    const double shifted = (high + low) * coefficients::log2_e + C::round_magic;
    const double n = shifted - C::round_magic;
    const double r = ((high - n * C::ln2_head) + low) - n * C::ln2_tail;
    const double p = 1.0 + (r + r * r * horner(r, C::exp));
    double power = n + shift;
    power = power < -1022.0 ? -1022.0 : power;
    power = power > 1023.0 ? 1023.0 : power;
    const std::uint64_t bits =
        bit_cast<std::uint64_t>(power + C::round_magic) - bit_cast<std::uint64_t>(C::round_magic);
    return p * bit_cast<double>((bits + C::bias) << C::mantissa);
}

}  // namespace volscen
