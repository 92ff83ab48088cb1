// What was written, with a checksum: spans of bytes that do not cross a piece's border. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/extents.hpp"
#include "hash/checksum.hpp"

namespace fastslm {

struct Span {
  ByteRange range;
  std::uint64_t sum = 0;  // Checksum64 of its bytes

  friend bool operator==(const Span&, const Span&) = default;
};

class Spans {
 public:
  // Put a span in; what it overlaps and does not continue is forgotten.
  void put(const Span& span);

  void remove(const Span& span) { by_begin_.erase(span.range.begin); }
  void clear() { by_begin_.clear(); }

  std::vector<Span> all() const;
  Extents extents() const;

 private:
  std::map<std::uint64_t, Span> by_begin_;
};

// Sums what one run writes, block after block.
class SpanSummer {
 public:
  // The spans that these bytes make or make longer; a gap before them begins a new span.
  std::vector<Span> feed(std::uint64_t offset, std::span<const std::byte> data, std::uint64_t piece_bytes);

 private:
  ByteRange range_{};
  Checksum64 sum_;
};

}  // namespace fastslm
