// A packed file is unpacked while the rest of it arrives, by a thread of its own.
//
// Wrong bytes may make the unpacker fail: with a published hash that is judged only once the bytes are proven
// right, since a repair may replace them; then unpacking begins again.
#include <chrono>
#include <exception>

#include "fetch/task.hpp"

namespace fastslm {
namespace {

constexpr std::chrono::milliseconds kGlance{100};

}  // namespace

void FileTask::unpack_along() noexcept {
  try {
    while (unpack_once()) {
    }
  } catch (const Error& error) {
    fail(error);
  } catch (const std::exception& error) {
    fail(Error(ErrorCode::internal, error.what()));
  }
  unpacker_.give_up();
}

// Unpack what has arrived; false when the file is over.
bool FileTask::unpack_once() {
  Lock lock(mutex_);
  const auto frontier = [this] {
    if (proven_) return size_;
    return repair_.comparing() ? 0 : done_.prefix();
  };
  changed_.wait_for(lock, kGlance, [&] {
    return is_over() || proven_ || rewritten_ != unpacker_.round() || frontier() > unpacker_.unpacked();
  });
  if (stop_.requested() || is_over()) return false;
  const bool proven = proven_;
  const std::uint64_t end = frontier();
  const auto file = file_;
  const unsigned round = rewritten_;
  lock.unlock();
  if (round != unpacker_.round() || (proven && unpacker_.gave_up())) unpacker_.begin(round);
  unpack_to(*file, end, proven);
  if (!proven) return !interrupted();
  if (unpacker_.unpacked() < end) return false;  // interrupted
  auto files = unpacker_.finish(request_.unpack);
  lock.lock();
  unpacked_ = std::move(files);
  lock.unlock();
  publish();
  return false;
}

void FileTask::unpack_to(const File& file, std::uint64_t end, bool proven) {
  try {
    while (unpacker_.advance(request_.unpack, file, end)) {
      if (interrupted()) return;
    }
  } catch (const Error& error) {
    const bool may_change = !proven && !request_.expected_hash.empty();
    if (error.code() != ErrorCode::bad_format || !may_change) throw;
    unpacker_.give_up();
  }
}

}  // namespace fastslm
