#include "fetch/task.hpp"

#include <chrono>
#include <exception>
#include <utility>

#include "net/url.hpp"

namespace fastslm {
namespace {

constexpr std::uint64_t kSmallFilePieces = 4;  // such files are hashed by the worker that ends them
constexpr std::chrono::milliseconds kGlance{100};

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// What the journal must agree with; empty when nothing would tell other contents apart.
std::string identity_of(const FileRequest& request) {
  if (request.identity.empty() && request.expected_hash.empty()) return {};
  return request.identity + '\n' + request.expected_hash;
}

}  // namespace

FileTask::FileTask(FileRequest request, const DownloadOptions& options, const StopFlag& stop)
    : request_(std::move(request)),
      options_(options),
      stop_(stop),
      journal_(request_.journal_path, identity_of(request_), request_.size, options_.piece_bytes,
               options_.journal_interval_s),
      size_(request_.size.value_or(kUnknownSize)),
      plan_(size_, {}, options_.piece_bytes, options_.connections),
      location_(request_.url) {}

bool FileTask::is_over() const { return state_ != FileState::waiting && state_ != FileState::active; }

bool FileTask::is_complete() const { return opened_ && done_.total() == size_; }

bool FileTask::interrupted() const {
  const std::lock_guard lock(mutex_);
  return stop_.requested() || is_over();
}

void FileTask::start() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != FileState::waiting) return;
    state_ = FileState::active;
  }
  try {
    open();
    launch_follower();
    {
      const std::lock_guard lock(mutex_);
      opened_ = true;
    }
    changed_.notify_all();
    settle_when_ready();
  } catch (const Error& error) {
    fail(error);
  } catch (const std::exception& error) {
    fail(Error(ErrorCode::internal, error.what()));
  }
}

void FileTask::open() {
  Extents done = journal_.load(request_.partial_path);
  auto file = std::make_shared<File>(File::open_for_writing(request_.partial_path));
  if (done.total() == 0) start_afresh(*file);
  const std::lock_guard lock(mutex_);
  file_ = std::move(file);
  resumed_ = done.total();
  done_ = std::move(done);
  plan_ = RangePlan(size_, done_, options_.piece_bytes, options_.connections);
}

// A file that does not fit leaves no trace.
void FileTask::start_afresh(File& file) {
  remove_file(request_.journal_path);
  file.resize(0);
  try {
    if (size_ != kUnknownSize) file.preallocate(size_);
  } catch (const Error&) {
    remove_file(request_.partial_path);
    throw;
  }
}

void FileTask::launch_follower() {
  if (size_ == kUnknownSize) return;
  follower_.emplace(request_.algorithm.value_or(HashAlgorithm::sha256), size_);
  if (size_ > kSmallFilePieces * options_.piece_bytes) follower_thread_ = std::thread([this] { follow(); });
}

bool FileTask::is_transferring() const {
  const std::lock_guard lock(mutex_);
  if (is_over()) return false;
  return !opened_ || plan_.has_runs() || plan_.has_free();
}

std::shared_ptr<Run> FileTask::take() {
  const std::lock_guard lock(mutex_);
  return opened_ && !is_over() ? plan_.take(now_s()) : nullptr;
}

std::shared_ptr<Run> FileTask::split() {
  const std::lock_guard lock(mutex_);
  return opened_ && !is_over() ? plan_.split(now_s()) : nullptr;
}

bool FileTask::wants(const Run& run) const {
  if (stop_.requested()) return false;
  const std::lock_guard lock(mutex_);
  return !is_over() && !run.dropped && run.position < run.end;
}

std::optional<ByteRange> FileTask::next_range(Run& run) {
  Lock lock(mutex_);
  if (run.stream) run.position = 0;
  run.whole = run.position == 0 && run.end == size_;
  if (!run.whole) return ByteRange{run.position, run.end};
  if (size_ == kUnknownSize) reset_stream(lock);
  return std::nullopt;
}

// Without a size nothing of an earlier attempt can be kept.
void FileTask::reset_stream(Lock& lock) {
  done_.clear();
  const auto file = file_;
  lock.unlock();
  if (file) file->resize(0);
}

bool FileTask::accept_whole(Run& run) {
  const std::lock_guard lock(mutex_);
  if (run.dropped) return false;
  const bool from_start = run.position == 0;
  plan_.become_stream(from_start ? &run : nullptr);
  return from_start;
}

bool FileTask::write(Run& run, Bytes data) {
  std::shared_ptr<File> file;
  ByteRange range;
  {
    const std::lock_guard lock(mutex_);
    if (is_over()) return false;
    range.begin = run.position;
    range.end = range.begin + plan_.claim(run, data.size());
    if (range.size() == 0) return false;
    file = file_;
    ++writes_;
  }
  try {
    file->write_at(data.first(static_cast<std::size_t>(range.size())), range.begin);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    --writes_;
    throw;
  }
  commit(run, range);
  journal_.save_if_due([this] { return done(); });
  settle_when_ready();
  return wants(run);
}

