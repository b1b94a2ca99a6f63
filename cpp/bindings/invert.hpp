// Block-wise application of kernels that give a vol and a status.
#pragma once

#include <array>

#include "operand.hpp"
#include "volscen/parallel.hpp"

namespace volscen {

struct NamedArray {
    const py::array& array;
    const char* name;
};

// Applies `kernel(n, operand..., vol, status)` to operands of one shape.
template <std::size_t Block, std::size_t N, class Kernel>
py::tuple invert(const std::array<NamedArray, N>& arrays, int num_threads, const Kernel& kernel) {
    check_threads(num_threads);
    std::vector<Operand> operands;
    for (const NamedArray& one : arrays) {
        check_same_shape(arrays[0].array, one.array);
        operands.emplace_back(one.array, one.name);
    }
    py::array_t<double> result(shape_of(arrays[0].array));
    py::array_t<std::int8_t> status(shape_of(arrays[0].array));
    double* out = result.mutable_data();
    std::int8_t* codes = status.mutable_data();
    const std::size_t count = static_cast<std::size_t>(result.size());
    {
        const py::gil_scoped_release release;
        parallel_for(count, 32 * Block, num_threads, [&](std::size_t begin, std::size_t end) {
            double buffer[N][Block], code[Block];
            std::array<const double*, N> in;
            for (std::size_t i = begin; i < end; i += Block) {
                const std::size_t n = std::min(Block, end - i);
                for (std::size_t j = 0; j < N; ++j) {
                    in[j] = operands[j].load(i, n, buffer[j]);
                }
                std::apply([&](auto... operand) { kernel(n, operand..., out + i, code); }, in);
                for (std::size_t j = 0; j < n; ++j) {
                    codes[i + j] = static_cast<std::int8_t>(code[j]);
                }
            }
        });
    }
    return py::make_tuple(result, status);
}

}  // namespace volscen
