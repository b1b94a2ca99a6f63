#include "volscen/svi.hpp"

namespace volscen {

SviPoints::SviPoints() {
    const double reach = std::asinh(1e8), local_reach = std::asinh(1e5);
    for (std::size_t j = 0; j < svi_global_points; ++j) {
        const double u = reach * (2.0 * static_cast<double>(j) / (svi_global_points - 1) - 1.0);
        y[j] = std::sinh(u);
        z[j] = std::cosh(u);
        inverse_z[j] = 1.0 / z[j];
    }
    for (std::size_t j = 0; j < svi_local_points; ++j) {
        local[j] = std::sinh(local_reach * (2.0 * static_cast<double>(j) / (svi_local_points - 1) - 1.0));
    }
}

const SviPoints& svi_points() {
    static const SviPoints points;
    return points;
}

SviFunction svi_fit() { return dispatch<SviBody>(); }

}  // namespace volscen
