// One connection's work: fetch a run, try again where that may help, report what is final to the file's task.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>

#include <fastslm/stop.hpp>
#include <fastslm/transport.hpp>

#include "fetch/retry.hpp"
#include "fetch/task.hpp"

namespace fastslm {

// Counted over all workers of a download.
struct Traffic {
  std::atomic<std::uint64_t> wire_bytes{0};
  std::atomic<unsigned> transfers{0};
};

class Worker {
 public:
  Worker(std::unique_ptr<Connection> connection, const RetryPolicy& policy, const StopFlag& stop,
         Traffic& traffic);

  // Returns when the run is done, given up or no longer wanted; errors are in the task.
  void fetch(FileTask& task, const std::shared_ptr<Run>& run) noexcept;

 private:
  void fetch_all(FileTask& task, Run& run);
  void attempt(FileTask& task, Run& run);
  void recover(FileTask& task, const Run& run, const Error& error, unsigned failures);
  void pause(const FileTask& task, const Run& run, double seconds) const;

  std::unique_ptr<Connection> connection_;
  RetryPolicy policy_;
  const StopFlag& stop_;
  Traffic& traffic_;
  std::mt19937 random_{std::random_device{}()};
};

}  // namespace fastslm
