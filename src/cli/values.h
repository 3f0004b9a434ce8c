// Values of flags that have a form of their own. All throw UsageError naming the flag, the value and the form.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backend/ops.h"
#include "core/dtype.h"

namespace bolide {

// "512M", "1.5GiB", "2000000": bytes; K, M, G, T are powers of 1024, "B" and "iB" may follow.
int64_t parse_bytes(const std::string& flag, const std::string& text);

// "1,2,3" or "1 2 3", also between brackets; may be empty.
std::vector<int32_t> parse_ids(const std::string& flag, const std::string& text);

// "17:-2.5", "17-2.5", "17+1", "17:-inf" (never); several with commas.
std::vector<LogitBias> parse_logit_biases(const std::string& flag, const std::string& text);

// bench's lists: "128", "128,512", "0-4096+1024" (first-last+step), "1-64*2"; numbers from `least`.
std::vector<int32_t> parse_counts(const std::string& flag, const std::string& text, int32_t least);

// Nothing for "auto".
std::optional<DType> parse_dtype_flag(const std::string& flag, const std::string& text);

// A number for the seed; for "-1" and nothing a random one of 32 bits, which any JSON reader keeps exactly.
uint64_t parse_seed(const std::optional<std::string>& text);

// \n \t \r \\ \" \' \0 \xHH \uXXXX (with surrogate pairs); a backslash before anything else stays.
std::string unescape(const std::string& text);

}  // namespace bolide
