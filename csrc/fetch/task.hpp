// The state of one file of a download; every method may be called from any thread.
//
// Law: a byte counts as done only after it was written, and the file counts as verified only after its hash
// was compared and its contents were synced.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <fastslm/download.hpp>
#include <fastslm/files.hpp>
#include <fastslm/stop.hpp>

#include "base/extents.hpp"
#include "fetch/journal.hpp"
#include "fetch/plan.hpp"
#include "fetch/verify.hpp"

namespace fastslm {

class FileTask {
 public:
  FileTask(FileRequest request, const DownloadOptions& options, const StopFlag& stop);
  FileTask(const FileTask&) = delete;
  FileTask& operator=(const FileTask&) = delete;
  ~FileTask() { close(); }

  const FileRequest& request() const noexcept { return request_; }

  // Scheduling. `start` opens the file and finds what an earlier process left; an error makes it failed.
  void start() noexcept;
  bool is_transferring() const;  // some of its bytes are still to come
  std::shared_ptr<Run> take();
  std::shared_ptr<Run> split();

  // One run, as its connection sees it.
  bool wants(const Run& run) const;
  std::optional<ByteRange> next_range(Run& run);  // what to ask for; nothing means the whole file
  bool accept_whole(Run& run);       // a whole file came for a range: true when this run reads it
  bool write(Run& run, Bytes data);  // false when the run takes no more
  void end_of_body(Run& run);        // throws Error(connection_lost) when bytes are missing
  void finish(const std::shared_ptr<Run>& run);

  // Where redirects led the last time, and the number of bytes a run has brought.
  std::string location() const;
  void set_location(const std::string& url);
  std::uint64_t fresh_bytes(const Run& run) const;

  void fail(const Error& error) noexcept;
  void close() noexcept;  // no transfer may be under way; what is not over becomes cancelled
  FileProgress progress() const;

 private:
  using Lock = std::unique_lock<std::mutex>;

  void open();
  void start_afresh(File& file);
  void launch_follower();
  bool is_over() const;      // needs the lock
  bool is_complete() const;  // needs the lock
  bool interrupted() const;
  void commit(Run& run, ByteRange range);
  void follow() noexcept;
  void settle_when_ready();
  void settle();
  void publish(const std::string& digest);
  void reset_stream(Lock& lock);
  Extents done() const;
  bool is_resumable() const;
  void leave(bool wrong_bytes) noexcept;

  const FileRequest request_;
  const DownloadOptions options_;
  const StopFlag& stop_;
  JournalKeeper journal_;  // its lock is taken before ours

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  FileState state_ = FileState::waiting;
  bool opened_ = false;
  bool settling_ = false;
  unsigned writes_ = 0;  // claimed, not yet committed
  std::uint64_t size_;
  std::uint64_t resumed_ = 0;
  Extents done_;
  RangePlan plan_;
  std::shared_ptr<File> file_;
  std::string location_;
  std::string digest_;
  std::optional<Error> error_;

  std::optional<Follower> follower_;  // used by one thread at a time: the follower's, or the one that settles
  std::thread follower_thread_;
};

}  // namespace fastslm
