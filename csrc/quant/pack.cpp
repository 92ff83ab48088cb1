#include <cmath>
#include <cstring>
#include <string>

#include <fastslm/error.hpp>
#include <fastslm/packed.hpp>

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

// IEEE 754 binary16, round to nearest even. The scaling puts the last bit of float16 at the last bit of
// float32's sum.
std::uint16_t to_half(float value, const char* name) {
  const float magnitude = std::fabs(value);
  if (!(magnitude < 65520.0F))
    refuse(name, std::to_string(value), "a number below 65520, as float16 holds it");
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000U);
  if (magnitude == 0) return sign;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int last_bit = (exponent < -13 ? -13 : exponent) - 11;
  const auto steps = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, -last_bit)));
  // A mantissa that rounds up to 2048 carries into the exponent by the same addition.
  return static_cast<std::uint16_t>(sign + (static_cast<std::uint32_t>(last_bit + 24) << 10) + steps);
}

float from_half(std::uint16_t half) {
  const int exponent = half >> 10 & 31;
  const int mantissa = half & 1023;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                        : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
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

void put_half(std::uint8_t* to, float value, const char* name) {
  const std::uint16_t half = to_half(value, name);
  to[0] = static_cast<std::uint8_t>(half & 255U);
  to[1] = static_cast<std::uint8_t>(half >> 8);
}

float get_half(const std::uint8_t* from) {
  return from_half(static_cast<std::uint16_t>(from[0] | from[1] << 8));
}

// Calls visit(row, group, unit, row of the block) for every row and group.
template <class Unit, class Visit>
void for_each_row(Unit* packed, const PackedFormat& format, std::size_t rows, std::size_t groups,
                  const Visit& visit) {
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t group = 0; group < groups; ++group) {
      const std::size_t unit = (row / kPackedBlockRows) * groups + group;
      visit(row, group, packed + unit * format.unit_bytes(), row % kPackedBlockRows);
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
  const unsigned most = format.bits == 4 ? 15 : 255;
  for_each_row(packed.data(), format, plain.rows, groups,
               [&](std::size_t row, std::size_t group, std::uint8_t* unit, std::size_t r) {
                 const std::uint8_t* codes = plain.codes.data() + row * plain.inputs + group * group_size;
                 for (std::size_t k = 0; k < group_size; ++k) {
                   if (codes[k] > most)
                     refuse("codes", std::to_string(codes[k]), "at most " + std::to_string(most));
                   const Place place = place_of(format, r, k);
                   unit[place.byte] = static_cast<std::uint8_t>(unit[place.byte] | codes[k] << place.shift);
                 }
                 std::uint8_t* scales = unit + format.code_bytes() + r * 2;
                 put_half(scales, plain.scales[row * groups + group], "scales");
                 if (format.has_offsets)
                   put_half(scales + 64, plain.offsets[row * groups + group], "offsets");
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
                 plain.scales[row * groups + group] = get_half(scales);
                 if (format.has_offsets) plain.offsets[row * groups + group] = get_half(scales + 64);
               });
  return plain;
}

}  // namespace fastslm
