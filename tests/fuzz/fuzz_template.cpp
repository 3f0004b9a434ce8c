// Any bytes as a chat template, followed (after a zero byte) by the variables as JSON: either a failure at a place inside the source, or
// valid UTF-8 within bounds.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "text/jinja_parser.h"
#include "text/jinja_repr.h"
#include "text/jinja_runtime.h"
#include "text/utf8.h"

namespace {

using namespace bolide;

constexpr jinja::Limits kLimits{.work = 200'000, .depth = 1000};

void require_place(const std::string& source, uint32_t position) {
  if (position > source.size()) std::abort();
  const jinja::Place place = jinja::place_of(source, position);
  if (place.line < 1 || place.column < 1) std::abort();
}

void render(const jinja::Template& parsed, const nlohmann::ordered_json& variables) {
  jinja::Runtime runtime(parsed, kLimits);
  try {
    for (const auto& [name, value] : variables.items()) runtime.define(name, jinja::value_of(value));
    const std::string text = runtime.render();
    if (first_invalid_utf8(text) || text.size() > jinja::kMaxTextBytes) std::abort();
  } catch (const jinja::RenderFailure& failure) {
    require_place(parsed.source, failure.position);
    if (failure.text.empty() && parsed.source.find("raise_exception") == std::string::npos) std::abort();
  } catch (const jinja::Failure&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(input.find('\0'), input.size());
  const std::string source = utf8_lossy(input.substr(0, zero));
  auto variables = nlohmann::ordered_json::parse(input.substr(std::min(zero + 1, input.size())), nullptr, false);
  if (!variables.is_object()) variables = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"s", "a b"}, {"n", 3}};
  try {
    const jinja::Template parsed = jinja::parse_template(source);
    render(parsed, variables);
  } catch (const jinja::SyntaxFailure& failure) {
    require_place(jinja::normalize_source(source), failure.position);
    if (failure.text.empty()) std::abort();
  } catch (const jinja::Failure&) {
  }
  return 0;
}
