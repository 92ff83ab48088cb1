// A download's threads: a director that starts the workers, waits for them and closes the files.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include <fastslm/download.hpp>
#include <fastslm/stop.hpp>

#include "base/threads.hpp"
#include "fetch/task.hpp"
#include "fetch/worker.hpp"

namespace fastslm {
namespace {

using Tasks = std::vector<std::unique_ptr<FileTask>>;

constexpr std::chrono::milliseconds kGlance{50};

constexpr double kLongestWaitS = 1e6;  // more would overflow the clock

struct Job {
  FileTask* task;
  std::shared_ptr<Run> run;
};

// Gives idle workers something to do: free bytes of a file under way, then the next file, then the tail of
// the longest run.
class Board {
 public:
  Board(const Tasks& tasks, const StopFlag& stop) : tasks_(tasks), stop_(stop) {}

  // Blocks until there is work; nothing when no file needs a connection any more.
  std::optional<Job> next() {
    std::unique_lock lock(mutex_);
    while (!stop_.requested()) {
      std::erase_if(started_, [](const FileTask* task) { return !task->is_transferring(); });
      if (auto job = first(&FileTask::take)) return job;
      if (FileTask* const task = first_waiting()) {
        start(*task, lock);
      } else if (auto tail = first(&FileTask::split)) {
        return tail;
      } else if (started_.empty() && starting_ == 0) {
        return std::nullopt;
      } else {
        changed_.wait_for(lock, kGlance);
      }
    }
    return std::nullopt;
  }

  void job_done() { changed_.notify_all(); }

 private:
  std::optional<Job> first(std::shared_ptr<Run> (FileTask::*pick)()) const {
    for (FileTask* const task : started_) {
      if (auto run = (task->*pick)()) return Job{task, std::move(run)};
    }
    return std::nullopt;
  }

  FileTask* first_waiting() {
    return next_waiting_ < tasks_.size() ? tasks_[next_waiting_++].get() : nullptr;
  }

  // Opening a file may take long; the others go on meanwhile.
  void start(FileTask& task, std::unique_lock<std::mutex>& lock) {
    ++starting_;
    lock.unlock();
    task.start();
    lock.lock();
    --starting_;
    started_.push_back(&task);
    changed_.notify_all();
  }

  const Tasks& tasks_;
  const StopFlag& stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t next_waiting_ = 0;
  unsigned starting_ = 0;
  std::vector<FileTask*> started_;  // and not yet without work for a connection
};

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

void check(const FileRequest& file) {
  if (file.partial_path.empty()) refuse("partial_path", "", "a path");
  if (file.journal_path.empty()) refuse("journal_path", "", "a path");
  if (file.size && *file.size > (std::uint64_t{1} << 60U)) {
    refuse("size_bytes", std::to_string(*file.size), "at most 2^60");
  }
  check_hash(file);
  for (const std::string& line : file.headers) {
    if (line.find_first_of("\r\n") != line.npos) refuse("headers", "(a value)", "no line break in a header");
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
        transport_(std::move(transport)) {
    for (FileRequest& file : files)
      tasks_.push_back(std::make_unique<FileTask>(std::move(file), options_, stop_));
    director_ = std::thread([this] { direct(); });
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  ~Impl() {
    stop_.request();
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
    result.wire_bytes = traffic_.wire_bytes;
    result.connections = traffic_.transfers;
    return result;
  }

  void cancel() { stop_.request(); }

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
    const RetryPolicy policy{options_.max_attempts, options_.backoff_s, options_.max_backoff_s};
    std::vector<std::unique_ptr<Worker>> workers;
    for (unsigned i = 0; i < connections_; ++i) {
      workers.push_back(std::make_unique<Worker>(transport_->connect(), policy, stop_, traffic_));
    }
    Board board(tasks_, stop_);
    ThreadGroup threads;
    for (const auto& worker : workers) {
      threads.start([&] { work(*worker, board); });
    }
  }

  static void work(Worker& worker, Board& board) noexcept {
    while (const auto job = board.next()) {
      worker.fetch(*job->task, job->run);
      board.job_done();
    }
  }

  const DownloadOptions options_;
  const unsigned connections_;
  const std::shared_ptr<Transport> transport_;
  StopFlag stop_;
  Traffic traffic_;
  Tasks tasks_;
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

void Download::cancel() { impl_->cancel(); }

}  // namespace fastslm
