// A set of byte positions, kept as sorted ranges that neither touch nor overlap. Not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

namespace fastslm {

// Bytes `begin` up to, not including, `end`.
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t size() const noexcept { return end - begin; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

class Extents {
 public:
  // Put a range in; an empty one changes nothing.
  void add(ByteRange range);

  // Take a range out.
  void remove(ByteRange range);

  void clear() noexcept { ranges_.clear(); }

  // Number of bytes in the set.
  std::uint64_t total() const noexcept;

  // Length of the unbroken stretch that begins at byte 0.
  std::uint64_t prefix() const noexcept;

  // What a file of `size` bytes lacks.
  Extents gaps(std::uint64_t size) const;

  const std::vector<ByteRange>& ranges() const noexcept { return ranges_; }

 private:
  std::vector<ByteRange> ranges_;
};

}  // namespace fastslm
