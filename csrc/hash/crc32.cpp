// Definition: the remainder of the bit-reversed message times x^32 modulo 0x04C11DB7; here eight bits per
// step.
#include <array>

#include <fastslm/hash.hpp>

namespace fastslm {
namespace {

constexpr auto kTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1U) ^ ((rest & 1U) != 0 ? 0xEDB88320U : 0U);
    table[byte] = rest;
  }
  return table;
}();

}  // namespace

std::uint32_t crc32(std::span<const std::byte> data) noexcept {
  std::uint32_t rest = ~0U;
  for (const std::byte byte : data)
    rest = (rest >> 8U) ^ kTable[(rest ^ std::to_integer<std::uint32_t>(byte)) & 255U];
  return ~rest;
}

}  // namespace fastslm
