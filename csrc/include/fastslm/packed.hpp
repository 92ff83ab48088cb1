// How a quantised matrix lies in a weights file so that the kernels can read it as one sequential stream.
//
// A matrix [rows, inputs] (rows are the outputs of a linear layer) is cut into blocks of 32 rows, a block
// into groups of inputs. One unit is 32 rows times one group, a whole number of cache lines; units are
// ordered [block][group].
//
//   4 bits, 16 * group bytes: [l][r][j], row r, input 8 * l + j in the low nibble, 8 * l + 4 + j in the high
//   8 bits, 32 * group bytes: [q][r][j], row r, input 4 * q + j
//   64 bytes: 32 float16 scales, by row
//   64 bytes, if it has them: 32 float16 offsets, by row
//   if it has steps (4 bits only): group bytes [s][r], what code 0 becomes in row r, inputs 32 * s to + 31;
//     then 32 bytes for every 64 inputs, or what is left of them, [p][r]: the step of inputs 64 * p to + 31
//     in the low nibble, of the next 32 in the high one; then zeros up to a whole cache line
//
// Codes are unsigned. Without offsets weight = scale * (code - 8), or (code - 128) with 8 bits; with offsets
// weight = scale * code + offset; with scaled offsets, which hold integer zero points (negated) without
// rounding, weight = scale * (code + offset). Rows beyond the last have scale and offset 0.
//
// With steps weight = scale * (step * (code - 8) + base), where the bracket fits into a signed byte for all
// codes: 8 bits in disguise. The unit has base - 8 * step + 128, so that step * code on top of it is the code
// of 8 bits. The fit is that of groups of 32, and yet a float ends many products of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fastslm {

// 2: the KV cache is bytes, so that its format is chosen when a model is loaded; the weights lie as in 1.
// 3: steps; codes of 4 bits lie in the order in which they are read.
inline constexpr int kPackedLayoutVersion = 3;
inline constexpr std::size_t kPackedBlockRows = 32;
inline constexpr std::size_t kPackedAlignment = 64;
inline constexpr std::size_t kStepInputs = 32;  // that share a step and a base

struct PackedFormat {
  int bits = 4;    // 4 or 8
  int group = 32;  // 32, 64, 128 or, with steps, 256 inputs that share a scale
  bool has_offsets = false;
  bool scales_offsets = false;  // only what a weight is depends on this, not how it lies in the file
  bool has_steps = false;       // instead of offsets

  std::size_t code_bytes() const { return static_cast<std::size_t>(group) * (bits == 4 ? 16 : 32); }
  // From the start of a unit to what code 0 becomes, and to the steps.
  std::size_t bases_at() const { return code_bytes() + 64; }
  std::size_t steps_at() const { return bases_at() + static_cast<std::size_t>(group); }
  std::size_t unit_bytes() const {
    if (!has_steps) return code_bytes() + (has_offsets ? 128 : 64);
    const std::size_t bytes = steps_at() + (static_cast<std::size_t>(group) + 63) / 64 * 32;
    return (bytes + kPackedAlignment - 1) / kPackedAlignment * kPackedAlignment;
  }
  std::size_t packed_bytes(std::size_t rows, std::size_t inputs) const {
    const std::size_t blocks = (rows + kPackedBlockRows - 1) / kPackedBlockRows;
    return blocks * (inputs / static_cast<std::size_t>(group)) * unit_bytes();
  }
};

// A matrix as the packer takes it and gives it back: codes [rows, inputs], one byte each; scales and offsets
// [rows, inputs / group]; steps, at most 15, and bases [rows, inputs / 32]. What it has not is empty.
struct PlainMatrix {
  std::size_t rows = 0;
  std::size_t inputs = 0;
  std::vector<std::uint8_t> codes{};
  std::vector<float> scales{};
  std::vector<float> offsets{};
  std::vector<std::uint8_t> steps{};
  std::vector<std::int8_t> bases{};
};

struct PlainView {
  std::size_t rows = 0;
  std::size_t inputs = 0;
  std::span<const std::uint8_t> codes{};
  std::span<const float> scales{};
  std::span<const float> offsets{};
  std::span<const std::uint8_t> steps{};
  std::span<const std::int8_t> bases{};
};

// Fill `packed`. Throws Error(invalid_argument) when sizes disagree, a code does not fit into the bits, a
// step and a base leave the range of a byte, or a scale or an offset is beyond float16.
void pack_linear(const PlainView& plain, const PackedFormat& format, std::span<std::uint8_t> packed);

// The inverse; scales and offsets come back as float16 holds them. Throws Error(invalid_argument).
PlainMatrix unpack_linear(std::span<const std::uint8_t> packed, const PackedFormat& format, std::size_t rows,
                          std::size_t inputs);

}  // namespace fastslm
