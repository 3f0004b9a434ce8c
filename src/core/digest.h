// A running 64-bit digest of bytes (FNV-1a), the same on every machine and in every version: for telling whether a file has changed,
// not for guarding against someone who wants a collision.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace bolide {

class Digest {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) value_ = (value_ ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
  }
  // With its length, so that neighbouring fields cannot run into each other.
  void add_field(std::string_view bytes) {
    add(fmt::format("{}:", bytes.size()));
    add(bytes);
  }
  uint64_t value() const { return value_; }
  std::string hex() const { return fmt::format("{:016x}", value_); }

 private:
  uint64_t value_ = 0xCBF29CE484222325u;
};

}  // namespace bolide
