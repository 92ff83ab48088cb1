#include "hash/checksum.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace fastslm {
namespace {

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87U;
constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4FU;
constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9U;
constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63U;
constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5U;

template <class Number>
Number load(const std::byte* from) noexcept {
  Number value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::endian::native == std::endian::little) return value;
  Number swapped = 0;
  for (std::size_t i = 0; i < sizeof value; ++i) {
    swapped = static_cast<Number>(swapped << 8U | (value & 255U));
    value = static_cast<Number>(value >> 8U);
  }
  return swapped;
}

std::uint64_t round(std::uint64_t lane, std::uint64_t input) noexcept {
  return std::rotl(lane + input * kPrime2, 31) * kPrime1;
}

std::uint64_t merge(std::uint64_t hash, std::uint64_t lane) noexcept {
  return (hash ^ round(0, lane)) * kPrime1 + kPrime4;
}

std::uint64_t add_rest(std::uint64_t hash, std::span<const std::byte> rest) noexcept {
  for (; rest.size() >= 8; rest = rest.subspan(8)) {
    hash = std::rotl(hash ^ round(0, load<std::uint64_t>(rest.data())), 27) * kPrime1 + kPrime4;
  }
  if (rest.size() >= 4) {
    hash = std::rotl(hash ^ load<std::uint32_t>(rest.data()) * kPrime1, 23) * kPrime2 + kPrime3;
    rest = rest.subspan(4);
  }
  for (const std::byte byte : rest) {
    hash = std::rotl(hash ^ std::to_integer<std::uint64_t>(byte) * kPrime5, 11) * kPrime1;
  }
  return hash;
}

std::uint64_t avalanche(std::uint64_t hash) noexcept {
  hash = (hash ^ hash >> 33U) * kPrime2;
  hash = (hash ^ hash >> 29U) * kPrime3;
  return hash ^ hash >> 32U;
}

}  // namespace

void Checksum64::consume(const std::byte* stripe) noexcept {
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    lanes_[i] = round(lanes_[i], load<std::uint64_t>(stripe + 8 * i));
  }
}

void Checksum64::update(std::span<const std::byte> data) noexcept {
  const std::size_t held = length_ % kStripe;
  length_ += data.size();
  if (held != 0) {
    const std::size_t taken = std::min(data.size(), kStripe - held);
    std::copy_n(data.begin(), taken, rest_.begin() + static_cast<std::ptrdiff_t>(held));
    data = data.subspan(taken);
    if (held + taken < kStripe) return;
    consume(rest_.data());
  }
  for (; data.size() >= kStripe; data = data.subspan(kStripe)) consume(data.data());
  std::copy(data.begin(), data.end(), rest_.begin());
}

std::uint64_t Checksum64::value() const noexcept {
  std::uint64_t hash = kPrime5;
  if (length_ >= kStripe) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
           std::rotl(lanes_[3], 18);
    for (const std::uint64_t lane : lanes_) hash = merge(hash, lane);
  }
  return avalanche(add_rest(hash + length_, std::span(rest_).first(length_ % kStripe)));
}

}  // namespace fastslm
