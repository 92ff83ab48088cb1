// A file whose hash is wrong: what is kept, and from whom the rest is fetched once more. Not thread-safe.
//
// First what is not on the disk as it was received; then all that did not come from one source is fetched
// from that source alone and compared with the file, source after source, at most twice each.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/extents.hpp"

namespace fastslm {

class Repair {
 public:
  // A source sent these bytes; `changed`: they replaced others.
  void note(const ByteRange& range, std::size_t source, bool changed) {
    if (came_from_.size() <= source) came_from_.resize(source + 1);
    for (std::size_t i = 0; i < came_from_.size(); ++i) {
      if (i == source) continue;
      const std::uint64_t before = came_from_[i].total();
      came_from_[i].remove(range);
      if (changed && came_from_[i].total() < before) contradicted_.push_back(i);
    }
    came_from_[source].add(range);
    if (changed) changed_bytes_ += range.size();
  }

  // Once only: the disk is looked at before anybody is asked.
  bool may_look_at_disk() noexcept { return !std::exchange(looked_at_disk_, true); }

  // The source of the next round; nothing when to give up. An only source that says the same twice will not
  // say anything else.
  std::optional<std::size_t> next_round(const std::vector<std::size_t>& live) {
    const bool same_again = live.size() == 1 && rounds_ > 0 && changed_bytes_ == changed_before_;
    if (live.empty() || rounds_ >= 2 * live.size() || same_again) return std::nullopt;
    changed_before_ = changed_bytes_;
    contradicted_.clear();
    return trusted_ = live[rounds_++ % live.size()];
  }

  // A round is under way: what comes is compared with the file.
  bool comparing() const noexcept { return trusted_.has_value(); }
  std::uint64_t changed_bytes() const noexcept { return changed_bytes_; }

  Extents from(std::size_t source) const {
    return source < came_from_.size() ? came_from_[source] : Extents{};
  }

  // Now that the hash is right: the sources that the trusted one has contradicted.
  std::vector<std::size_t> liars() const {
    std::vector<std::size_t> result = contradicted_;
    std::sort(result.begin(), result.end());
    result.erase(std::unique(result.begin(), result.end()), result.end());
    return result;
  }

 private:
  std::vector<Extents> came_from_;
  std::vector<std::size_t> contradicted_;
  std::optional<std::size_t> trusted_;
  std::uint64_t changed_bytes_ = 0;
  std::uint64_t changed_before_ = 0;
  unsigned rounds_ = 0;
  bool looked_at_disk_ = false;
};

}  // namespace fastslm
