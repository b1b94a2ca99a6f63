// Black-76 implied volatility on dense blocks, without guesses from the caller.
//
// The price is reduced to the time value beta = v/lo of the out-of-the-money option on the same strike
// (lo = min(F, K), hi = max(F, K)), a function of s = vol sqrt(tau) that rises from 0 to 1. The equation
// solved is ln beta(s) = ln beta where beta < 1/2, and ln(1 - beta(s)) = ln(1 - beta) above, both close to
// quadratic in 1/s and in s, by Householder's third-order step inside a shrinking bracket (as Jaeckel 2015,
// "Let's be rational"). The start matches the value and slope at a reference point and the asymptotic
// curvature of the logarithm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "volscen/special.hpp"

namespace volscen {

enum class ImpliedVolStatus : std::int8_t {
    ok = 0,
    no_time_value = 1,  // price equals intrinsic value, to rounding: vol 0
    below_intrinsic = 2,
    above_maximum = 3,  // at or above df F (call) or df K (put), where vol would be infinite
    zero_tau = 4,
    invalid_input = 5,  // NaN, infinite, or a sign that has no meaning
    not_converged = 6,
};

constexpr std::size_t implied_vol_block = 128;  // a multiple of 8
constexpr int implied_vol_iterations = 48;
// ln(2^600), the scale of tiny numbers.
constexpr double log_scale = 600.0 * (coefficients::ln2_head_double + coefficients::ln2_tail_double);

// N(h + t) - exp(-2 h t) N(h - t) by Taylor's series in t about h: exact where the difference of two
// nearly equal Mills ratios would lose digits. For t <= 0.2 and |h t| <= 1, over the density at h + t.
VOLSCEN_INLINE double mills_difference(double h, double t, double mills) {
    // y0 = N/phi at h; derivatives by y_{n+1} = n y_{n-1} + h y_n.
    const double y1 = 1.0 + h * mills;
    const double y2 = mills + h * y1;
    const double y3 = 2.0 * y1 + h * y2;
    const double y4 = 3.0 * y2 + h * y3;
    const double y5 = 4.0 * y3 + h * y4;
    const double y6 = 5.0 * y4 + h * y5;
    const double y7 = 6.0 * y5 + h * y6;
    const double y8 = 7.0 * y6 + h * y7;
    const double y9 = 8.0 * y7 + h * y8;
    const double y10 = 9.0 * y8 + h * y9;
    const double y11 = 10.0 * y9 + h * y10;
    const double y12 = 11.0 * y10 + h * y11;
    const double y13 = 12.0 * y11 + h * y12;
    const double u = t * t;
    return 2.0 * t *
           (y1 +
            u / 6.0 *
                (y3 +
                 u / 20.0 * (y5 + u / 42.0 * (y7 + u / 72.0 * (y9 + u / 110.0 * (y11 + u / 156.0 * y13))))));
}

// beta and 1 - beta, each as mantissa exp(-exponent): in the tails the density is left out, where it would
// underflow; and what the steps need of their derivatives in s.
struct TimeValue {
    double below, below_exponent;
    double above, above_exponent;
    // d ln beta/d ln s and d ln(1 - beta)/d ln s; then s beta''/beta' and s^2 beta'''/beta'.
    double below_slope, above_slope;
    double curvature, third;
};

VOLSCEN_INLINE TimeValue time_value_at(double log_ratio, double s) {
    constexpr double root_half = coefficients::sqrt_half;
    const double h = -log_ratio / s;
    const double t = 0.5 * s;
    const double d1 = h + t;
    const double square = 0.5 * d1 * d1;
    const double gauss = exponential(-square);
    const double near_term = erfcx_positive(absolute(d1) * root_half);
    const double far_term = erfcx_positive((t - h) * root_half);
    const double centre = erfcx_positive(-h * root_half);
    // Mills ratios are erfcx times sqrt(pi/2).
    constexpr double to_mills = 0.5 / coefficients::inverse_sqrt_two_pi;
    const double series = mills_difference(h, t, centre * to_mills) * coefficients::inverse_sqrt_two_pi;
    // Single comparisons: the vectoriser gives up on chains of booleans.
    const double by_t = 5.0 * t, by_ratio = 0.5 * log_ratio;
    const bool by_series = (by_t > by_ratio ? by_t : by_ratio) <= 1.0;
    const double side = by_series ? -1.0 : d1;
    const double direct = 0.5 * (near_term - far_term);
    // beta = gauss * weight while d1 <= 0; by the series also a little above.
    const double weight = by_series ? series : direct;
    const double sum = 0.5 * (near_term + far_term);
    const bool tail = side <= 0.0;
    const double beta = tail ? gauss * weight : 1.0 - gauss * sum;
    const double rest = d1 > 0.0 ? gauss * sum : 1.0 - gauss * direct;
    TimeValue out;
    out.below = tail ? weight : beta;
    out.below_exponent = tail ? square : 0.0;
    out.above = d1 > 0.0 ? sum : rest;
    out.above_exponent = d1 > 0.0 ? square : 0.0;
    // d beta/ds = phi(d1).
    const double norm = coefficients::inverse_sqrt_two_pi * s;
    out.below_slope = norm * (tail ? 1.0 : gauss) / out.below;
    out.above_slope = -norm * (d1 > 0.0 ? 1.0 : gauss) / out.above;
    out.curvature = d1 * (h - t);
    out.third = out.curvature * out.curvature - 3.0 * h * h - t * t;
    return out;
}

// Which of the two equations to solve, its target, and where to start: a reference point s = min(x, sqrt(2
// x)).
VOLSCEN_INLINE void implied_vol_start(std::size_t n, const double* __restrict log_ratio,
                                      const double* __restrict share, const double* __restrict beta,
                                      const double* __restrict rest, const double* __restrict scale,
                                      double* __restrict target, double* __restrict above,
                                      double* __restrict total_vol) {
    for (std::size_t i = 0; i < n; ++i) {
        const bool upper = share[i] > 0.5;
        above[i] = upper ? 1.0 : 0.0;
        target[i] = upper ? rest[i] : beta[i];
        const double x = log_ratio[i] < 1e-300 ? 1e-300 : log_ratio[i];
        const double root = __builtin_sqrt(2.0 * x);
        const double s0 = x < root ? x : root;
        const double u0 = x / s0;
        const TimeValue ref = time_value_at(x, s0);
        // ln beta falls from the reference like -k (u - u0) - (u - u0)^2/2 in u = x/s.
        const double down = logarithm(ref.below) - ref.below_exponent - (logarithm(beta[i]) - scale[i]);
        const double k_down = ref.below_slope / u0;
        const double u =
            u0 + (2.0 * down) / (k_down + __builtin_sqrt(k_down * k_down + 2.0 * absolute(down)));
        // ln(1 - beta) falls like -k (s - s0) - (s - s0)^2/8.
        const double up = logarithm(ref.above) - ref.above_exponent - logarithm(rest[i]);
        const double k_up = -ref.above_slope / s0;
        const double s_up = s0 + (2.0 * up) / (k_up + __builtin_sqrt(k_up * k_up + 0.5 * absolute(up)));
        const double start = down > 0.0 ? x / u : s_up;
        // At no strike is beta above s/sqrt(2 pi), its bound at the money.
        const double least = share[i] / coefficients::inverse_sqrt_two_pi;
        total_vol[i] = start < least ? least : start;
    }
}

// One step of every equation; `above` is 1 where the complement is solved, `open` becomes 0 where it settled.
// The target is beta or 1 - beta times exp(scale).
VOLSCEN_INLINE void implied_vol_step(std::size_t n, const double* __restrict log_ratio,
                                     const double* __restrict target, const double* __restrict scale,
                                     const double* __restrict above, double* __restrict total_vol,
                                     double* __restrict low, double* __restrict high,
                                     double* __restrict open) {
    for (std::size_t i = 0; i < n; ++i) {
        const double s = total_vol[i];
        const double old_low = low[i], old_high = high[i];
        const TimeValue v = time_value_at(log_ratio[i], s);
        const double upper = above[i];
        // The logarithm of the quotient, not the difference of logarithms: it vanishes to full accuracy.
        const double value = upper > 0.5 ? v.above : v.below;
        const bool tiny = value < 1e-150;
        const double quotient = (tiny ? value * 0x1p600 : value) / target[i];
        const double exponent = upper > 0.5 ? v.above_exponent : v.below_exponent;
        const double residual = logarithm(quotient) + ((scale[i] - (tiny ? log_scale : 0.0)) - exponent);
        // Derivatives with respect to s/s now: free of its size.
        const double slope = upper > 0.5 ? v.above_slope : v.below_slope;
        const double second = v.curvature - slope;
        const double third = v.third - slope * (3.0 * v.curvature - 2.0 * slope);
        const double newton = -residual / slope;
        const double full =
            newton * (1.0 + 0.5 * second * newton) / (1.0 + newton * (second + third * newton * (1.0 / 6.0)));
        // A Householder step that turns round is worse than Newton's.
        const double step = s * (full * newton > 0.0 ? full : newton);
        // The root lies above s where the step goes up.
        const double lower = newton > 0.0 ? s : old_low;
        const double higher = newton > 0.0 ? old_high : s;
        const double four = 4.0 * s, quarter = 0.25 * s;
        const double ceiling = higher < four ? 0.5 * (s + higher) : four;
        const double floor = lower > quarter ? 0.5 * (s + lower) : quarter;
        double next = s + step;
        next = next < higher ? next : ceiling;
        next = next > four ? four : next;
        next = next > lower ? next : floor;
        next = next < quarter ? quarter : next;
        // The error after this step is of fourth order in its relative size.
        const double shift = absolute(next - s), wanted = absolute(step);
        const double largest = shift > wanted ? shift : wanted;
        total_vol[i] = next;
        low[i] = lower;
        high[i] = higher;
        open[i] = largest <= 2e-5 * s ? 0.0 : 1.0;
    }
}

// One block of at most implied_vol_block options; `call` is 1 or 0, `status` takes ImpliedVolStatus.
struct ImpliedVolBody {
    static VOLSCEN_INLINE void run(std::size_t n, const double* __restrict price,
                                   const double* __restrict forward, const double* __restrict strike,
                                   const double* __restrict tau, const double* __restrict call,
                                   const double* __restrict discount, double* __restrict vol,
                                   double* __restrict status) {
        constexpr double top = std::numeric_limits<double>::max();
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        double log_ratio[implied_vol_block], target[implied_vol_block], scale[implied_vol_block];
        double above[implied_vol_block], s[implied_vol_block], share[implied_vol_block];
        double beta[implied_vol_block], rest[implied_vol_block];
        double low[implied_vol_block], high[implied_vol_block], open[implied_vol_block];
        for (std::size_t i = 0; i < n; ++i) {
            const double f = forward[i], k = strike[i], p = price[i];
            const double lo = f < k ? f : k, hi = f < k ? k : f;
            const bool is_call = call[i] > 0.5;
            const bool in_money = is_call ? f > k : f < k;
            const double q = p / discount[i];
            // Time value by a two-sum: q - (hi - lo) with the rounding error of hi - lo carried along.
            const double gap = in_money ? hi - lo : 0.0;
            const double back = hi - gap;
            const double error = in_money ? (hi - (gap + back)) + (back - lo) : 0.0;
            const double value = (q - gap) - error;
            const double room = (is_call ? f : k) - q;
            const double x = log_ratio_of(hi, lo);
            const bool valid = (f > 0.0) & (f <= top) & (k > 0.0) & (k <= top) & (p >= 0.0) & (p <= top) &
                               (tau[i] >= 0.0) & (tau[i] <= top) & (discount[i] > 0.0) & (discount[i] <= top);
            double code = 0.0;
            // A price that rounds to its intrinsic value counts as that value.
            code = value <= 0.0 ? 1.0 : code;
            code = value < -4.5e-16 * q ? 2.0 : code;
            // So does one whose vol would lie below the smallest number.
            const double at_money_value = hi > lo ? hi : value;
            code = at_money_value < 1e-300 * lo ? 1.0 : code;
            code = room <= 0.0 ? 3.0 : code;
            code = tau[i] == 0.0 ? 4.0 : code;
            code = valid ? code : 5.0;
            status[i] = code;
            // A tiny time value is scaled up, so that neither it nor quotients leave the normal range.
            const bool tiny = value < 1e-200 * lo, large = lo > 1.0;
            const double ratio = value / lo;
            const double scaled = (value * 0x1p600) / (large ? lo * 0x1p-600 : lo);
            // Equations that are not to be solved get numbers that do no harm.
            log_ratio[i] = code == 0.0 ? x : 0.1;
            share[i] = code == 0.0 ? ratio : 0.25;
            beta[i] = code == 0.0 ? (tiny ? scaled : ratio) : 0.25;
            rest[i] = code == 0.0 ? room / lo : 0.75;
            scale[i] = tiny ? (large ? 2.0 * log_scale : log_scale) : 0.0;
        }
        implied_vol_start(n, log_ratio, share, beta, rest, scale, target, above, s);
        // Settled equations make room, so that a step costs only what is still open.
        std::size_t place[implied_vol_block] = {};
        double solution[implied_vol_block] = {};
        std::size_t left = 0;
        const auto keep = [&](std::size_t from, std::size_t where) {
            log_ratio[left] = log_ratio[from];
            target[left] = target[from];
            scale[left] = scale[from];
            above[left] = above[from];
            s[left] = s[from];
            low[left] = low[from];
            high[left] = high[from];
            place[left] = where;
            ++left;
        };
        for (std::size_t i = 0; i < n; ++i) {
            low[i] = 0.0;
            high[i] = top;
            if (status[i] == 0.0) {
                keep(i, i);
            }
        }
        // Steps run on whole vectors: what follows the last open equation is some harmless one.
        for (std::size_t i = left; i < left + (8 - left % 8) % 8; ++i) {
            log_ratio[i] = 0.1;
            target[i] = 0.25;
            scale[i] = above[i] = low[i] = 0.0;
            s[i] = 0.7;
            high[i] = top;
        }
        for (int iteration = 0; iteration < implied_vol_iterations && left > 0; ++iteration) {
            const std::size_t count = left;
            implied_vol_step((count + 7) / 8 * 8, log_ratio, target, scale, above, s, low, high, open);
            left = 0;
            for (std::size_t i = 0; i < count; ++i) {
                if (open[i] > 0.5) {
                    keep(i, place[i]);
                } else {
                    solution[place[i]] = s[i];
                }
            }
        }
        for (std::size_t i = 0; i < left; ++i) {
            status[place[i]] = 6.0;
        }
        for (std::size_t i = 0; i < n; ++i) {
            const double code = status[i];
            const double solved = (code == 0.0 ? solution[i] : 0.0) / __builtin_sqrt(tau[i]);
            vol[i] = code == 0.0 ? solved : (code == 1.0 ? 0.0 : nan);
        }
    }
};

using ImpliedVolFunction = void (*)(std::size_t, const double*, const double*, const double*, const double*,
                                    const double*, const double*, double*, double*);

// The dense kernel at the instruction set in use.
ImpliedVolFunction implied_vol_block_function();

}  // namespace volscen
