#include <random>

#include "catch.h"
#include "text/unicode.h"
#include "text/utf8.h"

using namespace bolide;

namespace {

const std::string kBad = "\xEF\xBF\xBD";

// Bytes that are likely to be near the borders of what is valid.
std::string random_bytes(std::mt19937& rng, size_t most) {
  static const unsigned char kPool[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
                                        0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF, 0x82, 0xAC};
  std::string out;
  for (size_t n = rng() % (most + 1); n > 0; --n) out += static_cast<char>(kPool[rng() % sizeof kPool]);
  return out;
}

}  // namespace

TEST_CASE("first_invalid_utf8 finds what table 3-7 excludes") {
  CHECK_FALSE(first_invalid_utf8(""));
  CHECK_FALSE(first_invalid_utf8(std::string_view("a\0b", 3)));
  CHECK_FALSE(
      first_invalid_utf8("\xC2\x80 \xDF\xBF \xE0\xA0\x80 \xED\x9F\xBF \xEE\x80\x80 \xEF\xBF\xBF \xF0\x90\x80\x80 \xF4\x8F\xBF\xBF"));
  CHECK(first_invalid_utf8("abcdefgh\x80") == 8u);
  CHECK(first_invalid_utf8("ab\xC0\x80") == 2u);        // overlong
  CHECK(first_invalid_utf8("\xE0\x9F\xBF") == 0u);      // overlong
  CHECK(first_invalid_utf8("a\xED\xA0\x80") == 1u);     // surrogate
  CHECK(first_invalid_utf8("\xF4\x90\x80\x80") == 0u);  // past U+10FFFF
  CHECK(first_invalid_utf8("\xF5\x80\x80\x80") == 0u);
  CHECK(first_invalid_utf8("abc\xE2\x82") == 3u);  // cut off
}

TEST_CASE("utf8_lossy replaces each maximal subpart once") {
  CHECK(utf8_lossy("ok \xE2\x82\xAC") == "ok \xE2\x82\xAC");
  CHECK(utf8_lossy("a\xE2\x82z") == "a" + kBad + "z");
  CHECK(utf8_lossy("\xF0\x9F\x91") == kBad);
  CHECK(utf8_lossy("\xF0\x80\x80\x80") == kBad + kBad + kBad + kBad);
  CHECK(utf8_lossy("\xED\xA0\x80") == kBad + kBad + kBad);
  // The example of the Unicode Standard, section 3.9.
  CHECK(utf8_lossy("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64") ==
        "a" + kBad + kBad + kBad + "b" + kBad + "c" + kBad + kBad + "d");
}

TEST_CASE("utf8_complete_prefix holds back only what can still become a character") {
  CHECK(utf8_complete_prefix("") == 0);
  CHECK(utf8_complete_prefix("ab") == 2);
  CHECK(utf8_complete_prefix("a\xF0\x9F\x91") == 1);
  CHECK(utf8_complete_prefix("a\xF0\x9F\x91\x8D") == 5);
  CHECK(utf8_complete_prefix("a\xF0\x80") == 3);  // F0 80 is invalid already
  CHECK(utf8_complete_prefix("\xE2\x82\xE2") == 2);
  CHECK(utf8_complete_prefix("\x80\x80\x80\x80") == 4);
}

TEST_CASE("repair in pieces equals repair of the whole") {
  std::mt19937 rng(7);
  for (int round = 0; round < 20000; ++round) {
    const std::string bytes = random_bytes(rng, 12);
    const std::string whole = utf8_lossy(bytes);
    CHECK_FALSE(first_invalid_utf8(whole));
    if (!first_invalid_utf8(bytes)) CHECK(whole == bytes);
    std::string held, pieces;
    for (const char b : bytes) {
      held += b;
      const size_t n = utf8_complete_prefix(held);
      CHECK(held.size() - n <= 3);
      pieces += utf8_lossy(held.substr(0, n));
      held.erase(0, n);
    }
    if (pieces + utf8_lossy(held) != whole) FAIL("pieces differ from the whole in round " << round);
  }
}

TEST_CASE("code points survive encoding and decoding") {
  for (char32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 61) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_code_point(text, c);
    if (first_invalid_utf8(text)) FAIL("U+" << std::hex << static_cast<uint32_t>(c) << " is not valid UTF-8");
    size_t pos = 0;
    if (next_code_point(text, pos) != c || pos != text.size() || previous_code_point("x" + text, text.size() + 1) != 1) {
      FAIL("U+" << std::hex << static_cast<uint32_t>(c) << " changes");
    }
  }
}

TEST_CASE("unicode_normalize gives the four forms") {
  using enum NormalizationForm;
  const std::string composed = "\xC3\xA9 \xEA\xB0\x80";  // é 가
  const std::string decomposed = "e\xCC\x81 \xE1\x84\x80\xE1\x85\xA1";
  CHECK(unicode_normalize(decomposed, nfc) == composed);
  CHECK(unicode_normalize(composed, nfd) == decomposed);
  CHECK(unicode_normalize("\xEF\xAC\x81 x\xC2\xB2", nfkc) == "fi x2");  // ﬁ x²
  CHECK(unicode_normalize("\xEF\xAC\x81", nfc) == "\xEF\xAC\x81");
  CHECK(unicode_normalize("\xE2\x84\xAB", nfkd) == "A\xCC\x8A");              // Angstrom sign
  CHECK(unicode_normalize("q\xCC\x87\xCC\xA3", nfc) == "q\xCC\xA3\xCC\x87");  // marks in order of their class
  CHECK(unicode_normalize("", nfc).empty());
  CHECK(unicode_normalize("\xCC\x81"
                          "a",
                          nfc) ==
        "\xCC\x81"
        "a");
  CHECK(unicode_normalize("x\xE1\xAB\x81\xCC\xB4", nfc) == "x\xE1\xAB\x81\xCC\xB4");  // U+1AC1 came after Unicode 9
}

TEST_CASE("normalisation is idempotent and composes what it decomposed") {
  using enum NormalizationForm;
  std::mt19937 rng(11);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int n = 0; n < 12; ++n) {
      static const char32_t kStarts[] = {0x20,   0x41,   0xC0,   0x300,  0x320,  0x1100,  0x1161, 0x11A8,
                                         0xAC00, 0x1E00, 0x3040, 0xF900, 0xFB1D, 0x1D15E, 0x915};
      append_code_point(text, kStarts[rng() % 15] + rng() % 24);
    }
    const std::string c = unicode_normalize(text, nfc), d = unicode_normalize(text, nfd);
    if (unicode_normalize(c, nfc) != c || unicode_normalize(d, nfd) != d || unicode_normalize(d, nfc) != c ||
        unicode_normalize(c, nfd) != d) {
      FAIL("round " << round);
    }
  }
}

TEST_CASE("lower case is character by character") {
  CHECK(unicode_lowercase("AbC \xC3\x84 \xCE\xA3 \xC4\xB0") == "abc \xC3\xA4 \xCF\x83 i\xCC\x87");  // Ä Σ İ
}
