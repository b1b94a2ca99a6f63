#include "pybind11.hpp"

#include <vector>

#include "operand.hpp"
#include "volscen/arbitrage.hpp"
#include "volscen/parallel.hpp"

namespace volscen {

namespace {

constexpr std::size_t chunk = 64;

template <class T>
py::tuple evaluate(PenaltyFunction<T> function, const py::array_t<T, py::array::c_style>& implied_vol,
                   const ContiguousDouble& tau, const ContiguousDouble& moneyness, bool want_gradient,
                   int num_threads) {
    check_threads(num_threads);
    if (implied_vol.ndim() != 3 || tau.ndim() != 1 || moneyness.ndim() != 1 ||
        implied_vol.shape(1) != tau.shape(0) || implied_vol.shape(2) != moneyness.shape(0) ||
        tau.shape(0) < 1 || moneyness.shape(0) < 1) {
        throw py::value_error("implied_vol must have the shape (surfaces, tau, moneyness)");
    }
    const std::size_t count = static_cast<std::size_t>(implied_vol.shape(0));
    py::array_t<T> parts({implied_vol.shape(0), py::ssize_t(3)});
    py::array_t<T> gradient(want_gradient ? shape_of(implied_vol) : std::vector<py::ssize_t>{0});
    const PenaltyGrid<T> grid(tau.data(), static_cast<std::size_t>(tau.size()), moneyness.data(),
                              static_cast<std::size_t>(moneyness.size()));
    const T* vol = implied_vol.data();
    T* out = parts.mutable_data();
    T* slopes = want_gradient ? gradient.mutable_data() : nullptr;
    {
        const py::gil_scoped_release release;
        parallel_for(count, chunk, num_threads, [&](std::size_t begin, std::size_t end) {
            std::vector<T> work(4 * grid.padded, T(0));
            PenaltyTask<T> task;
            task.grid = &grid;
            task.count = end - begin;
            task.vol = vol + begin * grid.cells;
            task.parts = out + 3 * begin;
            task.gradient = slopes == nullptr ? nullptr : slopes + begin * grid.cells;
            task.work = work.data();
            function(&task);
        });
    }
    return py::make_tuple(parts, gradient);
}

}  // namespace

void bind_arbitrage(py::module_& m) {
    m.def(
        "arbitrage_penalty_double",
        [](const ContiguousDouble& implied_vol, const ContiguousDouble& tau,
           const ContiguousDouble& moneyness, bool gradient, int num_threads) {
            return evaluate<double>(penalty_double(), implied_vol, tau, moneyness, gradient, num_threads);
        },
        py::arg("implied_vol").noconvert(), py::arg("tau"), py::arg("moneyness"), py::arg("gradient"),
        py::arg("num_threads"),
        "Parts p1, p2, p3 of surfaces (n, tau, moneyness), and the gradient of their sum.");
    m.def(
        "arbitrage_penalty_float",
        [](const ContiguousFloat& implied_vol, const ContiguousDouble& tau, const ContiguousDouble& moneyness,
           bool gradient, int num_threads) {
            return evaluate<float>(penalty_float(), implied_vol, tau, moneyness, gradient, num_threads);
        },
        py::arg("implied_vol").noconvert(), py::arg("tau"), py::arg("moneyness"), py::arg("gradient"),
        py::arg("num_threads"), "The same in float32.");
}

}  // namespace volscen
