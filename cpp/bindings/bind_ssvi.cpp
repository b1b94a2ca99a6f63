#include "pybind11.hpp"

#include "operand.hpp"
#include "volscen/parallel.hpp"
#include "volscen/ssvi.hpp"

namespace volscen {

namespace {

py::tuple fit(const ContiguousDouble& log_moneyness, const ContiguousDouble& total_variance,
              const ContiguousDouble& weight, bool shared, int num_threads) {
    check_threads(num_threads);
    check_same_shape(log_moneyness, total_variance);
    check_same_shape(log_moneyness, weight);
    if (log_moneyness.ndim() != 3) {
        throw py::value_error("log_moneyness must have the shape (surfaces, maturities, quotes)");
    }
    const py::ssize_t surfaces = log_moneyness.shape(0), maturities = log_moneyness.shape(1);
    py::array_t<double> parameters({surfaces, maturities, py::ssize_t(3)}), rmse({surfaces, maturities});
    py::array_t<double> law({surfaces, py::ssize_t(2)});
    py::array_t<std::int8_t> status({surfaces, maturities});
    SsviTask whole = {};
    whole.maturities = static_cast<std::size_t>(maturities);
    whole.n = static_cast<std::size_t>(log_moneyness.shape(2));
    whole.k = log_moneyness.data();
    whole.w = total_variance.data();
    whole.weight = weight.data();
    whole.shared = shared;
    whole.parameters = parameters.mutable_data();
    whole.rmse = rmse.mutable_data();
    whole.status = status.mutable_data();
    whole.law = law.mutable_data();
    {
        const py::gil_scoped_release release;
        const SsviFunction function = ssvi_fit();
        parallel_for(static_cast<std::size_t>(surfaces), 1, num_threads,
                     [&](std::size_t begin, std::size_t end) {
                         SsviMemory memory(whole.maturities, whole.n);
                         SsviTask task = whole;
                         const std::size_t quotes = begin * whole.maturities * whole.n;
                         task.count = end - begin;
                         task.k += quotes;
                         task.w += quotes;
                         task.weight += quotes;
                         task.parameters += 3 * begin * whole.maturities;
                         task.rmse += begin * whole.maturities;
                         task.status += begin * whole.maturities;
                         task.law += 2 * begin;
                         task.memory = &memory;
                         function(&task);
                     });
    }
    return py::make_tuple(parameters, rmse, status, law);
}

}  // namespace

void bind_ssvi(py::module_& m) {
    m.def("ssvi_fit", &fit, py::arg("log_moneyness"), py::arg("total_variance"), py::arg("weight"),
          py::arg("shared"), py::arg("num_threads"),
          "SSVI parameters (n, maturities, 3), rms errors and statuses (n, maturities), and power laws (n, "
          "2) of "
          "surfaces (n, maturities, quotes).");
}

}  // namespace volscen
