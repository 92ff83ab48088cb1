#include <cerrno>

#include <fastslm/files.hpp>

#include "check.hpp"
#include "samples.hpp"

namespace {

using fastslm::File;

void bytes_land_where_they_belong() {
  const check::TemporaryFolder folder;
  File file = File::open_for_writing(folder.file("f"));
  file.write_at(bytes_of("world"), 6);
  file.write_at(bytes_of("hello "), 0);
  CHECK_EQUAL(read_text(folder.file("f")), "hello world");
  std::byte buffer[20];
  CHECK_EQUAL(file.read_at(buffer, 6), 5U);
  file.sync();
}

void opening_for_writing_keeps_the_contents() {
  const check::TemporaryFolder folder;
  write_text(folder.file("f"), "kept");
  CHECK_EQUAL(File::open_for_writing(folder.file("f")).size(), 4U);
}

void preallocation_sets_the_size() {
  const check::TemporaryFolder folder;
  File file = File::open_for_writing(folder.file("f"));
  file.preallocate(3'000'000);
  CHECK_EQUAL(file.size(), 3'000'000U);
  file.preallocate(0);
  CHECK_EQUAL(file.size(), 0U);
}

void what_is_punched_takes_no_room_and_leaves_the_rest() {
  const check::TemporaryFolder folder;
  const std::string text(1'000'000, 'x');
  write_text(folder.file("f"), text);
  if (!File::open_for_writing(folder.file("f")).punch(100'000, 800'000)) return;  // not on this file system
  const std::string left = read_text(folder.file("f"));
  CHECK_EQUAL(left.size(), text.size());
  CHECK(left == std::string(100'000, 'x') + std::string(800'000, '\0') + std::string(100'000, 'x'));
}

void a_disk_that_is_too_small_says_so_with_both_numbers() {
  const check::TemporaryFolder folder;
  File file = File::open_for_writing(folder.file("f"));
  const std::uint64_t needed = fastslm::free_bytes(folder.file("f")) + (std::uint64_t{1} << 44U);
  const auto error = ERROR_OF(file.preallocate(needed));
  CHECK_EQUAL(fastslm::error_name(error.code()), "disk_full");
  CHECK_EQUAL(error.facts().needed, needed);
  CHECK(error.facts().available < needed);
  CHECK_EQUAL(file.size(), 0U);
}

void replacing_is_all_or_nothing() {
  const check::TemporaryFolder folder;
  fastslm::replace_file(folder.file("f"), bytes_of("a longer first version"));
  fastslm::replace_file(folder.file("f"), bytes_of("second"));
  CHECK_EQUAL(read_text(folder.file("f")), "second");
  CHECK(!fastslm::file_size(folder.file("f.tmp")));
  CHECK_ERROR(file_system, fastslm::replace_file(folder.file("no/such/folder"), bytes_of("x")));
}

void reading_a_small_file_has_a_limit() {
  const check::TemporaryFolder folder;
  write_text(folder.file("f"), "12345");
  CHECK_EQUAL(fastslm::read_file(folder.file("f"), 5)->size(), 5U);
  CHECK(!fastslm::read_file(folder.file("f"), 4));
  CHECK(!fastslm::read_file(folder.file("none"), 4));
}

void an_error_names_the_path_and_the_reason() {
  const check::TemporaryFolder folder;
  const auto error = ERROR_OF(File::open_for_reading(folder.file("none")));
  CHECK_EQUAL(fastslm::error_name(error.code()), "file_system");
  CHECK_EQUAL(error.facts().path, folder.file("none"));
  CHECK_EQUAL(error.facts().system_error, ENOENT);
}

void removing_twice_is_fine() {
  const check::TemporaryFolder folder;
  write_text(folder.file("f"), "x");
  fastslm::remove_file(folder.file("f"));
  fastslm::remove_file(folder.file("f"));
  CHECK(!fastslm::file_size(folder.file("f")));
}

}  // namespace

int main() {
  return check::run({{"bytes land where they belong", bytes_land_where_they_belong},
                     {"opening for writing keeps the contents", opening_for_writing_keeps_the_contents},
                     {"preallocation sets the size", preallocation_sets_the_size},
                     {"what is punched takes no room and leaves the rest",
                      what_is_punched_takes_no_room_and_leaves_the_rest},
                     {"a disk that is too small says so with both numbers",
                      a_disk_that_is_too_small_says_so_with_both_numbers},
                     {"replacing is all or nothing", replacing_is_all_or_nothing},
                     {"reading a small file has a limit", reading_a_small_file_has_a_limit},
                     {"an error names the path and the reason", an_error_names_the_path_and_the_reason},
                     {"removing twice is fine", removing_twice_is_fine}});
}
