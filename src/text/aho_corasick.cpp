#include "text/aho_corasick.h"

#include "core/error.h"

namespace bolide {

uint32_t AhoCorasick::child(uint32_t node, unsigned char byte) const {
  if (node == 0) return root_[byte] == 0 ? kNone : root_[byte];
  for (uint32_t c = nodes_[node].first_child; c != kNone; c = nodes_[c].sibling) {
    if (nodes_[c].byte == byte) return c;
  }
  return kNone;
}

uint32_t AhoCorasick::add(std::string_view pattern) {
  const uint32_t number = patterns_++;
  uint32_t node = 0;
  for (const char b : pattern) {
    const auto byte = static_cast<unsigned char>(b);
    uint32_t next = child(node, byte);
    if (next == kNone) {
      BOLIDE_CHECK(nodes_.size() < kNone);
      next = static_cast<uint32_t>(nodes_.size());
      Node fresh;
      fresh.byte = byte;
      fresh.depth = nodes_[node].depth + 1;
      fresh.sibling = nodes_[node].first_child;
      nodes_.push_back(fresh);
      nodes_[node].first_child = next;
      if (node == 0) root_[byte] = next;
    }
    node = next;
  }
  if (node != 0 && nodes_[node].pattern == kNone) {
    nodes_[node].pattern = number;
    nodes_[node].length = static_cast<uint32_t>(pattern.size());
  }
  return number;
}

void AhoCorasick::build() {
  std::vector<uint32_t> queue;
  for (uint32_t c = nodes_[0].first_child; c != kNone; c = nodes_[c].sibling) queue.push_back(c);
  for (size_t i = 0; i < queue.size(); ++i) {
    const uint32_t node = queue[i];
    const uint32_t fail = nodes_[node].fail;
    if (nodes_[node].pattern == kNone) {
      nodes_[node].pattern = nodes_[fail].pattern;
      nodes_[node].length = nodes_[fail].length;
    }
    for (uint32_t c = nodes_[node].first_child; c != kNone; c = nodes_[c].sibling) {
      uint32_t f = fail;
      while (f != 0 && child(f, nodes_[c].byte) == kNone) f = nodes_[f].fail;
      const uint32_t target = child(f, nodes_[c].byte);
      nodes_[c].fail = target == kNone ? 0 : target;
      queue.push_back(c);
    }
  }
}

std::optional<AhoCorasick::Match> AhoCorasick::find(std::string_view text, size_t from) const {
  std::optional<Match> best;
  uint32_t node = 0;
  for (size_t pos = from; pos < text.size(); ++pos) {
    const auto byte = static_cast<unsigned char>(text[pos]);
    if (node == 0) {
      if (root_[byte] == 0) continue;
      node = root_[byte];
    } else {
      uint32_t next = child(node, byte);
      while (next == kNone && node != 0) {
        node = nodes_[node].fail;
        next = child(node, byte);
      }
      node = next == kNone ? 0 : next;
    }
    // The node is the longest suffix of the text read that begins a pattern: a match that begins no later than the best one must
    // begin inside it.
    if (best && pos + 1 - nodes_[node].depth > best->begin) return best;
    if (nodes_[node].pattern == kNone) continue;
    const size_t begin = pos + 1 - nodes_[node].length;
    if (!best || begin <= best->begin) best = Match{begin, pos + 1, nodes_[node].pattern};
  }
  return best;
}

}  // namespace bolide
