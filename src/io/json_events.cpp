#include "io/json_events.h"

#include <fmt/format.h>

namespace bolide {

bool JsonEvents::parse_error(size_t position, const std::string&, const nlohmann::json::exception&) {
  return fail(fmt::format("is not valid JSON (byte {})", position));
}

bool parse_json_events(std::string_view text, JsonEvents& events) { return nlohmann::json::sax_parse(text.begin(), text.end(), &events); }

}  // namespace bolide
