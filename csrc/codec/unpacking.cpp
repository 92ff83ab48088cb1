#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <thread>
#include <utility>

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
    std::packaged_task<std::vector<UnpackedFile>()> work([this] { return run(); });
    result_ = work.get_future();
    thread_ = std::thread(std::move(work));
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    stop_ = true;
    thread_.join();
  }

  bool wait(double timeout_s) {
    const std::chrono::duration<double> timeout(timeout_s > 0 ? std::min(timeout_s, kLongestWaitS) : 0);
    return !result_.valid() || result_.wait_for(timeout) == std::future_status::ready;
  }

  std::uint64_t size() const noexcept { return size_; }
  std::uint64_t done_bytes() const noexcept { return done_; }
  void cancel() noexcept { stop_ = true; }

  std::vector<UnpackedFile> files() {
    if (!result_.valid()) throw Error(ErrorCode::internal, "the unpacked files were taken already");
    return result_.get();
  }

 private:
  std::vector<UnpackedFile> run() {
    const auto unpacker = std::move(unpacker_);  // gone, with what it made, before anybody hears of an error
    const Buffer buffer(kBlockBytes);
    while (const std::size_t got = file_.read_at(buffer.bytes(), done_)) {
      if (stop_) throw Error(ErrorCode::cancelled, "cancelled");
      unpacker->push(buffer.bytes().first(got));
      done_ += got;
    }
    return unpacker->finish();
  }

  const File file_;
  const std::uint64_t size_;
  std::unique_ptr<Unpacker> unpacker_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> done_{0};
  std::future<std::vector<UnpackedFile>> result_;
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
