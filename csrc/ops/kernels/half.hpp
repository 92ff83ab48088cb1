// float16 to float32 for code that may use no special instructions.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastslm::ops {

inline float half_at(const std::uint8_t* p) {
  std::uint16_t half;
  std::memcpy(&half, p, sizeof half);
  const std::uint32_t magnitude = half & 0x7fffU;
  // Exponents differ by 112: one multiplication makes normal numbers and those below them right. The rest is
  // not finite.
  const std::uint32_t shifted = magnitude << 13;
  float value;
  std::memcpy(&value, &shifted, sizeof value);
  value *= 0x1p112F;
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (magnitude >= 0x7c00U) bits = 0x7f800000U | (magnitude & 0x3ffU) << 13;
  bits |= (half & 0x8000U) << 16;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace fastslm::ops
