#include <set>

#include "check.hpp"

namespace {

void every_code_has_its_own_name() {
  std::set<std::string_view> names;
  for (const auto code : fastslm::error_codes()) names.insert(fastslm::error_name(code));
  CHECK_EQUAL(names.size(), fastslm::error_codes().size());
  CHECK(!names.contains("unknown"));
  CHECK_EQUAL(static_cast<std::size_t>(fastslm::ErrorCode::internal) + 1, names.size());
}

void an_error_keeps_its_facts() {
  const fastslm::Error error(fastslm::ErrorCode::disk_full, "no room",
                             {.needed = 5, .available = 3, .path = "/x"});
  CHECK_EQUAL(std::string(error.what()), "no room");
  CHECK_EQUAL(error.facts().needed, 5U);
  CHECK_EQUAL(error.facts().available, 3U);
  CHECK_EQUAL(error.facts().path, "/x");
}

}  // namespace

int main() {
  return check::run({{"every code has its own name", every_code_has_its_own_name},
                     {"an error keeps its facts", an_error_keeps_its_facts}});
}
