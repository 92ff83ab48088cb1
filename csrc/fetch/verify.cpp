#include "fetch/verify.hpp"

#include <algorithm>

#include <fastslm/download.hpp>
#include <fastslm/error.hpp>

namespace fastslm {
namespace {

constexpr std::uint64_t kBlockBytes = 1U << 20U;

}  // namespace

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

std::string hash_file(const std::string& path, HashAlgorithm algorithm) {
  const File file = File::open_for_reading(path);
  const std::uint64_t size = file.size();
  Follower follower(algorithm, size);
  while (follower.advance(file, size)) {
  }
  return follower.finish();
}

}  // namespace fastslm
