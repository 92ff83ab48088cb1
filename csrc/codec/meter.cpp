#include "codec/meter.hpp"

#include <string>

#include "codec/refuse.hpp"

namespace fastslm {
namespace {

constexpr std::uint64_t kRatioFrom = 64U << 20U;  // small files may be anything

}  // namespace

void Meter::made(std::uint64_t bytes) {
  if (bytes > limits_.total_bytes - out_) {
    refuse_archive("unpacks to more than " + std::to_string(limits_.total_bytes) + " bytes");
  }
  out_ += bytes;
  if (out_ > kRatioFrom && out_ / limits_.ratio > in_) {
    refuse_archive("makes `" + std::to_string(out_) + "` bytes of `" + std::to_string(in_) +
                   "`, expected at most " + std::to_string(limits_.ratio) + " for one");
  }
}

void Meter::announce(std::uint64_t bytes) {
  if (bytes > limits_.total_bytes - announced_) {
    refuse_archive("announces more than " + std::to_string(limits_.total_bytes) + " bytes");
  }
  announced_ += bytes;
}

}  // namespace fastslm
