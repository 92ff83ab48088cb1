#include "base/extents.hpp"

#include <algorithm>

namespace fastslm {

void Extents::add(ByteRange range) {
  if (range.begin >= range.end) return;
  const auto first = std::find_if(ranges_.begin(), ranges_.end(),
                                  [&](const ByteRange& known) { return known.end >= range.begin; });
  auto last = first;
  for (; last != ranges_.end() && last->begin <= range.end; ++last) {
    range.begin = std::min(range.begin, last->begin);
    range.end = std::max(range.end, last->end);
  }
  ranges_.insert(ranges_.erase(first, last), range);
}

void Extents::remove(ByteRange range) {
  if (range.begin >= range.end) return;
  std::vector<ByteRange> kept;
  for (const ByteRange& known : ranges_) {
    const ByteRange left{known.begin, std::min(known.end, range.begin)};
    const ByteRange right{std::max(known.begin, range.end), known.end};
    if (left.begin < left.end) kept.push_back(left);
    if (right.begin < right.end && right != left) kept.push_back(right);
  }
  ranges_ = std::move(kept);
}

std::uint64_t Extents::total() const noexcept {
  std::uint64_t sum = 0;
  for (const ByteRange& range : ranges_) sum += range.size();
  return sum;
}

std::uint64_t Extents::prefix() const noexcept {
  return !ranges_.empty() && ranges_.front().begin == 0 ? ranges_.front().end : 0;
}

Extents Extents::gaps(std::uint64_t size) const {
  Extents rest;
  rest.add({0, size});
  for (const ByteRange& range : ranges_) rest.remove(range);
  return rest;
}

}  // namespace fastslm
