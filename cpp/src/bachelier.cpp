#include "volscen/bachelier.hpp"

namespace volscen {

BachelierPriceFunction bachelier_price() { return dispatch<BachelierPriceBody>(); }
BachelierImpliedVolFunction bachelier_implied_vol() { return dispatch<BachelierImpliedVolBody>(); }

}  // namespace volscen
