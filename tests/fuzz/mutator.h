// Mutations of seed inputs for fuzz targets: a pure function, the same on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bolide::fuzz {

// Mutant `number` of `corpus` (not empty) under `seed`: one of the corpus's entries after 1 to 8 changes (bits and bytes flipped, runs
// removed, doubled, moved or overwritten, decimal and little-endian numbers replaced by extreme ones, JSON tokens inserted, brackets
// nested, pieces of another entry spliced in, the end cut off), at most max_bytes long.
std::string mutate(const std::vector<std::string>& corpus, uint64_t seed, uint64_t number, size_t max_bytes);

}  // namespace bolide::fuzz
