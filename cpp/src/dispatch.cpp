#include "volscen/dispatch.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace volscen {

SimdLevel supported_simd_level() {
#if VOLSCEN_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
    if (avx2 && avx512) {
        return SimdLevel::avx512;
    }
    if (avx2) {
        return SimdLevel::avx2;
    }
#endif
    return SimdLevel::baseline;
}

const char* simd_level_name(SimdLevel level) {
    switch (level) {
        case SimdLevel::avx512:
            return "avx512";
        case SimdLevel::avx2:
            return "avx2";
        case SimdLevel::baseline:
            break;
    }
    return "baseline";
}

namespace {

SimdLevel read_level() {
    const SimdLevel supported = supported_simd_level();
    const char* text = std::getenv("VOLSCEN_SIMD");
    if (text == nullptr || *text == '\0') {
        return supported;
    }
    const std::string name(text);
    for (const SimdLevel level : {SimdLevel::baseline, SimdLevel::avx2, SimdLevel::avx512}) {
        if (name != simd_level_name(level)) {
            continue;
        }
        if (level > supported) {
            throw std::invalid_argument("VOLSCEN_SIMD=" + name +
                                        ": this processor has no such instructions; the widest it has is " +
                                        simd_level_name(supported));
        }
        return level;
    }
    throw std::invalid_argument("VOLSCEN_SIMD=" + name +
                                " names no instruction set; use baseline, avx2 or avx512, or unset it");
}

}  // namespace

SimdLevel simd_level() {
    static const SimdLevel level = read_level();
    return level;
}

}  // namespace volscen
