// A fast 64-bit checksum against accidents, not against attackers: XXH64 by Yann Collet (public
// specification).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace fastslm {

class Checksum64 {
 public:
  void update(std::span<const std::byte> data) noexcept;

  // Of all bytes so far; more may follow.
  std::uint64_t value() const noexcept;

 private:
  static constexpr std::size_t kStripe = 32;

  void consume(const std::byte* stripe) noexcept;

  std::array<std::uint64_t, 4> lanes_{0x60EA27EEADC0B5D6U, 0xC2B2AE3D27D4EB4FU, 0, 0x61C8864E7A143579U};
  std::array<std::byte, kStripe> rest_{};
  std::uint64_t length_ = 0;
};

}  // namespace fastslm
