// Black-76 prices and greeks on dense blocks (Black 1976).
//
// Every value comes from the out-of-the-money option on the same strike. With lo = min(F, K),
// hi = max(F, K), h = -ln(hi/lo)/s and t = s/2 for s = vol sqrt(tau), that option is worth
//     lo N(h + t) - hi N(h - t) = lo g (E1 - E2)/2,
// g = exp(-(h + t)^2/2), E1 = erfcx(-(h + t)/sqrt 2), E2 = erfcx((t - h)/sqrt 2), because
// hi phi(h - t) = lo phi(h + t): one exponential, and no cancellation between large terms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "volscen/special.hpp"

namespace volscen {

// What the price and all greeks are made of, per unit of lo.
struct BlackTerms {
    double lo, hi;
    double h, t;        // -ln(hi/lo)/s and s/2
    double density;     // phi(h + t)
    double near_cdf;    // N(h + t)
    double far_cdf;     // N(h - t) hi/lo
    double time_value;  // out-of-the-money value over lo
};

VOLSCEN_INLINE BlackTerms black_terms(double forward, double strike, double total_vol) {
    // Beyond 1e100 every price is at its cap; an infinite product would make NaN.
    total_vol = total_vol > 1e100 ? 1e100 : total_vol;
    constexpr double infinity = std::numeric_limits<double>::infinity();
    constexpr double root_half = coefficients::sqrt_half;
    BlackTerms out;
    out.lo = forward < strike ? forward : strike;
    out.hi = forward < strike ? strike : forward;
    const double log_ratio = log_ratio_of(out.hi, out.lo);
    const double quotient = -log_ratio / (total_vol > 0.0 ? total_vol : 1.0);
    out.h = total_vol > 0.0 ? quotient : (log_ratio > 0.0 ? -infinity : 0.0);
    out.t = 0.5 * total_vol;
    const double d1 = out.h + out.t;
    const double gauss = exponential(-0.5 * d1 * d1);
    const double near_term = erfcx_positive(absolute(d1) * root_half);
    const double far_term = erfcx_positive((out.t - out.h) * root_half);
    out.density = gauss * coefficients::inverse_sqrt_two_pi;
    const double tail = 0.5 * gauss * near_term;
    out.near_cdf = d1 > 0.0 ? 1.0 - tail : tail;
    out.far_cdf = 0.5 * gauss * far_term;
    out.time_value =
        d1 > 0.0 ? 1.0 - 0.5 * gauss * (near_term + far_term) : 0.5 * gauss * (near_term - far_term);
    return out;
}

// NaN for arguments outside the model: the caller's contract, checked by no one else.
VOLSCEN_INLINE bool black_valid(double forward, double strike, double tau, double vol, double discount) {
    constexpr double top = std::numeric_limits<double>::max();
    return (forward > 0.0) & (forward <= top) & (strike > 0.0) & (strike <= top) & (tau >= 0.0) &
           (tau <= top) & (vol >= 0.0) & (vol <= top) & (discount > 0.0) & (discount <= top);
}

// One option, as the formulas below see it.
struct BlackOption {
    double forward, strike, tau, root_tau, vol, discount;
    bool call;
};

VOLSCEN_INLINE double intrinsic_value(const BlackOption& o) {
    const double difference = o.call ? o.forward - o.strike : o.strike - o.forward;
    return difference > 0.0 ? difference : 0.0;
}

struct PriceFormula {
    static VOLSCEN_INLINE double value(const BlackOption& o, const BlackTerms& b) {
        return o.discount * (b.lo * b.time_value + intrinsic_value(o));
    }
};

struct DeltaFormula {
    static VOLSCEN_INLINE double value(const BlackOption& o, const BlackTerms& b) {
        // h + t is d1 below the strike and -d2 above it. At F = K with no variance N(d1) is 1/2.
        const bool below = o.forward < o.strike;
        const double out_of_money = below ? b.near_cdf : b.far_cdf * (b.lo / b.hi);
        const double call = below ? out_of_money : 1.0 - out_of_money;
        const double put = below ? out_of_money - 1.0 : -out_of_money;
        return o.discount * (o.call ? call : put);
    }
};

struct GammaFormula {
    static VOLSCEN_INLINE double value(const BlackOption& o, const BlackTerms& b) {
        const double top = b.lo * b.density;
        const double gamma = o.discount * (top / o.forward / o.forward / (o.vol * o.root_tau));
        return top > 0.0 ? gamma : 0.0;
    }
};

struct VegaFormula {
    static VOLSCEN_INLINE double value(const BlackOption& o, const BlackTerms& b) {
        return o.discount * (b.lo * b.density * o.root_tau);
    }
};

struct ThetaFormula {
    static VOLSCEN_INLINE double value(const BlackOption& o, const BlackTerms& b) {
        // -dV/dtau = r V - df F phi(d1) vol/(2 sqrt tau) with r tau = -ln(df); at tau = 0 the rate is
        // defined, as zero, only when df = 1.
        const double price = b.lo * b.time_value + intrinsic_value(o);
        const double carry = o.discount == 1.0 ? 0.0 : -logarithm(o.discount) * price / o.tau;
        const double top = b.lo * b.density * o.vol;
        const double decay = top > 0.0 ? top / (2.0 * o.root_tau) : 0.0;
        const bool defined = (o.tau > 0.0) | (o.discount == 1.0);
        return defined ? o.discount * (carry - decay) : std::numeric_limits<double>::quiet_NaN();
    }
};

template <class Formula>
struct BlackBody {
    static VOLSCEN_INLINE void run(std::size_t n, const double* forward, const double* strike,
                                   const double* tau, const double* vol, const double* call,
                                   const double* discount, double* out) {
        // hot loop
        for (std::size_t i = 0; i < n; ++i) {
            const BlackOption o{forward[i], strike[i],   tau[i],       __builtin_sqrt(tau[i]),
                                vol[i],     discount[i], call[i] > 0.5};
            const double value = Formula::value(o, black_terms(o.forward, o.strike, o.vol * o.root_tau));
            const bool valid = black_valid(o.forward, o.strike, o.tau, o.vol, o.discount);
            out[i] = valid ? value : std::numeric_limits<double>::quiet_NaN();
        }
    }
};

using BlackFunction = void (*)(std::size_t, const double*, const double*, const double*, const double*,
                               const double*, const double*, double*);

// The dense kernels at the instruction set in use.
BlackFunction black_price();
BlackFunction black_delta();
BlackFunction black_gamma();
BlackFunction black_vega();
BlackFunction black_theta();

}  // namespace volscen
