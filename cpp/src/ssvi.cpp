#include "volscen/ssvi.hpp"

namespace volscen {

SsviFunction ssvi_fit() { return dispatch<SsviBody>(); }

}  // namespace volscen
