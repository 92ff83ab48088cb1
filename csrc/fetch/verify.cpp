#include "fetch/verify.hpp"

#include <algorithm>

#include <fastslm/download.hpp>
#include <fastslm/error.hpp>

namespace fastslm {
namespace {

constexpr std::uint64_t kBlockBytes = 1U << 20U;

}  // namespace

Follower::Follower(HashAlgorithm algorithm, std::uint64_t size, std::uint64_t hashed,
                   const std::string& state)
    : hasher_(algorithm, size) {
  auto restored = hashed > 0 ? Hasher::restore(algorithm, state) : std::nullopt;
  if (!restored) return;
  hasher_ = std::move(*restored);
  hashed_ = hashed;
}

bool Follower::advance(const File& file, std::uint64_t frontier) {
  if (hashed_ >= frontier) return false;
  block_.resize(static_cast<std::size_t>(std::min(kBlockBytes, frontier - hashed_)));
  if (file.read_at(block_, hashed_) != block_.size()) {
    throw Error(ErrorCode::file_system, "`" + file.path() + "` became shorter while it was read",
                {.path = file.path()});
  }
  hasher_.update(block_);
  hashed_ += block_.size();
  return true;
}

bool holds(const File& file, Bytes data, std::uint64_t offset) {
  std::vector<std::byte> there(data.size());
  return file.read_at(there, offset) == data.size() && std::equal(data.begin(), data.end(), there.begin());
}

std::string hash_file(const std::string& path, HashAlgorithm algorithm) {
  const File file = File::open_for_reading(path);
  const std::uint64_t size = file.size();
  Follower follower(algorithm, size);
  while (follower.advance(file, size)) {
  }
  return follower.finish();
}

}  // namespace fastslm
