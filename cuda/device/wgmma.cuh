// Matrix products of a warpgroup (four warps, 128 threads) on Hopper's tensor cores: PTX ISA, "wgmma.mma_async", bfloat16 operands,
// float32 sums. For sm_90a alone; every function is called by the whole warpgroup.
//
// Operands in shared memory are panels: rows of 64 elements (128 bytes), the 16-byte pieces of a row exchanged by the row's number
// modulo 8 (the 128-byte swizzle), panel starts aligned to 1,024 bytes. That is what a tensor map with 128-byte swizzle writes for a
// box 64 elements wide. An operand wider than 64 is several panels, one after the other.
//
// Sums d of m64nN: thread t = 32 w + l of the warpgroup holds of rows 16 w + l / 4 (h = 0) and + 8 (h = 1) the columns
// 8 j + 2 (l % 4) + e as d[4 j + 2 h + e]. Rounded and packed by pairs, d[8 i .. 8 i + 7] are the four registers of A for the columns
// 16 i .. 16 i + 15 (m64k16).
#pragma once

#include <cstdint>

namespace bolide {

constexpr int kPanelWidth = 64;      // elements
constexpr int kPanelRowBytes = 128;  // kPanelWidth bfloat16
constexpr int kPanelAlignment = 1024;

// A descriptor's offsets, like its address, are in units of 16 bytes.
__host__ __device__ constexpr uint64_t descriptor_field(uint32_t bytes) { return (bytes & 0x3ffff) >> 4; }

// Operand [rows][K] with K along the panel's rows ("K-major"): groups of eight rows are 1,024 bytes apart; the offset between panels
// is not used, as 16 elements of K lie within one: step by descriptor_step.
__device__ inline uint64_t k_major_descriptor(uint32_t address) {
  return descriptor_field(address) | uint64_t{1} << 16 | descriptor_field(8 * kPanelRowBytes) << 32 | uint64_t{1} << 62;
}
// Operand [K][N] with N along the panel's rows ("MN-major"): panels (64 of N) are `panel_bytes` apart, groups of eight K 1,024.
__device__ inline uint64_t n_major_descriptor(uint32_t address, uint32_t panel_bytes) {
  return descriptor_field(address) | descriptor_field(panel_bytes) << 16 | descriptor_field(8 * kPanelRowBytes) << 32 | uint64_t{1} << 62;
}
// What is added to a descriptor to move its start.
__host__ __device__ constexpr uint64_t descriptor_step(uint32_t bytes) { return bytes >> 4; }

// Before the first product, and whenever registers of sums or of A were written since the last one.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Ends a group of products.
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kPending groups are under way.
template <int kPending>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Pins values to this place in the program: what the compiler computes from them stays behind it, and what they are computed from in
// front. Sums are read no earlier than behind the wait for them and this.
template <int kCount>
__device__ inline void hold(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define BOLIDE_SUMS8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define BOLIDE_SUMS16(i) BOLIDE_SUMS8(i), BOLIDE_SUMS8(i + 8)
#define BOLIDE_SUMS32(i) BOLIDE_SUMS16(i), BOLIDE_SUMS16(i + 16)
#define BOLIDE_NAMES16_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define BOLIDE_NAMES16_16 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define BOLIDE_NAMES16_32 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define BOLIDE_NAMES16_48 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define BOLIDE_NAMES16_64 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define BOLIDE_NAMES16_80 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define BOLIDE_NAMES16_96 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define BOLIDE_NAMES16_112 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define BOLIDE_NAMES_0_23 BOLIDE_NAMES16_0 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define BOLIDE_NAMES_0_31 BOLIDE_NAMES16_0 ", " BOLIDE_NAMES16_16
#define BOLIDE_NAMES_0_47 BOLIDE_NAMES_0_31 ", " BOLIDE_NAMES16_32
#define BOLIDE_NAMES_0_63 BOLIDE_NAMES_0_47 ", " BOLIDE_NAMES16_48
#define BOLIDE_NAMES_0_95 BOLIDE_NAMES_0_63 ", " BOLIDE_NAMES16_64 ", " BOLIDE_NAMES16_80
#define BOLIDE_NAMES_0_127 BOLIDE_NAMES_0_95 ", " BOLIDE_NAMES16_96 ", " BOLIDE_NAMES16_112

// add: 0 or 1, whether the product is added to the sums or replaces them. transposed: of the operands in shared memory, 1 for MN-major.
#define BOLIDE_PRODUCT(add, shape, sums, operands, transposed)                                                                  \
  "{\n .reg .pred p;\n setp.ne.b32 p, " add ", 0;\n wgmma.mma_async.sync.aligned." shape ".f32.bf16.bf16 {" sums "}, " operands \
  ", p, 1, 1, " transposed ";\n}"

// d [64, N] = A [64, 16] B [N, 16]^T (+ d), both in shared memory, K-major; N = 2 * kCount.
template <bool kAdd>
__device__ inline void multiply(float (&d)[16], uint64_t a, uint64_t b) {
  asm volatile(BOLIDE_PRODUCT("%18", "m64n32k16", BOLIDE_NAMES16_0, "%16, %17", "0, 0") : BOLIDE_SUMS16(0) : "l"(a), "l"(b), "n"(kAdd));
}
template <bool kAdd>
__device__ inline void multiply(float (&d)[24], uint64_t a, uint64_t b) {
  asm volatile(BOLIDE_PRODUCT("%26", "m64n48k16", BOLIDE_NAMES_0_23, "%24, %25", "0, 0")
               : BOLIDE_SUMS16(0), BOLIDE_SUMS8(16)
               : "l"(a), "l"(b), "n"(kAdd));
}
template <bool kAdd>
__device__ inline void multiply(float (&d)[32], uint64_t a, uint64_t b) {
  asm volatile(BOLIDE_PRODUCT("%34", "m64n64k16", BOLIDE_NAMES_0_31, "%32, %33", "0, 0") : BOLIDE_SUMS32(0) : "l"(a), "l"(b), "n"(kAdd));
}
template <bool kAdd>
__device__ inline void multiply(float (&d)[48], uint64_t a, uint64_t b) {
  asm volatile(BOLIDE_PRODUCT("%50", "m64n96k16", BOLIDE_NAMES_0_47, "%48, %49", "0, 0")
               : BOLIDE_SUMS32(0), BOLIDE_SUMS16(32)
               : "l"(a), "l"(b), "n"(kAdd));
}
template <bool kAdd>
__device__ inline void multiply(float (&d)[64], uint64_t a, uint64_t b) {
  asm volatile(BOLIDE_PRODUCT("%66", "m64n128k16", BOLIDE_NAMES_0_63, "%64, %65", "0, 0")
               : BOLIDE_SUMS32(0), BOLIDE_SUMS32(32)
               : "l"(a), "l"(b), "n"(kAdd));
}
template <bool kAdd>
__device__ inline void multiply(float (&d)[128], uint64_t a, uint64_t b) {
  asm volatile(BOLIDE_PRODUCT("%130", "m64n256k16", BOLIDE_NAMES_0_127, "%128, %129", "0, 0")
               : BOLIDE_SUMS32(0), BOLIDE_SUMS32(32), BOLIDE_SUMS32(64), BOLIDE_SUMS32(96)
               : "l"(a), "l"(b), "n"(kAdd));
}

// d [64, N] += A [64, 16] B [16, N], A in four registers a thread, B in shared memory, N-major; N = 2 * kCount.
__device__ inline void multiply_add(float (&d)[32], const uint32_t* a, uint64_t b) {
  asm volatile(BOLIDE_PRODUCT("1", "m64n64k16", BOLIDE_NAMES_0_31, "{%32, %33, %34, %35}, %36", "1")
               : BOLIDE_SUMS32(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ inline void multiply_add(float (&d)[64], const uint32_t* a, uint64_t b) {
  asm volatile(BOLIDE_PRODUCT("1", "m64n128k16", BOLIDE_NAMES_0_63, "{%64, %65, %66, %67}, %68", "1")
               : BOLIDE_SUMS32(0), BOLIDE_SUMS32(32)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef BOLIDE_PRODUCT
#undef BOLIDE_SUMS8
#undef BOLIDE_SUMS16
#undef BOLIDE_SUMS32
#undef BOLIDE_NAMES16_0
#undef BOLIDE_NAMES16_16
#undef BOLIDE_NAMES16_32
#undef BOLIDE_NAMES16_48
#undef BOLIDE_NAMES16_64
#undef BOLIDE_NAMES16_80
#undef BOLIDE_NAMES16_96
#undef BOLIDE_NAMES16_112
#undef BOLIDE_NAMES_0_23
#undef BOLIDE_NAMES_0_31
#undef BOLIDE_NAMES_0_47
#undef BOLIDE_NAMES_0_63
#undef BOLIDE_NAMES_0_95
#undef BOLIDE_NAMES_0_127

}  // namespace bolide
