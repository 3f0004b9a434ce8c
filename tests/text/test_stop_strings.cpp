#include <algorithm>
#include <random>

#include "catch.h"
#include "core/error.h"
#include "text/stop_strings.h"

using namespace bolide;

namespace {

struct Outcome {
  std::string text;
  std::optional<std::string> matched;
  bool operator==(const Outcome&) const = default;
};

// What the header promises, by searching the whole text at once.
Outcome expected(const std::string& text, const std::vector<std::string>& stops, bool keep) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string* best = nullptr;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop) && (!best || stop.size() > best->size())) best = &stop;
    }
    if (best) return {text.substr(0, end - (keep ? 0 : best->size())), *best};
  }
  return {text, std::nullopt};
}

// The longest suffix of `seen` that begins a stop string without being one.
size_t longest_beginning(const std::string& seen, const std::vector<std::string>& stops) {
  size_t best = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n < stop.size() && n <= seen.size(); ++n) {
      if (std::string_view(seen).ends_with(std::string_view(stop).substr(0, n))) best = std::max(best, n);
    }
  }
  return best;
}

}  // namespace

TEST_CASE("a stop string is found over piece borders and removed") {
  StopStrings stops({"</s>", "\n\nUser:"}, false);
  CHECK(stops.push("Hello <").text == "Hello ");
  CHECK(stops.push("/").text.empty());
  CHECK(stops.push("b>\n").text == "</b>");
  CHECK(stops.push("\nUse").text.empty());
  const StopStrings::Result last = stops.push("r: more");
  CHECK(last.text.empty());
  CHECK(last.matched == "\n\nUser:");
}

TEST_CASE("keep_match leaves the stop string in the text") {
  StopStrings stops({"END"}, true);
  CHECK(stops.push("abcE").text == "abc");
  const StopStrings::Result last = stops.push("NDx");
  CHECK(last.text == "END");
  CHECK(last.matched == "END");
}

TEST_CASE("finish gives back what was held") {
  StopStrings stops({"abc"}, false);
  CHECK(stops.push("xab").text == "x");
  CHECK(stops.finish() == "ab");
  CHECK(stops.finish().empty());
}

TEST_CASE("without stop strings text passes through") {
  StopStrings stops({}, false);
  CHECK(stops.push("any").text == "any");
  CHECK(stops.finish().empty());
}

TEST_CASE("an empty stop string is a usage error") { CHECK_THROWS_AS(StopStrings({"a", ""}, false), UsageError); }

TEST_CASE("streaming equals searching the whole text") {
  std::mt19937 rng(3);
  const auto word = [&](size_t least, size_t most) {
    std::string out;
    for (size_t n = least + rng() % (most - least + 1); n > 0; --n) out += static_cast<char>('a' + rng() % 3);
    return out;
  };
  size_t matches = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> list;
    for (size_t n = 1 + rng() % 3; n > 0; --n) list.push_back(word(1, 6));
    const std::string text = word(0, 40);
    const bool keep = rng() % 2 == 0;
    StopStrings stops(list, keep);
    Outcome got;
    size_t pos = 0;
    while (pos < text.size() && !got.matched) {
      const size_t n = std::min<size_t>(rng() % 5, text.size() - pos);
      StopStrings::Result r = stops.push(std::string_view(text).substr(pos, n));
      pos += n;
      got.text += r.text;
      got.matched = r.matched;
      if (!got.matched && pos - got.text.size() != longest_beginning(text.substr(0, pos), list)) FAIL("holds back too much or too little");
    }
    if (!got.matched) got.text += stops.finish();
    if (!(got == expected(text, list, keep))) FAIL("round " << round << ": text " << text << ", stop " << list[0]);
    matches += got.matched.has_value();
  }
  CHECK(matches > 5000);
  CHECK(matches < 19500);
}

TEST_CASE("a long stop string costs linear time") {
  const std::string stop(20000, 'a');
  StopStrings stops({stop + "b", stop + "c"}, false);
  size_t shown = 0;
  for (int i = 0; i < 50000; ++i) shown += stops.push("a").text.size();
  CHECK(shown == 50000 - stop.size());
}
