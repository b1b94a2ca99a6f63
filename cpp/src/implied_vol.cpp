#include "volscen/implied_vol.hpp"

namespace volscen {

ImpliedVolFunction implied_vol_block_function() { return dispatch<ImpliedVolBody>(); }
ImpliedTotalVolFunction implied_total_vol_block_function() { return dispatch<ImpliedTotalVolBody>(); }

}  // namespace volscen
