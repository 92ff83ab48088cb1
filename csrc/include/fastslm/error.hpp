// The one error type of the C++ core: a code, a sentence and the facts behind it.
//
// Every code becomes one Python class (bindings/errors.cpp); retryable and fatal errors have different codes.
// Messages never hold the query of an address: signed addresses carry secrets there.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fastslm {

enum class ErrorCode {
  invalid_argument,   // a value that is not allowed
  connection_lost,    // no connection, cut off, time-out, stall, short body; retryable
  server_busy,        // 408, 429, 5xx; retryable
  range_mismatch,     // another range than was asked for, nothing of it written; retryable
  link_expired,       // 401, 403, 410: the address must be resolved again
  server_refused,     // any other final answer, redirect loops, bad certificates
  checksum_mismatch,  // the bytes are not the published ones
  size_mismatch,      // the file has another length than was announced
  bad_format,         // damaged, truncated, hostile, or packed in a way that we do not read
  disk_full,          // fewer free bytes than needed
  file_system,        // the operating system refused a file operation
  cancelled,          // the caller asked to stop
  internal,           // a broken promise inside the core
};

// What a caller may want to know besides the sentence; fields that do not apply keep their defaults.
struct Facts {
  std::string url{};  // without query
  int status = 0;     // HTTP status
  std::uint64_t offset = 0;
  std::string expected{};
  std::string found{};
  std::uint64_t needed = 0;     // bytes
  std::uint64_t available = 0;  // bytes
  std::string path{};
  int system_error = 0;  // errno
  double retry_after_s = 0;
  std::string name{};  // argument that was wrong, or subject of an integrity error
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, Facts facts = {})
      : std::runtime_error(message), code_(code), facts_(std::move(facts)) {}

  ErrorCode code() const noexcept { return code_; }
  const Facts& facts() const noexcept { return facts_; }

 private:
  ErrorCode code_;
  Facts facts_;
};

// All codes, in the order of the enumeration.
std::span<const ErrorCode> error_codes() noexcept;

// The code's own name, for example `connection_lost`.
std::string_view error_name(ErrorCode code) noexcept;

}  // namespace fastslm
