#include "pybind11.hpp"

#include "operand.hpp"
#include "volscen/black.hpp"
#include "volscen/parallel.hpp"

namespace volscen {

namespace {

constexpr std::size_t block = 256;
constexpr std::size_t chunk = 64 * block;

py::array_t<double> evaluate(BlackFunction function, const py::array& forward, const py::array& strike,
                             const py::array& tau, const py::array& implied_vol, const py::array& is_call,
                             const py::array& discount_factor, int num_threads) {
    check_threads(num_threads);
    for (const py::array* other : {&strike, &tau, &implied_vol, &is_call, &discount_factor}) {
        check_same_shape(forward, *other);
    }
    const Operand f(forward, "forward"), k(strike, "strike"), t(tau, "tau"), v(implied_vol, "implied_vol"),
        c(is_call, "is_call"), d(discount_factor, "discount_factor");
    py::array_t<double> result(shape_of(forward));
    double* out = result.mutable_data();
    const std::size_t count = static_cast<std::size_t>(result.size());
    const py::gil_scoped_release release;
    parallel_for(count, chunk, num_threads, [&](std::size_t begin, std::size_t end) {
        double buffer[6][block];
        for (std::size_t i = begin; i < end; i += block) {
            const std::size_t n = std::min(block, end - i);
            function(n, f.load(i, n, buffer[0]), k.load(i, n, buffer[1]), t.load(i, n, buffer[2]),
                     v.load(i, n, buffer[3]), c.load(i, n, buffer[4]), d.load(i, n, buffer[5]), out + i);
        }
    });
    return result;
}

void define(py::module_& m, const char* name, BlackFunction (*function)(), const char* doc) {
    m.def(
        name,
        [function](const py::array& forward, const py::array& strike, const py::array& tau,
                   const py::array& implied_vol, const py::array& is_call, const py::array& discount_factor,
                   int num_threads) {
            return evaluate(function(), forward, strike, tau, implied_vol, is_call, discount_factor,
                            num_threads);
        },
        py::arg("forward"), py::arg("strike"), py::arg("tau"), py::arg("implied_vol"), py::arg("is_call"),
        py::arg("discount_factor"), py::arg("num_threads"), doc);
}

}  // namespace

void bind_black(py::module_& m) {
    define(m, "black_price", &black_price, "Black-76 price of operands broadcast to one shape.");
    define(m, "black_delta", &black_delta, "Derivative of the price in the forward.");
    define(m, "black_gamma", &black_gamma, "Second derivative of the price in the forward.");
    define(m, "black_vega", &black_vega, "Derivative of the price in the vol.");
    define(m, "black_theta", &black_theta, "Derivative of the price in calendar time, per year.");
}

}  // namespace volscen
