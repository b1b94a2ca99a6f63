// Equations of options whose numbers are so large or small that products of them, or the errors of products,
// would leave the normal range, and of those in the money whose time value is of the size of a rounding of
// the price. Fractions and powers of two are kept apart. Scalar code, for few options; what an option's
// neighbours are never decides how it is solved.
#pragma once

#include <cmath>

#include "volscen/exact.hpp"

namespace volscen {

// Sizes within which the vectorised equations lose nothing.
constexpr double plain_size = 1e150, plain_discount = 1e60, plain_price = 1e-80;

// 1 for an option that is none for those; so are prices at the money that are tiny beside the forward.
VOLSCEN_INLINE double is_extreme(double price, double lo, double hi, double discount) {
    const double away = hi > lo ? 1.0 : price;
    double extreme = lo > 1.0 / plain_size ? 0.0 : 1.0;
    extreme = hi < plain_size ? extreme : 1.0;
    extreme = discount < plain_discount ? extreme : 1.0;
    extreme = discount > 1.0 / plain_discount ? extreme : 1.0;
    return away > plain_price ? extreme : 1.0;
}

// price - df (gap + missing) for numbers of ordinary size. Differences far below a rounding of the price keep
// all their digits: every error is carried along, and exact.
inline double above_intrinsic(double price, double df, double gap, double missing) {
    const double intrinsic = df * gap, error = std::fma(df, gap, -intrinsic);
    const double rest = df * missing, rest_error = std::fma(df, missing, -rest);
    const double above = price - intrinsic, first = above - error, second = first - rest;
    return second + ((sum_error(above, -error, first) + sum_error(first, -rest, second)) - rest_error);
}

// What the solvers see of one option: beta 2^shift, and 1 - beta as room/unit. The vol found is to be
// multiplied by 2^power.
struct ExtremeEquation {
    double status, x, beta, shift, room, unit, swell;
    int power;
};

// Of a sound option: forward, strike and discount factor are positive and finite, the price is not negative.
inline ExtremeEquation extreme_equation(double price, double forward, double strike, bool call,
                                        double discount) {
    // Numbers that do no harm, for options that have no equation.
    ExtremeEquation e{1.0, 0.1, 0.25, 0.0, 0.75, 1.0, 1.0, 0};
    const double lo = forward < strike ? forward : strike, hi = forward < strike ? strike : forward;
    const bool inside = call ? forward > strike : strike > forward;
    int price_power = 0, discount_power = 0, low_power = 0, high_power = 0;
    const double paid = std::frexp(price, &price_power), df = std::frexp(discount, &discount_power);
    const double low = std::frexp(lo, &low_power), high = std::frexp(hi, &high_power);
    const int apart = high_power - low_power;
    // The time value is value 2^power, and its cap unit, in multiples of 2^(discount_power + low_power).
    double value = paid;
    int power = price_power - discount_power - low_power;
    if (inside) {
        const int size = price_power - discount_power - high_power;
        // Prices of other sizes than the strike's are above the cap or below the intrinsic value.
        const double fair = std::ldexp(paid, size > 8 ? 8 : (size < -400 ? -400 : size));
        // Further apart, prices are below, at or above the cap. Any such distance tells which, while
        // subnormal numbers would not.
        power = apart < 900 ? apart : 900;
        const double far = std::ldexp(low, -power);
        const double gap = high - far;
        value = above_intrinsic(fair, df, gap, sum_error(high, -far, gap));
        if (value <= 0.0) {
            e.status = value < -4.5e-16 * fair ? 2.0 : 1.0;
            return e;
        }
    } else if (!(value > 0.0)) {
        return e;
    }
    int value_power = 0;
    const double part = std::frexp(value, &value_power);
    const int total = value_power + power;
    const double unit = df * low;
    const double room = unit - std::ldexp(part, total > 8 ? 8 : (total < -1000 ? -1000 : total));
    if (room <= 0.0) {
        e.status = 3.0;
        return e;
    }
    e.status = 0.0;
    e.x = log_ratio_of(hi, lo);
    e.room = room;
    e.unit = unit;
    // The root of hi/lo is of use where that is below e^600.
    e.swell = __builtin_sqrt(std::ldexp(high / low, apart < 900 ? apart : 900));
    int lift = 0;  // of beta, in powers of two
    if (hi > lo) {
        lift = total < -664 ? (300 - total) / 600 * 600 : 0;
        e.shift = lift;
    } else if (total < -200) {
        // Small prices at the money are proportional to the vol.
        lift = -100 - total;
        e.power = -lift;
    }
    e.beta = std::ldexp(part / unit, total + lift);
    return e;
}

}  // namespace volscen
