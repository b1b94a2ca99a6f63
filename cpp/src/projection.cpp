#include "volscen/projection.hpp"

namespace volscen {

ProjectionFunction projection() { return dispatch<ProjectionBody>(); }

}  // namespace volscen
