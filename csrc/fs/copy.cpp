// Ladder: share the blocks (FICLONE), let the kernel copy (copy_file_range), copy blocks through memory.
#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/fs.h>
#include <sys/ioctl.h>
#endif

#include <fastslm/error.hpp>
#include <fastslm/files.hpp>

#include "fs/system_error.hpp"

namespace fastslm {
namespace {

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags, const char* action)
      : value_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (value_ < 0) throw_system_error(action, path, errno);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(value_); }
  int get() const noexcept { return value_; }

 private:
  int value_;
};

bool reflink(int source, int target) {
#if defined(FICLONE)
  return ::ioctl(target, FICLONE, source) == 0;
#else
  static_cast<void>(source);
  static_cast<void>(target);
  return false;
#endif
}

// Bytes that the kernel copied before it gave up; the rest is for blocks, which also report the reason.
std::uint64_t kernel_copy(int source, int target, std::uint64_t size) {
  std::uint64_t done = 0;
#if defined(__linux__)
  while (done < size) {
    const std::size_t step = static_cast<std::size_t>(std::min<std::uint64_t>(size - done, 1U << 30));
    const ssize_t copied = ::copy_file_range(source, nullptr, target, nullptr, step, 0);
    if (copied < 0 && errno == EINTR) continue;
    if (copied <= 0) break;
    done += static_cast<std::uint64_t>(copied);
  }
#else
  static_cast<void>(source);
  static_cast<void>(target);
  static_cast<void>(size);
#endif
  return done;
}

void block_copy(const std::string& source, const std::string& target, std::uint64_t offset) {
  const File in = File::open_for_reading(source);
  File out = File::open_for_writing(target);
  std::vector<std::byte> block(1U << 20);
  for (;;) {
    const std::size_t got = in.read_at(block, offset);
    if (got == 0) return;
    out.write_at(Bytes(block).first(got), offset);
    offset += got;
  }
}

CopyMethod fill(const std::string& source, const std::string& target, int target_descriptor) {
  const Descriptor in(source, O_RDONLY, "cannot open");
  struct stat info{};
  if (::fstat(in.get(), &info) != 0) throw_system_error("cannot read the size of", source, errno);
  if (!S_ISREG(info.st_mode))
    throw_system_error("cannot copy", source, S_ISDIR(info.st_mode) ? EISDIR : EINVAL);
  if (reflink(in.get(), target_descriptor)) return CopyMethod::reflink;
  block_copy(source, target,
             kernel_copy(in.get(), target_descriptor, static_cast<std::uint64_t>(info.st_size)));
  return CopyMethod::copy;
}

}  // namespace

CopyMethod copy_file(const std::string& source, const std::string& target) {
  if (!file_size(source)) throw_system_error("cannot open", source, ENOENT);
  const Descriptor out(target, O_WRONLY | O_CREAT | O_EXCL, "cannot create");
  try {
    return fill(source, target, out.get());
  } catch (const Error&) {
    ::unlink(target.c_str());
    throw;
  }
}

}  // namespace fastslm
