#include "net/response.hpp"

#include <charconv>

#include <fastslm/error.hpp>

#include "net/url.hpp"

namespace fastslm {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

Facts facts(const ResponseHead& head, const Expected& expected) {
  Facts result;
  result.url = redacted(expected.url);
  result.status = head.status;
  result.offset = expected.range ? expected.range->begin : 0;
  return result;
}

ErrorCode code_for_status(int status) {
  if (status == 401 || status == 403 || status == 410) return ErrorCode::link_expired;
  if (status == 408 || status == 429 || status >= 500) return ErrorCode::server_busy;
  if (status == 416 || (status >= 200 && status < 300)) return ErrorCode::range_mismatch;
  return ErrorCode::server_refused;
}

[[noreturn]] void throw_for_status(const ResponseHead& head, const Expected& expected) {
  Facts known = facts(head, expected);
  known.retry_after_s = retry_after_seconds(head);
  throw Error(code_for_status(head.status),
              "`" + known.url + "` answered with status " + std::to_string(head.status), known);
}

std::string describe(const ByteRange& range, std::uint64_t total) {
  return "bytes " + std::to_string(range.begin) + "-" + std::to_string(range.end - 1) + "/" +
         std::to_string(total);
}

[[noreturn]] void throw_mismatch(ErrorCode code, const std::string& what, Facts known) {
  const std::string message =
      "`" + known.url + "` sent " + what + " `" + known.found + "`, expected `" + known.expected + "`";
  known.name = known.url;
  throw Error(code, message, known);
}

void require(bool right, ErrorCode code, const std::string& what, Facts known) {
  if (!right) throw_mismatch(code, what, std::move(known));
}

Facts with(Facts known, std::string expected, std::string_view found) {
  known.expected = std::move(expected);
  known.found = found;
  return known;
}

bool encoded(const ResponseHead& head) {
  const auto encoding = header(head, "content-encoding");
  return !encoding.empty() && encoding != "identity";
}

void check_length(const ResponseHead& head, std::uint64_t expected_length, ErrorCode code,
                  const Facts& known) {
  const auto text = header(head, "content-length");
  if (text.empty()) return;
  require(parse_number(text) == expected_length, code, "a Content-Length of",
          with(known, std::to_string(expected_length), text));
}

void check_part(const ResponseHead& head, const Expected& expected) {
  const Facts known = facts(head, expected);
  const ByteRange& asked = *expected.range;
  require(!encoded(head), ErrorCode::range_mismatch, "a range with Content-Encoding",
          with(known, "identity", header(head, "content-encoding")));
  require(!header(head, "content-type").starts_with("multipart/"), ErrorCode::range_mismatch,
          "a range with Content-Type", with(known, "a single part", header(head, "content-type")));
  const auto text = header(head, "content-range");
  const auto sent = parse_content_range(text);
  const std::uint64_t total = expected.size.value_or(asked.end);
  require(sent && sent->range == asked && sent->total == total, ErrorCode::range_mismatch,
          "a Content-Range of", with(known, describe(asked, total), text));
  check_length(head, asked.size(), ErrorCode::range_mismatch, known);
}

void check_whole(const ResponseHead& head, const Expected& expected) {
  // The length of an encoded body says nothing about the decoded one, which the receiver counts.
  if (!expected.size || encoded(head)) return;
  check_length(head, *expected.size, ErrorCode::size_mismatch, facts(head, expected));
}

// 416 names the real size: another one than announced is final, the same one is the server's slip.
void check_unsatisfied(const ResponseHead& head, const Expected& expected) {
  const auto text = header(head, "content-range");
  if (!expected.size || !text.starts_with("bytes */")) return;
  const auto total = parse_number(text.substr(8));
  require(!total || total == expected.size, ErrorCode::size_mismatch, "a file size of",
          with(facts(head, expected), std::to_string(*expected.size), text.substr(8)));
}

}  // namespace

Body check_head(const ResponseHead& head, const Expected& expected) {
  if (head.status == 206 && expected.range) {
    check_part(head, expected);
    return Body::part;
  }
  if (head.status == 416) check_unsatisfied(head, expected);
  if (head.status != 200) throw_for_status(head, expected);
  check_whole(head, expected);
  return Body::whole;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || stopped != end || error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<ContentRange> parse_content_range(std::string_view text) {
  if (!text.starts_with("bytes ")) return std::nullopt;
  text = trimmed(text.substr(6));
  const auto slash = text.find('/');
  const auto dash = text.substr(0, slash).find('-');
  if (slash == text.npos || dash == text.npos) return std::nullopt;
  const auto first = parse_number(text.substr(0, dash));
  const auto last = parse_number(text.substr(dash + 1, slash - dash - 1));
  if (!first || !last || *first > *last || *last == UINT64_MAX) return std::nullopt;
  const auto total = text.substr(slash + 1);
  if (total == "*") return ContentRange{{*first, *last + 1}, std::nullopt};
  const auto size = parse_number(total);
  if (!size || *size <= *last) return std::nullopt;
  return ContentRange{{*first, *last + 1}, size};
}

double retry_after_seconds(const ResponseHead& head) {
  const auto limit = header(head, "ratelimit");
  for (auto at = limit.find(';'); at != limit.npos; at = limit.find(';', at + 1)) {
    const auto item = trimmed(limit.substr(at + 1, limit.find(';', at + 1) - at - 1));
    if (!item.starts_with("t=")) continue;
    if (const auto seconds = parse_number(item.substr(2))) return static_cast<double>(*seconds);
  }
  return static_cast<double>(parse_number(header(head, "retry-after")).value_or(0));
}

std::string_view header(const ResponseHead& head, const std::string& lower_case_name) {
  const auto found = head.headers.find(lower_case_name);
  return found == head.headers.end() ? std::string_view{} : std::string_view(found->second);
}

}  // namespace fastslm
