// What a later process must know to go on: which bytes of the partial file are written.
//
// Layout, little endian: magic (8), version u32, size u64, piece size u64, length u32 and bytes of the
// identity, number of ranges u32, begin and end u64 of each, CRC-32 of all before. It is written after the
// data that it speaks of. A journal that is torn, foreign, of another version, identity or size is treated as
// absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/extents.hpp"

namespace fastslm {

struct Journal {
  std::uint64_t size = 0;
  std::uint64_t piece_bytes = 0;
  std::string identity;
  Extents done;
};

std::vector<std::byte> encode(const Journal& journal);

// Nothing unless every byte is as `encode` writes it and the ranges are sorted, apart and inside the file.
std::optional<Journal> decode(std::span<const std::byte> bytes);

void save_journal(const std::string& path, const Journal& journal);

// What was done of the file with this identity and size: nothing of it when the journal cannot be used, or
// when the partial file is missing or of another size.
Extents load_done(const std::string& path, const std::string& partial_path, const std::string& identity,
                  std::uint64_t size);

}  // namespace fastslm
