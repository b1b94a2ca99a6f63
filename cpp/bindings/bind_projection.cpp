#include "pybind11.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "operand.hpp"
#include "volscen/arbitrage.hpp"
#include "volscen/parallel.hpp"
#include "volscen/projection.hpp"

namespace volscen {

namespace {

// Whether surfaces are free of arbitrage exactly: the penalty's parts are zero and the first slope is at
// least -1.
class FreeTest {
public:
    FreeTest(const ContiguousDouble& tau, const ContiguousDouble& moneyness)
        : grid_(tau.data(), static_cast<std::size_t>(tau.size()), moneyness.data(),
                static_cast<std::size_t>(moneyness.size())),
          work_(4 * grid_.padded, 0.0),
          function_(penalty_double()) {}

    bool operator()(const double* vol) {
        double parts[3];
        PenaltyTask<double> task;
        task.grid = &grid_;
        task.count = 1;
        task.vol = vol;
        task.parts = parts;
        task.gradient = nullptr;
        task.work = work_.data();
        function_(&task);
        if (!(parts[0] == 0.0 && parts[1] == 0.0 && parts[2] == 0.0)) {
            return false;
        }
        if (grid_.columns < 2) {
            return true;
        }
        for (std::size_t j = 0; j < grid_.rows; ++j) {
            const std::size_t cell = grid_.margin + j * grid_.columns;
            const double slope = (work_[cell + 1] - work_[cell]) * grid_.inverse_step[cell];
            if (!(slope >= -(1.0 + grid_.slope[cell]))) {
                return false;
            }
        }
        return true;
    }

private:
    PenaltyGrid<double> grid_;
    std::vector<double> work_;
    PenaltyFunction<double> function_;
};

// What a vol becomes when it is stored.
inline double stored(double vol, bool single) {
    return single ? static_cast<double>(static_cast<float>(vol)) : vol;
}

bool usable(const double* vol, std::size_t cells) {
    for (std::size_t n = 0; n < cells; ++n) {
        if (!(vol[n] > 0.0 && vol[n] <= std::numeric_limits<double>::max())) {
            return false;
        }
    }
    return true;
}

py::tuple project(const ContiguousDouble& implied_vol, const ContiguousDouble& tau,
                  const ContiguousDouble& moneyness, bool single, double vega_floor, int iterations,
                  int num_threads) {
    check_threads(num_threads);
    if (implied_vol.ndim() != 3 || tau.ndim() != 1 || moneyness.ndim() != 1 ||
        implied_vol.shape(1) != tau.shape(0) || implied_vol.shape(2) != moneyness.shape(0) ||
        tau.shape(0) < 1 || moneyness.shape(0) < 1) {
        throw py::value_error("implied_vol must have the shape (surfaces, tau, moneyness)");
    }
    constexpr std::size_t W = projection_lanes;
    const std::size_t count = static_cast<std::size_t>(implied_vol.shape(0));
    py::array_t<double> projected(shape_of(implied_vol));
    py::array_t<std::int8_t> status(implied_vol.shape(0));
    py::array_t<std::int16_t> programmes(implied_vol.shape(0));
    const ProjectionGrid grid(tau.data(), static_cast<std::size_t>(tau.size()), moneyness.data(),
                              static_cast<std::size_t>(moneyness.size()));
    const std::size_t cells = grid.cells;
    const double* vol = implied_vol.data();
    double* out = projected.mutable_data();
    std::int8_t* state = status.mutable_data();
    std::int16_t* used = programmes.mutable_data();
    std::vector<std::size_t> broken;
    {
        const py::gil_scoped_release release;
        parallel_for(count, 64, num_threads, [&](std::size_t begin, std::size_t end) {
            FreeTest is_free(tau, moneyness);
            for (std::size_t n = begin; n < end; ++n) {
                const double* surface = vol + n * cells;
                std::copy(surface, surface + cells, out + n * cells);
                used[n] = 0;
                state[n] = static_cast<std::int8_t>(!usable(surface, cells) ? ProjectionStatus::invalid
                                                    : is_free(surface)      ? ProjectionStatus::free
                                                                            : ProjectionStatus::failed);
            }
        });
        // What stored vols may be off by, with room for the penalty's own rounding; more where that fell
        // short.
        double rounding = single ? 1.5 * 0x1p-24 : 2e-12;
        for (int attempt = 0; attempt < 3; ++attempt, rounding *= 16.0) {
            broken.clear();
            for (std::size_t n = 0; n < count; ++n) {
                if (state[n] == static_cast<std::int8_t>(ProjectionStatus::failed)) {
                    broken.push_back(n);
                }
            }
            parallel_for(broken.size(), W, num_threads, [&](std::size_t begin, std::size_t end) {
                FreeTest is_free(tau, moneyness);
                ProjectionWork work(grid);
                std::vector<double> vols(cells * W), results(cells * W), surface(cells);
                double converged[W], iterated[W];
                for (std::size_t l = 0; l < W; ++l) {
                    // Lanes left over repeat the last surface.
                    const std::size_t n = broken[std::min(begin + l, end - 1)];
                    for (std::size_t i = 0; i < cells; ++i) {
                        vols[i * W + l] = vol[n * cells + i];
                    }
                }
                ProjectionTask task;
                task.grid = &grid;
                task.options = ProjectionOptions{rounding, vega_floor, iterations};
                task.vol = vols.data();
                task.projected = results.data();
                task.converged = converged;
                task.iterations = iterated;
                projection()(&task, &work);
                for (std::size_t l = 0; begin + l < end; ++l) {
                    const std::size_t n = broken[begin + l];
                    for (std::size_t i = 0; i < cells; ++i) {
                        surface[i] = stored(results[i * W + l], single);
                    }
                    used[n] = static_cast<std::int16_t>(used[n] + static_cast<int>(iterated[l]));
                    if (!usable(surface.data(), cells) || !is_free(surface.data())) {
                        continue;
                    }
                    std::copy(surface.begin(), surface.end(), out + n * cells);
                    state[n] = static_cast<std::int8_t>(converged[l] > 0.0 ? ProjectionStatus::projected
                                                                           : ProjectionStatus::not_converged);
                }
            });
        }
    }
    return py::make_tuple(projected, status, programmes);
}

}  // namespace

void bind_projection(py::module_& m) {
    m.def("project_surfaces", &project, py::arg("implied_vol"), py::arg("tau"), py::arg("moneyness"),
          py::arg("single"), py::arg("vega_floor"), py::arg("iterations"), py::arg("num_threads"),
          "Nearest surfaces (n, tau, moneyness) without static arbitrage, a status each, and programmes "
          "solved.");
}

}  // namespace volscen
