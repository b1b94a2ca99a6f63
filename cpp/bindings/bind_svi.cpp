#include "pybind11.hpp"

#include <vector>

#include "operand.hpp"
#include "volscen/parallel.hpp"
#include "volscen/svi.hpp"

namespace volscen {

namespace {

constexpr std::size_t chunk = 8;

py::tuple fit(const ContiguousDouble& log_moneyness, const ContiguousDouble& total_variance,
              const ContiguousDouble& weight, const ContiguousDouble& start, bool butterfly,
              int num_threads) {
    check_threads(num_threads);
    check_same_shape(log_moneyness, total_variance);
    check_same_shape(log_moneyness, weight);
    if (log_moneyness.ndim() != 2) {
        throw py::value_error("log_moneyness must have the shape (slices, quotes)");
    }
    const py::ssize_t slices = log_moneyness.shape(0);
    if (start.ndim() != 2 || start.shape(1) != 5 || (start.shape(0) != slices && start.shape(0) != 0)) {
        throw py::value_error("start must have the shape (slices, 5), or (0, 5) for none");
    }
    py::array_t<double> parameters({slices, py::ssize_t(5)}), rmse(slices);
    py::array_t<std::int8_t> status(slices);
    SviTask whole = {};
    whole.n = static_cast<std::size_t>(log_moneyness.shape(1));
    whole.k = log_moneyness.data();
    whole.w = total_variance.data();
    whole.weight = weight.data();
    whole.start = start.shape(0) > 0 ? start.data() : nullptr;
    whole.butterfly = butterfly;
    whole.parameters = parameters.mutable_data();
    whole.rmse = rmse.mutable_data();
    whole.status = status.mutable_data();
    {
        const py::gil_scoped_release release;
        const SviFunction function = svi_fit();
        parallel_for(
            static_cast<std::size_t>(slices), chunk, num_threads, [&](std::size_t begin, std::size_t end) {
                std::vector<double> work(svi_scratch * ((whole.n + svi_lanes - 1) / svi_lanes * svi_lanes));
                SviTask task = whole;
                task.count = end - begin;
                task.k += begin * task.n;
                task.w += begin * task.n;
                task.weight += begin * task.n;
                task.start = task.start == nullptr ? nullptr : task.start + 5 * begin;
                task.parameters += 5 * begin;
                task.rmse += begin;
                task.status += begin;
                task.work = work.data();
                function(&task);
            });
    }
    return py::make_tuple(parameters, rmse, status);
}

}  // namespace

void bind_svi(py::module_& m) {
    m.def("svi_fit", &fit, py::arg("log_moneyness"), py::arg("total_variance"), py::arg("weight"),
          py::arg("start"), py::arg("butterfly"), py::arg("num_threads"),
          "Raw-SVI parameters (n, 5), rms errors and statuses of slices (n, quotes).");
}

}  // namespace volscen
