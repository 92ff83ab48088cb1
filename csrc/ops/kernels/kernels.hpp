// What the kernels of one instruction set offer. One translation unit per set fills in one table.
//
// This header holds plain data only: an inline function here would be compiled once per instruction set, and
// the linker would keep any one of the copies. The law of all kernels: what comes out for a row does not
// depend, to the last bit, on the other rows of the call, because every row goes through the same
// floating-point operations in the same order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastslm::ops {

// Rows of activations as signed bytes with a scale per group of inputs; filled by `Kernels::quantize`.
struct QuantizedRows {
  std::int8_t* codes;    // [rows][code_stride]
  float* scales;         // [groups][stride], by row
  std::int32_t* starts;  // [groups][stride], minus zero times the sum of the codes: there dot products start
  float* sums;           // [groups][stride], scale times the sum of the codes
  std::int32_t* parts;   // [inputs / 32][stride], sum of 32 codes; null if not needed
  std::size_t stride;    // at least the number of rows
  std::size_t code_stride;  // at least the number of inputs
  std::size_t groups;
  int group;
};

// A packed matrix (fastslm/packed.hpp).
struct PackedView {
  const std::uint8_t* units;
  std::size_t unit_bytes;
  std::size_t code_bytes;
  std::size_t groups;
  int bits;
  int group;
  bool has_offsets;
  bool scales_offsets;
  bool has_steps;
  std::size_t bases_at;  // from the start of a unit, if it has steps
  std::size_t steps_at;
};

// One block of 32 rows of a matrix with a byte per code, [group][input / 4][32][4], and float32 scales. Codes
// with steps have become codes of 8 bits, or have their steps beside them.
struct Panel {
  const std::uint8_t* codes;
  std::size_t group_bytes;  // from the codes of one group to those of the next
  const float* scales;      // [groups][32]
  const float* offsets;     // [groups][32], or null
  int bits;
  const std::int32_t* steps = nullptr;  // [inputs / 32][32], twice in 16 bits; or null
  const std::int32_t* bases = nullptr;  // [inputs / 32][32], less 128, in the low 16 bits
  bool is_signed = false;               // the codes, which only the kernels of the same set then read
};

struct PanelMemory {
  std::uint8_t* codes;  // [inputs][32]; not used with 8 bits, whose codes are read where they are
  float* scales;
  float* offsets;
  std::int32_t* steps;  // [2][inputs / 32][32], steps and bases; null unless `steps_in_panels`
};

// All but the last give activation(gate) * up. `clamped_silu` is that of gpt-oss, with both clamped first:
// gate / (1 + exp(-1.702 gate)) * (up + 1), gate at most 7 and up from -7 to 7.
enum class Activation { silu, gelu_tanh, gelu_erf, clamped_silu };
constexpr int kLastActivation = static_cast<int>(Activation::clamped_silu);

// Raw sums of `rows` rows and where their results go: [rows][columns] with other rows between.
struct Block {
  const float* raw;
  std::size_t stride;
  std::size_t rows;
  std::size_t columns;
  float* y;
  std::size_t width;  // of y
};

// How a KV cache stores the row of a position, head_dim numbers. int16 is signed words, then their scale in
// float32; int8 is signed bytes, then a float16 scale for every 32 of them.
enum class CacheFormat { f32, f16, int16, int8 };

constexpr std::size_t kCacheGroup = 32;

// Keys and values of one head, and the queries that look at them.
struct AttentionRows {
  const float* const* queries;    // [count], each head_dim
  const std::int64_t* positions;  // [count], of the query: it sees the keys up to this one
  const float* slopes;  // [count], added to a score for each position between key and query; or null
  std::size_t count;
  const std::uint8_t* keys;    // [positions][row_bytes]
  const std::uint8_t* values;  // [positions][row_bytes]
  CacheFormat format;
  std::size_t row_bytes;
  std::size_t head_dim;
  std::int64_t window;  // most positions that a query sees, or 0 for all
  float scale;
  float soft_cap;  // 0: none
};

