// One connection's work: fetch a run, try again where that may help, report what is final to the file's task.
#pragma once

#include <cstdint>
#include <memory>
#include <random>

#include <fastslm/stop.hpp>
#include <fastslm/transport.hpp>

#include "fetch/hosts.hpp"
#include "fetch/policy/retry.hpp"
#include "fetch/receive.hpp"
#include "fetch/task.hpp"

namespace fastslm {

// What the workers of one download have in common.
struct Shared {
  RetryPolicy policy;
  const StopFlag& stop;
  Traffic traffic;
  Hosts hosts{};
};

class Worker {
 public:
  Worker(std::unique_ptr<Connection> connection, Shared& shared);

  // Returns when the run is done, given up or no longer wanted; errors are in the task.
  void fetch(FileTask& task, const std::shared_ptr<Run>& run) noexcept;

  // Bytes per second of the last long enough run, 0 before.
  double rate() const noexcept { return rate_; }

 private:
  void fetch_all(FileTask& task, Run& run);
  void attempt(FileTask& task, Run& run, const Target& target);
  bool recover(FileTask& task, const Run& run, const Target& target, const Error& error, unsigned failures);
  void pause(const FileTask& task, const Run& run, double seconds) const;

  std::unique_ptr<Connection> connection_;
  Shared& shared_;
  double rate_ = 0;
  std::mt19937 random_{std::random_device{}()};
};

}  // namespace fastslm
