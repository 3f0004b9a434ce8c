// Catch2 v2 (Debian 12) and v3 (Ubuntu 24.04) under one include, and what kind of build runs.
#pragma once
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif

namespace bolide::test {

// Sanitizers make code five to twenty times as slow: what a release build proves as well, growth with size above all, is cut short there.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#ifdef NDEBUG
inline constexpr bool kFastBuild = !kSanitized;
#else
inline constexpr bool kFastBuild = false;
#endif

}  // namespace bolide::test
