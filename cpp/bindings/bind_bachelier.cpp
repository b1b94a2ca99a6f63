#include "pybind11.hpp"

#include "invert.hpp"
#include "volscen/bachelier.hpp"

namespace volscen {

namespace {

py::array_t<double> price(const py::array& forward, const py::array& strike, const py::array& tau,
                          const py::array& normal_vol, const py::array& is_call,
                          const py::array& discount_factor, int num_threads) {
    check_threads(num_threads);
    for (const py::array* other : {&strike, &tau, &normal_vol, &is_call, &discount_factor}) {
        check_same_shape(forward, *other);
    }
    const Operand f(forward, "forward"), k(strike, "strike"), t(tau, "tau"), v(normal_vol, "normal_vol"),
        c(is_call, "is_call"), d(discount_factor, "discount_factor");
    py::array_t<double> result(shape_of(forward));
    double* out = result.mutable_data();
    const std::size_t count = static_cast<std::size_t>(result.size());
    const py::gil_scoped_release release;
    const BachelierPriceFunction function = bachelier_price();
    constexpr std::size_t block = bachelier_block;
    parallel_for(count, 64 * block, num_threads, [&](std::size_t begin, std::size_t end) {
        double buffer[6][block];
        for (std::size_t i = begin; i < end; i += block) {
            const std::size_t n = std::min(block, end - i);
            function(n, f.load(i, n, buffer[0]), k.load(i, n, buffer[1]), t.load(i, n, buffer[2]),
                     v.load(i, n, buffer[3]), c.load(i, n, buffer[4]), d.load(i, n, buffer[5]), out + i);
        }
    });
    return result;
}

py::tuple implied_vol(const py::array& price, const py::array& forward, const py::array& strike,
                      const py::array& tau, const py::array& is_call, const py::array& discount_factor,
                      int num_threads) {
    const std::array<NamedArray, 6> operands{{{price, "price"},
                                              {forward, "forward"},
                                              {strike, "strike"},
                                              {tau, "tau"},
                                              {is_call, "is_call"},
                                              {discount_factor, "discount_factor"}}};
    return invert<bachelier_block>(operands, num_threads, bachelier_implied_vol());
}

}  // namespace

void bind_bachelier(py::module_& m) {
    m.def("bachelier_price", &price, py::arg("forward"), py::arg("strike"), py::arg("tau"),
          py::arg("normal_vol"), py::arg("is_call"), py::arg("discount_factor"), py::arg("num_threads"),
          "Bachelier price of operands broadcast to one shape.");
    m.def("bachelier_implied_vol", &implied_vol, py::arg("price"), py::arg("forward"), py::arg("strike"),
          py::arg("tau"), py::arg("is_call"), py::arg("discount_factor"), py::arg("num_threads"),
          "Normal implied vol and a status per element, of operands broadcast to one shape.");
}

}  // namespace volscen
