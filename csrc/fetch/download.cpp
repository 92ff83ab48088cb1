// A download's threads: a director that starts the workers, waits for them and closes the files.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include <fastslm/download.hpp>
#include <fastslm/stop.hpp>

#include "base/clock.hpp"
#include "base/threads.hpp"
#include "fetch/board.hpp"
#include "fetch/policy/controller.hpp"
#include "fetch/policy/pace.hpp"
#include "fetch/worker.hpp"

namespace fastslm {
namespace {

constexpr double kTickS = 0.025;
constexpr double kLongestWaitS = 1e6;  // more would overflow the clock

[[noreturn]] void refuse(const std::string& name, const std::string& value, const std::string& expected) {
  throw Error(ErrorCode::invalid_argument, "`" + name + "` is `" + value + "`, expected " + expected,
              {.name = name});
}

void check(const DownloadOptions& options) {
  if (options.connections < 1 || options.connections > 256) {
    refuse("connections", std::to_string(options.connections), "1 to 256");
  }
  if (options.piece_bytes < 1 || options.piece_bytes > (1U << 30U)) {
    refuse("piece_bytes", std::to_string(options.piece_bytes), "1 to 1073741824");
  }
  if (options.max_attempts < 1) refuse("max_attempts", "0", "at least 1");
  const bool times_good =
      options.backoff_s >= 0 && options.max_backoff_s >= 0 && options.journal_interval_s >= 0;
  if (!times_good) refuse("backoff_s", std::to_string(options.backoff_s), "times of at least 0");
}

void check_hash(const FileRequest& file) {
  const std::string& hash = file.expected_hash;
  if (hash.empty()) return;
  if (!file.algorithm) refuse("hash_algorithm", "none", "`sha256` or `git-sha1` with an expected hash");
  const std::size_t digits = *file.algorithm == HashAlgorithm::sha256 ? 64 : 40;
  const bool hex = hash.find_first_not_of("0123456789abcdef") == hash.npos;
  if (!hex || hash.size() != digits) {
    refuse("expected_hash", hash, std::to_string(digits) + " lower-case hex digits");
  }
}

void check_headers(const std::vector<std::string>& headers) {
  for (const std::string& line : headers) {
    if (line.find_first_of("\r\n") != line.npos) refuse("headers", "(a value)", "no line break in a header");
  }
}

void check(const FileRequest& file) {
  if (file.partial_path.empty()) refuse("partial_path", "", "a path");
  if (file.journal_path.empty()) refuse("journal_path", "", "a path");
  if (file.size && *file.size > (std::uint64_t{1} << 60U)) {
    refuse("size_bytes", std::to_string(*file.size), "at most 2^60");
  }
  check_hash(file);
  if (file.first_limit && (!file.size || file.expected_hash.empty() || file.unpack)) {
    refuse("first_limit", std::to_string(*file.first_limit), "a file of known size and hash, not unpacked");
  }
  check_headers(file.headers);
  for (const Address& mirror : file.mirrors) check_headers(mirror.headers);
  if (!file.mirrors.empty() && file.expected_hash.empty()) {
    refuse("expected_hash", "", "a hash where there are mirrors, which nothing else can prove right");
  }
}

void check(const std::vector<FileRequest>& files) {
  std::set<std::string> paths;
  for (const FileRequest& file : files) {
    check(file);
    for (const std::string& path : {file.partial_path, file.journal_path}) {
      if (!paths.insert(path).second) refuse("files", path, "each path once");
    }
  }
}

// More connections than pieces would have nothing to do.
unsigned useful_connections(const std::vector<FileRequest>& files, const DownloadOptions& options) {
  std::uint64_t pieces = 0;
  for (const FileRequest& file : files) pieces += file.size.value_or(0) / options.piece_bytes + 1;
  return static_cast<unsigned>(std::min<std::uint64_t>(options.connections, pieces));
}

}  // namespace

class Download::Impl {
 public:
  Impl(std::vector<FileRequest> files, const DownloadOptions& options, std::shared_ptr<Transport> transport)
      : options_(options),
        connections_(useful_connections(files, options)),
        transport_(std::move(transport)),
        shared_{{options.max_attempts, options.backoff_s, options.max_backoff_s},
                stop_,
                Traffic(options.limit_rate)},
        controller_(connections_, options.adaptive),
        board_(tasks_, stop_) {
    for (FileRequest& file : files) {
      tasks_.push_back(
          std::make_unique<FileTask>(std::move(file), options_, stop_, [this] { board_.ring(); }));
    }
    director_ = std::thread([this] { direct(); });
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  ~Impl() {
    cancel();
    director_.join();
  }

  bool wait(double timeout_s) {
    std::unique_lock lock(mutex_);
    const std::chrono::duration<double> timeout(timeout_s > 0 ? std::min(timeout_s, kLongestWaitS) : 0);
    return finished_changed_.wait_for(lock, timeout, [this] { return finished_; });
  }

  Progress progress() const {
    Progress result;
    {
      const std::lock_guard lock(mutex_);
      result.finished = finished_;
    }
    for (const auto& task : tasks_) result.files.push_back(task->progress());
    result.wire_bytes = shared_.traffic.wire_bytes;
    result.connections = shared_.traffic.transfers;
    result.level = board_.allowed();
    return result;
  }

  void renew(std::size_t file, const Address& address) {
    if (file >= tasks_.size()) refuse("file", std::to_string(file), "the index of a file");
    check_headers(address.headers);
    tasks_[file]->renew(address);
  }

  void give_back(std::size_t file, const std::vector<std::pair<std::uint64_t, std::uint64_t>>& ranges,
                 std::uint64_t limit) {
    if (file >= tasks_.size()) refuse("file", std::to_string(file), "the index of a file");
    for (const auto& [begin, end] : ranges) tasks_[file]->give_back({begin, end});
    tasks_[file]->hold_to(limit);
    board_.ring();
  }

  void cancel() {
    stop_.request();
    board_.ring();
  }

 private:
  void direct() noexcept {
    try {
      run_workers();
    } catch (const std::exception& error) {
      for (const auto& task : tasks_) task->fail(Error(ErrorCode::internal, error.what()));
    }
    for (const auto& task : tasks_) task->close();
    const std::lock_guard lock(mutex_);
    finished_ = true;
    finished_changed_.notify_all();
  }

  void run_workers() {
    std::vector<std::unique_ptr<Worker>> workers;
    ThreadGroup threads;
    do {
      steer();
      while (workers.size() < std::max(1U, board_.allowed())) {
        const auto number = static_cast<unsigned>(workers.size());
        Worker& worker = *workers.emplace_back(std::make_unique<Worker>(transport_->connect(), shared_));
        threads.start([this, number, &worker] { work(number, worker); });
      }
    } while (!board_.wait_finished(kTickS));
  }

  void work(unsigned number, Worker& worker) noexcept {
    while (const auto job =
               board_.next(number, {.rate = worker.rate(), .latency_s = shared_.traffic.latency_s})) {
      worker.fetch(*job->task, job->run);
      board_.ring();
    }
  }

  // The level for the next moment, and a look at who crawls.
  void steer() {
    const double now_s = steady_s();
    if (std::exchange(pauses_seen_, shared_.hosts.pauses()) != shared_.hosts.pauses())
      controller_.slow_down();
    controller_.observe(
        {now_s, shared_.traffic.wire_bytes, shared_.traffic.transfers, shared_.traffic.latency_s});
    board_.allow(controller_.level());
    std::vector<double> rates;
    for (const auto& task : tasks_) task->observe(now_s, rates);
    const double typical = median(rates);
    board_.expect_rate(typical);
    for (const auto& task : tasks_) task->replace_slow(now_s, typical, rates.size());
  }

  const DownloadOptions options_;
  const unsigned connections_;
  const std::shared_ptr<Transport> transport_;
  StopFlag stop_;
  Shared shared_;
  Controller controller_;
  unsigned pauses_seen_ = 0;
  Tasks tasks_;
  Board board_;
  mutable std::mutex mutex_;
  std::condition_variable finished_changed_;
  bool finished_ = false;
  std::thread director_;
};

Download::Download(std::vector<FileRequest> files, const DownloadOptions& options,
                   std::shared_ptr<Transport> transport) {
  check(options);
  check(files);
  impl_ = std::make_unique<Impl>(std::move(files), options, std::move(transport));
}

Download::~Download() = default;

bool Download::wait(double timeout_s) { return impl_->wait(timeout_s); }

Progress Download::progress() const { return impl_->progress(); }

void Download::renew(std::size_t file, const Address& address) { impl_->renew(file, address); }

void Download::give_back(std::size_t file, const std::vector<std::pair<std::uint64_t, std::uint64_t>>& ranges,
                         std::uint64_t limit) {
  impl_->give_back(file, ranges, limit);
}

void Download::cancel() { impl_->cancel(); }

}  // namespace fastslm
