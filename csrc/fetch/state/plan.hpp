// Which bytes of one file are still to fetch, and by whom. Pure; the owner guards it with a mutex.
//
// Low offsets are handed out first, so that the hash can follow. Law: every missing byte belongs to exactly
// one run, or pair of twins, or to the free bytes; it is claimed once.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "base/extents.hpp"
#include "fetch/policy/pace.hpp"
#include "fetch/state/spans.hpp"

namespace fastslm {

constexpr std::uint64_t kUnknownSize = std::numeric_limits<std::uint64_t>::max();

// A contiguous stretch that one connection fetches; others may take over its tail.
struct Run {
  std::uint64_t position = 0;  // of the next byte to arrive
  std::uint64_t end = 0;
  std::uint64_t begin = 0;  // where it started, and when
  double started_s = 0;
  Pace pace{0};
  std::uint64_t claimed_to = 0;  // its twin has claimed what is before this
  std::uint64_t fresh = 0;       // bytes it brought that were missing
  std::size_t source = 0;        // of its last request
  SpanSummer summer{};           // of what it wrote
  bool whole = false;            // its request asked for no range, so its body goes on to the end of the file
  bool stream = false;           // the only run there may be, as the server serves no ranges
  bool dropped = false;          // taken out of the plan: stop as soon as possible
  Run* twin = nullptr;           // fetches the same bytes; who comes first wins
};

// An idle connection that looks for work.
struct Offer {
  double now_s = 0;          // any clock that only goes forward
  double rate = 0;           // bytes per second that it may reach; 0 when nobody knows
  double latency_s = 0;      // until its first byte
  unsigned connections = 1;  // that share the work
};

class RangePlan {
 public:
  // `size` may be kUnknownSize; then there is one stream. With `alone`, only one connection is ever used.
  RangePlan(std::uint64_t size, const Extents& done, std::uint64_t piece, bool alone);

  // Nothing behind this offset is handed out, but to a stream; it is rounded up to the end of a run.
  void hold_to(std::uint64_t limit) noexcept;

  // The lowest free bytes as a new run, or nothing.
  std::shared_ptr<Run> take(const Offer& offer);

  // The tail of the run that would take longest, or nothing when no run is worth splitting: what the cut
  // connection has under way is lost, so little may not be taken, nor from a run that is soon over.
  std::shared_ptr<Run> split(const Offer& offer);

  // The rest of the slowest run once more, where a fresh connection would be there long before it.
  std::shared_ptr<Run> twin(const Offer& offer);

  // The next `arrived` bytes of the run are here: the range of them that it may write, which is empty when
  // its end was moved or its twin was faster.
  ByteRange claim(Run& run, std::uint64_t arrived);

  // The run is over; what neither it nor its twin brought becomes free.
  void finish(const std::shared_ptr<Run>& run);

  // Take a run away from its connection.
  void drop(const std::shared_ptr<Run>& run);

  // The server does not serve ranges: every other run is dropped. `keep`, or else a run that reads a whole
  // body already, becomes the stream; without either the stream is handed out by the next `take`.
  void become_stream(Run* keep);

  void drop_all();

  bool has_runs() const noexcept { return !runs_.empty(); }
  bool has_free() const noexcept { return stream_waiting_ || !free_.ranges().empty(); }
  bool is_stream() const noexcept { return stream_; }
  const std::vector<std::shared_ptr<Run>>& runs() const noexcept { return runs_; }

 private:
  std::shared_ptr<Run> start(ByteRange range, double now_s);
  std::uint64_t run_length(const Offer& offer) const;
  std::uint64_t free_bytes() const;  // that may be handed out
  std::uint64_t aligned_down(std::uint64_t offset) const noexcept { return offset / piece_ * piece_; }

  std::uint64_t size_;
  std::uint64_t piece_;
  bool alone_;
  std::uint64_t limit_ = kUnknownSize;
  Extents free_;
  std::vector<std::shared_ptr<Run>> runs_;
  bool stream_ = false;
  bool stream_waiting_ = false;
};

}  // namespace fastslm
