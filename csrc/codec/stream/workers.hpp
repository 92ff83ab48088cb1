// Threads that do pieces of work; whoever gave a piece takes its result back when it needs it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>

#include "base/threads.hpp"

namespace fastslm {

class Workers {
 public:
  using Work = std::packaged_task<void()>;

  explicit Workers(unsigned threads) {
    for (unsigned i = 0; i < threads; ++i) threads_.start([this] { run(); });
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() {  // what has not begun is dropped
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      waiting_.clear();
    }
    changed_.notify_all();
  }

  // The future is ready when the work is done. The work keeps its errors to itself.
  std::future<void> give(std::function<void()> what) {
    Work work(std::move(what));
    auto done = work.get_future();
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(work));
    }
    changed_.notify_one();
    return done;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      Work work = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      work();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> waiting_;
  bool stopping_ = false;
  ThreadGroup threads_;  // last: they end before the rest goes
};

}  // namespace fastslm
