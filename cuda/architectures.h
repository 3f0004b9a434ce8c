// Which GPUs a build's machine code runs on, from the CMake list it was compiled for.
#pragma once

#include <string>
#include <vector>

namespace bolide {

// "80-real,90a-real" -> entries. Machine code of X.Y runs on devices X.Z with Z >= Y; with a suffix letter (90a) on X.Y alone, (100f)
// on its family X; PTX (no "-real") on any later device. Words such as "native" stand for whatever the build machine had.
class Architectures {
 public:
  explicit Architectures(const std::string& cmake_list);
  bool runs_on(int major, int minor) const;
  // Whether machine code for exactly this is in the build: "sm_90a".
  bool holds(const std::string& name) const;
  std::string text() const;  // "sm_80, sm_90a"

 private:
  struct Entry {
    int number = 0;  // 10 * major + minor; 0 for a word
    char suffix = 0;
    bool ptx = false;
    std::string name;
  };
  std::vector<Entry> entries_;
};

// Of this build.
const Architectures& compiled_architectures();

}  // namespace bolide
