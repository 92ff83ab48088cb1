// How a quantised matrix lies in a weights file so that the kernels can read it as one sequential stream.
//
// A matrix [rows, inputs] (rows are the outputs of a linear layer) is cut into blocks of 32 rows, a block
// into groups of inputs. One unit is 32 rows times one group, a whole number of cache lines; units are
// ordered [block][group].
//
//   4 bits, 16 * group bytes: [half][l][c][j], row 16 * half + c, input 8 * l + j in the low nibble,
//                             8 * l + 4 + j in the high one
//   8 bits, 32 * group bytes: [q][r][j], row r, input 4 * q + j
//   64 bytes: 32 float16 scales, by row
//   64 bytes, if it has them: 32 float16 offsets, by row
//
// Codes are unsigned. Without offsets weight = scale * (code - 8), or (code - 128) with 8 bits; with offsets
// weight = scale * code + offset; with scaled offsets, which hold integer zero points (negated) without
// rounding, weight = scale * (code + offset). Rows beyond the last have scale and offset 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fastslm {

// 2: the KV cache is bytes, so that its format is chosen when a model is loaded; the weights lie as in 1.
inline constexpr int kPackedLayoutVersion = 2;
inline constexpr std::size_t kPackedBlockRows = 32;
inline constexpr std::size_t kPackedAlignment = 64;

struct PackedFormat {
  int bits = 4;    // 4 or 8
  int group = 32;  // 32, 64 or 128 inputs that share a scale
  bool has_offsets = false;
  bool scales_offsets = false;  // only what a weight is depends on this, not how it lies in the file

  std::size_t code_bytes() const { return static_cast<std::size_t>(group) * (bits == 4 ? 16 : 32); }
  std::size_t unit_bytes() const { return code_bytes() + (has_offsets ? 128 : 64); }
  std::size_t packed_bytes(std::size_t rows, std::size_t inputs) const {
    const std::size_t blocks = (rows + kPackedBlockRows - 1) / kPackedBlockRows;
    return blocks * (inputs / static_cast<std::size_t>(group)) * unit_bytes();
  }
};

// A matrix as the packer takes it and gives it back: codes [rows, inputs], one byte each; scales and offsets
// [rows, inputs / group] (no offsets: an empty vector).
struct PlainMatrix {
  std::size_t rows = 0;
  std::size_t inputs = 0;
  std::vector<std::uint8_t> codes{};
  std::vector<float> scales{};
  std::vector<float> offsets{};
};

struct PlainView {
  std::size_t rows = 0;
  std::size_t inputs = 0;
  std::span<const std::uint8_t> codes{};
  std::span<const float> scales{};
  std::span<const float> offsets{};
};

// Fill `packed`. Throws Error(invalid_argument) when sizes disagree, a code does not fit into the bits, or a
// scale or an offset is beyond float16.
void pack_linear(const PlainView& plain, const PackedFormat& format, std::span<std::uint8_t> packed);

// The inverse; scales and offsets come back as float16 holds them. Throws Error(invalid_argument).
PlainMatrix unpack_linear(std::span<const std::uint8_t> packed, const PackedFormat& format, std::size_t rows,
                          std::size_t inputs);

}  // namespace fastslm
