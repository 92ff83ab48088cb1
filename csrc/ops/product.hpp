// Activations times a packed matrix: shapes and checks, quantisation of the activations, division into tasks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include <fastslm/packed.hpp>

#include "ops/runtime/define.hpp"
#include "ops/runtime/scratch.hpp"

namespace fastslm::ops {

// A packed matrix as a node of the graph describes it: attributes K (inputs), N (rows), bits, group_size,
// offsets, layout and passes, each with `prefix` in front, and the input `index` that holds the units; or
// `count` such matrices one after the other.
class PackedWeight {
 public:
  PackedWeight(const Info& info, std::size_t index, const std::string& prefix = "", std::size_t count = 1);

  std::size_t inputs() const { return inputs_; }
  std::size_t rows() const { return rows_; }
  std::size_t blocks() const { return (rows_ + kPackedBlockRows - 1) / kPackedBlockRows; }
  // Bytes of one matrix.
  std::size_t bytes() const { return format_.packed_bytes(rows_, inputs_); }
  const PackedFormat& format() const { return format_; }
  // How many rows of codes a row of activations becomes: 1, or 2, the second for what the first leaves, which
  // gives activations 15 bits. A few rows read the weights once anyway; many cost twice the products.
  std::size_t passes() const { return passes_; }
  // What the kernels subtract: the zero point of the codes where no offset replaces it.
  int zero(const Kernels& kernels) const;
  // The first matrix in memory; checked when the session was made if it is an initializer, else now.
  PackedView view(const Context& context) const;

 private:
  PackedView checked(const Tensor& tensor) const;

  std::size_t index_;
  std::size_t count_;
  std::size_t inputs_;
  std::size_t rows_;
  PackedFormat format_;
  std::size_t passes_;
  PackedView view_{};
};

// Null when the input is absent; throws OpError when it does not have `count` values.
const float* optional_values(const Tensor& tensor, std::size_t count, const char* name);

// Rows of float32 activations [..., K]; throws OpError when the last dimension is another.
std::size_t rows_of(const Tensor& x, std::size_t inputs);

// How many rows the calls of the kernels will have.
enum class Calls { few, many, any };

// Quantise `count` rows of x, those at `places` or the first ones, into this thread's buffers, each to
// `passes()` rows of codes next to each other.
QuantizedRows quantize_rows(const Context& context, const Kernels& kernels, const PackedWeight& weight,
                            const float* x, std::size_t count, Calls calls,
                            const std::uint32_t* places = nullptr);

// How many tasks a few rows make of a matrix: large enough to be worth a thread, enough of them to share out
// evenly.
std::size_t few_tasks(std::size_t units, std::size_t bytes);

// Part of a product: raw sums of `count` rows from `row` on, blocks [first, end), at raw[r * stride +
// column].
struct RawTile {
  std::size_t row;
  std::size_t count;
  std::size_t first_block;
  std::size_t end_block;
  float* raw;
  std::size_t stride;
};

// Turns a tile of alternating gate and up blocks, with their bias or null added, into activation(gate) * up,
// in rows of `y` [..., width].
void gate_tile(const Kernels& kernels, Activation activation, const float* bias, const RawTile& tile,
               float* y, std::size_t width);

// Multiplies rows by units of one matrix (`together` blocks each) on the thread that calls, and hands each
// finished tile to `finish` while it is in the cache.
template <class Finish>
class Tiles {
 public:
  Tiles(const Kernels& kernels, const PackedView& matrix, std::size_t together, const Finish& finish,
        std::size_t passes = 1)
      : kernels_(kernels), matrix_(matrix), together_(together), passes_(passes), finish_(finish) {}

  // Rows [first, first + count) times units [begin, end).
  void multiply(const QuantizedRows& rows, std::size_t first, std::size_t count, std::size_t begin,
                std::size_t end) const {
    if (are_few(kernels_, count)) return multiply_few(rows, first, count, begin * together_, end * together_);
    const std::size_t most = together_ * units_at_once(kernels_, together_);
    for (std::size_t block = begin * together_; block < end * together_; block += most) {
      multiply_panels(rows, first, count, block, std::min(most, end * together_ - block));
    }
  }

  // Whether so many rows are multiplied straight from the packed units.
  static bool are_few(const Kernels& kernels, std::size_t count) {
    return count <= static_cast<std::size_t>(kernels.few_rows);
  }

  // How many units of `together` blocks many rows take at once.
  static std::size_t units_at_once(const Kernels& kernels, std::size_t together) {
    return kernels.multiply_pair != nullptr ? kMostPanels / together : 1;
  }

 private:
  static constexpr std::size_t kBlocksPerTile = 16;
  static constexpr std::size_t kMostPanels = 2;

  void multiply_few(const QuantizedRows& rows, std::size_t first, std::size_t count, std::size_t block,
                    std::size_t end) const {
    QuantizedRows here = rows;
    here.codes += first * passes_ * rows.code_stride;
    here.scales += first * passes_;
    here.starts += first * passes_;
    here.sums += first * passes_;
    if (here.parts != nullptr) here.parts += first * passes_;
    float* tile = scratch<Use::tile, float>(count * passes_ * kBlocksPerTile * kPackedBlockRows);
    while (block < end) {
      const std::size_t next = block + kBlocksPerTile < end ? block + kBlocksPerTile : end;
      const std::size_t stride = (next - block) * kPackedBlockRows;
      kernels_.multiply_few(matrix_, block, next, here, static_cast<int>(count * passes_), tile, stride);
      finish_passes({first, count, block, next, tile, stride});
      block = next;
    }
  }

