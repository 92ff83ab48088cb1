#include "fetch/worker.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <vector>

#include "net/redirect.hpp"
#include "net/response.hpp"
#include "net/url.hpp"

namespace fastslm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kLeastBlock = 16U << 10U;  // libcurl hands out so much at a time
constexpr std::uint64_t kMostBlock = 64U << 10U;
constexpr std::uint64_t kBlocksPerFile = 1000;
constexpr std::chrono::milliseconds kLongestHold{100};
constexpr double kGlanceS = 0.1;

// What a killed process holds back is lost, so small files are written in small blocks.
std::size_t block_bytes(std::optional<std::uint64_t> file_size) {
  const std::uint64_t wanted = file_size.value_or(0) / kBlocksPerFile;
  return static_cast<std::size_t>(std::clamp(wanted, kLeastBlock, kMostBlock));
}

// Checks one response and writes its body in large blocks.
class RunReceiver : public Receiver {
 public:
  RunReceiver(FileTask& task, Run& run, Traffic& traffic)
      : task_(task),
        run_(run),
        traffic_(traffic),
        asked_(task.next_range(run)),
        block_(block_bytes(task.request().size)) {
    buffer_.reserve(block_);
  }

  std::string range_header() const {
    if (!asked_) return {};
    return "bytes=" + std::to_string(asked_->begin) + "-" + std::to_string(asked_->end - 1);
  }

  bool on_head(const ResponseHead& head) override {
    const auto size = task_.progress().size;
    const Body body = check_head(head, {task_.request().url, asked_, size});
    announced_ = body == Body::part ? asked_->size() : size;
    return body == Body::part || !asked_ || task_.accept_whole(run_);
  }

  bool on_body(std::span<const std::byte> data) override {
    traffic_.wire_bytes += data.size();
    received_ += data.size();
    if (announced_ && received_ > *announced_) refuse_surplus();
    while (!data.empty()) {
      if (buffer_.size() == block_ && !flush()) return false;
      const std::size_t step = std::min(data.size(), block_ - buffer_.size());
      buffer_.insert(buffer_.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(step));
      data = data.subspan(step);
    }
    return !is_due() || flush();
  }

  bool wanted() override { return (!is_due() || flush()) && task_.wants(run_); }

  // False when the run takes no more.
  bool flush() {
    flushed_at_ = Clock::now();
    if (buffer_.empty()) return true;
    const bool more = task_.write(run_, buffer_);
    buffer_.clear();
    return more;
  }

 private:
  // The last bytes are held until the server has ended the body, so that a surplus shows before the file is
  // whole.
  bool is_whole() const { return announced_ && received_ == *announced_; }

  bool is_due() const { return !is_whole() && Clock::now() - flushed_at_ >= kLongestHold; }

  [[noreturn]] void refuse_surplus() {
    buffer_.clear();
    const std::string url = redacted(task_.request().url);
    throw Error(
        asked_ ? ErrorCode::range_mismatch : ErrorCode::size_mismatch,
        "`" + url + "` sent more than the " + std::to_string(*announced_) + " bytes that were expected",
        {.url = url,
         .expected = std::to_string(*announced_),
         .found = std::to_string(received_),
         .name = url});
  }

  FileTask& task_;
  Run& run_;
  Traffic& traffic_;
  std::optional<ByteRange> asked_;
  std::size_t block_;
  std::optional<std::uint64_t> announced_;
  std::uint64_t received_ = 0;
  std::vector<std::byte> buffer_;
  Clock::time_point flushed_at_ = Clock::now();
};

class CountedTransfer {
 public:
  explicit CountedTransfer(Traffic& traffic) : traffic_(traffic) { ++traffic_.transfers; }
  CountedTransfer(const CountedTransfer&) = delete;
  CountedTransfer& operator=(const CountedTransfer&) = delete;
  ~CountedTransfer() { --traffic_.transfers; }

 private:
  Traffic& traffic_;
};

}  // namespace

Worker::Worker(std::unique_ptr<Connection> connection, const RetryPolicy& policy, const StopFlag& stop,
               Traffic& traffic)
    : connection_(std::move(connection)), policy_(policy), stop_(stop), traffic_(traffic) {}

void Worker::fetch(FileTask& task, const std::shared_ptr<Run>& run) noexcept {
  try {
    fetch_all(task, *run);
  } catch (const Error& error) {
    task.fail(error);
  } catch (const std::exception& error) {
    task.fail(Error(ErrorCode::internal, error.what()));
  }
  task.finish(run);
}

void Worker::fetch_all(FileTask& task, Run& run) {
  Attempts attempts;
  while (task.wants(run)) {
    const std::uint64_t before = task.fresh_bytes(run);
    try {
      attempt(task, run);
    } catch (const Error& error) {
      recover(task, run, error, attempts.failed(task.fresh_bytes(run) > before));
    }
  }
}

void Worker::attempt(FileTask& task, Run& run) {
  const CountedTransfer counted(traffic_);
  RunReceiver receiver(task, run, traffic_);
  const HttpRequest request{task.request().url, task.request().headers, receiver.range_header()};
  Followed followed{};
  try {
    followed = get_following(*connection_, request, task.location(), receiver);
  } catch (const Error& error) {
    if (is_retryable(error.code())) receiver.flush();
    throw;
  }
  receiver.flush();
  task.set_location(followed.url);
  if (followed.ended == Ended::complete) task.end_of_body(run);
}

// Returns when another attempt is due, throws `error` when it is final.
void Worker::recover(FileTask& task, const Run& run, const Error& error, unsigned failures) {
  const bool stale = error.code() == ErrorCode::link_expired && task.location() != task.request().url;
  if (stale) task.set_location(task.request().url);
  const double asked_s = error.facts().retry_after_s;
  const bool hopeless = failures >= policy_.max_attempts || asks_too_much(policy_, asked_s);
  if (hopeless || !(stale || is_retryable(error.code()))) throw error;
  if (stale) return;
  const double random = std::uniform_real_distribution<>()(random_);
  pause(task, run, backoff_seconds(policy_, failures, random, asked_s));
}

void Worker::pause(const FileTask& task, const Run& run, double seconds) const {
  for (double left = seconds; left > 0 && task.wants(run); left -= kGlanceS) {
    if (!stop_.sleep(std::min(left, kGlanceS))) return;
  }
}

}  // namespace fastslm
