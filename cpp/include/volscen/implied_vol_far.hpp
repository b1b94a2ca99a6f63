// Implied total vol far from the money or at high vol, by iteration: x > 2, or s above some 1.7.
//
// Solved is ln beta(s) = ln beta where beta < 1/2, and ln(1 - beta(s)) = ln(1 - beta) above, both close to
// quadratic in 1/s and in s, by Householder's third-order step inside a shrinking bracket (as Jaeckel 2015,
// "Let's be rational"). The start matches the value and slope at a reference point and the asymptotic
// curvature of the logarithm.
#pragma once

#include <cstddef>
#include <limits>

#include "volscen/implied_vol_seed.hpp"

namespace volscen {

constexpr int implied_vol_iterations = 48;

// beta and 1 - beta, each as mantissa exp(-exponent): in the tails the density is left out, where it would
// underflow; and what the steps need of their derivatives in s.
struct TimeValue {
    double below, above;
    // Exponents, in two parts each.
    double below_exponent, below_carry;
    double above_exponent, above_carry;
    // d ln beta/d ln s and d ln(1 - beta)/d ln s; then s beta''/beta' and s^2 beta'''/beta'.
    double below_slope, above_slope;
    double curvature, third;
};

// Where neither x nor s is small. `s` has 26 bits.
VOLSCEN_INLINE TimeValue time_value_at(double x, double s) {
    constexpr double root_half = coefficients::sqrt_half;
    const double inverse = 1.0 / s;
    const double head = leading_bits(x * inverse);
    const double tail = (x - head * s) * inverse;
    const double a = head + tail, t = 0.5 * s;
    // d1 = t - a in two parts, the first of 26 bits: half its square is exact.
    const double rounded = t - head, missing = sum_error(t, -head, rounded) - tail;
    const double d1 = rounded + missing;
    const double first = leading_bits(d1);
    const double second = (rounded - first) + missing;
    const double square = 0.5 * first * first, carry = second * (first + 0.5 * second);
    const double gauss = exponential_of_sum(-square, -carry, 0.0);
    const double near_term = erfcx_positive(absolute(d1) * root_half);
    const double far_term = erfcx_positive((t + a) * root_half);
    const double direct = 0.5 * (near_term - far_term), sum = 0.5 * (near_term + far_term);
    const bool low = d1 <= 0.0;
    TimeValue out;
    out.below = low ? direct : 1.0 - gauss * sum;
    out.below_exponent = low ? square : 0.0;
    out.below_carry = low ? carry : 0.0;
    out.above = low ? 1.0 - gauss * direct : sum;
    out.above_exponent = low ? 0.0 : square;
    out.above_carry = low ? 0.0 : carry;
    // d beta/ds = phi(d1).
    const double norm = coefficients::inverse_sqrt_two_pi * s;
    out.below_slope = norm * (low ? 1.0 : gauss) / out.below;
    out.above_slope = -norm * (low ? gauss : 1.0) / out.above;
    out.curvature = (a - t) * (a + t);
    out.third = out.curvature * out.curvature - 3.0 * a * a - t * t;
    return out;
}

// A block of such equations; settled ones leave, so that a step costs only what is still open.
template <std::size_t Size>
struct FarBlock {
    double x[Size], beta[Size], shift[Size], rest[Size], s[Size];
    double target[Size], above[Size], low[Size], high[Size], open[Size], change[Size];
    std::size_t place[Size];
    std::size_t count = 0;

    // `start` is 0 where there is none.
    VOLSCEN_INLINE void add(double x_, double beta_, double shift_, double rest_, double start,
                            std::size_t where) {
        x[count] = x_;
        beta[count] = beta_;
        shift[count] = shift_;
        rest[count] = rest_;
        s[count] = start;
        place[count] = where;
        ++count;
    }

