#include "fetch/plan.hpp"

#include <algorithm>

namespace fastslm {
namespace {

// In pieces: a run is long enough that its request costs little, short enough that the hash stays close.
constexpr std::uint64_t kShortestRun = 8;
constexpr std::uint64_t kLongestRun = 64;
// A tail shorter than this is not worth another request.
constexpr std::uint64_t kShortestTail = 2;

}  // namespace

RangePlan::RangePlan(std::uint64_t size, const Extents& done, std::uint64_t piece, unsigned connections)
    : size_(size), piece_(piece), connections_(connections) {
  if (size == kUnknownSize) {
    stream_ = stream_waiting_ = true;
  } else {
    free_ = done.gaps(size);
  }
}

std::shared_ptr<Run> RangePlan::take() {
  if (stream_waiting_) {
    stream_waiting_ = false;
    auto run = start({0, size_});
    run->stream = true;
    return run;
  }
  if (free_.ranges().empty()) return nullptr;
  const ByteRange gap = free_.ranges().front();
  const std::uint64_t length = run_length();
  const std::uint64_t cut = aligned_down(gap.begin + std::min(length, gap.size()));
  const bool all = gap.size() <= length || cut <= gap.begin;
  const ByteRange range{gap.begin, all ? gap.end : cut};
  free_.remove(range);
  return start(range);
}

// Long runs first and shorter ones towards the end, so that all connections finish together.
std::uint64_t RangePlan::run_length() const {
  if (connections_ == 1) return size_;
  const std::uint64_t share = free_.total() / (2 * std::uint64_t{connections_});
  return std::clamp(share, kShortestRun * piece_, kLongestRun * piece_);
}

std::shared_ptr<Run> RangePlan::start(ByteRange range) {
  return runs_.emplace_back(std::make_shared<Run>(Run{.position = range.begin, .end = range.end}));
}

std::shared_ptr<Run> RangePlan::split() {
  if (stream_ || runs_.empty()) return nullptr;
  const auto left = [](const std::shared_ptr<Run>& run) { return run->end - run->position; };
  const auto largest = *std::max_element(runs_.begin(), runs_.end(),
                                         [&](const auto& a, const auto& b) { return left(a) < left(b); });
  if (left(largest) <= 2 * kShortestTail * piece_) return nullptr;
  const std::uint64_t middle = aligned_down(largest->position + left(largest) / 2);
  const ByteRange tail{middle, largest->end};
  largest->end = middle;
  return start(tail);
}

std::uint64_t RangePlan::claim(Run& run, std::uint64_t wanted) {
  if (run.dropped) return 0;
  const std::uint64_t granted = std::min(wanted, run.end - run.position);
  run.position += granted;
  return granted;
}

void RangePlan::finish(const std::shared_ptr<Run>& run) {
  if (std::erase(runs_, run) == 0) return;
  if (run->stream) {
    stream_waiting_ = run->position < run->end && size_ != kUnknownSize;
  } else {
    free_.add({run->position, run->end});
  }
}

void RangePlan::become_stream(Run* keep) {
  stream_ = true;
  free_.clear();
  for (const auto& run : runs_) {
    if (keep == nullptr && run->whole) keep = run.get();
  }
  for (const auto& run : runs_) run->dropped = run.get() != keep;
  std::erase_if(runs_, [](const auto& run) { return run->dropped; });
  stream_waiting_ = runs_.empty();
  for (const auto& run : runs_) {
    run->end = size_;
    run->stream = true;
  }
}

void RangePlan::drop_all() {
  for (const auto& run : runs_) run->dropped = true;
  runs_.clear();
  free_.clear();
  stream_waiting_ = false;
}

}  // namespace fastslm
