// Whole surfaces of SSVI and eSSVI slices without static arbitrage, by weighted least squares.
//
// A start from a coarse grid of (rho, psi/sqrt(theta)), then the interior-point method of ssvi_interior.hpp
// on one of the models of ssvi_models.hpp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "volscen/ssvi_models.hpp"

namespace volscen {

enum class SsviStatus : std::int8_t { ok = 0, reduced = 1, no_data = 2, stopped = 3 };

// Memory for one surface after another.
struct SsviMemory {
    std::vector<double> quotes, slices, vectors, matrices, values;
    std::vector<SsviQuotes> views;
    std::vector<std::size_t> original, indices;
    std::vector<unsigned char> reduced;
    std::vector<SsviRow> rows;

    SsviMemory(std::size_t maturities, std::size_t n) {
        const std::size_t padded = (n + ssvi_lanes - 1) / ssvi_lanes * ssvi_lanes;
        const std::size_t variables = 3 * maturities + 3;
        quotes.resize(3 * maturities * padded);
        slices.resize(5 * maturities);
        vectors.resize(4 * variables);
        matrices.resize(2 * 6 * variables);
        values.resize(9 * maturities + 5);
        views.resize(maturities);
        original.resize(maturities);
        indices.resize(2 * variables);
        reduced.resize(maturities);
        rows.resize(9 * maturities + 5);
    }
};

struct SsviTask {
    std::size_t count, maturities, n;
    const double* k;       // (count, maturities, n)
    const double* w;       // (count, maturities, n)
    const double* weight;  // (count, maturities, n), zero where a quote is to be ignored
    bool shared;           // one rho and a power law: SSVI
    double* parameters;    // (count, maturities, 3): theta, rho, psi
    double* rmse;          // (count, maturities)
    std::int8_t* status;   // (count, maturities)
    double* law;           // (count, 2): eta, gamma of SSVI, else NaN
    SsviMemory* memory;
};

// Whether there are three different strikes: what a slice needs to be determined.
VOLSCEN_INLINE bool ssvi_three_strikes(const double* k, std::size_t n) {
    double seen[2] = {0.0, 0.0};
    std::size_t found = 0;
    for (std::size_t i = 0; i < n; ++i) {
        if ((found > 0 && k[i] == seen[0]) || (found > 1 && k[i] == seen[1])) {
            continue;
        }
        if (found == 2) {
            return true;
        }
        seen[found++] = k[i];
    }
    return false;
}

// Mean of w near the money, on the scale of the slice's own strikes.
VOLSCEN_INLINE double ssvi_level(const double* k, const double* w, const double* weight, std::size_t n) {
    double low = k[0], high = k[0], nearest = std::fabs(k[0]);
    for (std::size_t i = 1; i < n; ++i) {
        low = std::fmin(low, k[i]);
        high = std::fmax(high, k[i]);
        nearest = std::fmin(nearest, std::fabs(k[i]));
    }
    const double width = (high - low) / 6.0;
    double heaviest = 0.0, sum = 0.0, total = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        heaviest = std::fmax(heaviest, weight[i]);
    }
    for (std::size_t i = 0; i < n; ++i) {
        const double x = width > 0.0 ? (std::fabs(k[i]) - nearest) / width : 0.0;
        const double share = (weight[i] / heaviest + 1e-3) * std::exp(-0.5 * x * x);
        sum += share * w[i];
        total += share;
    }
    return sum / total;
}

// Makes theta increase: the isotonic regression, then a little growth between slices.
VOLSCEN_INLINE void ssvi_ordered(double* theta, const double* weight, double* pooled, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        // The mean of i and of the slices before it that would be above it.
        double sum = weight[i] * theta[i], total = weight[i];
        std::size_t begin = i;
        while (begin > 0 && theta[begin - 1] * total >= sum) {
            --begin;
            total += pooled[begin];
            sum += pooled[begin] * theta[begin];
        }
        pooled[i] = weight[i];
        for (std::size_t j = begin; j <= i; ++j) {
            theta[j] = sum / total;
        }
    }
    const double growth = 1.0 + std::fmin(0.02, 0.5 / static_cast<double>(n));
    for (std::size_t i = 1; i < n; ++i) {
        theta[i] = std::fmax(theta[i], growth * theta[i - 1]);
    }
}

struct SsviStart {
    double rho, scale;  // psi = scale sqrt(theta / (1 + theta))
};

