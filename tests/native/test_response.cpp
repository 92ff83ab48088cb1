#include "check.hpp"
#include "net/response.hpp"

namespace {

using fastslm::Body;
using fastslm::check_head;
using fastslm::Expected;
using fastslm::ResponseHead;

const Expected kPart{.url = "http://h/f?secret", .range = fastslm::ByteRange{10, 20}, .size = 100};
const Expected kWhole{.url = "http://h/f?secret", .range = std::nullopt, .size = 100};

ResponseHead part(const std::string& content_range) { return {206, {{"content-range", content_range}}}; }

void the_range_that_was_asked_for_is_taken() {
  CHECK(check_head(part("bytes 10-19/100"), kPart) == Body::part);
  ResponseHead full = part("bytes 10-19/100");
  full.headers["content-length"] = "10";
  full.headers["content-encoding"] = "identity";
  CHECK(check_head(full, kPart) == Body::part);
}

void any_other_range_is_refused() {
  for (const char* text : {"", "bytes 11-20/100", "bytes 10-18/100", "bytes 10-19/101", "bytes 10-19/*",
                           "bytes */100", "bytes 10-19", "items 10-19/100", "bytes 10-9/100", "bytes -19/100",
                           "bytes 10-19/99999999999999999999", "bytes +10-19/100"}) {
    CHECK_ERROR(range_mismatch, check_head(part(text), kPart));
  }
  CHECK_ERROR(range_mismatch, check_head(part("bytes 0-99/100"), kWhole));
}

void other_headers_may_spoil_a_range() {
  const std::pair<const char*, const char*> spoilers[] = {
      {"content-length", "11"},
      {"content-length", "10, 10"},
      {"content-encoding", "gzip"},
      {"content-type", "multipart/byteranges; boundary=x"},
  };
  for (const auto& [name, value] : spoilers) {
    ResponseHead head = part("bytes 10-19/100");
    head.headers[name] = value;
    CHECK_ERROR(range_mismatch, check_head(head, kPart));
  }
}

void a_whole_file_must_have_the_known_size() {
  CHECK(check_head({200, {{"content-length", "100"}}}, kWhole) == Body::whole);
  CHECK(check_head({200, {}}, kWhole) == Body::whole);
  CHECK(check_head({200, {{"content-length", "100"}}}, kPart) == Body::whole);
  const auto error = ERROR_OF(check_head({200, {{"content-length", "99"}}}, kWhole));
  CHECK_EQUAL(fastslm::error_name(error.code()), "size_mismatch");
  CHECK_EQUAL(error.facts().expected, "100");
  CHECK_EQUAL(error.facts().found, "99");
  CHECK(check_head({200, {{"content-length", "40"}, {"content-encoding", "gzip"}}}, kWhole) == Body::whole);
}

void each_status_has_its_error() {
  const std::pair<int, const char*> table[] = {
      {400, "server_refused"}, {401, "link_expired"}, {403, "link_expired"},   {404, "server_refused"},
      {407, "server_refused"}, {408, "server_busy"},  {410, "link_expired"},   {416, "range_mismatch"},
      {429, "server_busy"},    {500, "server_busy"},  {503, "server_busy"},    {204, "range_mismatch"},
      {304, "server_refused"}, {0, "server_refused"}, {451, "server_refused"},
  };
  for (const auto& row : table) {
    const auto error = ERROR_OF(check_head({row.first, {}}, kPart));
    CHECK_EQUAL(fastslm::error_name(error.code()), row.second);
    CHECK_EQUAL(error.facts().status, row.first);
    CHECK_EQUAL(error.facts().offset, 10U);
    CHECK_EQUAL(error.facts().url, "http://h/f");
  }
}

void a_416_that_names_another_size_is_final() {
  CHECK_ERROR(size_mismatch, check_head({416, {{"content-range", "bytes */5"}}}, kPart));
  CHECK_ERROR(range_mismatch, check_head({416, {{"content-range", "bytes */100"}}}, kPart));
}

void the_server_may_say_how_long_to_wait() {
  const auto seconds = [](const char* name, const char* value) {
    return fastslm::retry_after_seconds({429, {{name, value}}});
  };
  CHECK_EQUAL(seconds("retry-after", "7"), 7.0);
  CHECK_EQUAL(seconds("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), 0.0);
  CHECK_EQUAL(seconds("ratelimit", "\"api\";r=0;t=55"), 55.0);
  CHECK_EQUAL(seconds("ratelimit", "\"api\"; t=55; r=0"), 55.0);
  CHECK_EQUAL(seconds("ratelimit", "\"api\";r=0;t=x"), 0.0);
  CHECK_EQUAL(seconds("other", "7"), 0.0);
  const ResponseHead busy{429, {{"retry-after", "7"}}};
  CHECK_EQUAL(ERROR_OF(check_head(busy, kPart)).facts().retry_after_s, 7.0);
}

}  // namespace

int main() {
  return check::run({{"the range that was asked for is taken", the_range_that_was_asked_for_is_taken},
                     {"any other range is refused", any_other_range_is_refused},
                     {"other headers may spoil a range", other_headers_may_spoil_a_range},
                     {"a whole file must have the known size", a_whole_file_must_have_the_known_size},
                     {"each status has its error", each_status_has_its_error},
                     {"a 416 that names another size is final", a_416_that_names_another_size_is_final},
                     {"the server may say how long to wait", the_server_may_say_how_long_to_wait}});
}
