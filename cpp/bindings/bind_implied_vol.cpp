#include "pybind11.hpp"

#include "operand.hpp"
#include "volscen/implied_vol.hpp"
#include "volscen/parallel.hpp"

namespace volscen {

namespace {

constexpr std::size_t block = implied_vol_block;
constexpr std::size_t chunk = 32 * block;

py::tuple implied_vol(const py::array& price, const py::array& forward, const py::array& strike,
                      const py::array& tau, const py::array& is_call, const py::array& discount_factor,
                      int num_threads) {
    check_threads(num_threads);
    for (const py::array* other : {&forward, &strike, &tau, &is_call, &discount_factor}) {
        check_same_shape(price, *other);
    }
    const Operand p(price, "price"), f(forward, "forward"), k(strike, "strike"), t(tau, "tau"),
        c(is_call, "is_call"), d(discount_factor, "discount_factor");
    py::array_t<double> result(shape_of(price));
    py::array_t<std::int8_t> status(shape_of(price));
    double* out = result.mutable_data();
    std::int8_t* codes = status.mutable_data();
    const std::size_t count = static_cast<std::size_t>(result.size());
    {
        const py::gil_scoped_release release;
        const ImpliedVolFunction function = implied_vol_block_function();
        parallel_for(count, chunk, num_threads, [&](std::size_t begin, std::size_t end) {
            double buffer[6][block], code[block];
            for (std::size_t i = begin; i < end; i += block) {
                const std::size_t n = std::min(block, end - i);
                function(n, p.load(i, n, buffer[0]), f.load(i, n, buffer[1]), k.load(i, n, buffer[2]),
                         t.load(i, n, buffer[3]), c.load(i, n, buffer[4]), d.load(i, n, buffer[5]), out + i,
                         code);
                for (std::size_t j = 0; j < n; ++j) {
                    codes[i + j] = static_cast<std::int8_t>(code[j]);
                }
            }
        });
    }
    return py::make_tuple(result, status);
}

}  // namespace

void bind_implied_vol(py::module_& m) {
    m.def("implied_vol", &implied_vol, py::arg("price"), py::arg("forward"), py::arg("strike"),
          py::arg("tau"), py::arg("is_call"), py::arg("discount_factor"), py::arg("num_threads"),
          "Black-76 implied vol and a status per element, of operands broadcast to one shape.");
}

}  // namespace volscen
