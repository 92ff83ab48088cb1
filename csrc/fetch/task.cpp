#include "fetch/task.hpp"

#include <chrono>
#include <exception>
#include <utility>

#include "base/clock.hpp"
#include "net/url.hpp"

namespace fastslm {
namespace {

// What the journal must agree with; empty when nothing would tell other contents apart.
std::string identity_of(const FileRequest& request) {
  if (request.identity.empty() && request.expected_hash.empty()) return {};
  return request.identity + '\n' + request.expected_hash;
}

bool is_restorable(const FileRequest& request, const Notes& notes) {
  return Hasher::restore(request.algorithm.value_or(HashAlgorithm::sha256), notes.hash_state).has_value();
}

Error ended(const std::string& url) {
  return {ErrorCode::link_expired, "the address `" + redacted(url) + "` has ended", {.url = redacted(url)}};
}

}  // namespace

FileTask::FileTask(FileRequest request, const DownloadOptions& options, const StopFlag& stop,
                   std::function<void()> news)
    : request_(std::move(request)),
      options_(options),
      stop_(stop),
      news_(std::move(news)),
      journal_(request_.journal_path, identity_of(request_), request_.size, options_.piece_bytes,
               options_.journal_interval_s),
      size_(request_.size.value_or(kUnknownSize)),
      plan_(size_, {}, options_.piece_bytes, options_.connections == 1),
      sources_(request_) {}

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
  } catch (const Error& error) {
    fail(error);
  } catch (const std::exception& error) {
    fail(Error(ErrorCode::internal, error.what()));
  }
  settle_when_ready();
}

void FileTask::open() {
  Notes found = journal_.load(request_.partial_path);
  auto file = std::make_shared<File>(File::open_for_writing(request_.partial_path));
  drop_lost(found, *file);
  const bool gone = !found.given.ranges().empty();
  const bool refetched = gone && !(passes() && found.hashed >= found.given.ranges().back().end &&
                                   is_restorable(request_, found));
  if (refetched) drop_given(found);
  if (found.spans.empty()) start_afresh(*file);
  const std::lock_guard lock(mutex_);
  file_ = std::move(file);
  for (const Span& span : found.spans) spans_.put(span);
  done_ = spans_.extents();
  synced_ = std::move(found.synced);
  hashed_ = found.hashed;
  hash_state_ = std::move(found.hash_state);
  given_ = std::move(found.given);
  doubted_ = passes() && refetched;
  resumed_ = done_.total();
  plan_ = RangePlan(size_, done_, options_.piece_bytes, options_.connections == 1);
  if (passes() && !doubted_) plan_.hold_to(*request_.first_limit);
}

// A file that does not fit leaves no trace.
void FileTask::start_afresh(File& file) {
  remove_file(request_.journal_path);
  file.resize(0);
  try {
    if (passes()) {
      file.resize(size_);
    } else if (size_ != kUnknownSize) {
      file.preallocate(size_);
    }
  } catch (const Error&) {
    remove_file(request_.partial_path);
    throw;
  }
}

void FileTask::give_back(ByteRange range) {
  const std::lock_guard lock(mutex_);
  if (passes() && !doubted_ && journal_.is_active()) used_.add(range);
}

void FileTask::hold_to(std::uint64_t limit) {
  const std::lock_guard lock(mutex_);
  if (passes() && !doubted_) plan_.hold_to(limit);
}

bool FileTask::is_unfinished() const {
  const std::lock_guard lock(mutex_);
  return !is_over();
}

std::shared_ptr<Run> FileTask::take(const Offer& offer) {
  const std::lock_guard lock(mutex_);
  return opened_ && !is_over() ? plan_.take(offer) : nullptr;
}

std::shared_ptr<Run> FileTask::split(const Offer& offer) {
  const std::lock_guard lock(mutex_);
  return opened_ && !is_over() ? plan_.split(offer) : nullptr;
}

std::shared_ptr<Run> FileTask::twin(const Offer& offer) {
  const std::lock_guard lock(mutex_);
  return opened_ && !is_over() ? plan_.twin(offer) : nullptr;
}

void FileTask::observe(double now_s, std::vector<double>& rates) {
  const std::lock_guard lock(mutex_);
  for (const auto& run : plan_.runs()) {
    run->pace.observe(now_s, run->position - run->begin);
    if (run->pace.measured()) rates.push_back(run->pace.rate());
  }
}

void FileTask::replace_slow(double now_s, double median_rate, std::size_t runs) {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Run>> slow;
  for (const auto& run : plan_.runs()) {
    const bool crawling = run->pace.measured() && crawls(run->pace.rate(), median_rate, runs);
    if (run->pace.slow_for(now_s, crawling) >= kCrawlSeconds && !run->stream) slow.push_back(run);
  }
  for (const auto& run : slow) {
    plan_.drop(run);
    if (sources_.note_crawl(run->source)) sources_.drop(run->source, "was much slower than the others");
  }
}

bool FileTask::wants(const Run& run) const {
  if (stop_.requested()) return false;
  const std::lock_guard lock(mutex_);
  return !is_over() && !run.dropped && run.position < run.end;
}

