#include "fetch/board.hpp"

#include <chrono>

#include "base/clock.hpp"

namespace fastslm {
namespace {

constexpr std::chrono::milliseconds kGlance{50};

}  // namespace

std::optional<Job> Board::next(unsigned worker, Offer offer) {
  std::unique_lock lock(mutex_);
  while (!stop_.requested() && !is_finished()) {
    if (worker < allowed_) {
      offer.now_s = steady_s();
      offer.connections = allowed_;
      if (offer.rate == 0) offer.rate = typical_rate_;
      if (auto job = first(&FileTask::take, offer)) return job;
      if (FileTask* const task = first_waiting()) {
        start(*task, lock);
        continue;
      }
      if (auto tail = first(&FileTask::split, offer)) return tail;
      if (auto rest = first(&FileTask::twin, offer)) return rest;
    }
    changed_.wait_for(lock, kGlance);
  }
  changed_.notify_all();
  return std::nullopt;
}

void Board::allow(unsigned connections) {
  if (allowed_.exchange(connections) < connections) changed_.notify_all();
}

bool Board::wait_finished(double seconds) {
  std::unique_lock lock(mutex_);
  const auto over = [this] { return stop_.requested() || is_finished(); };
  return changed_.wait_for(lock, std::chrono::duration<double>(seconds), over);
}

bool Board::is_finished() {
  std::erase_if(started_, [](const FileTask* task) { return !task->is_unfinished(); });
  return started_.empty() && starting_ == 0 && next_waiting_ == tasks_.size();
}

std::optional<Job> Board::first(Pick pick, const Offer& offer) const {
  for (FileTask* const task : started_) {
    if (auto run = (task->*pick)(offer)) return Job{task, std::move(run)};
  }
  return std::nullopt;
}

FileTask* Board::first_waiting() {
  return next_waiting_ < tasks_.size() ? tasks_[next_waiting_++].get() : nullptr;
}

// Opening a file may take long; the others go on meanwhile.
void Board::start(FileTask& task, std::unique_lock<std::mutex>& lock) {
  ++starting_;
  lock.unlock();
  task.start();
  lock.lock();
  --starting_;
  started_.push_back(&task);
  changed_.notify_all();
}

}  // namespace fastslm
