#include "io/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/messages.h"
#include "io/lfs_pointer.h"
#include "io/safetensors_events.h"

namespace bolide {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxProblems = 100;               // per file; the rest is counted

// Bits per element of the format's dtypes; nothing for names it does not define.
std::optional<uint64_t> dtype_bits(std::string_view name) {
  struct Row {
    std::string_view name;
    uint64_t bits;
  };
  static constexpr Row kRows[] = {
      {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},     {"BOOL", 8}, {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
      {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},   {"I32", 32},
      {"U32", 32},    {"F32", 32},        {"I64", 64},        {"U64", 64}, {"F64", 64}, {"C64", 64},
  };
  for (const Row& row : kRows) {
    if (row.name == name) return row.bits;
  }
  return std::nullopt;
}

using Tensors = std::map<std::string, SafetensorsEntry, std::less<>>;

// Problems of one file, capped: a hostile header can have millions.
class FileProblems {
 public:
  FileProblems(std::vector<std::string>& all, const std::string& file) : all_(all), file_(file) {}
  ~FileProblems() {
    if (count_ > kMaxProblems) all_.push_back(fmt::format("{}: {} more problems", file_, count_ - kMaxProblems));
  }
  void add(const std::string& text) {
    if (++count_ <= kMaxProblems) all_.push_back(fmt::format("{}: {}", file_, text));
  }
  bool any() const { return count_ > 0; }

 private:
  std::vector<std::string>& all_;
  const std::string& file_;
  size_t count_ = 0;
};

bool multiply(uint64_t a, uint64_t b, uint64_t& product) { return !__builtin_mul_overflow(a, b, &product); }

// Empty if dtype, shape and offsets of one entry agree.
std::string entry_problem(const SafetensorsEntry& entry) {
  if (entry.begin > entry.end) return fmt::format("has data_offsets [{},{}], which run backwards", entry.begin, entry.end);
  uint64_t elements = 1;
  for (const int64_t d : entry.shape) {
    if (!multiply(elements, static_cast<uint64_t>(d), elements) || elements > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return fmt::format("has shape {}, which overflows", shape_text(entry.shape));
    }
  }
  const std::optional<uint64_t> bits = dtype_bits(entry.dtype_name);
  if (!bits) return "";  // an unknown dtype has an unknown size; only whoever requires it needs to refuse it
  uint64_t total_bits = 0;
  if (!multiply(elements, *bits, total_bits)) return fmt::format("has shape {}, which overflows", shape_text(entry.shape));
  const uint64_t stored = entry.end - entry.begin;
  if (total_bits % 8 != 0 || total_bits / 8 != stored) {
    return fmt::format("is {} {}, {} bytes, but its data_offsets hold {}", entry.dtype_name, shape_text(entry.shape), (total_bits + 7) / 8,
                       stored);
  }
  return "";
}

// The format wants every byte of the data to belong to exactly one tensor. Leaves out what overlaps.
void check_coverage(Tensors& tensors, uint64_t data_bytes, FileProblems& problems) {
  std::vector<Tensors::iterator> order;
  order.reserve(tensors.size());
  for (auto it = tensors.begin(); it != tensors.end(); ++it) order.push_back(it);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t covered = 0;
  std::optional<Tensors::iterator> last;  // reaches furthest so far
  std::vector<Tensors::iterator> overlapping;
  for (const auto& it : order) {
    if (it->second.begin < covered) {
      problems.add(
          fmt::format("{} and {} overlap at byte {} of the data", in_quotes((*last)->first), in_quotes(it->first), it->second.begin));
      overlapping.push_back(it);
      overlapping.push_back(*last);
    } else if (it->second.begin > covered) {
      problems.add(fmt::format("{} bytes before {} belong to no tensor", it->second.begin - covered, in_quotes(it->first)));
    }
    if (it->second.end >= covered) {
      covered = it->second.end;
      last = it;
    }
  }
  if (covered < data_bytes) problems.add(fmt::format("{} bytes at its end belong to no tensor", data_bytes - covered));
  std::sort(overlapping.begin(), overlapping.end(), [](const auto& a, const auto& b) { return a->first < b->first; });
  overlapping.erase(std::unique(overlapping.begin(), overlapping.end()), overlapping.end());
  for (const auto& it : overlapping) tensors.erase(it);
}

void check_layout(Tensors& tensors, uint64_t data_begin, uint64_t file_bytes, FileProblems& problems) {
  const uint64_t data_bytes = file_bytes - data_begin;
  uint64_t needed = 0;
  for (auto it = tensors.begin(); it != tensors.end();) {
    const std::string problem = entry_problem(it->second);
    if (problem.empty()) {
      needed = std::max<uint64_t>(needed, it->second.end);
      ++it;
    } else {
      problems.add(in_quotes(it->first) + " " + problem);
      it = tensors.erase(it);
    }
  }
  // Without the entries left out, their bytes would look like holes.
  if (!problems.any()) check_coverage(tensors, data_bytes, problems);
  if (needed > data_bytes) {
    uint64_t expected = 0;
    if (__builtin_add_overflow(data_begin, needed, &expected)) expected = std::numeric_limits<uint64_t>::max();
    problems.add(
        fmt::format("is cut off or corrupt: {} bytes expected from its header, {} found. Get the file again", expected, file_bytes));
  }
  for (auto it = tensors.begin(); it != tensors.end();) {
    if (it->second.end > data_bytes) {
      it = tensors.erase(it);
      continue;
    }
    it->second.begin += data_begin;
    it->second.end += data_begin;
    ++it;
  }
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& file_name, std::vector<std::string>& problems) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (is_lfs_pointer(text)) {
    problems.push_back(lfs_pointer_text(file_name, text.size(), "its folder"));
    return {};
  }
  FileProblems own(problems, file_name);
  if (text.size() < kLengthBytes) {
    own.add(fmt::format("has {} bytes, too few for a safetensors file. Get the file again", text.size()));
    return {};
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= static_cast<uint64_t>(static_cast<unsigned char>(text[i])) << (8 * i);
  if (length > text.size() - kLengthBytes) {
    own.add(fmt::format("is cut off or no safetensors file: its first 8 bytes announce a header of {} bytes, the file has {}", length,
                        text.size()));
    return {};
  }
  if (length > kMaxHeaderBytes) {
    own.add(fmt::format("has a header of {} bytes; the format allows {}", length, kMaxHeaderBytes));
    return {};
  }
  const std::string_view json = text.substr(kLengthBytes, length);
  if (json.empty() || json.front() != '{') {
    own.add("has a header that does not begin with '{'");
    return {};
  }
  SafetensorsHeader header;
  HeaderEvents events(header);
  if (!parse_json_events(json, events)) {
    own.add("header " + events.error());
    return {};
  }
  check_layout(header.tensors, kLengthBytes + length, text.size(), own);
  return header;
}

}  // namespace bolide
