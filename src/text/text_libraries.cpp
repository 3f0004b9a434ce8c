#include "text/text_libraries.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

namespace bolide {

std::vector<std::pair<std::string, std::string>> text_libraries() {
  std::string pcre2;
  const int size = pcre2_config(PCRE2_CONFIG_VERSION, nullptr);  // in characters, the closing 0 included
  if (size > 0) {
    pcre2.resize(static_cast<size_t>(size));
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2.data());
    pcre2.resize(static_cast<size_t>(size) - 1);
  }
  return {{"PCRE2", pcre2}, {"utf8proc", utf8proc_version()}, {"SentencePiece", ""}};
}

}  // namespace bolide
