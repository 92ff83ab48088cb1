#include <string>

#include "check.hpp"
#include "codec/archive/names.hpp"
#include "codec/text.hpp"

namespace {

using fastslm::Names;

void plain_names_are_kept_and_dots_go() {
  Names names(100);
  CHECK_EQUAL(names.admit("model/weights.bin", false), "model/weights.bin");
  CHECK_EQUAL(names.admit("./model//config.json", false), "model/config.json");
  CHECK_EQUAL(names.admit("./", true), "");
  CHECK_EQUAL(names.admit("model/", true), "model");
  CHECK_EQUAL(names.admit("Gr\u00f6\u00dfe", false), "Gr\u00f6\u00dfe");
}

void names_that_leave_the_folder_or_mean_something_else_are_refused() {
  const std::string bad[] = {"/etc/passwd",
                             "../x",
                             "a/../../x",
                             "a/..",
                             "..",
                             "C:x",
                             "c:/x",
                             "a\\b",
                             "",
                             ".",
                             "a/",
                             "a\nb",
                             std::string("a\0b", 3),
                             "a\x7f",
                             "a\xff",
                             "\xc0\xaf",
                             "\xed\xa0\x80",
                             std::string(256, 'a'),
                             std::string(600, 'a') + "/" + std::string(600, 'b')};
  for (const std::string& name : bad) {
    Names names(100);
    CHECK_ERROR(bad_format, names.admit(name, false));
  }
}

void one_name_means_one_file_whatever_its_case() {
  Names names(100);
  names.admit("a/b", false);
  CHECK_ERROR(bad_format, names.admit("a/b", false));
  CHECK_ERROR(bad_format, names.admit("a/./b", false));
  CHECK_ERROR(bad_format, names.admit("a/B", false));
  CHECK_ERROR(bad_format, names.admit("A/c", false));
  CHECK_ERROR(bad_format, names.admit("a/b/c", false));
  CHECK_ERROR(bad_format, names.admit("a", false));
  CHECK_EQUAL(names.admit("a/", true), "a");
  CHECK_EQUAL(names.admit("a/", true), "a");
}

void too_many_members_are_refused() {
  Names names(2);
  names.admit("a", false);
  names.admit("b/", true);
  CHECK_ERROR(bad_format, names.admit("c", false));
}

void a_message_shows_no_control_characters() {
  Names names(1);
  const auto error = ERROR_OF(names.admit("evil\x1b[2J", false));
  CHECK(std::string(error.what()).find('\x1b') == std::string::npos);
  CHECK_EQUAL(fastslm::shown(std::string(500, 'x')).size(), 123U);
}

}  // namespace

int main() {
  return check::run({
      {"plain names are kept, and dots go", plain_names_are_kept_and_dots_go},
      {"names that leave the folder or mean something else are refused",
       names_that_leave_the_folder_or_mean_something_else_are_refused},
      {"one name means one file, whatever its case", one_name_means_one_file_whatever_its_case},
      {"too many members are refused", too_many_members_are_refused},
      {"a message shows no control characters", a_message_shows_no_control_characters},
  });
}
