#include "fetch/plan.hpp"

#include <algorithm>

namespace fastslm {
namespace {

// In pieces: a run is long enough that its request costs little, short enough that the hash stays close.
constexpr std::uint64_t kShortestRun = 4;
constexpr std::uint64_t kLongestRun = 64;
// A tail shorter than this is not worth another request.
constexpr std::uint64_t kShortestTail = 2;
// Nor is one that would be there before another connection has got going.
constexpr double kWorthSeconds = 2;

std::uint64_t bytes_left(const Run& run) { return run.end - run.position; }

// At the rate so far; a run that brought nothing yet is given the time to start, then counts as stuck.
double seconds_left(const Run& run, double now_s) {
  const double elapsed = now_s - run.started_s;
  const auto brought = static_cast<double>(run.position - run.begin);
  if (brought == 0) return elapsed > kWorthSeconds ? std::numeric_limits<double>::infinity() : 0;
  return static_cast<double>(bytes_left(run)) * elapsed / brought;
}

}  // namespace

RangePlan::RangePlan(std::uint64_t size, const Extents& done, std::uint64_t piece, unsigned connections)
    : size_(size), piece_(piece), connections_(connections) {
  if (size == kUnknownSize) {
    stream_ = stream_waiting_ = true;
  } else {
    free_ = done.gaps(size);
  }
}

std::shared_ptr<Run> RangePlan::take(double now_s) {
  if (stream_waiting_) {
    stream_waiting_ = false;
    auto run = start({0, size_}, now_s);
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
  return start(range, now_s);
}

// Long runs first and shorter ones towards the end, so that all connections finish together.
std::uint64_t RangePlan::run_length() const {
  if (connections_ == 1) return size_;
  const std::uint64_t share = free_.total() / (2 * std::uint64_t{connections_});
  return std::clamp(share, kShortestRun * piece_, kLongestRun * piece_);
}

std::shared_ptr<Run> RangePlan::start(ByteRange range, double now_s) {
  Run run;
  run.begin = run.position = range.begin;
  run.end = range.end;
  run.started_s = now_s;
  return runs_.emplace_back(std::make_shared<Run>(run));
}

std::shared_ptr<Run> RangePlan::split(double now_s) {
  if (stream_) return nullptr;
  std::shared_ptr<Run> slowest;
  double longest_s = kWorthSeconds;
  for (const auto& run : runs_) {
    const double left_s = bytes_left(*run) > 2 * kShortestTail * piece_ ? seconds_left(*run, now_s) : 0;
    if (left_s <= longest_s) continue;
    longest_s = left_s;
    slowest = run;
  }
  if (!slowest) return nullptr;
  const std::uint64_t middle = aligned_down(slowest->position + bytes_left(*slowest) / 2);
  const ByteRange tail{middle, slowest->end};
  slowest->end = middle;
  return start(tail, now_s);
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
