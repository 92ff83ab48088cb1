#include "fetch/state/spans.hpp"

#include <algorithm>

namespace fastslm {

void Spans::put(const Span& span) {
  auto at = by_begin_.lower_bound(span.range.begin);
  if (at != by_begin_.begin() && std::prev(at)->second.range.end > span.range.begin) --at;
  while (at != by_begin_.end() && at->first < span.range.end) at = by_begin_.erase(at);
  by_begin_.emplace(span.range.begin, span);
}

std::vector<Span> Spans::all() const {
  std::vector<Span> result;
  result.reserve(by_begin_.size());
  for (const auto& [begin, span] : by_begin_) result.push_back(span);
  return result;
}

Extents Spans::extents() const {
  std::vector<ByteRange> joined;
  for (const auto& [begin, span] : by_begin_) {
    if (!joined.empty() && joined.back().end == begin) {
      joined.back().end = span.range.end;
    } else {
      joined.push_back(span.range);
    }
  }
  Extents result;
  for (const ByteRange& range : joined) result.add(range);
  return result;
}

std::vector<Span> SpanSummer::feed(std::uint64_t offset, std::span<const std::byte> data,
                                   std::uint64_t piece_bytes) {
  std::vector<Span> spans;
  while (!data.empty()) {
    if (offset != range_.end || offset % piece_bytes == 0 || range_.size() == 0) {
      range_ = {offset, offset};
      sum_ = {};
    }
    const std::uint64_t border = (offset / piece_bytes + 1) * piece_bytes;
    const std::size_t taken = std::min<std::uint64_t>(data.size(), border - offset);
    sum_.update(data.first(taken));
    range_.end = offset += taken;
    data = data.subspan(taken);
    spans.push_back({range_, sum_.value()});
  }
  return spans;
}

}  // namespace fastslm
