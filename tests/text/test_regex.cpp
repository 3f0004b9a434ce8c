#include "catch.h"
#include "caught.h"
#include "text/pattern.h"
#include "text/regex.h"
#include "text/regex_syntax.h"
#include "text/split.h"

using namespace bolide;

namespace {

std::vector<std::string> matches(const std::string& pattern, std::string_view text) {
  std::vector<std::string> out;
  Pattern::regex(pattern).each_match(text, [&](TextRange m) { out.emplace_back(text.substr(m.begin, m.end - m.begin)); });
  return out;
}

using Strings = std::vector<std::string>;

Strings split(const Pattern& pattern, std::string_view text, SplitBehavior behavior, bool invert = false) {
  std::vector<Stretch> stretches;
  pattern.cut(text, stretches);
  for (Stretch& s : stretches) s.is_match ^= invert;
  apply_split_behavior(stretches, behavior);
  Strings out;
  for (const Stretch& s : stretches) {
    if (s.end > s.begin) out.emplace_back(text.substr(s.begin, s.end - s.begin));
  }
  return out;
}

}  // namespace

// Expectations of this file were taken from tokenizers 0.23 (Oniguruma).
TEST_CASE("patterns mean what they mean in Oniguruma") {
  CHECK(matches(R"(\p{N}{1,3}+)", "a12345678b") == Strings{"12345678"});  // repeated, not possessive
  CHECK(matches(R"([a-z]{,2})", "abcd") == Strings{"ab", "cd"});
  CHECK(matches(R"(\s)",
                "a\xE1\xA0\x8E"
                "b\xE2\x80\x8B"
                "c\xC2\x85\x1C\x0B") == Strings{"\xC2\x85", "\x0B"});  // neither U+180E nor U+200B nor U+001C
  CHECK(matches(R"(\S+)",
                "a \xE1\xA0\x8E\xE3\x80\x80"
                "b") == Strings{"a", "\xE1\xA0\x8E", "b"});
  CHECK(matches(R"([^\S\n]+)", "a \n\tb") == Strings{" ", "\t"});
  CHECK(matches(R"(\w+)",
                "a\xE2\x80\x8D"
                "b \xE2\x92\xB6"
                "c_d \xE2\x85\xB7 \xC2\xB2 x\xCC\x82") == Strings{"a", "b",
                                                                  "\xE2\x92\xB6"
                                                                  "c_d",
                                                                  "\xE2\x85\xB7", "x\xCC\x82"});
  CHECK(matches(R"((?i:'s|k))", "x'\xC5\xBF 'S K \xE2\x84\xAA") == Strings{"'\xC5\xBF", "'S", "K", "\xE2\x84\xAA"});
  CHECK(matches("^a$", "a\na\nb") == Strings{"a", "a"});
  CHECK(matches("a.", "a\na\ra\xE2\x80\xA8") == Strings{"a\r", "a\xE2\x80\xA8"});
  CHECK(matches(R"(\s+(?!\S)|\s+)", "a   b  ") == Strings{"  ", " ", "  "});
  CHECK(matches(R"(\bthe\b)", "the other the\xCC\x81 the") == Strings{"the", "the"});
  CHECK(matches(R"([\p{Han}]+|\p{^L}+)",
                "\xE4\xB8\xAD"
                "a!") == Strings{"\xE4\xB8\xAD", "!"});
  CHECK(matches(R"([]a]+|\u4e2d|\x41)",
                "]a \xE4\xB8\xAD"
                "A") == Strings{"]a", "\xE4\xB8\xAD", "A"});
  CHECK(matches("x*", "axxb") == Strings{"", "xx", ""});
  CHECK(matches("\\\xC3\xA9{2}|{", "\xC3\xA9\xC3\xA9{") == Strings{"\xC3\xA9\xC3\xA9", "{"});
}

TEST_CASE("constructs with another meaning in PCRE2 are refused by name") {
  for (const char* pattern : {"[a&&b]",
                              "[a[b]]",
                              "[[:alpha:]]",
                              R"((a)\1)",
                              R"(\h)",
                              R"(\K)",
                              R"(\R)",
                              R"(\G)",
                              R"(\X)",
                              "a(?i)b",
                              "(?m:.)",
                              "(?<n>a)",
                              "(*UTF8)a",
                              "(?#c)",
                              "(?(1)a)",
                              "a{2}?",
                              "a{2,3}+",
                              R"(\pL)",
                              "\\",
                              "[a",
                              R"([\W])",
                              R"([\b])",
                              R"(\x{110000000000})",
                              R"(\x8f)",
                              R"(\p{})",
                              R"(\p{L1})"}) {
    INFO(pattern);
    CHECK(caught([&] { Regex r(pattern); }).says("not supported"));
  }
  for (const char* pattern : {"(a", "a)", "*a", R"(\p{Foo})", R"(\x{d800})", "[z-a]"}) {
    INFO(pattern);
    CHECK(caught([&] { Regex r(pattern); }).says("does not compile"));
  }
  CHECK(caught([] { Regex r(std::string(70000, 'a')); }).says("longer than"));
  CHECK(caught([] { Regex r("(?:(?:(?:a{1000}){1000}){1000}){1000}"); }).says("does not compile"));
}

TEST_CASE("catastrophic patterns end in an error instead of hanging") {
  const Regex r(R"((a+)+\z)");
  CHECK(caught([&] { r.find(std::string(60, 'a') + "c", 0); }).says("too much backtracking"));
}

TEST_CASE("a million blanks do not exceed the budget of the usual pattern") {
  const Regex r(R"(\s*[\r\n]+|\s+(?!\S)|\s+)");
  const std::string blanks(1 << 20, ' ');
  const std::optional<TextRange> m = r.find(blanks, 0);
  REQUIRE(m);
  CHECK(m->end == blanks.size());
}

TEST_CASE("escape_pattern matches the literal") {
  const std::string literal = "a.b*[c]{2}(d)|^$\\ \n#\t\xC3\xA9-";
  const std::optional<TextRange> m = Regex(escape_pattern(literal)).find("x" + literal, 0);
  REQUIRE(m);
  CHECK(m->begin == 1);
  CHECK(m->end == literal.size() + 1);
}

TEST_CASE("split behaviours") {
  const Pattern blank = Pattern::literal(" "), ab = Pattern::regex("[ab]+");
  const std::string text = "  a b  c ";
  using enum SplitBehavior;
  CHECK(split(blank, text, removed) == Strings{"a", "b", "c"});
  CHECK(split(blank, text, isolated) == Strings{" ", " ", "a", " ", "b", " ", " ", "c", " "});
  CHECK(split(blank, text, merged_with_previous) == Strings{" ", " ", "a ", "b ", " ", "c "});
  CHECK(split(blank, text, merged_with_next) == Strings{" ", " a", " b", " ", " c", " "});
  CHECK(split(blank, text, contiguous) == Strings{"  ", "a", " ", "b", "  ", "c", " "});
  CHECK(split(ab, text, removed, true) == Strings{"a", "b"});
  CHECK(split(ab, text, merged_with_previous, true) == Strings{"  ", "a ", "b  c "});
  CHECK(split(ab, text, merged_with_next, true) == Strings{"  a", " b", "  c "});
  CHECK(split(Pattern::literal("aa"), "aaaaabaa", merged_with_next) == Strings{"aa", "aaab", "aa"});
  CHECK(split(Pattern::literal(""), "ab", isolated) == Strings{"a", "b"});
  CHECK(split(blank, "", isolated).empty());
}
