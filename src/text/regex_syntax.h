// Patterns of tokenizer.json are written for Oniguruma (the `tokenizers` library's engine); bolide matches with PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace bolide {

// The pattern in PCRE2's syntax (UTF, UCP, MULTILINE) with Oniguruma's meaning: \s is the property White_Space, \w includes marks,
// {,n} counts from 0, {n,m}+ repeats instead of being possessive. Throws Error that names the construct which has another meaning in
// PCRE2 or none (nested classes and class intersection, back references, callouts, \h, \K, \R, ...). Oniguruma's syntax:
// https://github.com/kkos/oniguruma/blob/master/doc/RE.
std::string translate_oniguruma(std::string_view pattern);

// `literal` as a pattern that matches just that.
std::string escape_pattern(std::string_view literal);

}  // namespace bolide
