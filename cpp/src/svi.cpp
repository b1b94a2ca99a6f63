#include "volscen/svi.hpp"

namespace volscen {

const ScanGrid& svi_scan_grid() {
    static const ScanGrid grid(std::asinh(1e8));
    return grid;
}

const PenaltyPoints& svi_penalty_points() {
    static const PenaltyPoints points(std::asinh(1e3));
    return points;
}

SviFunction svi_fit() { return dispatch<SviBody>(); }

}  // namespace volscen
