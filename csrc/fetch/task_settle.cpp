// What happens to a file's bytes once they are written: hashed, synced, compared, repaired, published.
#include <algorithm>
#include <chrono>
#include <exception>

#include "base/clock.hpp"
#include "fetch/task.hpp"
#include "net/url.hpp"

namespace fastslm {
namespace {

constexpr std::uint64_t kSmallFilePieces = 4;  // such files are hashed by the worker that ends them
constexpr std::chrono::milliseconds kGlance{100};
constexpr double kSyncEveryS = 1;
constexpr double kSyncShare = 4;  // of the time, at most one part in five is spent syncing
constexpr std::uint64_t kWriteOutBytes = 16U << 20U;

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == path.npos ? "." : path.substr(0, slash);
}

}  // namespace

void FileTask::launch_follower() {
  if (size_ == kUnknownSize) return;
  const auto algorithm = request_.algorithm.value_or(HashAlgorithm::sha256);
  follower_.emplace(algorithm, size_, hashed_, hash_state_);
  sync_due_s_ = steady_s() + kSyncEveryS;
  if (size_ <= kSmallFilePieces * options_.piece_bytes) return;
  follower_thread_ = std::thread([this] { follow(); });
  if (unpacks()) unpack_thread_ = std::thread([this] { unpack_along(); });
}

void FileTask::follow() noexcept {
  try {
    while (follow_once()) {
    }
  } catch (const Error& error) {
    fail(error);
  } catch (const std::exception& error) {
    fail(Error(ErrorCode::internal, error.what()));
  }
}

// Hash what has arrived; false when the file is over.
bool FileTask::follow_once() {
  Lock lock(mutex_);
  const auto has_work = [&] {
    if (is_over() || is_complete()) return true;
    return repair_.comparing() ? repair_.changed_bytes() > tried_bytes_
                               : done_.prefix() > follower_->hashed();
  };
  changed_.wait_for(lock, kGlance, has_work);
  if (stop_.requested() || is_over() || proven_) return false;
  const std::uint64_t frontier = done_.prefix();
  const bool ready = is_complete() && writes_ == 0;
  const bool comparing = repair_.comparing();
  lock.unlock();
  if (ready) {
    settle();
    return !interrupted();
  }
  if (comparing) return !try_early();
  hash_to(frontier);
  if (steady_s() >= sync_due_s_) checkpoint();
  return true;
}

// Writing out begins behind the hash, so that the sync at the end is short.
void FileTask::hash_to(std::uint64_t frontier) {
  Lock lock(mutex_);
  const auto file = file_;
  lock.unlock();
  if (!file) return;
  while (follower_->advance(*file, frontier)) {
    if (interrupted()) return;
    if (follower_->hashed() - written_out_ < kWriteOutBytes) continue;
    file->begin_writing_out(written_out_, follower_->hashed() - written_out_);
    written_out_ = follower_->hashed();
  }
  lock.lock();
  hashed_ = follower_->hashed();
  hash_state_ = follower_->save();
}

// Used bytes may go once the hash can be taken up behind them by another process.
Extents FileTask::to_give() const {
  Extents kept;
  kept.add({std::min(hashed_, spans_.extents().prefix()), size_});
  Extents giving = used_;
  for (const ByteRange& range : kept.ranges()) giving.remove(range);
  return giving;
}

// From here on a loss of power costs nothing of what was there before; only then is something given back.
void FileTask::checkpoint() {
  Lock lock(mutex_);
  const auto file = file_;
  const Extents written = spans_.extents();
  const Extents giving = doubted_ ? Extents{} : to_give();
  lock.unlock();
  if (!file || !journal_.is_active()) return;
  const double began = steady_s();
  file->sync();
  lock.lock();
  synced_ = written;
  for (const ByteRange& range : giving.ranges()) {
    given_.add(range);
    used_.remove(range);
  }
  lock.unlock();
  journal_.save_now([this] { return notes(); }, Durability::power_cut);
  if (!giving.ranges().empty()) sync_folders(folder_of(request_.journal_path));
  for (const ByteRange& range : giving.ranges()) file->punch(range.begin, range.size());
  const double ended = steady_s();
  sync_due_s_ = ended + std::max(kSyncEveryS, kSyncShare * (ended - began));
}

