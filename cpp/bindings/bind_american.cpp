#include "pybind11.hpp"

#include <array>

#include "operand.hpp"
#include "volscen/american_implied_vol.hpp"
#include "volscen/parallel.hpp"

namespace volscen {

namespace {

constexpr std::size_t block = american_block;

template <std::size_t N>
std::vector<Operand> operands_of(const std::array<const py::array*, N>& arrays,
                                 const std::array<const char*, N>& names) {
    std::vector<Operand> operands;
    for (std::size_t i = 0; i < N; ++i) {
        check_same_shape(*arrays[0], *arrays[i]);
        operands.emplace_back(*arrays[i], names[i]);
    }
    return operands;
}

py::tuple price(const py::array& spot, const py::array& strike, const py::array& tau, const py::array& vol,
                const py::array& is_call, const py::array& rate, const py::array& dividend_yield,
                int num_threads) {
    check_threads(num_threads);
    const std::vector<Operand> in =
        operands_of<7>({&spot, &strike, &tau, &vol, &is_call, &rate, &dividend_yield},
                       {"spot", "strike", "tau", "implied_vol", "is_call", "rate", "dividend_yield"});
    py::array_t<double> value(shape_of(spot)), premium(shape_of(spot));
    py::array_t<std::int8_t> status(shape_of(spot));
    double *values = value.mutable_data(), *premiums = premium.mutable_data();
    std::int8_t* codes = status.mutable_data();
    const std::size_t count = static_cast<std::size_t>(value.size());
    {
        const py::gil_scoped_release release;
        const AmericanPriceFunction function = american_price();
        parallel_for(count, block, num_threads, [&](std::size_t begin, std::size_t end) {
            double buffer[7][block], code[block];
            const std::size_t n = end - begin;
            const AmericanPriceTask task{n,
                                         in[0].load(begin, n, buffer[0]),
                                         in[1].load(begin, n, buffer[1]),
                                         in[2].load(begin, n, buffer[2]),
                                         in[3].load(begin, n, buffer[3]),
                                         in[4].load(begin, n, buffer[4]),
                                         in[5].load(begin, n, buffer[5]),
                                         in[6].load(begin, n, buffer[6]),
                                         values + begin,
                                         premiums + begin,
                                         code};
            function(&task);
            for (std::size_t i = 0; i < n; ++i) {
                codes[begin + i] = static_cast<std::int8_t>(code[i]);
            }
        });
    }
    return py::make_tuple(value, premium, status);
}

py::tuple implied_vol(const py::array& price, const py::array& spot, const py::array& strike,
                      const py::array& tau, const py::array& is_call, const py::array& rate,
                      const py::array& dividend_yield, const py::array& start, int num_threads) {
    check_threads(num_threads);
    const std::vector<Operand> in =
        operands_of<8>({&price, &spot, &strike, &tau, &is_call, &rate, &dividend_yield, &start},
                       {"price", "spot", "strike", "tau", "is_call", "rate", "dividend_yield", "start"});
    py::array_t<double> vol(shape_of(price));
    py::array_t<std::int8_t> status(shape_of(price));
    double* vols = vol.mutable_data();
    std::int8_t* codes = status.mutable_data();
    const std::size_t count = static_cast<std::size_t>(vol.size());
    {
        const py::gil_scoped_release release;
        const AmericanImpliedVolFunction function = american_implied_vol();
        parallel_for(count, block, num_threads, [&](std::size_t begin, std::size_t end) {
            double buffer[8][block], code[block];
            const std::size_t n = end - begin;
            const AmericanImpliedVolTask task{n,
                                              in[0].load(begin, n, buffer[0]),
                                              in[1].load(begin, n, buffer[1]),
                                              in[2].load(begin, n, buffer[2]),
                                              in[3].load(begin, n, buffer[3]),
                                              in[4].load(begin, n, buffer[4]),
                                              in[5].load(begin, n, buffer[5]),
                                              in[6].load(begin, n, buffer[6]),
                                              in[7].load(begin, n, buffer[7]),
                                              vols + begin,
                                              code};
            function(&task);
            for (std::size_t i = 0; i < n; ++i) {
                codes[begin + i] = static_cast<std::int8_t>(code[i]);
            }
        });
    }
    return py::make_tuple(vol, status);
}

}  // namespace

void bind_american(py::module_& m) {
    m.def("american_price", &price, py::arg("spot"), py::arg("strike"), py::arg("tau"),
          py::arg("implied_vol"), py::arg("is_call"), py::arg("rate"), py::arg("dividend_yield"),
          py::arg("num_threads"),
          "Price, early-exercise premium and a status per American option, of operands broadcast to one "
          "shape.");
    m.def("american_implied_vol", &implied_vol, py::arg("price"), py::arg("spot"), py::arg("strike"),
          py::arg("tau"), py::arg("is_call"), py::arg("rate"), py::arg("dividend_yield"), py::arg("start"),
          py::arg("num_threads"),
          "Implied vol and a status per American option, of operands broadcast to one shape; start may be "
          "NaN.");
}

}  // namespace volscen
