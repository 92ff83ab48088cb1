// The state of one file of a download; every method may be called from any thread.
//
// Law: a byte counts as done only after it was written, and the file counts as verified only after its hash
// was compared and its contents were synced.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <fastslm/download.hpp>
#include <fastslm/files.hpp>
#include <fastslm/stop.hpp>

#include "base/extents.hpp"
#include "fetch/repair.hpp"
#include "fetch/sources.hpp"
#include "fetch/state/journal.hpp"
#include "fetch/state/plan.hpp"
#include "fetch/state/spans.hpp"
#include "fetch/unpack.hpp"
#include "fetch/verify.hpp"

namespace fastslm {

class FileTask {
 public:
  // `news` is called, without any lock, when there is new work or the file is over.
  FileTask(FileRequest request, const DownloadOptions& options, const StopFlag& stop,
           std::function<void()> news);
  FileTask(const FileTask&) = delete;
  FileTask& operator=(const FileTask&) = delete;
  ~FileTask() { close(); }

  const FileRequest& request() const noexcept { return request_; }

  // Scheduling. `start` opens the file and finds what an earlier process left; an error makes it failed.
  void start() noexcept;
  bool is_unfinished() const;  // not verified, failed or cancelled
  std::shared_ptr<Run> take(const Offer& offer);
  std::shared_ptr<Run> split(const Offer& offer);
  std::shared_ptr<Run> twin(const Offer& offer);

  // Look at the pace of every run, add their rates to `rates`.
  void observe(double now_s, std::vector<double>& rates);

  // Give the bytes of runs that crawl, seen from the median of `runs` rates, to other connections.
  void replace_slow(double now_s, double median_rate, std::size_t runs);

  // One run, as its connection sees it.
  bool wants(const Run& run) const;
  std::optional<Target> aim(Run& run);            // nothing while a fresh address is awaited
  std::optional<ByteRange> next_range(Run& run);  // what to ask for; nothing means the whole file
  bool accept_whole(Run& run);       // a whole file came for a range: true when this run reads it
  bool write(Run& run, Bytes data);  // false when the run takes no more
  void end_of_body(Run& run);        // throws Error(connection_lost) when bytes are missing
  void finish(const std::shared_ptr<Run>& run);

  // What a transfer found out about its source.
  void leave(const Target& target);
  void set_location(const Target& target, const std::string& url);
  bool renews(const Target& target, const Error& error);        // another address will come
  bool does_without(const Target& target, const Error& error);  // there is another source
  std::uint64_t fresh_bytes(const Run& run) const;

  void give_back(ByteRange range);
  void hold_to(std::uint64_t limit);
  void renew(const Address& address);
  void fail(const Error& error) noexcept;
  void close() noexcept;  // no transfer may be under way; what is not over becomes cancelled
  FileProgress progress() const;

 private:
  using Lock = std::unique_lock<std::mutex>;

  struct Block {
    ByteRange range;
    Bytes data;
    std::shared_ptr<File> file;
    bool comparing;
  };

  void open();
  void start_afresh(File& file);
  bool passes() const noexcept { return request_.first_limit.has_value(); }
  void launch_follower();
  bool is_over() const;      // needs the lock
  bool is_complete() const;  // needs the lock
  bool interrupted() const;
  void write_block(Run& run, const Block& block);
  std::uint64_t commit(Run& run, ByteRange range, const std::vector<Span>& spans, bool changed);
  void reset_stream(Lock& lock);
  Notes notes() const;
  bool is_resumable() const;
  void tidy(bool wrong_bytes) noexcept;

  // task_settle.cpp: the hash that follows, and what comes after the last byte.
  void follow() noexcept;
  bool follow_once();
  void hash_to(std::uint64_t frontier);
  void checkpoint();
  Extents to_give() const;  // needs the lock
  bool try_early();
  void settle_when_ready() noexcept;
  void settle();
  bool begin_repair();
  void begin_again();
  void refetch(const Extents& keep);
  void conclude(const std::string& digest);
  void publish();
  [[noreturn]] void refuse_hash(const std::string& digest) const;

  // task_unpack.cpp: the unpacker that follows.
  bool unpacks() const noexcept { return request_.unpack != nullptr; }
  void unpack_along() noexcept;
  bool unpack_once();
  void unpack_to(const File& file, std::uint64_t end, bool proven);

  const FileRequest request_;
  const DownloadOptions options_;
  const StopFlag& stop_;
  const std::function<void()> news_;
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
  Spans spans_;
  Extents synced_;
  std::uint64_t hashed_ = 0;  // and the hash's state there
  std::string hash_state_;
  Extents used_;   // may be given back
  Extents given_;  // is no longer on the disk
  RangePlan plan_;
  Sources sources_;
  Repair repair_;
  std::shared_ptr<File> file_;
  bool doubted_ = false;
  std::string digest_;
  std::optional<Error> error_;

  std::vector<UnpackedFile> unpacked_;

  UnpackFollower unpacker_;  // used by its thread while that runs, then by the one that settles
  std::thread unpack_thread_;
  bool proven_ = false;     // the bytes are the right ones: nothing will be replaced any more
  unsigned rewritten_ = 0;  // how often bytes were replaced, so that unpacking begins again

  std::optional<Follower> follower_;  // used by one thread at a time: the follower's, or the one that settles
  std::thread follower_thread_;
  double sync_due_s_ = 0;  // the follower's alone, as the next two
  std::uint64_t written_out_ = 0;
  std::uint64_t tried_bytes_ = 0;
};

}  // namespace fastslm