  void multiply_panels(const QuantizedRows& rows, std::size_t first, std::size_t count, std::size_t block,
                       std::size_t blocks) const {
    const std::size_t columns = blocks * kPackedBlockRows;
    const std::size_t most = static_cast<std::size_t>(kernels_.tile_rows) / passes_;
    Panel panels[kMostPanels];
    for (std::size_t i = 0; i < blocks; ++i) panels[i] = unpack(block + i, i);
    float* tile = scratch<Use::tile, float>(most * passes_ * columns);
    std::size_t tiles = (count + most - 1) / most;
    for (std::size_t row = first; row < first + count; --tiles) {
      const std::size_t here = (first + count - row + tiles - 1) / tiles;
      multiply_tile(panels, blocks, rows, row * passes_, static_cast<int>(here * passes_), tile);
      finish_passes({row, here, block, block + blocks, tile, columns});
      row += here;
    }
  }

  void multiply_tile(const Panel* panels, std::size_t blocks, const QuantizedRows& rows, std::size_t first,
                     int count, float* tile) const {
    const std::size_t columns = blocks * kPackedBlockRows;
    if (blocks == 2 && kernels_.multiply_pair != nullptr) {
      return kernels_.multiply_pair(panels, rows, first, count, tile, columns);
    }
    for (std::size_t i = 0; i < blocks; ++i) {
      kernels_.multiply_tile(panels[i], rows, first, count, tile + i * kPackedBlockRows, columns);
    }
  }

  // The tile has `passes_` rows for each of its count; they are added up.
  void finish_passes(RawTile tile) const {
    const std::size_t columns = tile.stride;
    tile.stride *= passes_;
    for (std::size_t r = 0; passes_ == 2 && r < tile.count; ++r) {
      float* row = tile.raw + r * tile.stride;
      kernels_.add(row, row + columns, columns);
    }
    finish_(tile);
  }

  Panel unpack(std::size_t block, std::size_t index) const {
    const std::size_t inputs = matrix_.groups * static_cast<std::size_t>(matrix_.group);
    const std::size_t codes = matrix_.bits == 4 ? inputs * kPackedBlockRows : 0;
    const std::size_t scales = matrix_.groups * kPackedBlockRows;
    const std::size_t offsets = matrix_.has_offsets ? scales : 0;
    const std::size_t steps = matrix_.has_steps && kernels_.steps_in_panels ? 2 * inputs : 0;
    const PanelMemory memory{scratch<Use::panel, std::uint8_t>(codes * kMostPanels) + index * codes,
                             scratch<Use::panel_scales, float>(scales * kMostPanels) + index * scales,
                             scratch<Use::panel_offsets, float>(offsets * kMostPanels) + index * offsets,
                             scratch<Use::panel_steps, std::int32_t>(steps * kMostPanels) + index * steps};
    return kernels_.unpack(matrix_, block, memory);
  }

  const Kernels& kernels_;
  PackedView matrix_;
  std::size_t together_;
  std::size_t passes_;
  const Finish& finish_;
};

// The same for a whole matrix on all threads. The codes of many rows would push each other out of the second
// level cache, from one unit of the matrix to the next: they are taken in blocks that stay in it.
template <class Finish>
class Product {
 public:
  Product(const Context& context, const Kernels& kernels, const PackedWeight& weight, std::size_t together,
          const Finish& finish)
      : context_(context),
        kernels_(kernels),
        weight_(weight),
        units_(weight.blocks() / together),
        many_parts_(ceil_div(units_, Tiles<Finish>::units_at_once(kernels, together))),
        tiles_(kernels, weight.view(context), together, finish, weight.passes()) {}

  void run(const float* x, std::size_t count) const {
    if (count == 0) return;
    const bool few = Tiles<Finish>::are_few(kernels_, count);
    const Calls calls = few ? Calls::few : Calls::many;
    const QuantizedRows rows = quantize_rows(context_, kernels_, weight_, x, count, calls);
    const std::size_t parts = few ? few_tasks(units_, weight_.bytes()) : many_parts_;
    const std::size_t most = few ? count : rows_of_block();
    context_.parallel_for(ceil_div(count, most) * parts, [&](std::size_t task) {
      const std::size_t first = task / parts * most;
      const std::size_t part = task % parts;
      tiles_.multiply(rows, first, std::min(most, count - first), units_ * part / parts,
                      units_ * (part + 1) / parts);
    });
  }

 private:
  static constexpr std::size_t kBlockBytes = 5 << 18;  // of codes; to unpack a unit again costs a tenth of it

  std::size_t rows_of_block() const {
    const auto tile = static_cast<std::size_t>(kernels_.tile_rows) / weight_.passes();
    return std::max<std::size_t>(1, kBlockBytes / (weight_.inputs() * weight_.passes() * tile)) * tile;
  }

  const Context& context_;
  const Kernels& kernels_;
  const PackedWeight& weight_;
  std::size_t units_;
  std::size_t many_parts_;
  Tiles<Finish> tiles_;
};

}  // namespace fastslm::ops
