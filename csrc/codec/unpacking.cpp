#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include <fastslm/error.hpp>
#include <fastslm/unpack.hpp>

#include "codec/blocks.hpp"

namespace fastslm {
namespace {

constexpr double kLongestWaitS = 1e6;  // more would overflow the clock

}  // namespace

class Unpacking::Impl {
 public:
  Impl(const std::string& path, const UnpackOptions& options)
      : file_(File::open_for_reading(path)), size_(file_.size()), unpacker_(make_unpacker(options)) {
    thread_ = std::thread([this] { run(); });
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    stop_ = true;
    thread_.join();
  }

  bool wait(double timeout_s) {
    std::unique_lock lock(mutex_);
    const std::chrono::duration<double> timeout(timeout_s > 0 ? std::min(timeout_s, kLongestWaitS) : 0);
    return changed_.wait_for(lock, timeout, [this] { return finished_; });
  }

  std::uint64_t size() const noexcept { return size_; }
  std::uint64_t done_bytes() const noexcept { return done_; }
  void cancel() noexcept { stop_ = true; }

  std::vector<UnpackedFile> files() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return finished_; });
    if (error_) throw Error(*error_);
    return files_;
  }

 private:
  void run() noexcept {
    std::optional<Error> error;
    try {
      unpack();
    } catch (const Error& caught) {
      error = caught;
    } catch (const std::exception& caught) {
      error = Error(ErrorCode::internal, caught.what());
    }
    unpacker_.reset();  // with what it made, before anybody hears of an error
    const std::lock_guard lock(mutex_);
    error_ = error;
    finished_ = true;
    changed_.notify_all();
  }

  void unpack() {
    const Buffer buffer(kBlockBytes);
    while (const std::size_t got = file_.read_at(buffer.bytes(), done_)) {
      if (stop_) throw Error(ErrorCode::cancelled, "cancelled");
      unpacker_->push(buffer.bytes().first(got));
      done_ += got;
    }
    files_ = unpacker_->finish();
  }

  const File file_;
  const std::uint64_t size_;
  std::unique_ptr<Unpacker> unpacker_;  // the thread's, as the files until it has ended
  std::vector<UnpackedFile> files_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> done_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool finished_ = false;
  std::optional<Error> error_;
  std::thread thread_;
};

Unpacking::Unpacking(const std::string& path, const UnpackOptions& options)
    : impl_(std::make_unique<Impl>(path, options)) {}

Unpacking::~Unpacking() = default;

bool Unpacking::wait(double timeout_s) { return impl_->wait(timeout_s); }

std::uint64_t Unpacking::size() const { return impl_->size(); }

std::uint64_t Unpacking::done_bytes() const { return impl_->done_bytes(); }

void Unpacking::cancel() { impl_->cancel(); }

std::vector<UnpackedFile> Unpacking::files() { return impl_->files(); }

std::vector<UnpackedFile> unpack_file(const std::string& path, const UnpackOptions& options) {
  return Unpacking(path, options).files();
}

}  // namespace fastslm
