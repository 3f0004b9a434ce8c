#include "fuzz/mutator.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace bolide::fuzz {
namespace {

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). Written out because the standard's distributions differ between libraries.
class Random {
 public:
  Random(uint64_t seed, uint64_t stream) : state_(seed * 0x9e3779b97f4a7c15ull ^ (stream + 1) * 0xd1342543de82ef95ull) { next(); }

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  // In [0, bound); bound 0 gives 0. The slight bias does not matter here.
  size_t below(size_t bound) { return bound == 0 ? 0 : static_cast<size_t>(next() % bound); }
  template <typename T, size_t N>
  const T& pick(const std::array<T, N>& items) {
    return items[below(N)];
  }

 private:
  uint64_t state_;
};

constexpr std::array<std::string_view, 52> kTokens{"{",
                                                   "}",
                                                   "[",
                                                   "]",
                                                   ",",
                                                   ":",
                                                   "\"",
                                                   "\\",
                                                   "\\u0000",
                                                   "\\ud800",
                                                   "\\u00e9",
                                                   "null",
                                                   "true",
                                                   "false",
                                                   "{}",
                                                   "[]",
                                                   "\"\"",
                                                   "0",
                                                   "-1",
                                                   "1e999",
                                                   "1e-999",
                                                   "0.1",
                                                   "NaN",
                                                   "9223372036854775807",
                                                   "9223372036854775808",
                                                   "18446744073709551615",
                                                   "-9223372036854775808",
                                                   "4294967296",
                                                   "2147483648",
                                                   "\"type\":",
                                                   "\"dtype\":",
                                                   "\"shape\":",
                                                   "\"data_offsets\":",
                                                   "\"__metadata__\":",
                                                   "\"F32\"",
                                                   "\"BF16\"",
                                                   "\"F8_E4M3\"",
                                                   "\"vocab\":",
                                                   "\"merges\":",
                                                   "\"added_tokens\":",
                                                   "\"pattern\":",
                                                   "\"Regex\":",
                                                   "\"Sequence\"",
                                                   "\"ByteLevel\"",
                                                   "\"model_type\":",
                                                   "\"hidden_size\":",
                                                   "\"rope_scaling\":",
                                                   "\xef\xbf\xbd",
                                                   "\xff",
                                                   "\xe2\x82",
                                                   "\xf0\x9f\x98\x80",
                                                   "\xcc\x81"};

constexpr std::array<std::string_view, 16> kNumbers{"0",          "1",          "-1",         "2",
                                                    "255",        "256",        "65536",      "2147483647",
                                                    "2147483648", "4294967295", "4294967296", "9223372036854775807",
                                                    "1e308",      "1e-40",      "0.5",        "18446744073709551616"};

constexpr std::array<uint64_t, 10> kBinary{0, 1, 7, 8, 0x7f, 0xff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A run of text, short more often than long.
struct Range {
  size_t begin, size;
};
Range pick_range(Random& random, const std::string& text) {
  const size_t begin = random.below(text.size());
  const size_t longest = std::min(text.size() - begin, size_t{1} << random.below(10));
  return {begin, longest == 0 ? 0 : 1 + random.below(longest)};
}

// Replaces the decimal number at or after a random place.
void replace_number(Random& random, std::string& text) {
  const size_t start = random.below(text.size());
  const auto found = std::find_if(text.begin() + static_cast<std::ptrdiff_t>(start), text.end(), is_digit);
  if (found == text.end()) return;
  const auto end = std::find_if_not(found, text.end(), is_digit);
  const std::string old(found, end);
  const auto begin = static_cast<size_t>(found - text.begin());
  // Off by one as often as extreme: most bounds are wrong by one.
  if (random.below(2) == 0 && old.size() < 18) {
    const long long value = std::stoll(old) + (random.below(2) == 0 ? 1 : -1);
    text.replace(begin, old.size(), std::to_string(value));
  } else {
    text.replace(begin, old.size(), random.pick(kNumbers));
  }
}

// Overwrites 1, 2, 4 or 8 bytes by a little-endian number, often at the start, where containers keep their lengths.
void overwrite_binary(Random& random, std::string& text) {
  const size_t size = std::min(size_t{1} << random.below(4), text.size());
  const size_t begin = random.below(3) == 0 ? 0 : random.below(text.size() - size + 1);
  uint64_t value = random.below(3) == 0 ? text.size() + random.below(17) - 8 : random.pick(kBinary);
  for (size_t i = 0; i < size; ++i, value >>= 8) text[begin + i] = static_cast<char>(value & 0xff);
}

void nest(Random& random, std::string& text, size_t max_bytes) {
  static constexpr std::array<std::string_view, 4> kOpeners{"[", "{\"a\":", "(", "(?:"};
  const std::string_view opener = random.pick(kOpeners);
  const size_t room = max_bytes > text.size() ? max_bytes - text.size() : 0;
  const size_t count = std::min(size_t{1} << random.below(13), room / opener.size());
  std::string nested;
  for (size_t i = 0; i < count; ++i) nested += opener;
  text.insert(random.below(text.size() + 1), nested);
}

void change_once(Random& random, const std::vector<std::string>& corpus, std::string& text, size_t max_bytes) {
  if (text.empty()) {
    text = std::string(random.pick(kTokens));
    return;
  }
  const size_t at = random.below(text.size());
  const Range range = pick_range(random, text);
  switch (random.below(14)) {
    case 0:
      text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
      break;
    case 1:
      text[at] = static_cast<char>(random.next());
      break;
    case 2:
      text.erase(range.begin, range.size);
      break;
    case 3:  // a run once more, right behind itself or elsewhere
      text.insert(random.below(2) == 0 ? range.begin : at, text.substr(range.begin, range.size));
      break;
    case 4: {  // a run many times over
      const size_t copies = std::min(size_t{1} << random.below(8), max_bytes / range.size);
      const std::string run = text.substr(range.begin, range.size);
      std::string repeated;
      for (size_t i = 0; i < copies; ++i) repeated += run;
      text.insert(range.begin, repeated);
      break;
    }
    case 5: {  // a run moved
      const std::string run = text.substr(range.begin, range.size);
      text.erase(range.begin, range.size);
      text.insert(random.below(text.size() + 1), run);
      break;
    }
    case 6:
    case 7:
      replace_number(random, text);
      break;
    case 8:
      overwrite_binary(random, text);
      break;
    case 9:
      text.insert(at, random.pick(kTokens));
      break;
    case 10: {
      const std::string_view token = random.pick(kTokens);
      text.replace(at, std::min(token.size(), text.size() - at), token);
      break;
    }
    case 11: {  // a piece of another seed
      const std::string& other = corpus[random.below(corpus.size())];
      if (other.empty()) break;
      const Range piece = pick_range(random, other);
      text.replace(at, random.below(2) == 0 ? 0 : std::min(piece.size, text.size() - at), other, piece.begin, piece.size);
      break;
    }
    case 12:
      text.resize(at);
      break;
    default:
      nest(random, text, max_bytes);
      break;
  }
}

}  // namespace

std::string mutate(const std::vector<std::string>& corpus, uint64_t seed, uint64_t number, size_t max_bytes) {
  Random random(seed, number);
  std::string text = corpus[random.below(corpus.size())];
  const size_t changes = 1 + random.below(random.below(2) == 0 ? 2 : 8);
  for (size_t i = 0; i < changes; ++i) {
    change_once(random, corpus, text, max_bytes);
    if (text.size() > max_bytes) text.resize(max_bytes);
  }
  return text;
}

}  // namespace bolide::fuzz
