#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fastslm/files.hpp>

#include "fs/system_error.hpp"

namespace fastslm {
namespace {

void sync_folder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw_system_error("cannot open", path, errno);
  const int code = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (code != 0 && code != EINVAL)
    throw_system_error("cannot sync", path, code);  // some file systems have none
}

}  // namespace

void make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) != 0) throw_system_error("cannot make the folder", path, errno);
}

void make_folders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw_system_error("cannot make the folder", path, error.value());
}

void remove_tree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) throw_system_error("cannot remove", path, error.value());
}

void sync_folders(const std::string& path) {
  sync_folder(path);
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(path, error), end; !error && at != end;
       at.increment(error)) {
    if (at->is_directory(error) && !at->is_symlink(error)) sync_folder(at->path().string());
  }
  if (error) throw_system_error("cannot read", path, error.value());
}

}  // namespace fastslm