// `attend` needs kAttendScratch + count floats of scratch memory for each number of a head, to a multiple of
// 64, plus one.
constexpr std::size_t kAttendScratch = 64 + 64 + 16;

// Keys are always summed in chunks of this size, in order within a chunk and chunk by chunk in the end. So it
// makes no difference to a row whether one thread saw all its keys or several shared them.
constexpr std::int64_t kChunkKeys = 256;

constexpr std::size_t kTotals = 16;
constexpr float kLog2OfE = 1.44269504F;

// Softmax of some keys, not yet divided: greatest score (times log2 e), sum of exponentials, and values
// weighted by them. The sum is in parts, so that a vector of them never has to be added up on the way.
struct AttentionPartial {
  float* most;         // [count]
  float* totals;       // [count][kTotals]
  float* values;       // [count][stride]
  std::size_t stride;  // head_dim, rounded up to a multiple of 16
};

struct Kernels {
  int few_rows;          // most rows of `multiply_few`; 0: always use panels
  int tile_rows;         // most rows of `multiply_tile`
  int bias8;             // what the kernels themselves subtract from codes of 8 bits
  bool steps_in_panels;  // beside codes of 4 bits, which then do not become codes of 8 bits

  void (*quantize)(const float* x, std::size_t row, int zero, const QuantizedRows& to);
  // Fills in the parts of a row, for a few rows times a matrix with steps, or for panels with steps; null:
  // not needed
  void (*sum_parts)(std::size_t row, const QuantizedRows& of);
  // left = x - scale * code, for a row that `quantize` has done
  void (*remainder)(const float* x, std::size_t row, const QuantizedRows& of, float* left);
  void (*multiply_few)(const PackedView& matrix, std::size_t first_block, std::size_t end_block,
                       const QuantizedRows& rows, int count, float* y, std::size_t stride);
  Panel (*unpack)(const PackedView& matrix, std::size_t block, const PanelMemory& memory);
  void (*multiply_tile)(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count, float* y,
                        std::size_t stride);
  void (*add)(float* y, const float* x, std::size_t count);
  // y = raw + bias [columns] + residual [rows][width], each or null
  void (*put)(const Block& block, const float* bias, const float* residual);
  // y = activation(gate) * up, rows of raw are 32 gates followed by 32 ups; at most 32 columns
  void (*put_gated)(const Block& block, Activation activation);
  // y = x * weight / sqrt(mean(x * x) + epsilon)
  void (*rms_norm)(const float* x, const float* weight, float epsilon, std::size_t count, float* y);
  // y[i] = x * row i of a matrix of floats [count][width]
  void (*dots)(const float* x, const float* rows, std::size_t count, std::size_t width, float* y);
  // One row of a KV cache from `count` floats.
  void (*store_row)(CacheFormat format, const float* x, std::size_t count, std::uint8_t* row);
  // Keys from `first_key`, a multiple of kChunkKeys, to `end_key`. `scratch` is aligned to 64 bytes, and
  // `chunk` is needed for more than one chunk.
  void (*attend)(const AttentionRows& rows, std::int64_t first_key, std::int64_t end_key, float* scratch,
                 const AttentionPartial& result, const AttentionPartial& chunk);
  // Add a later partial result of one row to an earlier one.
  void (*merge)(const AttentionPartial& to, std::size_t to_row, const AttentionPartial& from,
                std::size_t from_row);
  // `multiply_tile` for two panels, whose results go to y and y + 32; or null
  void (*multiply_pair)(const Panel* panels, const QuantizedRows& rows, std::size_t first, int count,
                        float* y, std::size_t stride) = nullptr;
};

const Kernels& portable_kernels();
const Kernels& avx2_kernels();
const Kernels& avx_vnni_kernels();
const Kernels& avx512_vnni_kernels();
const Kernels& amx_kernels();
const Kernels& neon_dotprod_kernels();
const Kernels& neon_i8mm_kernels();

}  // namespace fastslm::ops
