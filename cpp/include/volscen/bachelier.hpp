// Bachelier prices and normal implied volatility on dense blocks (Bachelier 1900).
//
// The out-of-the-money option at a distance m = |F - K| from the money is worth s phi(a) y(a), s = vol
// sqrt(tau), a = m/s, y(a) = 1 - a R(a) with Mills' ratio R: no cancellation at any distance. Inverted by a
// rational first approximation of a from m/v, and one correction of fifth order.
#pragma once

#include <cstddef>
#include <limits>

#include "volscen/implied_vol_extreme.hpp"
#include "volscen/implied_vol_seed.hpp"
#include "volscen/implied_vol_status.hpp"

namespace volscen {

constexpr std::size_t bachelier_block = 256;  // a multiple of 8
// Sizes of prices and of |F - K| within which the vectorised equations lose nothing.
constexpr double bachelier_size = 1e150;

struct BachelierPriceBody {
    static VOLSCEN_INLINE void run(std::size_t n, const double* __restrict forward,
                                   const double* __restrict strike, const double* __restrict tau,
                                   const double* __restrict vol, const double* __restrict call,
                                   const double* __restrict discount, double* __restrict out) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        constexpr double top = std::numeric_limits<double>::max();
        for (std::size_t i = 0; i < n; ++i) {
            const double f = forward[i], k = strike[i], df = discount[i];
            // vol sqrt(tau) and F - K with what rounding took from them, which far from the money counts.
            const double root = __builtin_sqrt(tau[i]);
            const double s = vol[i] * root;
            const double root_error =
                0.5 * ((tau[i] - root * root) - product_error(root, root, root * root)) / root;
            const double s_error = product_error(vol[i], root, s) + vol[i] * root_error;
            const double inside = call[i] > 0.5 ? f - k : k - f;
            const double m = absolute(inside);
            const double m_error = f > k ? sum_error(f, -k, f - k) : sum_error(k, -f, k - f);
            // m/s in two parts, the first of 26 bits. Beyond 46 no double is small enough for the price.
            const double quotient = m / s;
            const double bounded = quotient < 46.0 ? quotient : 46.0;
            const double head = leading_bits(bounded);
            const double product = head * s;
            const double left =
                (((m - product) - product_error(head, s, product)) + (m_error - head * s_error)) / s;
            const double tail = quotient < 46.0 ? left : 0.0;
            // The density is scaled up where it would underflow before it meets s.
            const bool tiny = bounded > 20.0;
            const double gauss =
                exponential_of_sum(-0.5 * head * head, -tail * (head + 0.5 * tail), tiny ? 600.0 : 0.0);
            const double relative = gauss * coefficients::inverse_sqrt_two_pi * mills_slope(head + tail);
            // It is scaled back before the product could overflow, or after it could underflow.
            const double back = tiny ? 0x1p-600 : 1.0;
            const double share = bounded < 46.0 ? relative : 0.0;
            const double found = (s > 1.0 ? (s * back) * share : (s * share) * back);
            const double overflown = s <= top ? found : s;
            const double value = s > 0.0 ? overflown : 0.0;
            const double price = df * (value + (inside > 0.0 ? inside : 0.0));
            // NaN where an operand or their difference is not finite.
            const double finite = (inside - inside) + (df - df) + (vol[i] - vol[i]) + (tau[i] - tau[i]);
            double result = finite == 0.0 ? price : nan;
            result = df > 0.0 ? result : nan;
            result = vol[i] >= 0.0 ? result : nan;
            result = tau[i] >= 0.0 ? result : nan;
            out[i] = result;
        }
    }
};

// Equations v = s phi(m/s) y(m/s), both sides over `unit`, a power of two near the larger of m and v.
struct BachelierEquations {
    double m[bachelier_block];
    double value[bachelier_block];  // scaled by 2^shift besides
    double shift[bachelier_block];  // 0, 600 or 1200
    double unit[bachelier_block];
    double tau[bachelier_block];
    double extreme[bachelier_block];  // 1 where the equation is to be put in place with more care
};

