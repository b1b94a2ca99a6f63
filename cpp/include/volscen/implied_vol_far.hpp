// Implied total vol far from the money or at high vol: x = ln(hi/lo) > 6, or s above some 1.9.
//
// Solved is ln beta(s) = ln beta where beta < 1/2, and ln(1 - beta(s)) = ln(1 - beta) above, both close to
// quadratic in 1/s and in s (as Jaeckel 2015, "Let's be rational"). The start matches value and slope at
// s = sqrt(2 x), where d1 = 0, and the asymptotic curvature of the logarithm. Two steps of fifth order settle
// all but odd cases, the first in rough arithmetic; those go on inside a shrinking bracket.
#pragma once

#include <cstddef>
#include <limits>

#include "volscen/implied_vol_seed.hpp"

namespace volscen {

constexpr int implied_vol_iterations = 48;

// How a step is computed: to about 1e-7 from anywhere, exactly from close by, exactly from anywhere.
enum class FarStep { rough, last, general };

// exp(z^2) erfc(z) for z >= 0, to 2e-9.
VOLSCEN_INLINE double rough_erfcx(double z) {
    z = z > 1e4 ? 1e4 : z;
    return horner(z, coefficients::erfcx_p_rough) / horner(z, coefficients::erfcx_q_rough);
}

// A block of such equations.
template <std::size_t Size>
struct FarBlock {
    double x[Size], beta[Size], shift[Size], rest[Size], s[Size];
    // What is solved: side is -1 for the complement, 1 else. Target is beta 2^shift, or 1 - beta.
    double target[Size], side[Size];
    double low[Size], high[Size], open[Size], change[Size];
    // What a step hands from loop to loop.
    double a_[Size], d1_[Size], square_[Size], carry_[Size], part_[Size];
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

    VOLSCEN_INLINE void begin(std::size_t n) {
        constexpr double density = coefficients::inverse_sqrt_two_pi;
        for (std::size_t i = 0; i < n; ++i) {
            const bool upper = rest[i] < 0.5;
            side[i] = upper ? -1.0 : 1.0;
            target[i] = upper ? rest[i] : beta[i];
            low[i] = 0.0;
            high[i] = std::numeric_limits<double>::max();
            const double distance = x[i] < 1e-6 ? 1e-6 : x[i];
            const double s0 = __builtin_sqrt(2.0 * distance);
            const double tail = rough_erfcx(coefficients::sqrt_half * s0);
            const double below = 0.5 * (1.0 - tail), above = 0.5 * (1.0 + tail);
            // At beta below the reference, ln beta falls like -k (u - u0) - (u - u0)^2/2 in u = x/s;
            // above, ln(1 - beta) falls like -k (s - s0) - (s - s0)^2/8.
            const bool falls = 1.0 - rest[i] < below;
            const double quotient = (falls ? below : above) / (falls ? beta[i] : rest[i]);
            const double fall = rough_logarithm(quotient) + shift[i] * (log_scale / 600.0);
            const double bounded = fall > 0.0 ? fall : 0.0;
            const double k = (falls ? 2.0 * density : density) / (falls ? below : above);
            const double root = __builtin_sqrt(k * k + (falls ? 2.0 : 0.5) * bounded);
            const double further = 2.0 * bounded / (k + root);
            const double start = falls ? distance / (0.5 * s0 + further) : s0 + further;
            // At no strike is beta above s/sqrt(2 pi), its bound at the money.
            const double least = (1.0 - rest[i]) / density;
            const double fair = start < least ? least : start;
            s[i] = leading_bits(s[i] > 0.0 ? s[i] : fair);
        }
    }