VOLSCEN_INLINE SsviStart ssvi_start(const SsviData& data, double* psi) {
    SsviStart best = {0.0, 0.2};
    double lowest = std::numeric_limits<double>::infinity();
    // A smile that doubles theta at the farthest strike, for quotes many standard deviations from the money.
    double gentle = 0.2;
    for (std::size_t i = 0; i < data.slices; ++i) {
        double farthest = 0.0;
        for (std::size_t j = 0; j < data.quotes[i].n; ++j) {
            farthest = std::fmax(farthest, std::fabs(data.quotes[i].k[j]));
        }
        gentle =
            std::fmin(gentle, __builtin_sqrt(data.theta[i] * (1.0 + data.theta[i])) / (farthest + 1e-300));
    }
    for (const double rho : {-0.7, -0.35, 0.0, 0.35}) {
        for (const double scale : {gentle, 0.2, 0.5, 1.0, 1.6}) {
            double sum = 0.0;
            for (std::size_t i = 0; i < data.slices; ++i) {
                const double theta = data.theta[i], at = scale * __builtin_sqrt(theta / (1.0 + theta));
                sum += ssvi_objective(data.quotes[i], {theta, at * (1.0 + rho), at * (1.0 - rho)});
            }
            if (sum < lowest) {
                lowest = sum;
                best = {rho, scale};
            }
        }
    }
    for (std::size_t i = 0; i < data.slices; ++i) {
        const double theta = data.theta[i];
        psi[i] = best.scale * __builtin_sqrt(theta / (1.0 + theta));
        if (i > 0) {
            psi[i] = std::fmax(psi[i], psi[i - 1] * (1.0 + 1e-7));
        }
    }
    return best;
}

template <class Model>
VOLSCEN_INLINE SsviWork ssvi_workspace(Model& model, SsviMemory& memory) {
    const std::size_t n = model.n;
    std::size_t* first = memory.indices.data();
    std::size_t* start = first + n;
    std::size_t size = 0;
    for (std::size_t i = 0; i < n; ++i) {
        first[i] = Model::first_of(model.data.slices, i);
        start[i] = size;
        size += i + 1 - first[i];
    }
    model.size = size;
    double* v = memory.vectors.data();
    double* a = memory.matrices.data();
    return {v,     v + n, v + 2 * n,          v + 3 * n,           a, a + size, size,
            first, start, memory.rows.data(), memory.values.data()};
}

// Draws undetermined slices to the mean smile of the others, or to none.
VOLSCEN_INLINE void ssvi_aims(const SsviData& data, const double* x, double* aim_p, double* aim_q) {
    double p = 0.0, q = 0.0, count = 0.0;
    for (std::size_t i = 0; i < data.slices; ++i) {
        if (!data.reduced[i]) {
            const double unit = 1.0 / __builtin_sqrt(x[3 * i]);
            p += unit * x[3 * i + 1];
            q += unit * x[3 * i + 2];
            count += 1.0;
        }
    }
    for (std::size_t i = 0; i < data.slices; ++i) {
        const double unit = count > 0.0 ? __builtin_sqrt(x[3 * i]) / count : 0.0;
        aim_p[i] = unit * p;
        aim_q[i] = unit * q;
    }
}

