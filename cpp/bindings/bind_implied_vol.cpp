#include "pybind11.hpp"

#include "invert.hpp"
#include "volscen/implied_vol.hpp"

namespace volscen {

namespace {

py::tuple implied_vol(const py::array& price, const py::array& forward, const py::array& strike,
                      const py::array& tau, const py::array& is_call, const py::array& discount_factor,
                      int num_threads) {
    const std::array<NamedArray, 6> operands{{{price, "price"},
                                              {forward, "forward"},
                                              {strike, "strike"},
                                              {tau, "tau"},
                                              {is_call, "is_call"},
                                              {discount_factor, "discount_factor"}}};
    return invert<implied_vol_block>(operands, num_threads, implied_vol_block_function());
}

py::tuple implied_total_vol(const py::array& normalised_price, const py::array& log_moneyness,
                            const py::array& is_call, int num_threads) {
    const std::array<NamedArray, 3> operands{
        {{normalised_price, "normalised_price"}, {log_moneyness, "log_moneyness"}, {is_call, "is_call"}}};
    return invert<implied_vol_block>(operands, num_threads, implied_total_vol_block_function());
}

}  // namespace

void bind_implied_vol(py::module_& m) {
    m.def("implied_vol", &implied_vol, py::arg("price"), py::arg("forward"), py::arg("strike"),
          py::arg("tau"), py::arg("is_call"), py::arg("discount_factor"), py::arg("num_threads"),
          "Black-76 implied vol and a status per element, of operands broadcast to one shape.");
    m.def("implied_total_vol", &implied_total_vol, py::arg("normalised_price"), py::arg("log_moneyness"),
          py::arg("is_call"), py::arg("num_threads"),
          "Vol sqrt(tau) from prices over sqrt(F K), and a status per element.");
}

}  // namespace volscen
