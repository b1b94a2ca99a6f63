#include "volscen/black.hpp"

namespace volscen {

BlackFunction black_price() { return dispatch<BlackBody<PriceFormula>>(); }
BlackFunction black_delta() { return dispatch<BlackBody<DeltaFormula>>(); }
BlackFunction black_gamma() { return dispatch<BlackBody<GammaFormula>>(); }
BlackFunction black_vega() { return dispatch<BlackBody<VegaFormula>>(); }
BlackFunction black_theta() { return dispatch<BlackBody<ThetaFormula>>(); }

}  // namespace volscen
