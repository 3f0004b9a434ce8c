#include "text/pattern_json.h"

namespace bolide {

Pattern parse_pattern(const JsonNode& node) {
  const bool is_regex = node.has("Regex");
  if (!is_regex && !node.has("String")) node.fail("has neither 'String' nor 'Regex'");
  const std::string text = node.string(is_regex ? "Regex" : "String");
  try {
    return is_regex ? Pattern::regex(text) : Pattern::literal(text);
  } catch (const MemoryError&) {
    throw;
  } catch (const Error& error) {
    node.fail(fmt::format("cannot be used: {}", error.what()));
  }
}

}  // namespace bolide
