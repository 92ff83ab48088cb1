#include <cerrno>
#include <filesystem>

#include <fastslm/files.hpp>

#include "check.hpp"
#include "samples.hpp"

namespace {

void a_copy_has_the_same_bytes() {
  const check::TemporaryFolder folder;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{3'000'001}}) {
    const std::string text = random_text(size);
    const std::string source = folder.file("source");
    const std::string target = folder.file("target" + std::to_string(size));
    write_text(source, text);
    fastslm::copy_file(source, target);
    CHECK(read_text(target) == text);
  }
}

// Files of /proc have no size and no blocks to share: what is left is the last rung, copying blocks.
void a_file_without_a_size_is_copied_by_blocks() {
  if (!std::filesystem::exists("/proc/self/status")) return;
  const check::TemporaryFolder folder;
  CHECK(fastslm::copy_file("/proc/self/status", folder.file("f")) == fastslm::CopyMethod::copy);
  CHECK(!read_text(folder.file("f")).empty());
}

void an_existing_file_is_never_overwritten() {
  const check::TemporaryFolder folder;
  write_text(folder.file("a"), "new");
  write_text(folder.file("b"), "old");
  CHECK_EQUAL(ERROR_OF(fastslm::copy_file(folder.file("a"), folder.file("b"))).facts().system_error, EEXIST);
  CHECK_EQUAL(read_text(folder.file("b")), "old");
}

void a_failed_copy_leaves_nothing_behind() {
  const check::TemporaryFolder folder;
  CHECK_ERROR(file_system, fastslm::copy_file(folder.file("none"), folder.file("b")));
  CHECK(!fastslm::file_size(folder.file("b")));
  std::filesystem::create_directory(folder.file("folder"));
  CHECK_ERROR(file_system, fastslm::copy_file(folder.file("folder"), folder.file("b")));
  CHECK(!fastslm::file_size(folder.file("b")));
}

}  // namespace

int main() {
  return check::run({{"a copy has the same bytes", a_copy_has_the_same_bytes},
                     {"a file without a size is copied by blocks", a_file_without_a_size_is_copied_by_blocks},
                     {"an existing file is never overwritten", an_existing_file_is_never_overwritten},
                     {"a failed copy leaves nothing behind", a_failed_copy_leaves_nothing_behind}});
}
