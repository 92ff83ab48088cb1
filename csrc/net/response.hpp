// What a response's head must say before a byte of its body is believed (RFC 9110 sections 14 and 15). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <fastslm/transport.hpp>

#include "base/extents.hpp"

namespace fastslm {

enum class Body { part, whole };  // the range that was asked for, or the file from its first byte

struct Expected {
  std::string url;                    // for messages
  std::optional<ByteRange> range;     // what was asked for; nothing means the whole file
  std::optional<std::uint64_t> size;  // of the whole file, if known
};

// Throws the error that the status stands for, or that a header contradicts what was asked.
Body check_head(const ResponseHead& head, const Expected& expected);

struct ContentRange {
  ByteRange range;
  std::optional<std::uint64_t> total;
};

// `bytes first-last/total`; nothing for any other form.
std::optional<ContentRange> parse_content_range(std::string_view text);

// Digits only, no sign, no overflow.
std::optional<std::uint64_t> parse_number(std::string_view text);

// Seconds to wait, from `RateLimit: "x";r=0;t=N` or `Retry-After: N`; 0 when neither says.
double retry_after_seconds(const ResponseHead& head);

// A header's value, empty when it is not there.
std::string_view header(const ResponseHead& head, const std::string& lower_case_name);

}  // namespace fastslm
