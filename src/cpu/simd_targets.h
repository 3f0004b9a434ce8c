// Which SIMD targets the CPU backend compiles: AVX-512 (F, BW, DQ, VL), AVX2 with FMA, NEON, and the platform's baseline.
// Each target compiles its file once more, so what adds nothing here is left out: the AVX-512 extensions that Highway ranks above AVX3
// (bits 0 to 7 of the mask), SSSE3 and SSE4, and the targets whose vectors cannot be kept in arrays (SVE, RVV).
// Include this before any Highway header.
#pragma once

#define HWY_DISABLED_TARGETS (0xFFLL | HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
