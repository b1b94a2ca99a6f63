// Included first by every binding file: pybind11 and what the bindings share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace volscen {

namespace py = pybind11;

using ContiguousDouble = py::array_t<double, py::array::c_style>;
using ContiguousFloat = py::array_t<float, py::array::c_style>;

void bind_american(py::module_& m);
void bind_bachelier(py::module_& m);
void bind_black(py::module_& m);
void bind_implied_vol(py::module_& m);
void bind_svi(py::module_& m);
void bind_ssvi(py::module_& m);
void bind_arbitrage(py::module_& m);
void bind_revalue(py::module_& m);
void bind_projection(py::module_& m);

// Threads are counted by the Python wrapper; a wrong count here is a programming error.
inline void check_threads(int num_threads) {
    if (num_threads < 1) {
        throw py::value_error("num_threads must be at least 1");
    }
}

}  // namespace volscen
