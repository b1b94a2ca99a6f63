// Interpolation of implied-vol surfaces on a (tau, moneyness) grid, at one point or for lanes of scenarios.
//
// In tau, total variance is linear between the neighbouring maturities at every grid moneyness; then vol is
// linear in ln(K/F) within that slice. What happens outside the grid is chosen by `Extrapolation`.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "volscen/special.hpp"

namespace volscen {

enum class Extrapolation {
    flat_vol = 0,             // vol of the nearest grid point
    flat_total_variance = 1,  // total variance of the nearest maturity; flat in moneyness
    linear = 2,               // total variance goes on linearly, never falling outwards
};

// ln x = head + tail for x > 0: the head is a multiple of ln 2 without rounding, so that the difference of
// two logarithms keeps the accuracy that the numbers have.
struct SplitLog {
    double head, tail;
};

inline SplitLog split_log(double x) {
    int power = 0;
    double fraction = std::frexp(x, &power);
    if (fraction < coefficients::sqrt_half) {
        fraction *= 2.0;
        --power;
    }
    const double e = static_cast<double>(power);
    return {e * coefficients::ln2_head_double, logarithm(fraction) + e * coefficients::ln2_tail_double};
}

// How rows of the grid make the slice at one maturity.
struct TauRule {
    enum class Kind { edge, between, beyond };

    Kind kind = Kind::edge;
    std::size_t near = 0, far = 0;  // rows
    double near_weight = 1.0, far_weight = 0.0;
    double growth = 0.0;    // beyond the last maturity, in steps of the last two
    double steepest = 0.0;  // largest slope of sigma^2 in ln(K/F) that Lee's bound on total variance leaves
};

struct SurfaceGrid {
    std::vector<double> tau;
    std::vector<double> edge;           // ln moneyness
    std::vector<double> inverse_width;  // of the intervals between them
    Extrapolation extrapolation;

    SurfaceGrid(const double* tau_values, std::size_t num_tau, const double* moneyness,
                std::size_t num_moneyness, Extrapolation rule)
        : tau(tau_values, tau_values + num_tau), extrapolation(rule) {
        for (std::size_t i = 0; i < num_moneyness; ++i) {
            const SplitLog log = split_log(moneyness[i]);
            edge.push_back(log.head + log.tail);
            if (i > 0) {
                // Moneyness points apart by roundings can have one logarithm.
                const double width = edge[i] - edge[i - 1];
                inverse_width.push_back(width > 0.0 ? 1.0 / width : 0.0);
            }
        }
    }

    std::size_t rows() const { return tau.size(); }
    std::size_t columns() const { return edge.size(); }

    // The rule for a positive maturity.
    TauRule rule_at(double query) const {
        TauRule rule;
        rule.steepest = 2.0 / query;
        const std::size_t last = rows() - 1;
        if (query <= tau.front() || last == 0 || query == tau.back()) {
            rule.near = rule.far = query <= tau.front() ? 0 : last;
            // Linear before the first maturity means from no variance at no time: the vol is flat there.
            if (extrapolation == Extrapolation::flat_total_variance) {
                rule.near_weight = __builtin_sqrt(tau[rule.near] / query);
            }
            return rule;
        }
        if (query > tau.back()) {
            if (extrapolation != Extrapolation::linear) {
                rule.near = rule.far = last;
                const bool flat_vol = extrapolation == Extrapolation::flat_vol;
                rule.near_weight = flat_vol ? 1.0 : __builtin_sqrt(tau[last] / query);
                return rule;
            }
            rule.kind = TauRule::Kind::beyond;
            rule.near = last - 1;
            rule.far = last;
            rule.near_weight = tau[last - 1] / query;
            rule.far_weight = tau[last] / query;
            rule.growth = std::min(1e100, (query - tau[last]) / (tau[last] - tau[last - 1]));
            return rule;
        }
        const auto above = std::upper_bound(tau.begin(), tau.end(), query);
        rule.far = static_cast<std::size_t>(above - tau.begin());
        rule.near = rule.far - 1;
        const double share = (query - tau[rule.near]) / (tau[rule.far] - tau[rule.near]);
        if (share == 0.0) {
            rule.far = rule.near;
            return rule;
        }
        rule.kind = TauRule::Kind::between;
        rule.near_weight = (1.0 - share) * tau[rule.near] / query;
        rule.far_weight = share * tau[rule.far] / query;
        return rule;
    }

