// The hash that follows a download: it reads what has arrived without a gap, from the page cache.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <fastslm/files.hpp>
#include <fastslm/hash.hpp>

namespace fastslm {

class Follower {
 public:
  Follower(HashAlgorithm algorithm, std::uint64_t size) : hasher_(algorithm, size) {}

  // Goes on behind the first `hashed` bytes, from the state that `save` gave; from the start when that is of
  // no use.
  Follower(HashAlgorithm algorithm, std::uint64_t size, std::uint64_t hashed, const std::string& state);

  // Hash on to `frontier`, at most one block; false when there was nothing to do. The bytes must be written.
  bool advance(const File& file, std::uint64_t frontier);

  std::uint64_t hashed() const noexcept { return hashed_; }
  std::string save() const { return hasher_.save(); }
  std::string finish() { return hasher_.finish(); }

 private:
  Hasher hasher_;
  std::uint64_t hashed_ = 0;
  std::vector<std::byte> block_;
};

// Whether the file has exactly these bytes at `offset`.
bool holds(const File& file, Bytes data, std::uint64_t offset);

}  // namespace fastslm
