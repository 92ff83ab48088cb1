#include "fetch/unpack.hpp"

#include <algorithm>

#include <fastslm/error.hpp>

namespace fastslm {
namespace {

constexpr std::uint64_t kBlockBytes = 256U << 10U;

}  // namespace

bool UnpackFollower::advance(const Make& make, const File& file, std::uint64_t frontier) {
  if (unpacked_ >= frontier) return false;
  if (!unpacker_) unpacker_ = make();
  block_.resize(static_cast<std::size_t>(std::min(kBlockBytes, frontier - unpacked_)));
  if (file.read_at(block_, unpacked_) != block_.size()) {
    throw Error(ErrorCode::file_system, "`" + file.path() + "` became shorter while it was read",
                {.path = file.path()});
  }
  unpacker_->push(block_);
  unpacked_ += block_.size();
  return true;
}

std::vector<UnpackedFile> UnpackFollower::finish(const Make& make) {
  if (!unpacker_) unpacker_ = make();
  auto files = unpacker_->finish();
  unpacker_.reset();
  return files;
}

void UnpackFollower::begin(unsigned round) {
  unpacker_.reset();
  unpacked_ = 0;
  round_ = round;
}

void UnpackFollower::give_up() {
  unpacker_.reset();
  unpacked_ = kNever;
}

}  // namespace fastslm
