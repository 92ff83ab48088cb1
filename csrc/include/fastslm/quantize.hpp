// Quantisation of float32 rows to 4 or 8 bits in groups of 32 to 256, with a search for the scale that hurts
// least.
//
// weight = scale * (code - zero): 8 bits always have zero point 128, 4 bits one per group. Or, with 4 bits,
// weight = scale * code + offset, which fits better, as an offset is not bound to the grid; or
// scale * (step * (code - 8) + base), step and base whole numbers for each 32 columns. The error that is made
// small is the sum of importance * (weight - restored)^2. Results do not depend on the instruction set. The
// search is that of make_qx_quants in llama.cpp, over asymmetric grids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fastslm {

constexpr std::size_t kLargestQuantGroup = 256;

// A matrix, row after row; `columns` is a multiple of `group`, which is 32, 64, 128 or, with steps, 256.
struct FloatRows {
  std::span<const float> values;
  std::size_t columns = 0;
  std::size_t group = 32;
};

// Where the result goes, row after row: codes (two 4-bit codes in a byte, the even column in the low half),
// a scale per group, and for 4 bits a zero point per group, one in a byte.
struct QuantizedRows {
  std::span<std::uint8_t> codes;
  std::span<float> scales;
  std::span<std::uint8_t> zeros{};
  std::span<float> offsets{};  // in the place of zero points
};

// Codes as above; a scale per group, a number that float16 has if it is not beyond its range; and for every
// 32 columns a step of at most 15 and a base, with base - 8 * step and base + 7 * step in a signed byte.
struct SteppedRows {
  std::span<std::uint8_t> codes;
  std::span<float> scales;
  std::span<std::uint8_t> steps;
  std::span<std::int8_t> bases;
};

// How many grids are tried for each group.
enum class Effort { quick, thorough };

// `importance` has a weight of at least 0 for each column, or is empty, which means that all count the same.
// Throws Error(invalid_argument) when a size does not fit. False when a number is infinite or not a number;
// then the result means nothing.
bool quantize4(FloatRows rows, std::span<const float> importance, Effort effort, QuantizedRows result);
bool quantize4_offsets(FloatRows rows, std::span<const float> importance, Effort effort,
                       QuantizedRows result);
// weight = scale * (step * (code - 8) + base); here a group may also be 256 columns.
bool quantize4_steps(FloatRows rows, std::span<const float> importance, Effort effort, SteppedRows result);
bool quantize8(FloatRows rows, QuantizedRows result);

}  // namespace fastslm
