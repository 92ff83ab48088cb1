// How much came in and went out. Law: no archive makes more than it may, whatever it claims of itself.
#pragma once

#include <cstdint>

#include <fastslm/unpack.hpp>

namespace fastslm {

class Meter {
 public:
  explicit Meter(const UnpackLimits& limits) : limits_(limits) {}

  void took(std::uint64_t bytes) noexcept { in_ += bytes; }

  // Bytes were decoded, or are about to be. Throws Error(bad_format).
  void made(std::uint64_t bytes);

  // Members of these sizes together will be written. Throws Error(bad_format).
  void announce(std::uint64_t bytes);

  std::uint64_t room() const noexcept { return limits_.total_bytes - out_; }

 private:
  const UnpackLimits limits_;
  std::uint64_t in_ = 0;
  std::uint64_t out_ = 0;
  std::uint64_t announced_ = 0;
};

}  // namespace fastslm
