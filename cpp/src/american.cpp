#include "volscen/american_implied_vol.hpp"

namespace volscen {

template <class Nodes>
const AmericanTables<Nodes>& american_tables() {
    static const AmericanTables<Nodes> tables;
    return tables;
}

template const AmericanTables<AmericanNodes>& american_tables<AmericanNodes>();
template const AmericanTables<AmericanFineNodes>& american_tables<AmericanFineNodes>();

AmericanPriceFunction american_price() { return dispatch<AmericanPriceBody>(); }
AmericanImpliedVolFunction american_implied_vol() { return dispatch<AmericanImpliedVolBody>(); }

}  // namespace volscen
