// One response on its way into a file: checked, counted, held back to the rate limit, unpacked if the server
// packed it, written in large blocks.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fastslm/stop.hpp>
#include <fastslm/transport.hpp>

#include "base/extents.hpp"
#include "codec/decoder.hpp"
#include "fetch/policy/rate_limit.hpp"
#include "fetch/task.hpp"

namespace fastslm {

// Shared by all workers of a download.
struct Traffic {
  explicit Traffic(std::uint64_t limit_rate) : limit(limit_rate) {}

  std::atomic<std::uint64_t> wire_bytes{0};
  std::atomic<unsigned> transfers{0};
  std::atomic<double> latency_s{0};  // from a request to its answer, smoothed; 0 before the first
  RateLimit limit;

  void note_latency(double seconds) {
    const double known = latency_s;
    latency_s = known == 0 ? seconds : 0.8 * known + 0.2 * seconds;
  }
};

class RunReceiver : public Receiver {
 public:
  RunReceiver(FileTask& task, Run& run, Traffic& traffic, const StopFlag& stop);

  std::string range_header() const;
  bool on_head(const ResponseHead& head) override;
  bool on_body(std::span<const std::byte> data) override;
  bool wanted() override;

  // Write what is held; false when the run takes no more.
  bool flush();

 private:
  using Clock = std::chrono::steady_clock;

  // The last bytes are held until the server has ended the body, so that a surplus shows before the file is
  // whole.
  bool is_whole() const { return announced_ && received_ == *announced_; }
  bool is_due() const;
  bool keep_to_limit(std::size_t bytes);
  [[noreturn]] void refuse_surplus();
  bool take(Bytes data);         // bytes of the file
  bool take_packed(Bytes data);  // bytes of frames that become bytes of the file

  FileTask& task_;
  Run& run_;
  Traffic& traffic_;
  const StopFlag& stop_;
  const std::optional<ByteRange> asked_;
  const std::size_t block_;
  std::optional<std::uint64_t> announced_;
  std::uint64_t received_ = 0;
  std::vector<std::byte> buffer_;
  std::unique_ptr<Decoder> decoder_;  // when the server sends frames
  std::vector<std::byte> unpacked_;
  Clock::time_point started_ = Clock::now();
  Clock::time_point flushed_at_ = started_;
};

}  // namespace fastslm
