#include "volscen/svi.hpp"

namespace volscen {

const ScanGrid& svi_scan_grid() {
    static const ScanGrid grid(std::asinh(1e4));
    return grid;
}

const PenaltyPoints& svi_penalty_points() {
    static const PenaltyPoints points(std::asinh(2e2));
    return points;
}

SviFunction svi_fit() { return dispatch<SviBody>(); }

}  // namespace volscen
