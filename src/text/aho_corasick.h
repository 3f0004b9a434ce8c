// Finds any of many strings in one pass (Aho and Corasick, 1975), the leftmost match first, the longest of those.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace bolide {

class AhoCorasick {
 public:
  struct Match {
    size_t begin, end;  // bytes
    uint32_t pattern;
  };

  // Patterns are numbered as they are added; empty ones never match, the first of equal ones wins.
  uint32_t add(std::string_view pattern);
  // To be called once, after the last add.
  void build();

  // The leftmost-longest match that begins at or after `from`.
  std::optional<Match> find(std::string_view text, size_t from) const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Node {
    uint32_t first_child = kNone, sibling = kNone;  // children in a list; `byte` is the edge that leads here
    uint32_t fail = 0;
    uint32_t depth = 0;
    uint32_t pattern = kNone;  // the longest pattern that ends here, also by way of failure links
    uint32_t length = 0;       // of that pattern
    unsigned char byte = 0;
  };
  uint32_t child(uint32_t node, unsigned char byte) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<uint32_t, 256> root_{};  // 0 = no pattern begins with this byte
  uint32_t patterns_ = 0;
};

}  // namespace bolide
