// What an inversion of prices found for one element.
#pragma once

#include <cstdint>

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

}  // namespace volscen
