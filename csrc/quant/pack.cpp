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
  if (format.has_steps && (format.bits != 4 || format.has_offsets)) {
    refuse("has_steps", "true", "false with 8 bits or offsets");
  }
  const bool wide = format.has_steps && format.group == 256;
  if (format.group != 32 && format.group != 64 && format.group != 128 && !wide) {
    refuse("group", std::to_string(format.group), format.has_steps ? "32, 64, 128 or 256" : "32, 64 or 128");
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
  return {input / 8 * 128 + row * 4 + input % 4, input % 8 < 4 ? 0U : 4U};
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
    std::memcpy(to + k * 16, &low, 4);
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

// Where the step of (row of the block, 32 inputs with this number in the group) lies in a unit.
Place step_of(const PackedFormat& format, std::size_t row, std::size_t part) {
  return {format.steps_at() + part / 2 * 32 + row, part % 2 == 0 ? 0U : 4U};
}

// The steps and bases of one row and group.
void put_steps(const std::uint8_t* steps, const std::int8_t* bases, const PackedFormat& format,
               std::size_t row, std::uint8_t* unit) {
  const auto parts = static_cast<std::size_t>(format.group) / kStepInputs;
  for (std::size_t part = 0; part < parts; ++part) {
    const int step = steps[part], base = bases[part];
    if (step > 15 || base - 8 * step < -128 || base + 7 * step > 127) {
      refuse("steps", std::to_string(step) + " around " + std::to_string(base),
             "at most 15, and eight of them from -128 to 127");
    }
    const Place place = step_of(format, row, part);
    unit[place.byte] = static_cast<std::uint8_t>(unit[place.byte] | step << place.shift);
    const int lowest = base - 8 * step + 128;
    unit[format.bases_at() + part * kPackedBlockRows + row] = static_cast<std::uint8_t>(lowest);
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
  const std::size_t parts = format.has_steps ? plain.inputs / kStepInputs : 0;
  check_size("steps", plain.steps.size(), plain.rows * parts);
  check_size("bases", plain.bases.size(), plain.rows * parts);
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
                 if (!format.has_steps) return;
                 const std::size_t first = row * parts + group * (group_size / kStepInputs);
                 put_steps(&plain.steps[first], &plain.bases[first], format, r, unit);
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
  const std::size_t parts = group_size / kStepInputs;
  plain.steps.resize(format.has_steps ? rows * groups * parts : 0);
  plain.bases.resize(plain.steps.size());
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
                 for (std::size_t part = 0; format.has_steps && part < parts; ++part) {
                   const std::size_t at = (row * groups + group) * parts + part;
                   const Place place = step_of(format, r, part);
                   plain.steps[at] = unit[place.byte] >> place.shift & 15;
                   const int lowest = unit[format.bases_at() + part * kPackedBlockRows + r];
                   plain.bases[at] = static_cast<std::int8_t>(lowest - 128 + 8 * plain.steps[at]);
                 }
               });
  return plain;
}

}  // namespace fastslm
