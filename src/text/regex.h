// Regular expressions of tokenizer files: PCRE2 with UTF, UCP and JIT behind Oniguruma's syntax.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace bolide {

struct TextRange {
  size_t begin, end;  // bytes
};

class Regex {
 public:
  // Throws Error that says what the pattern's fault is; the caller adds where the pattern stands.
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // The first match that begins at or after `from`. `text` must be valid UTF-8 (it is not checked again: that would make a series of
  // searches quadratic). Throws Error when the search exceeds its budget of steps, which only hostile patterns do.
  std::optional<TextRange> find(std::string_view text, size_t from) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace bolide
