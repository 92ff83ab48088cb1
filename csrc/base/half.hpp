// float16 from and to float32 for code that may use no special instructions.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastslm {

inline float float_of_half(const std::uint8_t* p) {
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

// Rounds to nearest even; `value` is finite and within the range of float16.
inline void put_half(std::uint8_t* p, float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t sign = bits >> 16 & 0x8000U;
  bits &= 0x7fffffffU;
  if (bits >= 0x38800000U) {
    // Normal: half of the last place, less one where the result would be even anyway, then the exponent.
    bits = (bits + 0xfffU + (bits >> 13 & 1U) - 0x38000000U) >> 13;
  } else {
    // Adding 0.5 puts the last place of float16 at the last place of the sum.
    float magnitude;
    std::memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude += 0.5F;
    std::memcpy(&bits, &magnitude, sizeof bits);
    bits -= 0x3f000000U;
  }
  const auto half = static_cast<std::uint16_t>(sign | bits);
  std::memcpy(p, &half, sizeof half);
}

}  // namespace fastslm
