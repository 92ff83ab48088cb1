#include "fetch/state/plan.hpp"

#include <algorithm>
#include <utility>

namespace fastslm {
namespace {

// In pieces: a run is long enough that its request costs little, short enough that the hash stays close.
constexpr std::uint64_t kShortestRun = 4;
constexpr std::uint64_t kFirstRun = 8;  // of a connection whose rate nobody knows
constexpr std::uint64_t kLongestRun = 256;
constexpr double kRunSeconds = 6;
// A tail shorter than this part of a piece is not worth another request.
constexpr std::uint64_t kTailsPerPiece = 8;
// Nor is one that would be there before another connection has got going: its latency so many times, and
// bounds for it.
constexpr double kWorthLatencies = 2.5;
constexpr double kLeastWorthS = 0.2;
constexpr double kMostWorthS = 2;
// A run that has brought nothing is given so long to start, then it counts as stuck.
constexpr double kStartS = 2;

double worth_s(const Offer& offer) {
  return std::clamp(kWorthLatencies * offer.latency_s, kLeastWorthS, kMostWorthS);
}

// Where the bytes begin that nobody has claimed.
std::uint64_t rest_of(const Run& run) { return std::min(run.end, std::max(run.position, run.claimed_to)); }

std::uint64_t bytes_left(const Run& run) { return run.end - rest_of(run); }

// Bytes per second lately. A young run has not yet shown its rate: it is taken to be as good as the helper.
double rate_of(const Run& run, const Offer& offer) {
  if (run.pace.measured()) return run.pace.rate();
  const double elapsed = std::max(offer.now_s - run.started_s, 1e-3);
  const double so_far = static_cast<double>(run.position - run.begin) / elapsed;
  return elapsed < kStartS ? std::max(so_far, offer.rate) : so_far;
}

double seconds_left(const Run& run, const Offer& offer) {
  const bool starting = run.position == run.begin && offer.now_s - run.started_s <= kStartS;
  return starting ? 0 : seconds_for(bytes_left(run), rate_of(run, offer));
}

// How many of the bytes that are left a helper takes, so that both end together.
std::uint64_t helper_part(std::uint64_t left, double own_rate, const Offer& offer) {
  const auto bytes = static_cast<double>(left);
  if (offer.rate <= 0) return left / 2;
  const double kept = own_rate / (own_rate + offer.rate) * (offer.latency_s * offer.rate + bytes);
  return static_cast<std::uint64_t>(bytes * std::clamp(1 - kept / bytes, 0.1, 0.95));
}

}  // namespace

RangePlan::RangePlan(std::uint64_t size, const Extents& done, std::uint64_t piece, bool alone)
    : size_(size), piece_(piece), alone_(alone) {
  if (size == kUnknownSize) {
    stream_ = stream_waiting_ = true;
  } else {
    free_ = done.gaps(size);
  }
}

void RangePlan::hold_to(std::uint64_t limit) noexcept {
  const std::uint64_t step = kShortestRun * piece_;
  limit_ = limit > kUnknownSize - step ? kUnknownSize : (limit + step - 1) / step * step;
}

std::shared_ptr<Run> RangePlan::take(const Offer& offer) {
  if (stream_waiting_) {
    stream_waiting_ = false;
    auto run = start({0, size_}, offer.now_s);
    run->stream = true;
    return run;
  }
  if (free_.ranges().empty()) return nullptr;
  ByteRange gap = free_.ranges().front();
  if (gap.begin >= limit_) return nullptr;
  gap.end = std::min(gap.end, limit_);
  const std::uint64_t length = run_length(offer);
  const std::uint64_t cut = aligned_down(gap.begin + std::min(length, gap.size()));
  const bool all = gap.size() <= length || cut <= gap.begin;
  const ByteRange range{gap.begin, all ? gap.end : cut};
  free_.remove(range);
  return start(range, offer.now_s);
}

// A share of what is left, so that all connections finish together; less where that would take long.
std::uint64_t RangePlan::run_length(const Offer& offer) const {
  if (alone_) return size_;
  const std::uint64_t share = free_bytes() / std::max(1U, offer.connections);
  const double most = offer.rate > 0 ? std::min(offer.rate * kRunSeconds, 1e15) : 0;
  const std::uint64_t paced = most > 0 ? static_cast<std::uint64_t>(most) : kFirstRun * piece_;
  return std::clamp(std::min(share, paced), kShortestRun * piece_, kLongestRun * piece_);
}

std::uint64_t RangePlan::free_bytes() const {
  std::uint64_t sum = 0;
  for (const ByteRange& range : free_.ranges()) {
    sum += std::min(range.end, limit_) - std::min(range.begin, limit_);
  }
  return sum;
}

std::shared_ptr<Run> RangePlan::start(ByteRange range, double now_s) {
  Run run;
  run.begin = run.position = run.claimed_to = range.begin;
  run.end = range.end;
  run.started_s = now_s;
  run.pace = Pace(now_s);
  return runs_.emplace_back(std::make_shared<Run>(run));
}

std::shared_ptr<Run> RangePlan::split(const Offer& offer) {
  if (stream_) return nullptr;
  const std::uint64_t grain = std::max<std::uint64_t>(1, piece_ / kTailsPerPiece);
  std::shared_ptr<Run> slowest;
  double longest_s = worth_s(offer);
  for (const auto& run : runs_) {
    if (run->twin != nullptr || bytes_left(*run) <= 2 * grain) continue;
    const double left_s = seconds_left(*run, offer);
    if (left_s <= longest_s) continue;
    longest_s = left_s;
    slowest = run;
  }
  if (!slowest) return nullptr;
  const std::uint64_t taken = helper_part(bytes_left(*slowest), rate_of(*slowest, offer), offer);
  const std::uint64_t cut = (slowest->end - taken) / grain * grain;
  const std::uint64_t middle = cut > rest_of(*slowest) ? cut : cut + grain;
  const ByteRange tail{middle, slowest->end};
  slowest->end = middle;
  return start(tail, offer.now_s);
}

std::shared_ptr<Run> RangePlan::twin(const Offer& offer) {
  if (stream_ || offer.rate <= 0) return nullptr;
  std::shared_ptr<Run> slowest;
  double longest_s = worth_s(offer);
  for (const auto& run : runs_) {
    const double left_s = seconds_left(*run, offer);
    const double helped_s = offer.latency_s + seconds_for(bytes_left(*run), offer.rate);
    if (run->twin != nullptr || left_s <= longest_s || left_s <= 2 * helped_s) continue;
    longest_s = left_s;
    slowest = run;
  }
  if (!slowest) return nullptr;
  auto twin = start({rest_of(*slowest), slowest->end}, offer.now_s);
  twin->twin = slowest.get();
  slowest->twin = twin.get();
  return twin;
}

ByteRange RangePlan::claim(Run& run, std::uint64_t arrived) {
  if (run.dropped) return {};
  const std::uint64_t stop = run.position + std::min(arrived, run.end - run.position);
  const ByteRange range{std::min(stop, std::max(run.position, run.claimed_to)), stop};
  run.position = stop;
  if (run.twin != nullptr) run.twin->claimed_to = std::max(run.twin->claimed_to, stop);
  return range;
}

void RangePlan::finish(const std::shared_ptr<Run>& run) {
  if (std::erase(runs_, run) == 0) return;
  if (run->twin != nullptr) {
    Run& other = *std::exchange(run->twin, nullptr);
    other.twin = nullptr;
    other.dropped = run->position == run->end;
    std::erase_if(runs_, [](const auto& left) { return left->dropped; });
    return;
  }
  if (run->stream) {
    stream_waiting_ = run->position < run->end && size_ != kUnknownSize;
  } else {
    free_.add({rest_of(*run), run->end});
  }
}

void RangePlan::drop(const std::shared_ptr<Run>& run) {
  finish(run);
  run->dropped = true;
}

void RangePlan::become_stream(Run* keep) {
  stream_ = true;
  free_.clear();
  for (const auto& run : runs_) {
    run->twin = nullptr;
    run->claimed_to = 0;
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
  for (const auto& run : runs_) {
    run->dropped = true;
    run->twin = nullptr;
  }
  runs_.clear();
  free_.clear();
  stream_waiting_ = false;
}

}  // namespace fastslm