VOLSCEN_INLINE void bachelier_equations(std::size_t n, const double* __restrict price,
                                        const double* __restrict forward, const double* __restrict strike,
                                        const double* __restrict tau, const double* __restrict call,
                                        const double* __restrict discount, BachelierEquations& e,
                                        double* __restrict status) {
    constexpr double top = std::numeric_limits<double>::max();
    for (std::size_t i = 0; i < n; ++i) {
        const double f = forward[i], k = strike[i], p = price[i], df = discount[i];
        const double inside = call[i] > 0.5 ? f - k : k - f;
        const double missing = call[i] > 0.5 ? sum_error(f, -k, inside) : sum_error(k, -f, inside);
        // Time value: the price less df (F - K), with the rounding errors carried along.
        const double gap = inside > 0.0 ? inside : 0.0;
        const double error = inside > 0.0 ? missing : 0.0;
        const double intrinsic = df * gap;
        const double paid = ((p - intrinsic) - product_error(df, gap, intrinsic)) - df * error;
        const double v = paid / df;
        const double finite = (inside - inside) + ((p - p) + (df - df)) + (tau[i] - tau[i]);
        double code = 0.0;
        // A price that rounds to its intrinsic value counts as that value.
        code = paid <= 0.0 ? 1.0 : code;
        code = paid < -4.5e-16 * p ? 2.0 : code;
        // Beyond the range of numbers.
        code = v <= top ? code : 3.0;
        code = intrinsic <= top ? code : 2.0;
        code = tau[i] == 0.0 ? 4.0 : code;
        code = finite == 0.0 ? code : 5.0;
        code = p >= 0.0 ? code : 5.0;
        code = df > 0.0 ? code : 5.0;
        code = tau[i] >= 0.0 ? code : 5.0;
        code = (code == 0.0 ? v : 1.0) > 0.0 ? code : 1.0;
        status[i] = code;
        const double distance = absolute(inside);
        // The sum above is right to a rounding of a rounding of the price.
        const double unsure = inside > 0.0 ? 1e-15 * p : 0.0;
        const double small = paid > 0.0 ? paid : unsure;
        double extreme = small < unsure ? 1.0 : 0.0;
        extreme = p > 1.0 / bachelier_size ? extreme : 1.0;
        extreme = (p > distance ? p : distance) < bachelier_size ? extreme : 1.0;
        extreme = (distance > 0.0 ? distance : 1.0) > 1.0 / bachelier_size ? extreme : 1.0;
        extreme = df < plain_discount ? extreme : 1.0;
        e.extreme[i] = df > 1.0 / plain_discount ? extreme : 1.0;
        const bool sound = code == 0.0;
        const double m = sound ? distance : 1.0, value = sound ? v : 0.25;
        const double larger = m > value ? m : value;
        const double least = larger > 0x1p-1000 ? larger : 0x1p-1000;
        const double most = least < 0x1p1000 ? least : 0x1p1000;
        const std::uint64_t power = bit_cast<std::uint64_t>(most) & 0x7ff0000000000000ULL;
        const double inverse = bit_cast<double>(0x7fe0000000000000ULL - power);
        const bool tiny = value < 1e-200 * m;
        const double large_inverse = m > 1.0 ? inverse * 0x1p600 : inverse;
        const double large_shift = m > 1.0 ? 1200.0 : 600.0;
        e.m[i] = m * inverse;
        e.value[i] = tiny ? (value * 0x1p600) * large_inverse : value * inverse;
        e.shift[i] = tiny ? large_shift : 0.0;
        e.unit[i] = bit_cast<double>(power);
        e.tau[i] = sound ? tau[i] : 1.0;
    }
}

// The equation of a sound option of such numbers: m and value 2^shift in units of 2^power.
struct BachelierExtreme {
    double status, m, value, shift;
    int power;
};

inline BachelierExtreme bachelier_extreme(double price, double forward, double strike, bool call,
                                          double discount) {
    BachelierExtreme e{1.0, 1.0, 0.25, 0.0, 0};
    const double larger = forward > strike ? forward : strike, other = forward > strike ? strike : forward;
    int price_power = 0, discount_power = 0, power = 0;
    const double paid = std::frexp(price, &price_power), df = std::frexp(discount, &discount_power);
    const double m = std::frexp(larger - other, &power);
    const double missing = std::ldexp(sum_error(larger, -other, larger - other), -power);
    price_power -= discount_power;
    const int size = price_power - power;
    double value = paid;
    int value_power = price_power;
    // Of a price that is far above, the intrinsic value is no part.
    if ((call ? forward > strike : strike > forward) && size < 200) {
        const double fair = std::ldexp(paid, size < -400 ? -400 : size);
        value = above_intrinsic(fair, df, m, missing);
        value_power = power;
        if (value <= 0.0) {
            e.status = value < -4.5e-16 * fair ? 2.0 : 1.0;
            return e;
        }
    } else if (!(value > 0.0)) {
        return e;
    }
    e.status = 0.0;
    int own = 0;
    const double part = std::frexp(value / df, &own);
    value_power += own;
    e.power = m > 0.0 && power > value_power ? power : value_power;
    const int total = value_power - e.power;
    const int lift = total < -664 ? (300 - total) / 600 * 600 : 0;
    e.m = std::ldexp(m + missing, power - e.power);
    e.value = std::ldexp(part, total + lift);
    e.shift = lift;
    return e;
}

