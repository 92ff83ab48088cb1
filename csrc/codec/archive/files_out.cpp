#include "codec/archive/files_out.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fastslm/error.hpp>

namespace fastslm {
namespace {

constexpr std::size_t kMostWaiting = 16U << 20U;
constexpr std::uint64_t kWriteOutBytes = 16U << 20U;
constexpr std::uint64_t kReserveFrom = 1U << 20U;

void give_up_folder(const std::string& path) noexcept {
  try {
    remove_tree(path);
  } catch (const Error&) {
    // The error before is the one to report.
  }
}

}  // namespace

struct FilesOut::Current {
  File file;
  std::string name;
  std::optional<Hasher> hasher;
  std::uint64_t written = 0;
  std::uint64_t written_out = 0;
};

FilesOut::FilesOut(const UnpackOptions& options, Meter& meter)
    : options_(options),
      meter_(meter),
      names_(options.limits.members),
      only_(options.only.begin(), options.only.end()) {
  make_folder(options_.folder);
  try {
    thread_ = std::thread([this] { work(); });
  } catch (...) {
    give_up_folder(options_.folder);
    throw;
  }
}

FilesOut::~FilesOut() {
  {
    const std::lock_guard lock(mutex_);
    orders_.clear();
  }
  stop();
  current_.reset();
  if (!finished_) give_up_folder(options_.folder);
}

void FilesOut::add_folder(std::string_view name) {
  const std::string path = names_.admit(name, true);
  if (path.empty() || !only_.empty()) return;
  give([this, path] { make_folders(in_folder(path)); }, 0);
}

void FilesOut::begin(std::string_view name, std::optional<std::uint64_t> size) {
  std::string path = names_.admit(name, false);
  skipping_ = !only_.empty() && !only_.contains(path);
  if (skipping_) return;
  if (size) meter_.announce(*size);
  give([this, path = std::move(path), size] { open(path, size); }, 0);
}

void FilesOut::write(const Block& block) {
  if (skipping_ || block.bytes.empty()) return;
  Block kept = block;
  if (!kept.owner) {
    const auto buffer = pool_.take(std::max(kBlockBytes, block.bytes.size()));
    std::memcpy(buffer->data.get(), block.bytes.data(), block.bytes.size());
    kept = {buffer->bytes().first(block.bytes.size()), buffer};
  }
  // A small block may keep a large buffer alive.
  give([this, kept] { put(kept.bytes); }, std::max(kBlockBytes, kept.bytes.size()));
}

void FilesOut::end() {
  if (!skipping_) give([this] { close(); }, 0);
}

std::vector<UnpackedFile> FilesOut::finish() {
  if (options_.durable) give([this] { sync_folders(options_.folder); }, 0);
  stop();
  if (error_) std::rethrow_exception(error_);
  finished_ = true;
  return std::move(done_);
}

// Waits while much is still to be written.
void FilesOut::give(Order order, std::size_t bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return error_ || waiting_bytes_ < kMostWaiting; });
  if (error_) std::rethrow_exception(error_);
  orders_.emplace_back(std::move(order), bytes);
  waiting_bytes_ += bytes;
  lock.unlock();
  changed_.notify_all();
}

void FilesOut::work() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !orders_.empty(); });
    if (orders_.empty() || error_) return;
    auto [order, bytes] = std::move(orders_.front());
    orders_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      order();
    } catch (...) {
      error = std::current_exception();
    }
    order = nullptr;
    lock.lock();
    waiting_bytes_ -= bytes;
    error_ = error;
    changed_.notify_all();
  }
}

// What was ordered is done first.
void FilesOut::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void FilesOut::open(const std::string& path, std::optional<std::uint64_t> size) {
  const std::string target = in_folder(path);
  make_folders(target.substr(0, target.rfind('/')));
  current_ = std::make_unique<Current>(Current{File::create(target), path, std::nullopt});
  if (options_.digests) current_->hasher.emplace(HashAlgorithm::sha256, 0);
  if (size.value_or(0) >= kReserveFrom) current_->file.preallocate(*size);
}

void FilesOut::put(Bytes bytes) {
  Current& now = *current_;
  now.file.write_at(bytes, now.written);
  if (now.hasher) now.hasher->update(bytes);
  now.written += bytes.size();
  if (!options_.durable || now.written - now.written_out < kWriteOutBytes) return;
  now.file.begin_writing_out(now.written_out, now.written - now.written_out);
  now.written_out = now.written;
}

void FilesOut::close() {
  Current& now = *current_;
  if (options_.durable) now.file.sync();
  done_.push_back({now.name, now.written, now.hasher ? now.hasher->finish() : std::string()});
  current_.reset();
}

}  // namespace fastslm
