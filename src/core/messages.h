// Building blocks of error messages that quote untrusted text or report several problems at once.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bolide {

// 'text' in single quotes, safe to print on a terminal: control characters become \xNN, and what exceeds `max_bytes` becomes "...".
std::string in_quotes(std::string_view text, size_t max_bytes = 200);

// One problem: "WHERE: problem", or the problem alone where it names WHERE itself.
// Several: "3 problems in WHERE: first; second; third", cut after 20 with "and N more".
std::string problems_text(const std::vector<std::string>& problems, const std::string& where);

}  // namespace bolide
