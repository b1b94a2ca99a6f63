// Reads an operand of any shape and strides block by block, so that broadcast views need no copy.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "pybind11.hpp"

namespace volscen {

class Operand {
public:
    // A float64 or bool array; `name` is for the error when it is neither.
    Operand(const py::array& array, const char* name) : base_(static_cast<const char*>(array.data())) {
        if (py::isinstance<py::array_t<double>>(array)) {
            is_bool_ = false;
        } else if (py::isinstance<py::array_t<bool>>(array)) {
            is_bool_ = true;
        } else {
            throw py::type_error(std::string(name) + " must be a float64 or bool array");
        }
        // Drop axes of one element, and merge neighbours that one stride covers.
        for (py::ssize_t i = 0; i < array.ndim(); ++i) {
            const py::ssize_t size = array.shape(i), stride = array.strides(i);
            if (size == 1) {
                continue;
            }
            if (!shape_.empty() && strides_.back() == stride * size) {
                shape_.back() *= size;
                strides_.back() = stride;
            } else {
                shape_.push_back(size);
                strides_.push_back(stride);
            }
        }
        if (shape_.empty()) {
            shape_.push_back(1);
            strides_.push_back(0);
        }
    }

    // Elements [begin, begin + count) in C order: in place where they lie dense, else copied to `buffer`.
    const double* load(std::size_t begin, std::size_t count, double* buffer) const {
        const bool dense =
            !is_bool_ && shape_.size() == 1 && strides_[0] == static_cast<py::ssize_t>(sizeof(double));
        const char* start = base_;
        if (dense && reinterpret_cast<std::uintptr_t>(base_) % alignof(double) == 0) {
            return reinterpret_cast<const double*>(base_) + begin;
        }
        const std::size_t axes = shape_.size();
        std::vector<py::ssize_t> index(axes);
        std::size_t rest = begin;
        for (std::size_t i = axes; i-- > 0;) {
            index[i] = static_cast<py::ssize_t>(rest % static_cast<std::size_t>(shape_[i]));
            rest /= static_cast<std::size_t>(shape_[i]);
            start += index[i] * strides_[i];
        }
        std::size_t done = 0;
        while (done < count) {
            const py::ssize_t stride = strides_[axes - 1];
            const std::size_t left = static_cast<std::size_t>(shape_[axes - 1] - index[axes - 1]);
            const std::size_t run = left < count - done ? left : count - done;
            copy(start, stride, run, buffer + done);
            done += run;
            start += static_cast<py::ssize_t>(run) * stride;
            index[axes - 1] += static_cast<py::ssize_t>(run);
            for (std::size_t i = axes; i-- > 1 && index[i] == shape_[i];) {
                start += strides_[i - 1] - shape_[i] * strides_[i];
                index[i] = 0;
                ++index[i - 1];
            }
        }
        return buffer;
    }

private:
    void copy(const char* start, py::ssize_t stride, std::size_t count, double* out) const {
        if (stride == 0) {
            // A broadcast operand.
            double value = *start != 0 ? 1.0 : 0.0;
            if (!is_bool_) {
                std::memcpy(&value, start, sizeof(double));
            }
            for (std::size_t i = 0; i < count; ++i) {
                out[i] = value;
            }
        } else if (is_bool_ && stride == 1) {
            const auto* flags = reinterpret_cast<const unsigned char*>(start);
            for (std::size_t i = 0; i < count; ++i) {
                out[i] = static_cast<double>(static_cast<int>(flags[i] != 0));
            }
        } else if (is_bool_) {
            for (std::size_t i = 0; i < count; ++i) {
                out[i] = start[static_cast<py::ssize_t>(i) * stride] != 0 ? 1.0 : 0.0;
            }
        } else {
            for (std::size_t i = 0; i < count; ++i) {
                std::memcpy(out + i, start + static_cast<py::ssize_t>(i) * stride, sizeof(double));
            }
        }
    }

    const char* base_;
    bool is_bool_ = false;
    std::vector<py::ssize_t> shape_, strides_;
};

inline void check_same_shape(const py::array& first, const py::array& other) {
    bool same = first.ndim() == other.ndim();
    for (py::ssize_t i = 0; same && i < first.ndim(); ++i) {
        same = first.shape(i) == other.shape(i);
    }
    if (!same) {
        throw py::value_error("operands must be broadcast to one shape first");
    }
}

inline std::vector<py::ssize_t> shape_of(const py::array& array) {
    return std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim());
}

}  // namespace volscen
