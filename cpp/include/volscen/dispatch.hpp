// Choice of instruction set at run time, and the attributes that make one body compile for each.
#pragma once

#if defined(__GNUC__) || defined(__clang__)
// Kernel bodies are inlined into one wrapper per instruction set and take that wrapper's target.
#define VOLSCEN_INLINE inline __attribute__((always_inline))
#else
#define VOLSCEN_INLINE inline
#endif

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define VOLSCEN_X86 1
#define VOLSCEN_TARGET_AVX2 __attribute__((target("avx2,fma")))
#if defined(__clang__)
#define VOLSCEN_TARGET_AVX512 \
    __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"), min_vector_width(512)))
#else
#define VOLSCEN_TARGET_AVX512 \
    __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,prefer-vector-width=512")))
#endif
#else
#define VOLSCEN_X86 0
#endif

namespace volscen {

enum class SimdLevel { baseline = 0, avx2 = 1, avx512 = 2 };

// Widest level that this processor runs.
SimdLevel supported_simd_level();

// Level in use: the widest supported, or the one named by the environment variable VOLSCEN_SIMD
// (baseline, avx2, avx512). Throws std::invalid_argument when that names no level or one that this
// processor cannot run. Read once.
SimdLevel simd_level();

const char* simd_level_name(SimdLevel level);

// A function pointer of each level for `Body::run`; all compute the same bits.
template <class Body, class... Args>
struct Variants {
    static void baseline(Args... args) { Body::run(args...); }
#if VOLSCEN_X86
    VOLSCEN_TARGET_AVX2 static void avx2(Args... args) { Body::run(args...); }
    VOLSCEN_TARGET_AVX512 static void avx512(Args... args) { Body::run(args...); }
#endif
};

template <class Body, class... Args>
auto select_variant(void (*)(Args...)) -> void (*)(Args...) {
    using V = Variants<Body, Args...>;
#if VOLSCEN_X86
    switch (simd_level()) {
        case SimdLevel::avx512:
            return &V::avx512;
        case SimdLevel::avx2:
            return &V::avx2;
        case SimdLevel::baseline:
            break;
    }
#endif
    return &V::baseline;
}

// The pointer for `Body` at the level in use.
template <class Body>
auto dispatch() {
    static const auto chosen = select_variant<Body>(&Body::run);
    return chosen;
}

}  // namespace volscen
