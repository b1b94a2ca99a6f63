#include "pybind11.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "volscen/parallel.hpp"
#include "volscen/revalue.hpp"

namespace volscen {

namespace {

// Values below which another thread costs more than it saves.
constexpr std::size_t worth_a_thread = 20000;
// Contracts from which sorting the scenarios pays, and buckets of that sort.
constexpr std::size_t worth_a_sort = 16;
constexpr std::size_t buckets = 1024;

Extrapolation extrapolation_of(int code) {
    if (code < 0 || code > 2) {
        throw py::value_error("extrapolation must be 0 (flat vol), 1 (flat total variance) or 2 (linear)");
    }
    return static_cast<Extrapolation>(code);
}

SurfaceGrid grid_of(const ContiguousDouble& tau, const ContiguousDouble& moneyness, int extrapolation) {
    if (tau.ndim() != 1 || moneyness.ndim() != 1 || tau.size() < 1 || moneyness.size() < 1) {
        throw py::value_error("tau and moneyness must have one dimension and at least one value");
    }
    return SurfaceGrid(tau.data(), static_cast<std::size_t>(tau.size()), moneyness.data(),
                       static_cast<std::size_t>(moneyness.size()), extrapolation_of(extrapolation));
}

SurfaceView view_of(const py::array& implied_vol, const SurfaceGrid& grid) {
    SurfaceView view;
    view.single = py::isinstance<py::array_t<float>>(implied_vol);
    if (!view.single && !py::isinstance<py::array_t<double>>(implied_vol)) {
        throw py::type_error("implied_vol must be a float32 or float64 array");
    }
    if (implied_vol.ndim() != 3 || implied_vol.shape(1) != static_cast<py::ssize_t>(grid.rows()) ||
        implied_vol.shape(2) != static_cast<py::ssize_t>(grid.columns())) {
        throw py::value_error("implied_vol must have the shape (surfaces, tau, moneyness)");
    }
    view.base = static_cast<const char*>(implied_vol.data());
    for (int axis = 0; axis < 3; ++axis) {
        view.stride[axis] = implied_vol.strides(axis);
    }
    return view;
}

void check_vector(const py::array& array, py::ssize_t size, const char* name) {
    if (array.ndim() != 1 || array.shape(0) != size) {
        throw py::value_error(std::string(name) + " must have one dimension of " + std::to_string(size));
    }
}

// Scenarios by spot, through buckets: blocks then need few intervals of the moneyness grid.
std::vector<std::size_t> by_spot(const double* spot, std::size_t count) {
    const auto [low, high] = std::minmax_element(spot, spot + count);
    const double scale = static_cast<double>(buckets - 1) / (*high - *low);
    const auto bucket = [&, base = *low](std::size_t s) {
        return static_cast<std::size_t>((spot[s] - base) * scale);
    };
    std::vector<std::size_t> start(buckets + 1, 0), order(count);
    for (std::size_t s = 0; s < count; ++s) {
        ++start[bucket(s) + 1];
    }
    std::partial_sum(start.begin(), start.end(), start.begin());
    for (std::size_t s = 0; s < count; ++s) {
        order[start[bucket(s)]++] = s;
    }
    return order;
}

bool sorting_pays(const RevaluePlan& plan) {
    if (plan.count <= revalue_lanes || plan.contracts.size() < worth_a_sort) {
        return false;
    }
    const auto [low, high] = std::minmax_element(plan.spot, plan.spot + plan.count);
    // Of spots that differ by roundings alone the buckets' scale would overflow.
    return *high - *low > 1e-9 * *high;
}

void arrange(RevaluePlan& plan) {
    std::vector<bool> read(plan.grid.rows(), false);
    for (const RevalueContract& c : plan.contracts) {
        if (!c.settled) {
            read[plan.rules[c.rule].near] = read[plan.rules[c.rule].far] = true;
        }
    }
    for (std::size_t row = 0; row < read.size(); ++row) {
        if (read[row]) {
            plan.rows.push_back(row);
        }
    }
    if (sorting_pays(plan)) {
        plan.order = by_spot(plan.spot, plan.count);
    } else {
        plan.order.resize(plan.count);
        std::iota(plan.order.begin(), plan.order.end(), std::size_t(0));
    }
    plan.visit.resize(plan.contracts.size());
    std::iota(plan.visit.begin(), plan.visit.end(), std::size_t(0));
    const auto earlier = [&](std::size_t a, std::size_t b) {
        const RevalueContract &x = plan.contracts[a], &y = plan.contracts[b];
        return x.rule != y.rule ? x.rule < y.rule : x.strike / x.carry < y.strike / y.carry;
    };
    for (std::size_t begin = 0; begin < plan.visit.size(); begin += revalue_tile) {
        const std::size_t end = std::min(plan.visit.size(), begin + revalue_tile);
        std::sort(plan.visit.begin() + static_cast<std::ptrdiff_t>(begin),
                  plan.visit.begin() + static_cast<std::ptrdiff_t>(end), earlier);
    }
}

// All tiles of a block belong to one task where they are summed, and are tasks of their own otherwise.
void work_off(const RevaluePlan& plan, int num_threads) {
    const std::size_t size = plan.contracts.size();
    const std::size_t blocks = (plan.count + revalue_lanes - 1) / revalue_lanes;
    const std::size_t tiles = (size + revalue_tile - 1) / revalue_tile;
    const std::size_t tasks = plan.total ? blocks : blocks * tiles;
    const std::size_t useful = 1 + plan.count * size / worth_a_thread;
    const std::size_t threads = std::min(useful, static_cast<std::size_t>(num_threads));
    const std::size_t chunk = std::max<std::size_t>(1, tasks / (16 * threads));
    const RevalueFunction function = plan.greeks ? revalue_values_and_greeks() : revalue_values();
    parallel_for(tasks, chunk, static_cast<int>(threads), [&](std::size_t begin, std::size_t end) {
        RevalueWork work(plan);
        RevalueTask task{&plan, &work, 0, 0};
        const auto value_tile = [&](std::size_t tile) {
            task.begin = tile * revalue_tile;
            task.end = std::min(size, task.begin + revalue_tile);
            function(&task);
        };
        for (std::size_t i = begin; i < end; ++i) {
            work.load(plan, plan.total ? i : i / tiles);
            if (!plan.total) {
                value_tile(i % tiles);
                continue;
            }
            for (std::size_t tile = 0; tile < tiles; ++tile) {
                value_tile(tile);
            }
        }
    });
}

struct Contracts {
    ContiguousDouble strike, remaining, carry, discount, offset, quantity;
    py::array_t<bool, py::array::c_style> is_call;
};

RevaluePlan plan_of(const SurfaceGrid& grid, const Contracts& given) {
    RevaluePlan plan{grid, {}, {}, {}, {}, {}, 0, nullptr, {}, 0.0, false, false, {}, {}, nullptr};
    const std::size_t size = static_cast<std::size_t>(given.strike.size());
    std::map<double, std::size_t> seen;
    plan.contracts.resize(size);
    for (std::size_t i = 0; i < size; ++i) {
        RevalueContract& c = plan.contracts[i];
        const double remaining = given.remaining.data()[i];
        c.strike = given.strike.data()[i];
        c.carry = given.carry.data()[i];
        c.discount = given.discount.data()[i];
        c.offset = given.offset.data()[i];
        c.quantity = given.quantity.size() > 0 ? given.quantity.data()[i] : 1.0;
        c.sign = given.is_call.data()[i] ? 1.0 : -1.0;
        // So little time that a ratio of times would overflow is none.
        c.settled = !(remaining > 1e-280 && c.strike > 0.0);
        c.rule = 0;
        c.root_tau = 0.0;
        c.log_strike = {0.0, 0.0};
        if (c.settled) {
            continue;
        }
        const SplitLog strike = split_log(c.strike), carry = split_log(c.carry);
        c.log_strike = {strike.head - carry.head, strike.tail - carry.tail};
        c.root_tau = __builtin_sqrt(remaining);
        const auto [found, added] = seen.emplace(remaining, plan.rules.size());
        if (added) {
            plan.rules.push_back(plan.grid.rule_at(remaining));
        }
        c.rule = found->second;
    }
    return plan;
}

// Memory to write to: rows of `size` numbers, or one number a scenario for totals.
void attach(RevaluePlan& plan, std::size_t o, const py::handle& given, bool total) {
    if (!py::isinstance<py::array_t<double>>(given)) {
        throw py::type_error("out must hold float64 arrays");
    }
    auto out = py::reinterpret_borrow<py::array_t<double>>(given);
    const py::ssize_t size = static_cast<py::ssize_t>(plan.contracts.size());
    const py::ssize_t count = static_cast<py::ssize_t>(plan.count);
    constexpr py::ssize_t item = sizeof(double);
    const bool fits =
        total ? out.ndim() == 1 && out.shape(0) == count && (out.strides(0) == item || count <= 1)
              : out.ndim() == 2 && out.shape(0) == count && out.shape(1) == size &&
                    (out.strides(1) == item || size <= 1 || count == 0) && out.strides(0) % item == 0;
    if (!fits) {
        throw py::value_error(
            "outputs must have the shape (scenarios, contracts), contracts contiguous; of totals "
            "(scenarios,)");
    }
    plan.out[o] = out.mutable_data();
    plan.row_stride[o] = total ? 1 : out.strides(0) / item;
}

py::array_t<std::int64_t> revalue(const py::array& implied_vol, const ContiguousDouble& tau,
                                  const ContiguousDouble& moneyness, const ContiguousDouble& spot,
                                  const ContiguousDouble& strike, const ContiguousDouble& remaining,
                                  const py::array_t<bool, py::array::c_style>& is_call,
                                  const ContiguousDouble& carry, const ContiguousDouble& discount_factor,
                                  const ContiguousDouble& vol_offset, const ContiguousDouble& quantity,
                                  double vol_floor, int extrapolation, const py::tuple& out,
                                  int num_threads) {
    check_threads(num_threads);
    const SurfaceGrid grid = grid_of(tau, moneyness, extrapolation);
    const SurfaceView view = view_of(implied_vol, grid);
    check_vector(spot, implied_vol.shape(0), "spot");
    if (strike.ndim() != 1) {
        throw py::value_error("strike must have one dimension");
    }
    for (const py::array* other : std::initializer_list<const py::array*>{&remaining, &is_call, &carry,
                                                                          &discount_factor, &vol_offset}) {
        check_vector(*other, strike.shape(0), "what describes the contracts");
    }
    const bool total = quantity.size() > 0;
    if (total) {
        check_vector(quantity, strike.shape(0), "quantity");
    }
    if (out.size() != 1 && out.size() != revalue_outputs) {
        throw py::value_error("out must hold one array, or three: value, delta, vega");
    }
    RevaluePlan plan =
        plan_of(grid, {strike, remaining, carry, discount_factor, vol_offset, quantity, is_call});
    plan.surfaces = view;
    plan.count = static_cast<std::size_t>(spot.size());
    plan.spot = spot.data();
    plan.floor = vol_floor;
    plan.greeks = out.size() == revalue_outputs;
    plan.total = total;
    for (std::size_t o = 0; o < out.size(); ++o) {
        attach(plan, o, out[o], total);
    }
    py::array_t<std::int64_t> floored(strike.size());
    {
        const py::gil_scoped_release release;
        std::vector<std::atomic<std::int64_t>> counts(plan.contracts.size());
        for (std::atomic<std::int64_t>& count : counts) {
            count.store(0);
        }
        plan.floored = counts.data();
        for (std::size_t o = 0; total && o < out.size(); ++o) {
            std::fill(plan.out[o], plan.out[o] + plan.count, 0.0);
        }
        if (plan.count > 0 && !plan.contracts.empty()) {
            arrange(plan);
            work_off(plan, num_threads);
        }
        std::int64_t* copy = const_cast<std::int64_t*>(floored.data());
        std::copy(counts.begin(), counts.end(), copy);
    }
    return floored;
}

py::array_t<double> interpolate(const py::array& implied_vol, const ContiguousDouble& tau,
                                const ContiguousDouble& moneyness, const ContiguousDouble& tau_query,
                                const ContiguousDouble& moneyness_query, int extrapolation, int num_threads) {
    check_threads(num_threads);
    const SurfaceGrid grid = grid_of(tau, moneyness, extrapolation);
    const SurfaceView view = view_of(implied_vol, grid);
    if (tau_query.ndim() != 1 || moneyness_query.ndim() != 2 ||
        moneyness_query.shape(1) != tau_query.shape(0) ||
        (moneyness_query.shape(0) != 1 && moneyness_query.shape(0) != implied_vol.shape(0))) {
        throw py::value_error(
            "queries must have the shapes (points,) in tau and (surfaces or 1, points) in moneyness");
    }
    py::array_t<double> result({implied_vol.shape(0), tau_query.shape(0)});
    double* out = result.mutable_data();
    const double* m = moneyness_query.data();
    const double* t = tau_query.data();
    const std::size_t count = static_cast<std::size_t>(implied_vol.shape(0));
    const std::size_t points = static_cast<std::size_t>(tau_query.size());
    const bool own = moneyness_query.shape(0) != 1;
    const py::gil_scoped_release release;
    std::vector<TauRule> rules;
    std::vector<double> shared;
    for (std::size_t q = 0; q < points; ++q) {
        rules.push_back(grid.rule_at(t[q]));
        if (!own) {
            const SplitLog log = split_log(m[q]);
            shared.push_back(log.head + log.tail);
        }
    }
    const std::size_t useful = 1 + count * points / worth_a_thread;
    const int threads = static_cast<int>(std::min(useful, static_cast<std::size_t>(num_threads)));
    const std::size_t chunk = std::max<std::size_t>(1, 1024 / std::max<std::size_t>(1, points));
    parallel_for(count, chunk, threads, [&](std::size_t begin, std::size_t end) {
        for (std::size_t s = begin; s < end; ++s) {
            for (std::size_t q = 0; q < points; ++q) {
                double k;
                if (own) {
                    const SplitLog log = split_log(m[s * points + q]);
                    k = log.head + log.tail;
                } else {
                    k = shared[q];
                }
                out[s * points + q] = surface_vol(grid, rules[q], view, s, k);
            }
        }
    });
    return result;
}

}  // namespace

void bind_revalue(py::module_& m) {
    m.def(
        "revalue", &revalue, py::arg("implied_vol"), py::arg("tau"), py::arg("moneyness"), py::arg("spot"),
        py::arg("strike"), py::arg("remaining"), py::arg("is_call"), py::arg("carry"),
        py::arg("discount_factor"), py::arg("vol_offset"), py::arg("quantity"), py::arg("vol_floor"),
        py::arg("extrapolation"), py::arg("out"), py::arg("num_threads"),
        "Write values (and delta, vega) of contracts on scenarios into `out`; counts of vols at the floor.");
    m.def("interpolate_vol", &interpolate, py::arg("implied_vol"), py::arg("tau"), py::arg("moneyness"),
          py::arg("tau_query"), py::arg("moneyness_query"), py::arg("extrapolation"), py::arg("num_threads"),
          "Vol of surfaces (n, tau, moneyness) at points, shape (n, points).");
}

}  // namespace volscen
