#include "volscen/arbitrage.hpp"

namespace volscen {

PenaltyFunction<double> penalty_double() { return dispatch<PenaltyBody<double>>(); }
PenaltyFunction<float> penalty_float() { return dispatch<PenaltyBody<float>>(); }

}  // namespace volscen