std::optional<Target> FileTask::aim(Run& run) {
  const std::lock_guard lock(mutex_);
  auto target = sources_.begin_transfer(unix_s());
  if (target) run.source = target->source;
  if (!target && sources_.is_forsaken(unix_s())) throw *sources_.link_error();
  return target;
}

std::optional<ByteRange> FileTask::next_range(Run& run) {
  Lock lock(mutex_);
  if (run.stream) run.position = run.claimed_to = 0;
  run.whole = run.position == 0 && run.end == size_;
  if (!run.whole) return ByteRange{run.position, run.end};
  if (size_ == kUnknownSize) reset_stream(lock);
  return std::nullopt;
}

// Without a size nothing of an earlier attempt can be kept.
void FileTask::reset_stream(Lock& lock) {
  done_.clear();
  spans_.clear();
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
  Block block;
  {
    const std::lock_guard lock(mutex_);
    if (is_over() || run.dropped) return false;
    const std::uint64_t start = run.position;
    const ByteRange range = plan_.claim(run, data.size());
    if (run.position == start) return false;
    data =
        data.subspan(static_cast<std::size_t>(range.begin - start), static_cast<std::size_t>(range.size()));
    block = {range, data, file_, repair_.comparing()};
    if (!data.empty()) ++writes_;
  }
  if (!data.empty()) write_block(run, block);
  settle_when_ready();
  return wants(run);
}

void FileTask::write_block(Run& run, const Block& block) {
  bool changed = false;
  try {
    changed = !(block.comparing && holds(*block.file, block.data, block.range.begin));
    if (changed) block.file->write_at(block.data, block.range.begin);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    --writes_;
    throw;
  }
  const auto spans = run.summer.feed(block.range.begin, block.data, options_.piece_bytes);
  const std::uint64_t written = commit(run, block.range, spans, changed && block.comparing);
  journal_.save_if_due(written, [this] { return notes(); });
}

// Returns the number of bytes that are done now.
std::uint64_t FileTask::commit(Run& run, ByteRange range, const std::vector<Span>& spans, bool changed) {
  std::uint64_t written = 0;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t before = done_.total();
    done_.add(range);
    for (const Span& span : spans) spans_.put(span);
    if (sources_.size() > 1 || changed) repair_.note(range, run.source, changed);
    written = done_.total();
    run.fresh += written - before;
    --writes_;
    if (is_complete()) plan_.drop_all();
  }
  changed_.notify_all();
  return written;
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

void FileTask::leave(const Target& target) {
  const std::lock_guard lock(mutex_);
  sources_.end_transfer(target.source);
}

void FileTask::set_location(const Target& target, const std::string& url) {
  const std::lock_guard lock(mutex_);
  sources_.set_location(target.source, url, unix_s());
}

bool FileTask::renews(const Target& target, const Error& error) {
  const std::lock_guard lock(mutex_);
  return sources_.expire(target, error, done_.total(), unix_s());
}

bool FileTask::does_without(const Target& target, const Error& error) {
  const std::lock_guard lock(mutex_);
  return sources_.drop(target.source, "failed: " + std::string(error.what()));
}

std::uint64_t FileTask::fresh_bytes(const Run& run) const {
  const std::lock_guard lock(mutex_);
  return size_ == kUnknownSize ? 0 : run.fresh;
}

void FileTask::renew(const Address& address) {
  std::optional<Error> given_up;
  {
    const std::lock_guard lock(mutex_);
    if (!address.url.empty()) sources_.renew(address, unix_s());
    if (address.url.empty()) given_up = sources_.link_error().value_or(ended(request_.url));
  }
  if (given_up) fail(*given_up);
}

Notes FileTask::notes() const {
  const std::lock_guard lock(mutex_);
  return {spans_.all(), synced_, hashed_, hash_state_, given_};
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
  const bool wrong = error.code() == ErrorCode::checksum_mismatch || error.code() == ErrorCode::bad_format;
  tidy(unproven || wrong);
  news_();
}

// What a later process can go on from is kept, anything else would only fill the disk.
void FileTask::tidy(bool wrong_bytes) noexcept {
  try {
    if (!wrong_bytes && is_resumable()) {
      journal_.save_now([this] { return notes(); });
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
  return !opened_ || (journal_.is_active() && !repair_.comparing() && done_.total() > 0);
}

void FileTask::close() noexcept {
  if (follower_thread_.joinable()) follower_thread_.join();
  if (unpack_thread_.joinable()) unpack_thread_.join();
  {
    const std::lock_guard lock(mutex_);
    file_.reset();
    if (is_over()) return;
    state_ = FileState::cancelled;
  }
  tidy(false);
}

FileProgress FileTask::progress() const {
  const std::lock_guard lock(mutex_);
  FileProgress result;
  result.state = state_;
  if (size_ != kUnknownSize) result.size = size_;
  result.done_bytes = done_.total();
  result.ready_bytes = done_.prefix();
  result.hashed_bytes = hashed_;
  result.resumed_bytes = resumed_;
  result.repaired_bytes = repair_.changed_bytes();
  result.doubted = doubted_;
  if (state_ == FileState::verified) result.digest = digest_;
  if (state_ == FileState::verified) result.unpacked = unpacked_;
  result.error = error_;
  result.link_wanted = sources_.link_wanted() && !is_over();
  result.dropped_sources = sources_.dropped();
  return result;
}

}  // namespace fastslm
