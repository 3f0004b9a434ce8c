#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "core/error.h"

namespace bolide {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

// Marks and decomposable characters that entered Unicode after version 9. The normalizers of the `tokenizers` library know Unicode 9
// and pass them through; models were trained on what it makes of text, so here they are left alone, too. (Ranges also cover
// neighbours that no normalizer changes.)
struct CodePointRange {
  char32_t first, last;
};
constexpr CodePointRange kAfterUnicode9[] = {
    {0x558, 0x558},     {0x58B, 0x58C},     {0x5C8, 0x5C9},     {0x7FD, 0x7FD},     {0x897, 0x8D3},     {0x9FE, 0x9FE},
    {0xAFA, 0xAFF},     {0xB53, 0xB55},     {0xC04, 0xC04},     {0xC3C, 0xC3C},     {0xCF3, 0xD00},     {0xD3B, 0xD3C},
    {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x1715, 0x1715},   {0x180F, 0x180F},   {0x1ABF, 0x1AF0},
    {0x1CF7, 0x1CF7},   {0x1DF6, 0x1DFA},   {0x209D, 0x209F},   {0x32FF, 0x32FF},   {0xA7F1, 0xA7F4},   {0xA82C, 0xA82C},
    {0xA8FF, 0xA8FF},   {0xAB69, 0xAB69},   {0x105C9, 0x107BF}, {0x10D24, 0x10F85}, {0x11070, 0x11074}, {0x110C2, 0x110C2},
    {0x11145, 0x11146}, {0x111C9, 0x111C9}, {0x111CE, 0x111CF}, {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x11383, 0x113E2},
    {0x1145E, 0x1145E}, {0x1182C, 0x11B67}, {0x11D31, 0x1612F}, {0x16D68, 0x16F4F}, {0x16F7F, 0x16F87}, {0x16FE4, 0x1B126},
    {0x1CCD6, 0x1D128}, {0x1D250, 0x1D281}, {0x1D6A6, 0x1D6A6}, {0x1DF95, 0x1DFFF}, {0x1E030, 0x1E6F5}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9}};

bool is_inert(char32_t c) {
  if (c < kAfterUnicode9[0].first) return false;
  const auto after = std::upper_bound(std::begin(kAfterUnicode9), std::end(kAfterUnicode9), c,
                                      [](char32_t value, const CodePointRange& range) { return value < range.first; });
  return after != std::begin(kAfterUnicode9) && c <= std::prev(after)->last;
}

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Symbols that have the property Other_Alphabetic: circled and squared Latin letters.
bool is_alphabetic_symbol(char32_t c) {
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

// Code points below it have combining class 0, are their own decomposition, and compose with nothing before them.
char32_t first_unsettled(NormalizationForm form) {
  switch (form) {
    case NormalizationForm::nfc:
      return 0x300;
    case NormalizationForm::nfd:
      return 0xC0;
    default:
      return 0xA0;
  }
}

// Normalises a span and appends it. utf8proc's own reordering of marks takes quadratic time on long runs of them, therefore only
// its per-character decomposition and its (linear) composition are used.
void append_normalized(std::string_view span, NormalizationForm form, std::vector<utf8proc_int32_t>& buffer, std::string& out) {
  const bool compat = form == NormalizationForm::nfkc || form == NormalizationForm::nfkd;
  const bool compose = form == NormalizationForm::nfc || form == NormalizationForm::nfkc;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0));
  buffer.clear();
  utf8proc_int32_t expansion[32];  // the longest decomposition of one character is 18
  for (size_t pos = 0; pos < span.size();) {
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(span, pos));
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, expansion, 32, options, &boundary);
    BOLIDE_CHECK(n >= 0 && n <= 32);
    buffer.insert(buffer.end(), expansion, expansion + n);
  }
  for (size_t i = 0; i < buffer.size();) {
    if (combining_class(buffer[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < buffer.size() && combining_class(buffer[end]) != 0) ++end;
    const auto by_class = [](utf8proc_int32_t a, utf8proc_int32_t b) { return combining_class(a) < combining_class(b); };
    if (end - i > 1) std::stable_sort(buffer.begin() + static_cast<ptrdiff_t>(i), buffer.begin() + static_cast<ptrdiff_t>(end), by_class);
    i = end;
  }
  auto length = static_cast<utf8proc_ssize_t>(buffer.size());
  if (compose) {
    length = utf8proc_normalize_utf32(buffer.data(), length, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    BOLIDE_CHECK(length >= 0);
  }
  for (utf8proc_ssize_t i = 0; i < length; ++i) append_code_point(out, static_cast<char32_t>(buffer[static_cast<size_t>(i)]));
}

}  // namespace

bool is_whitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0D);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_word(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return c == 0x200C || c == 0x200D || is_alphabetic_symbol(c);
  }
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  const utf8proc_category_t k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(char32_t c) {
  const utf8proc_category_t k = category(c);
  const bool mark = k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
  return (mark && !is_inert(c)) || c == 0x1CF2 || c == 0x1CF3;  // those two were marks in Unicode 9
}

std::string unicode_normalize(std::string_view text, NormalizationForm form) {
  const char32_t limit = first_unsettled(form);
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> buffer;
  size_t copied = 0;  // text before it is in `out`
  // Start of the settled character before `pos`, which a mark may still join; `pos` itself where there is none.
  size_t base = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t start = pos;
    const char32_t c = next_code_point(text, pos);
    if (c < limit || is_inert(c)) {
      base = c < limit ? start : pos;
      continue;
    }
    size_t end = pos;
    while (end < text.size()) {
      size_t next = end;
      const char32_t d = next_code_point(text, next);
      if (d < limit || is_inert(d)) break;
      end = next;
    }
    out.append(text.substr(copied, base - copied));
    append_normalized(text.substr(base, end - base), form, buffer, out);
    copied = base = pos = end;
  }
  out.append(text.substr(copied));
  return out;
}

std::string unicode_lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = next_code_point(text, pos);
    if (c == 0x130) {  // the one character whose full lower case is two
      out += "i\xCC\x87";
    } else {
      append_code_point(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return out;
}

}  // namespace bolide