// During a repair: perhaps what was replaced so far was all that was wrong. True when the file is over.
bool FileTask::try_early() {
  Lock lock(mutex_);
  const std::uint64_t changed = repair_.changed_bytes();
  const auto file = file_;
  lock.unlock();
  if (changed == tried_bytes_ || !file) return false;
  tried_bytes_ = changed;
  Follower whole(request_.algorithm.value_or(HashAlgorithm::sha256), size_);
  while (whole.advance(*file, size_)) {
    if (interrupted()) return true;
  }
  if (whole.finish() != request_.expected_hash) return false;
  lock.lock();
  plan_.drop_all();
  done_.add({0, size_});
  lock.unlock();
  file->sync();
  conclude(request_.expected_hash);
  return true;
}

// For files without a follower thread: whoever wrote the last byte does the rest.
void FileTask::settle_when_ready() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (follower_thread_.joinable() || settling_ || is_over() || !is_complete() || writes_ > 0) return;
    settling_ = true;
  }
  try {
    settle();
  } catch (const Error& error) {
    fail(error);
  } catch (const std::exception& error) {
    fail(Error(ErrorCode::internal, error.what()));
  }
}

void FileTask::settle() {
  if (interrupted()) return;
  hash_to(size_);
  if (interrupted()) return;
  const std::string digest = follower_->finish();
  if (!request_.expected_hash.empty() && digest != request_.expected_hash) {
    if (!begin_repair()) refuse_hash(digest);
    return;
  }
  Lock lock(mutex_);
  const auto file = file_;
  lock.unlock();
  if (file && !unpacks()) file->sync();
  conclude(digest);
}

// False when there is nothing left to try.
bool FileTask::begin_repair() {
  Lock lock(mutex_);
  const auto file = file_;
  const std::vector<Span> spans = spans_.all();
  const bool holed = !given_.ranges().empty();
  const bool local = !holed && repair_.may_look_at_disk();
  lock.unlock();
  if (!file || !request_.size) return false;
  if (holed) return begin_again(), true;
  if (local) {
    const auto lost = damaged(*file, spans, [](const Span&) { return true; });
    Extents keep = Extents{}.gaps(size_);
    for (const Span& span : lost) keep.remove(span.range);
    if (!lost.empty()) return refetch(keep), true;
  }
  lock.lock();
  const auto source = repair_.next_round(sources_.live());
  sources_.use_only(source);
  const Extents keep = source && sources_.size() > 1 ? repair_.from(*source) : Extents{};
  lock.unlock();
  if (!source) return false;
  journal_.close();  // until the repair has ended nothing here deserves trust
  refetch(keep);
  return true;
}

// Nothing can be compared with bytes that were given back.
void FileTask::begin_again() {
  {
    const std::lock_guard lock(mutex_);
    spans_.clear();
    synced_.clear();
    used_.clear();
    given_.clear();
  }
  journal_.begin_again();
  refetch({});
}

void FileTask::refetch(const Extents& keep) {
  {
    const std::lock_guard lock(mutex_);
    doubted_ = true;
    done_ = keep;
    plan_ = RangePlan(size_, keep, options_.piece_bytes, options_.connections == 1);
    follower_.emplace(request_.algorithm.value_or(HashAlgorithm::sha256), size_);
    hashed_ = 0;
    hash_state_.clear();
    settling_ = false;
    ++rewritten_;
  }
  news_();
  settle_when_ready();
}

void FileTask::refuse_hash(const std::string& digest) const {
  const std::string url = redacted(request_.url);
  throw Error(ErrorCode::checksum_mismatch,
              "the hash of `" + url + "` is `" + digest + "`, expected `" + request_.expected_hash + "`",
              {.url = url, .expected = request_.expected_hash, .found = digest, .name = url});
}

// The bytes are the right ones; a packed file is over only when it is unpacked as well.
void FileTask::conclude(const std::string& digest) {
  {
    const std::lock_guard lock(mutex_);
    digest_ = digest;
    proven_ = true;
    if (repair_.comparing()) ++rewritten_;
  }
  changed_.notify_all();
  if (!unpacks()) {
    publish();
  } else if (!unpack_thread_.joinable()) {
    unpack_along();
  }
}

// What is packed or passes stays until the caller has put what it became into its place.
void FileTask::publish() {
  if (unpacks() || passes()) {
    journal_.save_now([this] { return notes(); });
  } else {
    journal_.close();
  }
  {
    const std::lock_guard lock(mutex_);
    if (is_over()) return;
    state_ = FileState::verified;
    file_.reset();
    for (const std::size_t source : repair_.liars()) sources_.drop(source, "sent wrong bytes");
  }
  news_();
}

}  // namespace fastslm