    // Which of the two equations to solve, its target, and where to start: a reference point
    // s = min(x, sqrt(2 x)).
    VOLSCEN_INLINE void begin(std::size_t n) {
        for (std::size_t i = 0; i < n; ++i) {
            const bool upper = rest[i] < 0.5;
            above[i] = upper ? 1.0 : 0.0;
            target[i] = upper ? rest[i] : beta[i];
            low[i] = 0.0;
            high[i] = std::numeric_limits<double>::max();
            const double distance = x[i] < 1e-6 ? 1e-6 : x[i];
            const double root = __builtin_sqrt(2.0 * distance);
            const double s0 = leading_bits(distance < root ? distance : root);
            const double u0 = distance / s0;
            const TimeValue ref = time_value_at(distance, s0);
            // ln beta falls from the reference like -k (u - u0) - (u - u0)^2/2 in u = x/s.
            const double down = logarithm(ref.below) - ref.below_exponent -
                                (logarithm(beta[i]) - shift[i] * (log_scale / 600.0));
            const double k_down = ref.below_slope / u0;
            const double u =
                u0 + (2.0 * down) / (k_down + __builtin_sqrt(k_down * k_down + 2.0 * absolute(down)));
            // ln(1 - beta) falls like -k (s - s0) - (s - s0)^2/8.
            const double up = logarithm(ref.above) - ref.above_exponent - logarithm(rest[i]);
            const double k_up = -ref.above_slope / s0;
            const double s_up = s0 + (2.0 * up) / (k_up + __builtin_sqrt(k_up * k_up + 0.5 * absolute(up)));
            const double start = down > 0.0 ? distance / u : s_up;
            // At no strike is beta above s/sqrt(2 pi), its bound at the money.
            const double least = (1.0 - rest[i]) / coefficients::inverse_sqrt_two_pi;
            const double bounded = start < least ? least : start;
            s[i] = leading_bits(s[i] > 0.0 ? s[i] : bounded);
        }
    }

    // One step of every equation; `open` becomes 0 where it settled, and `change` has the relative step.
    VOLSCEN_INLINE void step(std::size_t n) {
        for (std::size_t i = 0; i < n; ++i) {
            const double s0 = s[i], upper = above[i];
            const double old_low = low[i], old_high = high[i];
            const TimeValue v = time_value_at(x[i], s0);
            // The logarithm of the quotient, not the difference of logarithms: it vanishes to full accuracy.
            const double value = upper > 0.5 ? v.above : v.below;
            const double exponent = upper > 0.5 ? v.above_exponent : v.below_exponent;
            const double carry = upper > 0.5 ? v.above_carry : v.below_carry;
            const double residual =
                logarithm(value / target[i]) + ((shift[i] * (log_scale / 600.0) - exponent) - carry);
            // Derivatives with respect to s/s now: free of its size.
            const double slope = upper > 0.5 ? v.above_slope : v.below_slope;
            const double second = v.curvature - slope;
            const double third = v.third - slope * (3.0 * v.curvature - 2.0 * slope);
            const double newton = -residual / slope;
            const double full = newton * (1.0 + 0.5 * second * newton) /
                                (1.0 + newton * (second + third * newton * (1.0 / 6.0)));
            // A Householder step that turns round is worse than Newton's.
            const double wanted = full * newton > 0.0 ? full : newton;
            // The root lies above s where the step goes up.
            const double lower = newton > 0.0 ? s0 : old_low;
            const double higher = newton > 0.0 ? old_high : s0;
            const double four = 4.0 * s0, quarter = 0.25 * s0;
            const double ceiling = higher < four ? 0.5 * (s0 + higher) : four;
            const double floor = lower > quarter ? 0.5 * (s0 + lower) : quarter;
            double next = s0 + s0 * wanted;
            next = next < higher ? next : ceiling;
            next = next > four ? four : next;
            next = next > lower ? next : floor;
            next = next < quarter ? quarter : next;
            low[i] = lower;
            high[i] = higher;
            // The error after this step is of fourth order in its relative size.
            const bool settled = absolute(wanted) <= 3e-5;
            change[i] = wanted;
            open[i] = settled ? 0.0 : 1.0;
            s[i] = settled ? s0 : leading_bits(next);
        }
    }

    // Writes s and the change that is still to be applied to it; status 6 where nothing settled.
    VOLSCEN_INLINE void solve(double* s_out, double* change_out, double* status) {
        // Steps run on whole vectors: what follows the last open equation is some harmless one.
        const auto pad = [&]() {
            std::size_t end = count;
            for (; end % 8 != 0; ++end) {
                x[end] = 1.0;
                beta[end] = target[end] = 0.25;
                rest[end] = 0.75;
                shift[end] = above[end] = low[end] = 0.0;
                s[end] = 1.0;
                high[end] = std::numeric_limits<double>::max();
            }
            return end;
        };
        begin(pad());
        for (int iteration = 0; iteration < implied_vol_iterations && count > 0; ++iteration) {
            const std::size_t last = count;
            step(pad());
            count = 0;
            for (std::size_t i = 0; i < last; ++i) {
                if (open[i] > 0.5) {
                    x[count] = x[i];
                    shift[count] = shift[i];
                    target[count] = target[i];
                    above[count] = above[i];
                    s[count] = s[i];
                    low[count] = low[i];
                    high[count] = high[i];
                    place[count] = place[i];
                    ++count;
                } else {
                    s_out[place[i]] = s[i];
                    change_out[place[i]] = change[i];
                }
            }
        }
        for (std::size_t i = 0; i < count; ++i) {
            status[place[i]] = 6.0;
        }
    }
};

using FarEquations = FarBlock<256>;

}  // namespace volscen
