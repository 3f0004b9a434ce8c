// A target with planted bugs, to prove that the driver finds what it should and reports it so that it can be repeated.
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

// The input begins with the kind of bug; the bug is set off by what a mutation has to bring.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with("abort") && text.find("[[") != text.npos) std::abort();
  if (text.starts_with("throw") && text.find("4294967296") != text.npos) throw std::runtime_error("planted");
  if (text.starts_with("hang") && text.find("null") != text.npos) {
    for (volatile bool forever = true; forever;) {
    }
  }
  if (text.starts_with("memory") && text.find('}') != text.npos) {
    std::vector<char> large(512u << 20, 1);
    if (large[size] == 0) std::abort();  // so that the memory is really used
  }
  return 0;
}
