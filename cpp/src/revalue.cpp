#include "volscen/revalue.hpp"

namespace volscen {

RevalueFunction revalue_values() { return dispatch<RevalueBody<false>>(); }
RevalueFunction revalue_values_and_greeks() { return dispatch<RevalueBody<true>>(); }

}  // namespace volscen
