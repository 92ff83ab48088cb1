// Gives idle workers something to do: free bytes of a file under way, then the next file, then the tail of
// the slowest run, then the rest of a crawling one once more. Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <fastslm/stop.hpp>

#include "fetch/task.hpp"

namespace fastslm {

using Tasks = std::vector<std::unique_ptr<FileTask>>;

struct Job {
  FileTask* task;
  std::shared_ptr<Run> run;
};

class Board {
 public:
  Board(const Tasks& tasks, const StopFlag& stop) : tasks_(tasks), stop_(stop) {}

  // Blocks until there is work for this worker; nothing when every file is over. Workers whose number is not
  // below `offer.connections` as `allow` set it last wait their turn.
  std::optional<Job> next(unsigned worker, Offer offer);

  void allow(unsigned connections);
  unsigned allowed() const noexcept { return allowed_; }

  // The rate that a connection may be expected to reach, for workers that do not know their own.
  void expect_rate(double rate) { typical_rate_ = rate; }

  void ring() { changed_.notify_all(); }

  // True when every file is over, after at most `seconds`.
  bool wait_finished(double seconds);

 private:
  using Pick = std::shared_ptr<Run> (FileTask::*)(const Offer&);

  std::optional<Job> first(Pick pick, const Offer& offer) const;
  FileTask* first_waiting();
  void start(FileTask& task, std::unique_lock<std::mutex>& lock);
  bool is_finished();

  const Tasks& tasks_;
  const StopFlag& stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<unsigned> allowed_{1};
  std::atomic<double> typical_rate_{0};
  std::size_t next_waiting_ = 0;
  unsigned starting_ = 0;
  std::vector<FileTask*> started_;  // and not yet over
};

}  // namespace fastslm
