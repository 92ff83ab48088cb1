#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include <fastslm/error.hpp>
#include <fastslm/packed.hpp>

#include "base/half.hpp"

namespace fastslm {
namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& found, const std::string& expected) {
  throw Error(ErrorCode::invalid_argument, "`" + name + "` is `" + found + "`, expected " + expected,
              {.name = name});
}

void check_format(const PackedFormat& format, std::size_t inputs) {
  if (format.bits != 4 && format.bits != 8) refuse("bits", std::to_string(format.bits), "4 or 8");
  if (format.group != 32 && format.group != 64 && format.group != 128) {
    refuse("group", std::to_string(format.group), "32, 64 or 128");
  }
  if (inputs == 0 || inputs % static_cast<std::size_t>(format.group) != 0) {
    refuse("inputs", std::to_string(inputs), "a multiple of " + std::to_string(format.group));
  }
}

void check_size(const char* name, std::size_t found, std::size_t expected) {
  if (found != expected) refuse(name, std::to_string(found) + " values", std::to_string(expected));
}

// Where the code of (row of the block, input of the group) lies in a unit, and by how much it is shifted.
struct Place {
  std::size_t byte;
  unsigned shift;
};

Place place_of(const PackedFormat& format, std::size_t row, std::size_t input) {
  if (format.bits == 8) return {input / 4 * 128 + row * 4 + input % 4, 0};
  const std::size_t half = row / 16 * static_cast<std::size_t>(8 * format.group);
  return {half + input / 8 * 64 + row % 16 * 4 + input % 4, input % 8 < 4 ? 0U : 4U};
}

void store_half(std::uint8_t* to, float value, const char* name) {
  if (!(std::fabs(value) < 65520.0F))
    refuse(name, std::to_string(value), "a number below 65520, as float16 holds it");
  put_half(to, value);
}

// The codes of one row and group, eight or four at a time: codes of 4 bits that are eight inputs in a row
// become four bytes. False when a code has more bits.
bool put_codes(const std::uint8_t* codes, const PackedFormat& format, std::size_t row, std::uint8_t* unit) {
  const auto group = static_cast<std::size_t>(format.group);
  if (format.bits == 8) {
    for (std::size_t k = 0; k < group; k += 4) std::memcpy(unit + k * 32 + row * 4, codes + k, 4);
    return true;
  }
  std::uint8_t* to = unit + place_of(format, row, 0).byte;
  std::uint32_t all = 0;
  for (std::size_t k = 0; k < group; k += 8) {
    std::uint32_t low = 0, high = 0;
    std::memcpy(&low, codes + k, 4);
    std::memcpy(&high, codes + k + 4, 4);
    all |= low | high;
    low |= high << 4;
    std::memcpy(to + k * 8, &low, 4);
  }
  return (all & 0xf0f0f0f0U) == 0;
}

// Calls visit(row, group, unit, row of the block) for every row and group, unit by unit.
template <class Unit, class Visit>
void for_each_row(Unit* packed, const PackedFormat& format, std::size_t rows, std::size_t groups,
                  const Visit& visit) {
  for (std::size_t block = 0; block < rows; block += kPackedBlockRows) {
    const std::size_t count = std::min(kPackedBlockRows, rows - block);
    for (std::size_t group = 0; group < groups; ++group, packed += format.unit_bytes()) {
      for (std::size_t row = 0; row < count; ++row) visit(block + row, group, packed, row);
    }
  }
}

}  // namespace

void pack_linear(const PlainView& plain, const PackedFormat& format, std::span<std::uint8_t> packed) {
  check_format(format, plain.inputs);
  const auto group_size = static_cast<std::size_t>(format.group);
  const std::size_t groups = plain.inputs / group_size;
  check_size("codes", plain.codes.size(), plain.rows * plain.inputs);
  check_size("scales", plain.scales.size(), plain.rows * groups);
  check_size("offsets", plain.offsets.size(), format.has_offsets ? plain.rows * groups : 0);
  check_size("packed", packed.size(), format.packed_bytes(plain.rows, plain.inputs));
  if (!packed.empty()) std::memset(packed.data(), 0, packed.size());
  for_each_row(packed.data(), format, plain.rows, groups,
               [&](std::size_t row, std::size_t group, std::uint8_t* unit, std::size_t r) {
                 const std::uint8_t* codes = plain.codes.data() + row * plain.inputs + group * group_size;
                 if (!put_codes(codes, format, r, unit)) {
                   refuse("codes", std::to_string(*std::max_element(codes, codes + group_size)),
                          "at most 15");
                 }
                 std::uint8_t* scales = unit + format.code_bytes() + r * 2;
                 store_half(scales, plain.scales[row * groups + group], "scales");
                 if (format.has_offsets)
                   store_half(scales + 64, plain.offsets[row * groups + group], "offsets");
               });
}

PlainMatrix unpack_linear(std::span<const std::uint8_t> packed, const PackedFormat& format, std::size_t rows,
                          std::size_t inputs) {
  check_format(format, inputs);
  check_size("packed", packed.size(), format.packed_bytes(rows, inputs));
  const auto group_size = static_cast<std::size_t>(format.group);
  const std::size_t groups = inputs / group_size;
  PlainMatrix plain{rows, inputs, std::vector<std::uint8_t>(rows * inputs), std::vector<float>(rows * groups),
                    std::vector<float>(format.has_offsets ? rows * groups : 0)};
  const unsigned mask = format.bits == 4 ? 15 : 255;
  for_each_row(packed.data(), format, rows, groups,
               [&](std::size_t row, std::size_t group, const std::uint8_t* unit, std::size_t r) {
                 for (std::size_t k = 0; k < group_size; ++k) {
                   const Place place = place_of(format, r, k);
                   plain.codes[row * inputs + group * group_size + k] =
                       static_cast<std::uint8_t>(unit[place.byte] >> place.shift & mask);
                 }
                 const std::uint8_t* scales = unit + format.code_bytes() + r * 2;
                 plain.scales[row * groups + group] = float_of_half(scales);
                 if (format.has_offsets) plain.offsets[row * groups + group] = float_of_half(scales + 64);
               });
  return plain;
}

}  // namespace fastslm