    // Interval of the grid that a log-moneyness lies in or, outside the grid, next to; found from a guess.
    std::size_t interval(double k, std::size_t guess) const {
        while (guess + 2 < columns() && k >= edge[guess + 1]) {
            ++guess;
        }
        while (guess > 0 && k < edge[guess]) {
            --guess;
        }
        return guess;
    }
};

// Vol of a slice at a grid moneyness, from the vols of the rule's two rows; bounded, so that differences of
// two are numbers.
template <TauRule::Kind kind>
VOLSCEN_INLINE double slice_vol(const TauRule& rule, double near, double far) {
    double vol;
    if constexpr (kind == TauRule::Kind::edge) {
        vol = rule.near_weight * near;
    } else if constexpr (kind == TauRule::Kind::between) {
        vol = __builtin_sqrt(rule.near_weight * (near * near) + rule.far_weight * (far * far));
    } else {
        const double last = rule.far_weight * (far * far);
        const double rise = last - rule.near_weight * (near * near);
        vol = __builtin_sqrt(last + rule.growth * (0.0 > rise ? 0.0 : rise));
    }
    return vol > 1e150 ? 1e150 : vol;
}

// Vol between two neighbouring points of a slice; that of the nearer one outside them.
VOLSCEN_INLINE double vol_between(double left, double right, double k, double edge, double inverse_width) {
    double share = (k - edge) * inverse_width;
    share = share < 0.0 ? 0.0 : share;
    share = share > 1.0 ? 1.0 : share;
    return left + (right - left) * share;
}

// Vol at a distance outside the grid where total variance goes on linearly with its slope at the edge.
VOLSCEN_INLINE double wing_vol(double outer, double inner, double inverse_width, double distance,
                               double steepest) {
    double slope = 2.0 * outer * ((outer - inner) * inverse_width);
    slope = slope < 0.0 ? 0.0 : slope;
    slope = slope > steepest ? steepest : slope;
    return __builtin_sqrt(outer * outer + slope * distance);
}

// Surfaces wherever they lie: byte strides of the axes (surface, tau, moneyness).
struct SurfaceView {
    const char* base = nullptr;
    std::ptrdiff_t stride[3] = {0, 0, 0};
    bool single = false;  // float32

    double at(std::size_t surface, std::size_t row, std::size_t column) const {
        const char* cell = base + static_cast<std::ptrdiff_t>(surface) * stride[0] +
                           static_cast<std::ptrdiff_t>(row) * stride[1] +
                           static_cast<std::ptrdiff_t>(column) * stride[2];
        if (single) {
            float value;
            std::memcpy(&value, cell, sizeof(value));
            return static_cast<double>(value);
        }
        double value;
        std::memcpy(&value, cell, sizeof(value));
        return value;
    }
};

// Vol of one surface at one point: the same bits as the kernel that values many at once.
inline double surface_vol(const SurfaceGrid& grid, const TauRule& rule, const SurfaceView& view,
                          std::size_t surface, double k) {
    const auto node = [&](std::size_t column) {
        const double near = view.at(surface, rule.near, column);
        const double far = view.at(surface, rule.far, column);
        switch (rule.kind) {
            case TauRule::Kind::between:
                return slice_vol<TauRule::Kind::between>(rule, near, far);
            case TauRule::Kind::beyond:
                return slice_vol<TauRule::Kind::beyond>(rule, near, far);
            case TauRule::Kind::edge:
                break;
        }
        return slice_vol<TauRule::Kind::edge>(rule, near, far);
    };
    if (grid.columns() == 1) {
        return node(0);
    }
    const std::size_t i = grid.interval(k, 0);
    const double left = node(i), right = node(i + 1);
    if (grid.extrapolation == Extrapolation::linear) {
        if (k < grid.edge.front()) {
            return wing_vol(left, right, grid.inverse_width[i], grid.edge.front() - k, rule.steepest);
        }
        if (k > grid.edge.back()) {
            return wing_vol(right, left, grid.inverse_width[i], k - grid.edge.back(), rule.steepest);
        }
    }
    return vol_between(left, right, k, grid.edge[i], grid.inverse_width[i]);
}

}  // namespace volscen
