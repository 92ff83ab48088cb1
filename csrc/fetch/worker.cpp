#include "fetch/worker.hpp"

#include <algorithm>
#include <exception>

#include "base/clock.hpp"
#include "net/redirect.hpp"
#include "net/url.hpp"

namespace fastslm {
namespace {

constexpr double kGlanceS = 0.1;
constexpr double kTellingS = 0.2;  // a shorter run says little about the rate

class CountedTransfer {
 public:
  explicit CountedTransfer(Traffic& traffic) : traffic_(traffic) { ++traffic_.transfers; }
  CountedTransfer(const CountedTransfer&) = delete;
  CountedTransfer& operator=(const CountedTransfer&) = delete;
  ~CountedTransfer() { --traffic_.transfers; }

 private:
  Traffic& traffic_;
};

// The source is taken by one transfer as long as this lives.
class Aimed {
 public:
  Aimed(FileTask& task, Run& run) : task_(task), target_(task.aim(run)) {}
  Aimed(const Aimed&) = delete;
  Aimed& operator=(const Aimed&) = delete;
  ~Aimed() {
    if (target_) task_.leave(*target_);
  }
  explicit operator bool() const { return target_.has_value(); }
  const Target& operator*() const { return *target_; }

 private:
  FileTask& task_;
  std::optional<Target> target_;
};

bool is_host_wide(const Error& error) {
  return error.code() == ErrorCode::server_busy &&
         (error.facts().status == 429 || error.facts().status == 503);
}

}  // namespace

Worker::Worker(std::unique_ptr<Connection> connection, Shared& shared)
    : connection_(std::move(connection)), shared_(shared) {}

void Worker::fetch(FileTask& task, const std::shared_ptr<Run>& run) noexcept {
  const double started = steady_s();
  try {
    fetch_all(task, *run);
  } catch (const Error& error) {
    task.fail(error);
  } catch (const std::exception& error) {
    task.fail(Error(ErrorCode::internal, error.what()));
  }
  const double elapsed = steady_s() - started;
  if (elapsed >= kTellingS) rate_ = static_cast<double>(task.fresh_bytes(*run)) / elapsed;
  task.finish(run);
}

void Worker::fetch_all(FileTask& task, Run& run) {
  Attempts attempts;
  while (task.wants(run)) {
    const Aimed target(task, run);
    const double wait_s = target ? shared_.hosts.wait_s(origin_of((*target).location), steady_s()) : kGlanceS;
    if (wait_s > 0) {
      pause(task, run, std::min(wait_s, kGlanceS));
      continue;
    }
    const std::uint64_t before = task.fresh_bytes(run);
    try {
      attempt(task, run, *target);
    } catch (const Error& error) {
      const unsigned failures = attempts.failed(task.fresh_bytes(run) > before);
      if (!recover(task, run, *target, error, failures)) attempts = {};
    }
  }
}

void Worker::attempt(FileTask& task, Run& run, const Target& target) {
  const CountedTransfer counted(shared_.traffic);
  RunReceiver receiver(task, run, shared_.traffic, shared_.stop);
  const HttpRequest request{target.address.url, target.address.headers, receiver.range_header()};
  Followed followed{};
  try {
    followed = get_following(*connection_, request, target.location, receiver);
  } catch (const Error& error) {
    if (is_retryable(error.code())) receiver.flush();
    throw;
  }
  receiver.flush();
  task.set_location(target, followed.url);
  if (followed.ended == Ended::complete) task.end_of_body(run);
}

// Returns when another attempt is due, false when it is at something new; throws `error` when it is final.
bool Worker::recover(FileTask& task, const Run& run, const Target& target, const Error& error,
                     unsigned failures) {
  const RetryPolicy& policy = shared_.policy;
  const bool expired = error.code() == ErrorCode::link_expired;
  const bool stale = expired && target.location != target.address.url;
  if (stale) task.set_location(target, target.address.url);
  if (stale && failures < policy.max_attempts) return true;
  if (expired && task.renews(target, error)) return false;
  const double asked_s = error.facts().retry_after_s;
  const bool hopeless = failures >= policy.max_attempts || asks_too_much(policy, asked_s);
  if (hopeless || !is_retryable(error.code())) {
    if (task.does_without(target, error)) return false;
    throw error;
  }
  const double random = std::uniform_real_distribution<>()(random_);
  const double wait_s = backoff_seconds(policy, failures, random, asked_s);
  if (is_host_wide(error)) shared_.hosts.pause(origin_of(target.location), steady_s() + wait_s);
  pause(task, run, wait_s);
  return true;
}

void Worker::pause(const FileTask& task, const Run& run, double seconds) const {
  for (double left = seconds; left > 0 && task.wants(run); left -= kGlanceS) {
    if (!shared_.stop.sleep(std::min(left, kGlanceS))) return;
  }
}

}  // namespace fastslm
