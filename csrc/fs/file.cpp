#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fastslm/error.hpp>
#include <fastslm/files.hpp>

#include "fs/system_error.hpp"

namespace fastslm {
namespace {

int open_file(const std::string& path, int flags, const char* action) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  if (descriptor < 0) throw_system_error(action, path, errno);
  return descriptor;
}

std::uint64_t free_bytes_or_zero(const std::string& path) {
  struct statvfs info{};
  if (::statvfs(path.c_str(), &info) != 0) return 0;
  return std::uint64_t{info.f_bavail} * std::uint64_t{info.f_frsize};
}

[[noreturn]] void throw_disk_full(const std::string& path, std::uint64_t needed, int code) {
  const std::uint64_t available = free_bytes_or_zero(path);
  throw Error(ErrorCode::disk_full,
              "the disk of `" + path + "` has " + std::to_string(available) + " free bytes, needed " +
                  std::to_string(needed),
              {.needed = needed, .available = available, .path = path, .system_error = code});
}

std::uint64_t allocated_bytes(int descriptor) {
  struct stat info{};
  return ::fstat(descriptor, &info) == 0 ? static_cast<std::uint64_t>(info.st_blocks) * 512 : 0;
}

// Reserve real blocks; errno of the failure, or 0. Where the file system cannot, nothing is done: emulation
// by writing zeros would cost more than it gives.
int reserve(int descriptor, std::uint64_t size) {
#if defined(__linux__)
  int code = 0;
  do {
    code = ::fallocate(descriptor, 0, 0, static_cast<off_t>(size)) == 0 ? 0 : errno;
  } while (code == EINTR);
  return code == EOPNOTSUPP || code == ENOSYS ? 0 : code;
#else
  static_cast<void>(descriptor);
  static_cast<void>(size);
  return 0;
#endif
}

}  // namespace

void throw_system_error(const char* action, const std::string& path, int code, std::uint64_t needed_bytes) {
  if (code == ENOSPC || code == EDQUOT) throw_disk_full(path, needed_bytes, code);
  throw Error(ErrorCode::file_system,
              std::string(action) + " `" + path + "`: " + std::generic_category().message(code),
              {.path = path, .system_error = code});
}

File::File(int descriptor, std::string path) noexcept : descriptor_(descriptor), path_(std::move(path)) {}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

File File::open_for_reading(const std::string& path) {
  return {open_file(path, O_RDONLY, "cannot open"), path};
}

File File::open_for_writing(const std::string& path) {
  return {open_file(path, O_RDWR | O_CREAT, "cannot open for writing"), path};
}

File File::create(const std::string& path) {
  return {open_file(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, "cannot create"), path};
}

std::uint64_t File::size() const {
  struct stat info{};
  if (::fstat(descriptor_, &info) != 0) throw_system_error("cannot read the size of", path_, errno);
  return static_cast<std::uint64_t>(info.st_size);
}

void File::write_at(Bytes data, std::uint64_t offset) {
  while (!data.empty()) {
    const ssize_t written = ::pwrite(descriptor_, data.data(), data.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_system_error("cannot write", path_, errno, data.size());
    data = data.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

std::size_t File::read_at(std::span<std::byte> buffer, std::uint64_t offset) const {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t got =
        ::pread(descriptor_, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_system_error("cannot read", path_, errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void File::resize(std::uint64_t size) {
  int code = 0;
  do {
    code = ::ftruncate(descriptor_, static_cast<off_t>(size)) == 0 ? 0 : errno;
  } while (code == EINTR);
  if (code != 0) throw_system_error("cannot set the size of", path_, code, size);
}

// fallocate takes every free block before it gives up, which would starve the whole machine: look first, and
// give all back when it fails.
void File::preallocate(std::uint64_t size) {
  const std::uint64_t held = allocated_bytes(descriptor_);
  if (size > held && free_bytes(path_) < size - held) {
    resize(0);
    throw_disk_full(path_, size, ENOSPC);
  }
  resize(size);
  const int code = size == 0 ? 0 : reserve(descriptor_, size);
  if (code == 0) return;
  resize(0);
  throw_system_error("cannot reserve space for", path_, code, size);
}

bool File::punch(std::uint64_t offset, std::uint64_t length) {
#if defined(__linux__)
  int code = 0;
  do {
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const bool worked =
        ::fallocate(descriptor_, mode, static_cast<off_t>(offset), static_cast<off_t>(length)) == 0;
    code = worked ? 0 : errno;
  } while (code == EINTR);
  if (code == 0) return true;
  if (code == EOPNOTSUPP || code == ENOSYS) return false;
  throw_system_error("cannot give back space of", path_, code);
#else
  static_cast<void>(offset);
  static_cast<void>(length);
  return false;
#endif
}

void File::begin_writing_out(std::uint64_t offset, std::uint64_t length) const noexcept {
#if defined(__linux__)
  static_cast<void>(::sync_file_range(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(length),
                                      SYNC_FILE_RANGE_WRITE));
#else
  static_cast<void>(offset);
  static_cast<void>(length);
#endif
}

void File::sync() {
  if (::fsync(descriptor_) != 0) throw_system_error("cannot sync", path_, errno, size());
}

std::optional<std::uint64_t> file_size(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0) return static_cast<std::uint64_t>(info.st_size);
  if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
  throw_system_error("cannot read the size of", path, errno);
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw_system_error("cannot remove", path, errno);
}

std::uint64_t free_bytes(const std::string& path) {
  struct statvfs info{};
  if (::statvfs(path.c_str(), &info) != 0) throw_system_error("cannot read the free space of", path, errno);
  return std::uint64_t{info.f_bavail} * std::uint64_t{info.f_frsize};
}

bool can_punch(const std::string& folder) {
  const std::string probe = folder + "/.fastslm-" + std::to_string(::getpid()) + ".holes";
  remove_file(probe);
  const bool worked = File::create(probe).punch(0, 4096);
  remove_file(probe);
  return worked;
}

std::optional<std::vector<std::byte>> read_file(const std::string& path, std::size_t limit) {
  const auto size = file_size(path);
  if (!size || *size > limit) return std::nullopt;
  std::vector<std::byte> contents(static_cast<std::size_t>(*size));
  contents.resize(File::open_for_reading(path).read_at(contents, 0));
  return contents;
}

void replace_file(const std::string& path, Bytes contents, Durability durability) {
  const std::string fresh = path + ".tmp";
  {
    File file = File::open_for_writing(fresh);
    file.resize(0);
    file.write_at(contents, 0);
    if (durability == Durability::power_cut) file.sync();
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) throw_system_error("cannot replace", path, errno);
}

}  // namespace fastslm