// Puts the extreme equations of a block in place; `power` is what their vols are scaled by.
inline void place_bachelier_extremes(std::size_t n, const double* price, const double* forward,
                                     const double* strike, const double* tau, const double* call,
                                     const double* discount, BachelierEquations& e, double* status,
                                     int* power) {
    for (std::size_t i = 0; i < n; ++i) {
        power[i] = 0;
        if (e.extreme[i] < 0.5 || status[i] > 3.5) {
            continue;
        }
        const BachelierExtreme found =
            bachelier_extreme(price[i], forward[i], strike[i], call[i] > 0.5, discount[i]);
        status[i] = found.status;
        e.m[i] = found.m;
        e.value[i] = found.value;
        e.shift[i] = found.shift;
        e.unit[i] = 1.0;
        e.tau[i] = found.status == 0.0 ? tau[i] : 1.0;
        power[i] = found.power;
    }
}

inline void scale_bachelier_extremes(std::size_t n, const BachelierEquations& e, const int* power,
                                     double* vol, double* status) {
    constexpr double top = std::numeric_limits<double>::max();
    for (std::size_t i = 0; i < n; ++i) {
        if (e.extreme[i] > 0.5 && status[i] == 0.0) {
            const double found = std::ldexp(vol[i], power[i]);
            status[i] = found > top ? 3.0 : (found > 0.0 ? 0.0 : 1.0);
            vol[i] = status[i] == 3.0 ? std::numeric_limits<double>::quiet_NaN() : found;
        }
    }
}

struct BachelierImpliedVolBody {
    static VOLSCEN_INLINE void run(std::size_t n, const double* __restrict price,
                                   const double* __restrict forward, const double* __restrict strike,
                                   const double* __restrict tau, const double* __restrict call,
                                   const double* __restrict discount, double* __restrict vol,
                                   double* __restrict status) {
        constexpr double nan = std::numeric_limits<double>::quiet_NaN();
        constexpr double top = std::numeric_limits<double>::max();
        BachelierEquations e;
        double start[bachelier_block];
        int power[bachelier_block];
        bachelier_equations(n, price, forward, strike, tau, call, discount, e, status);
        std::uint64_t any_extreme = 0;
        for (std::size_t i = 0; i < n; ++i) {
            any_extreme |= bit_cast<std::uint64_t>(e.extreme[i]);
        }
        if (any_extreme != 0) {
            place_bachelier_extremes(n, price, forward, strike, tau, call, discount, e, status, power);
        }
        for (std::size_t i = 0; i < n; ++i) {
            const BachelierRatio ratio = bachelier_ratio(e.m[i], e.value[i], 1.0, e.shift[i]);
            start[i] = leading_bits(bachelier_seed(e.m[i], e.value[i], 1.0, e.shift[i], ratio));
        }
        for (std::size_t i = 0; i < n; ++i) {
            const double s = start[i], inverse = 1.0 / s;
            const double head = leading_bits(e.m[i] * inverse);
            const double tail = (e.m[i] - head * s) * inverse;
            const double a = head + tail;
            const double gauss =
                exponential_of_sum(-0.5 * head * head, -tail * (head + 0.5 * tail), e.shift[i]);
            const double flow = mills_slope(a);
            const double value = gauss * (s * coefficients::inverse_sqrt_two_pi) * flow;
            // d value/ds = phi(a), so that s value''/value' = a^2, and so on.
            const double c = a * a, c2 = c * (c - 3.0), c3 = c2 * (c - 2.0) - c * (4.0 * c - 6.0);
            const double change = inverse_step(log_of_near(e.value[i], value), flow, c, c2, c3);
            const double found = vol_of_total(s, change, e.tau[i]) * e.unit[i];
            // Vols beyond the range of numbers.
            double code = status[i];
            const double too_large = found <= top ? code : 3.0;
            const double too_small = found > 0.0 ? too_large : 1.0;
            code = code == 0.0 ? too_small : code;
            vol[i] = code == 0.0 ? found : (code == 1.0 ? 0.0 : nan);
            status[i] = code;
        }
        if (any_extreme != 0) {
            scale_bachelier_extremes(n, e, power, vol, status);
        }
    }
};

using BachelierPriceFunction = void (*)(std::size_t, const double*, const double*, const double*,
                                        const double*, const double*, const double*, double*);
using BachelierImpliedVolFunction = void (*)(std::size_t, const double*, const double*, const double*,
                                             const double*, const double*, const double*, double*, double*);

// The dense kernels at the instruction set in use.
BachelierPriceFunction bachelier_price();
BachelierImpliedVolFunction bachelier_implied_vol();

}  // namespace volscen
