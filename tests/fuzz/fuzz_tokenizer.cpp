// Any bytes as a tokenizer.json, followed (after a zero byte) by a text: either an Error, or a tokenizer that keeps its promises on
// that text and on ids.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace {

void check_ids(const bolide::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  for (const bool skip_special : {false, true}) {
    const std::string whole = tokenizer.decode(ids, skip_special);
    if (bolide::first_invalid_utf8(whole)) std::abort();
    const auto stream = tokenizer.stream(skip_special);
    std::string pieces;
    for (const int32_t id : ids) pieces += stream->push(id);
    pieces += stream->finish();
    if (pieces != whole) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(input.find('\0'), input.size());
  const std::string text = bolide::utf8_lossy(input.substr(std::min(zero + 1, input.size())));
  try {
    const auto tokenizer = bolide::parse_tokenizer_json(input.substr(0, zero), "fuzz.json", {});
    std::vector<int32_t> known;
    for (int32_t id = 0; id < tokenizer->vocab_size() && known.size() < 300; ++id) {
      if (tokenizer->token(id)) known.push_back(id);
    }
    check_ids(*tokenizer, known);
    for (const bool special : {false, true}) {
      const std::vector<int32_t> ids = tokenizer->encode(text, {.add_special = special, .parse_special = special});
      for (const int32_t id : ids) {
        if (!tokenizer->token(id)) std::abort();
      }
      check_ids(*tokenizer, ids);
    }
  } catch (const bolide::Error&) {
  }
  return 0;
}