    // One step of every equation; `open` becomes 0 where it settled, and `change` has the relative step.
    template <FarStep Kind>
    VOLSCEN_INLINE void step(std::size_t n) {
        constexpr bool exact = Kind != FarStep::rough;
        constexpr double root_half = coefficients::sqrt_half;
        // Loops of one piece each: short chains of operations overlap better.
        for (std::size_t i = 0; i < n; ++i) {
            const double inverse = 1.0 / s[i];
            // a = x/s in two parts, the first of 26 bits; d1 = t - a likewise: half its square is exact.
            const double head = leading_bits(x[i] * inverse);
            const double tail = (x[i] - head * s[i]) * inverse;
            const double t = 0.5 * s[i];
            const double rounded = t - head, missing = sum_error(t, -head, rounded) - tail;
            const double first = leading_bits(rounded + missing);
            const double second = (rounded - first) + missing;
            a_[i] = head + tail;
            d1_[i] = rounded + missing;
            square_[i] = 0.5 * first * first;
            carry_[i] = second * (first + 0.5 * second);
        }
        for (std::size_t i = 0; i < n; ++i) {
            const double d1 = d1_[i];
            const double near_distance = absolute(d1) * root_half;
            const double far_distance = (0.5 * s[i] + a_[i]) * root_half;
            const double near_term = exact ? erfcx_positive(near_distance) : rough_erfcx(near_distance);
            const double far_term = exact ? erfcx_positive(far_distance) : rough_erfcx(far_distance);
            // beta is gauss times the difference while d1 <= 0, and 1 - beta gauss times the sum above.
            part_[i] = 0.5 * (d1 > 0.0 ? near_term + far_term : near_term - far_term);
        }
        for (std::size_t i = 0; i < n; ++i) {
            const double s0 = s[i], old_low = low[i], old_high = high[i];
            const double a = a_[i], t = 0.5 * s0, d1 = d1_[i], part = part_[i];
            const double square = square_[i], carry = carry_[i];
            const bool tails = (d1 > 0.0 ? -1.0 : 1.0) * side[i] > 0.0;
            const double scale = Kind == FarStep::last ? shift[i] : 0.0;
            const double gauss = exponential_of_sum(-square, -carry, scale);
            const double whole = 1.0 - gauss * part;
            const double norm = coefficients::inverse_sqrt_two_pi * s0 * side[i];
            // Value over s d value/ds; the density is phi(d1).
            const double flow = (tails ? part : whole) / (tails ? norm : norm * gauss);
            double distance;
            if constexpr (Kind == FarStep::last) {
                distance = log_of_near(target[i], tails ? gauss * part : whole);
            } else {
                // Far out the density underflows: its exponent is left out of the quotient.
                const double quotient = target[i] / (tails ? part : whole);
                const double logarithm_of_quotient =
                    Kind == FarStep::rough ? rough_logarithm(quotient) : logarithm(quotient);
                const double exponent = (square - shift[i] * (log_scale / 600.0)) + carry;
                distance = logarithm_of_quotient + (tails ? exponent : -shift[i] * (log_scale / 600.0));
            }
            const double h2 = a * a, t2 = t * t;
            const double c = (a - t) * (a + t);
            const double c2 = c * c - 3.0 * h2 - t2;
            const double c3 = c2 * (c - 2.0) - 4.0 * c * (h2 + t2) + 6.0 * h2 - 2.0 * t2;
            const double full = inverse_step(distance, flow, c, c2, c3);
            // A step that turns round is worse than Newton's.
            const double newton = distance * flow;
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
            // The error after this step is of fifth order in its relative size, and in the distance, of which
            // far from the money even a small step leaves much. Rough steps bracket nothing.
            const double size = absolute(wanted) + 0.03 * absolute(distance);
            const double settled = exact ? (size <= 3e-4 ? 1.0 : 0.0) : 0.0;
            low[i] = exact ? lower : 0.0;
            high[i] = exact ? higher : std::numeric_limits<double>::max();
            change[i] = wanted;
            open[i] = 1.0 - settled;
            s[i] = settled > 0.5 ? s0 : leading_bits(next);
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
                shift[end] = low[end] = 0.0;
                s[end] = side[end] = 1.0;
                high[end] = std::numeric_limits<double>::max();
            }
            return end;
        };
        const std::size_t all = pad();
        begin(all);
        step<FarStep::rough>(all);
        step<FarStep::last>(all);
        for (int iteration = 0;; ++iteration) {
            const std::size_t last = count;
            count = 0;
            for (std::size_t i = 0; i < last; ++i) {
                if (open[i] > 0.5) {
                    x[count] = x[i];
                    shift[count] = shift[i];
                    target[count] = target[i];
                    side[count] = side[i];
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
            if (count == 0 || iteration == implied_vol_iterations) {
                break;
            }
            step<FarStep::general>(pad());
        }
        for (std::size_t i = 0; i < count; ++i) {
            status[place[i]] = 6.0;
        }
    }
};

using FarEquations = FarBlock<256>;

}  // namespace volscen
