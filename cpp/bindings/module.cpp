#include "pybind11.hpp"

#include <stdexcept>

#include "volscen/dispatch.hpp"

PYBIND11_MODULE(_core, m) {
    namespace py = pybind11;
    m.doc() =
        "Numerical kernels of volscen; use them through volscen.black, volscen.svi, volscen.arbitrage and "
        "volscen.revaluation.";
    try {
        volscen::simd_level();
    } catch (const std::invalid_argument& error) {
        throw py::import_error(error.what());
    }
    m.def(
        "simd_level", [] { return volscen::simd_level_name(volscen::simd_level()); },
        "Name of the instruction set in use: baseline, avx2 or avx512.");
    volscen::bind_american(m);
    volscen::bind_bachelier(m);
    volscen::bind_black(m);
    volscen::bind_implied_vol(m);
    volscen::bind_svi(m);
    volscen::bind_ssvi(m);
    volscen::bind_arbitrage(m);
    volscen::bind_revalue(m);
    volscen::bind_projection(m);
}