void FileTask::commit(Run& run, ByteRange range) {
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t before = done_.total();
    done_.add(range);
    run.fresh += done_.total() - before;
    --writes_;
    if (is_complete()) plan_.drop_all();
  }
  changed_.notify_all();
}

void FileTask::end_of_body(Run& run) {
  {
    const std::lock_guard lock(mutex_);
    if (run.dropped || is_over() || run.position == run.end) return;
    if (size_ != kUnknownSize) {
      const std::string url = redacted(request_.url);
      throw Error(ErrorCode::connection_lost,
                  "`" + url + "` ended at byte " + std::to_string(run.position) + ", expected " +
                      std::to_string(run.end),
                  {.url = url, .offset = run.position});
    }
    size_ = run.position;
    plan_.drop_all();
    follower_.emplace(request_.algorithm.value_or(HashAlgorithm::sha256), size_);
  }
  settle_when_ready();
}

void FileTask::finish(const std::shared_ptr<Run>& run) {
  const std::lock_guard lock(mutex_);
  plan_.finish(run);
}

std::string FileTask::location() const {
  const std::lock_guard lock(mutex_);
  return location_;
}

void FileTask::set_location(const std::string& url) {
  const std::lock_guard lock(mutex_);
  location_ = url;
}

std::uint64_t FileTask::fresh_bytes(const Run& run) const {
  const std::lock_guard lock(mutex_);
  return size_ == kUnknownSize ? 0 : run.fresh;
}

void FileTask::follow() noexcept {
  try {
    for (;;) {
      Lock lock(mutex_);
      const auto has_work = [&] {
        return is_over() || is_complete() || done_.prefix() > follower_->hashed();
      };
      changed_.wait_for(lock, kGlance, has_work);
      if (stop_.requested() || is_over()) return;
      const std::uint64_t frontier = done_.prefix();
      const bool ready = is_complete() && writes_ == 0;
      const auto file = file_;
      lock.unlock();
      while (follower_->advance(*file, frontier)) {
        if (interrupted()) return;
      }
      if (ready) return settle();
      journal_.sync_if_due(*file, [this] { return done(); });
    }
  } catch (const Error& error) {
    fail(error);
  } catch (const std::exception& error) {
    fail(Error(ErrorCode::internal, error.what()));
  }
}

// For files without a follower thread: whoever wrote the last byte does the rest.
void FileTask::settle_when_ready() {
  {
    const std::lock_guard lock(mutex_);
    if (follower_thread_.joinable() || settling_ || is_over() || !is_complete() || writes_ > 0) return;
    settling_ = true;
  }
  settle();
}

void FileTask::settle() {
  Lock lock(mutex_);
  const auto file = file_;
  if (is_over() || stop_.requested()) return;
  lock.unlock();
  while (follower_->advance(*file, size_)) {
    if (interrupted()) return;
  }
  const std::string digest = follower_->finish();
  if (!request_.expected_hash.empty() && digest != request_.expected_hash) {
    const std::string url = redacted(request_.url);
    throw Error(ErrorCode::checksum_mismatch,
                "the hash of `" + url + "` is `" + digest + "`, expected `" + request_.expected_hash + "`",
                {.url = url, .expected = request_.expected_hash, .found = digest, .name = url});
  }
  file->sync();
  publish(digest);
}

void FileTask::publish(const std::string& digest) {
  journal_.close();
  const std::lock_guard lock(mutex_);
  if (is_over()) return;
  state_ = FileState::verified;
  digest_ = digest;
  file_.reset();
}

Extents FileTask::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

void FileTask::fail(const Error& error) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (is_over()) return;
    state_ = FileState::failed;
    error_ = error;
    file_.reset();
    plan_.drop_all();
  }
  changed_.notify_all();
  const bool unproven = error.code() == ErrorCode::size_mismatch && request_.expected_hash.empty();
  leave(unproven || error.code() == ErrorCode::checksum_mismatch);
}

// What a later process can go on from is kept, anything else would only fill the disk.
void FileTask::leave(bool wrong_bytes) noexcept {
  try {
    if (!wrong_bytes && is_resumable()) {
      journal_.save_now([this] { return done(); });
    } else {
      journal_.close();
      remove_file(request_.partial_path);
    }
  } catch (const std::exception&) {
    // The error before is the one to report, and an older journal is still good.
  }
}

bool FileTask::is_resumable() const {
  const std::lock_guard lock(mutex_);
  return !opened_ || (journal_.is_active() && done_.total() > 0);
}

void FileTask::close() noexcept {
  if (follower_thread_.joinable()) follower_thread_.join();
  {
    const std::lock_guard lock(mutex_);
    file_.reset();
    if (is_over()) return;
    state_ = FileState::cancelled;
  }
  leave(false);
}

FileProgress FileTask::progress() const {
  const std::lock_guard lock(mutex_);
  FileProgress result;
  result.state = state_;
  if (size_ != kUnknownSize) result.size = size_;
  result.done_bytes = done_.total();
  result.resumed_bytes = resumed_;
  result.digest = digest_;
  result.error = error_;
  return result;
}

}  // namespace fastslm
