#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "core/error.h"
#include "text/regex_syntax.h"

namespace bolide {
namespace {

constexpr size_t kMaxPatternBytes = 1 << 16;
// Steps that one search may take: linear in the text, because trying a run of blanks from its end backwards is; catastrophic patterns
// take more than any limit.
uint32_t match_limit(size_t text_bytes) { return static_cast<uint32_t>(std::min<size_t>(200'000 + 100 * text_bytes, UINT32_MAX)); }
constexpr uint32_t kHeapLimitKib = 64 << 10;

std::string pcre_message(int code) {
  PCRE2_UCHAR text[160] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};

// What a search writes to. One per thread, because making it costs more than a short search.
struct MatchState {
  std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_jit_stack, Freer<pcre2_jit_stack_free>> stack{pcre2_jit_stack_create(32 << 10, 8 << 20, nullptr)};
  MatchState() {
    if (!data || !context) throw MemoryError("out of memory while preparing a pattern search");
    pcre2_set_heap_limit(context.get(), kHeapLimitKib);
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

MatchState& match_state() {
  thread_local MatchState state;
  return state;
}

}  // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, Freer<pcre2_code_free>> compiled;
};

Regex::Regex(std::string_view pattern) : code_(std::make_unique<Code>()) {
  if (pattern.size() > kMaxPatternBytes) throw Error(fmt::format("the pattern is longer than {} bytes", kMaxPatternBytes));
  const std::string translated = translate_oniguruma(pattern);
  const std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>> context(pcre2_compile_context_create(nullptr));
  if (!context) throw MemoryError("out of memory while compiling a pattern");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->compiled.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context.get()));
  if (!code_->compiled) throw Error(fmt::format("the pattern does not compile: {}", pcre_message(error)));
  // Without JIT (not built in, or forbidden by the system) the interpreter gives the same matches.
  pcre2_jit_compile(code_->compiled.get(), PCRE2_JIT_COMPLETE);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

std::optional<TextRange> Regex::find(std::string_view text, size_t from) const {
  MatchState& state = match_state();
  const char* subject = text.data() ? text.data() : "";
  pcre2_set_match_limit(state.context.get(), match_limit(text.size() - from));
  const int rc = pcre2_match(code_->compiled.get(), reinterpret_cast<PCRE2_SPTR>(subject), text.size(), from, PCRE2_NO_UTF_CHECK,
                             state.data.get(), state.context.get());
  if (rc == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (rc < 0) {
    throw Error(
        fmt::format("a pattern of the tokenizer file cannot be matched at byte {} of the text: {}. The pattern needs too much "
                    "backtracking, check where the tokenizer file comes from",
                    from, pcre_message(rc)));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state.data.get());
  return TextRange{range[0], range[1]};
}

}  // namespace bolide