VOLSCEN_INLINE void ssvi_fit_one(const SsviTask& task, std::size_t surface) {
    const std::size_t maturities = task.maturities, n = task.n;
    const std::size_t padded = (n + ssvi_lanes - 1) / ssvi_lanes * ssvi_lanes;
    const std::size_t offset = surface * maturities * n;
    SsviMemory& memory = *task.memory;
    double* parameters = task.parameters + 3 * surface * maturities;
    double* rmse = task.rmse + surface * maturities;
    std::int8_t* status = task.status + surface * maturities;
    double* law = task.law + 2 * surface;
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    law[0] = law[1] = nan;
    double heaviest = 0.0;
    for (std::size_t i = 0; i < maturities * n; ++i) {
        heaviest = std::fmax(heaviest, task.weight[offset + i]);
    }
    double* theta = memory.slices.data();
    double* psi = theta + maturities;
    double* share = psi + maturities;
    double* aim_p = share + maturities;
    double* aim_q = aim_p + maturities;
    std::size_t slices = 0;
    double total = 0.0;
    for (std::size_t t = 0; t < maturities; ++t) {
        for (std::size_t i = 0; i < 3; ++i) {
            parameters[3 * t + i] = nan;
        }
        rmse[t] = nan;
        status[t] = static_cast<std::int8_t>(SsviStatus::no_data);
        double* k = memory.quotes.data() + 3 * slices * padded;
        double* w = k + padded;
        double* weight = w + padded;
        std::size_t used = 0;
        double sum = 0.0;
        for (std::size_t i = offset + t * n; i < offset + (t + 1) * n; ++i) {
            if (task.weight[i] > 0.0) {
                // Weights more than 100 decades apart differ no further, lest products vanish.
                const double scaled = std::fmax(task.weight[i] / heaviest, 1e-100);
                k[used] = task.k[i];
                w[used] = task.w[i];
                weight[used] = scaled;
                sum += scaled * w[used] * w[used];
                ++used;
            }
        }
        if (used == 0) {
            continue;
        }
        theta[slices] = ssvi_level(k, w, weight, used);
        memory.reduced[slices] = ssvi_three_strikes(k, used) ? 0 : 1;
        share[slices] = sum;
        total += sum;
        memory.original[slices] = t;
        const std::size_t end = (used + ssvi_lanes - 1) / ssvi_lanes * ssvi_lanes;
        for (std::size_t i = used; i < end; ++i) {
            k[i] = 0.0;
            w[i] = w[0];
            weight[i] = 0.0;
        }
        memory.views[slices] = {end, k, w, weight};
        ++slices;
    }
    if (slices == 0) {
        return;
    }
    for (std::size_t i = 0; i < slices; ++i) {
        share[i] /= total;
        double* weight = memory.quotes.data() + (3 * i + 2) * padded;
        for (std::size_t j = 0; j < memory.views[i].n; ++j) {
            weight[j] /= total;
        }
    }
    ssvi_ordered(theta, share, psi, slices);
    const SsviData data = {slices, memory.views.data(),   theta, psi,
                           share,  memory.reduced.data(), aim_p, aim_q};
    const SsviStart start = ssvi_start(data, psi);
    bool done;
    double* x;
    if (task.shared) {
        SsviModel model(data, start.rho, std::log(start.scale));
        const SsviWork work = ssvi_workspace(model, memory);
        x = work.x;
        for (std::size_t i = 0; i < slices; ++i) {
            x[i] = theta[i];
        }
        x[slices] = start.rho;
        x[slices + 1] = std::log(start.scale);
        x[slices + 2] = 0.5;
        done = ssvi_minimise(model, work);
        law[0] = std::exp(x[slices + 1]);
        law[1] = x[slices + 2];
        for (std::size_t i = 0; i < slices; ++i) {
            double* out = parameters + 3 * memory.original[i];
            out[0] = x[i];
            out[1] = x[slices];
            out[2] = model.point(x, i).psi;
            memory.reduced[i] = model.determined ? 0 : 1;
        }
    } else {
        EssviModel model(data);
        const SsviWork work = ssvi_workspace(model, memory);
        x = work.x;
        bool any = false;
        for (std::size_t i = 0; i < slices; ++i) {
            x[3 * i] = theta[i];
            x[3 * i + 1] = psi[i] * (1.0 + start.rho);
            x[3 * i + 2] = psi[i] * (1.0 - start.rho);
            any = any || memory.reduced[i];
        }
        if (any) {
            for (std::size_t i = 0; i < slices; ++i) {
                aim_p[i] = x[3 * i + 1];
                aim_q[i] = x[3 * i + 2];
            }
        }
        done = ssvi_minimise(model, work);
        // Each time with the theta of the time before.
        for (int pass = 0; any && pass < 5; ++pass) {
            ssvi_aims(data, x, aim_p, aim_q);
            done = ssvi_minimise(model, work);
        }
        for (std::size_t i = 0; i < slices; ++i) {
            double* out = parameters + 3 * memory.original[i];
            out[0] = x[3 * i];
            out[1] = (x[3 * i + 1] - x[3 * i + 2]) / (x[3 * i + 1] + x[3 * i + 2]);
            out[2] = 0.5 * (x[3 * i + 1] + x[3 * i + 2]);
        }
    }
    for (std::size_t i = 0; i < slices; ++i) {
        const double* p = parameters + 3 * memory.original[i];
        const SsviQuotes& q = memory.views[i];
        double sum = 0.0;
        for (std::size_t j = 0; j < q.n; ++j) {
            sum += q.weight[j];
        }
        const SsviSlice s = {p[0], p[2] * (1.0 + p[1]), p[2] * (1.0 - p[1])};
        rmse[memory.original[i]] = std::sqrt(2.0 * ssvi_objective(q, s) / sum);
        status[memory.original[i]] = static_cast<std::int8_t>(!done               ? SsviStatus::stopped
                                                              : memory.reduced[i] ? SsviStatus::reduced
                                                                                  : SsviStatus::ok);
    }
}

struct SsviBody {
    VOLSCEN_INLINE static void run(const SsviTask* task) {
        for (std::size_t i = 0; i < task->count; ++i) {
            ssvi_fit_one(*task, i);
        }
    }
};

using SsviFunction = void (*)(const SsviTask*);

// Fits the surfaces of a task, at the level in use.
SsviFunction ssvi_fit();

}  // namespace volscen
