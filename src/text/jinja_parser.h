// From source to a Template. The grammar is that of Jinja 3.1 with its loop controls and the {% generation %} tag of transformers; what
// needs other templates (extends, include, import, block) is refused by name.
#pragma once

#include <string_view>

#include "text/jinja_lexer.h"
#include "text/jinja_syntax.h"

namespace bolide::jinja {

// `source` is valid UTF-8. Throws SyntaxFailure with a position in the normalised source.
Template parse_template(std::string_view source);

}  // namespace bolide::jinja
