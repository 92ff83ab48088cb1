// Which bytes of one file are still to fetch, and by whom. Pure; the owner guards it with a mutex.
//
// Low offsets are handed out first, so that the hash can follow. Law: every missing byte belongs to exactly
// one run or to the free bytes.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "base/extents.hpp"

namespace fastslm {

constexpr std::uint64_t kUnknownSize = std::numeric_limits<std::uint64_t>::max();

// A contiguous stretch that one connection fetches; others may take over its tail.
struct Run {
  std::uint64_t position = 0;  // next byte that nobody has claimed
  std::uint64_t end = 0;
  std::uint64_t begin = 0;  // where it started, and when
  double started_s = 0;
  std::uint64_t fresh = 0;  // bytes it brought that were missing
  bool whole = false;       // its request asked for no range, so its body goes on to the end of the file
  bool stream = false;      // the only run there may be, as the server serves no ranges
  bool dropped = false;     // taken out of the plan: stop as soon as possible
};

class RangePlan {
 public:
  // `size` may be kUnknownSize; then there is one stream.
  RangePlan(std::uint64_t size, const Extents& done, std::uint64_t piece, unsigned connections);

  // The lowest free bytes as a new run, or nothing. `now_s` is any clock that only goes forward.
  std::shared_ptr<Run> take(double now_s);

  // The tail half of the run that would take longest, or nothing when no run is worth splitting: what the
  // cut connection has under way is lost, so little may not be taken, nor from a run that is soon over.
  std::shared_ptr<Run> split(double now_s);

  // Let `run` write up to `wanted` bytes at its position; fewer when its end was moved.
  std::uint64_t claim(Run& run, std::uint64_t wanted);

  // The run is over; what it left becomes free.
  void finish(const std::shared_ptr<Run>& run);

  // The server does not serve ranges: every other run is dropped. `keep`, or else a run that reads a whole
  // body already, becomes the stream; without either the stream is handed out by the next `take`.
  void become_stream(Run* keep);

  void drop_all();

  bool has_runs() const noexcept { return !runs_.empty(); }
  bool has_free() const noexcept { return stream_waiting_ || !free_.ranges().empty(); }
  bool is_stream() const noexcept { return stream_; }

 private:
  std::shared_ptr<Run> start(ByteRange range, double now_s);
  std::uint64_t run_length() const;
  std::uint64_t aligned_down(std::uint64_t offset) const noexcept { return offset / piece_ * piece_; }

  std::uint64_t size_;
  std::uint64_t piece_;
  unsigned connections_;
  Extents free_;
  std::vector<std::shared_ptr<Run>> runs_;
  bool stream_ = false;
  bool stream_waiting_ = false;
};

}  // namespace fastslm
