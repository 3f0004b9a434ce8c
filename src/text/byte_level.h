// GPT-2's bijection between bytes and printable characters (Radford et al. 2019, encoder.py: bytes_to_unicode).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bolide {

// Every byte as its character, in UTF-8.
void append_byte_level(std::string_view bytes, std::string& out);

// The byte that a character stands for, or -1.
int byte_of_character(char32_t c);

// The bytes of a token, or the token itself when one of its characters stands for no byte.
std::string bytes_of_token(std::string_view token);

}  // namespace bolide
