#include "volscen/svi.hpp"

namespace volscen {

template <std::size_t N>
SviTable<N>::SviTable(double reach) {
    for (std::size_t j = 0; j < N; ++j) {
        const double u = std::asinh(reach) * (2.0 * static_cast<double>(j) / (N - 1) - 1.0);
        y[j] = std::sinh(u);
        z[j] = std::cosh(u);
        inverse_z[j] = 1.0 / z[j];
    }
}

SviPoints::SviPoints() : global(svi_reach), local(1e5), coarse(1e4), coarse_local(1e4) {}

const SviPoints& svi_points() {
    static const SviPoints points;
    return points;
}

SviFunction svi_fit() { return dispatch<SviBody>(); }

}  // namespace volscen
