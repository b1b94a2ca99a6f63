#include "volscen/american_implied_vol.hpp"

namespace volscen {

const AmericanTables& american_tables() {
    static const AmericanTables tables;
    return tables;
}

AmericanPriceFunction american_price() { return dispatch<AmericanPriceBody>(); }
AmericanImpliedVolFunction american_implied_vol() { return dispatch<AmericanImpliedVolBody>(); }

}  // namespace volscen
