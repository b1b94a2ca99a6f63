#include "pybind11.hpp"

#include <vector>

#include "operand.hpp"
#include "volscen/arbitrage.hpp"
#include "volscen/parallel.hpp"

namespace volscen {

namespace {

constexpr std::size_t chunk = 64;

template <class T>
using Contiguous = py::array_t<T, py::array::c_style>;

// Parts and the gradient of their sum; with weights (n, 3) the gradient of the parts so weighted.
template <class T>
py::tuple evaluate(PenaltyFunction<T> function, const Contiguous<T>& implied_vol, const ContiguousDouble& tau,
                   const ContiguousDouble& moneyness, const Contiguous<T>* weight, bool want_gradient,
                   int num_threads) {
    check_threads(num_threads);
    if (implied_vol.ndim() != 3 || tau.ndim() != 1 || moneyness.ndim() != 1 ||
        implied_vol.shape(1) != tau.shape(0) || implied_vol.shape(2) != moneyness.shape(0) ||
        tau.shape(0) < 1 || moneyness.shape(0) < 1) {
        throw py::value_error("implied_vol must have the shape (surfaces, tau, moneyness)");
    }
    if (weight != nullptr &&
        (weight->ndim() != 2 || weight->shape(0) != implied_vol.shape(0) || weight->shape(1) != 3)) {
        throw py::value_error("weight must have the shape (surfaces, 3)");
    }
    const std::size_t count = static_cast<std::size_t>(implied_vol.shape(0));
    py::array_t<T> parts({implied_vol.shape(0), py::ssize_t(3)});
    py::array_t<T> gradient(want_gradient ? shape_of(implied_vol) : std::vector<py::ssize_t>{0});
    const PenaltyGrid<T> grid(tau.data(), static_cast<std::size_t>(tau.size()), moneyness.data(),
                              static_cast<std::size_t>(moneyness.size()));
    const T* vol = implied_vol.data();
    const T* weights = weight == nullptr ? nullptr : weight->data();
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
            task.weight = weights == nullptr ? nullptr : weights + 3 * begin;
            task.parts = out + 3 * begin;
            task.gradient = slopes == nullptr ? nullptr : slopes + begin * grid.cells;
            task.work = work.data();
            function(&task);
        });
    }
    return py::make_tuple(parts, gradient);
}

template <class T>
void bind(py::module_& m, const char* penalty, const char* pullback, PenaltyFunction<T> (*function)()) {
    m.def(
        penalty,
        [function](const Contiguous<T>& implied_vol, const ContiguousDouble& tau,
                   const ContiguousDouble& moneyness, bool gradient, int num_threads) {
            return evaluate<T>(function(), implied_vol, tau, moneyness, nullptr, gradient, num_threads);
        },
        py::arg("implied_vol").noconvert(), py::arg("tau"), py::arg("moneyness"), py::arg("gradient"),
        py::arg("num_threads"),
        "Parts p1, p2, p3 of surfaces (n, tau, moneyness), and the gradient of their sum.");
    m.def(
        pullback,
        [function](const Contiguous<T>& implied_vol, const ContiguousDouble& tau,
                   const ContiguousDouble& moneyness, const Contiguous<T>& weight,
                   int num_threads) -> py::object {
            const py::tuple both =
                evaluate<T>(function(), implied_vol, tau, moneyness, &weight, true, num_threads);
            return both[1];
        },
        py::arg("implied_vol").noconvert(), py::arg("tau"), py::arg("moneyness"),
        py::arg("weight").noconvert(), py::arg("num_threads"),
        "Gradient of the parts of each surface weighted by (n, 3).");
}

}  // namespace

void bind_arbitrage(py::module_& m) {
    bind<double>(m, "arbitrage_penalty_double", "arbitrage_pullback_double", &penalty_double);
    bind<float>(m, "arbitrage_penalty_float", "arbitrage_pullback_float", &penalty_float);
}

}  // namespace volscen
