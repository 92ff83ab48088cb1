// Activations times a packed matrix: shapes and checks, quantisation of the activations, division into tasks.
#pragma once

#include <cstddef>
#include <cstdint>

#include <fastslm/packed.hpp>

#include "ops/runtime/define.hpp"
#include "ops/runtime/scratch.hpp"

namespace fastslm::ops {

// A packed matrix as a node of the graph describes it: attributes K (inputs), N (rows), bits, group_size,
// offsets, layout and passes, and the input `index` that holds the units.
class PackedWeight {
 public:
  PackedWeight(const Info& info, std::size_t index);

  std::size_t inputs() const { return inputs_; }
  std::size_t rows() const { return rows_; }
  std::size_t blocks() const { return (rows_ + kPackedBlockRows - 1) / kPackedBlockRows; }
  const PackedFormat& format() const { return format_; }
  // How many rows of codes a row of activations becomes: 1, or 2, the second for what the first leaves, which
  // gives activations 15 bits. A few rows read the weights once anyway; many cost twice the products.
  std::size_t passes() const { return passes_; }
  // What the kernels subtract: the zero point of the codes where no offset replaces it.
  int zero(const Kernels& kernels) const;
  // The matrix in memory; checked when the session was made if it is an initializer, else now.
  PackedView view(const Context& context) const;

 private:
  PackedView checked(const Tensor& tensor) const;

  std::size_t index_;
  std::size_t inputs_;
  std::size_t rows_;
  PackedFormat format_;
  std::size_t passes_;
  PackedView view_{};
};

// Rows of float32 activations [..., K]; throws OpError when the last dimension is another.
std::size_t rows_of(const Tensor& x, std::size_t inputs);

// Quantise rows into this thread's buffers, each to `passes()` rows of codes next to each other.
QuantizedRows quantize_rows(const Context& context, const Kernels& kernels, const PackedWeight& weight,
                            const float* x, std::size_t count);

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

// Multiplies and hands each finished tile to `finish` while it is in the cache. Blocks come in multiples of
// `together`.
template <class Finish>
class Product {
 public:
  Product(const Context& context, const Kernels& kernels, const PackedWeight& weight, std::size_t together,
          const Finish& finish)
      : context_(context),
        kernels_(kernels),
        matrix_(weight.view(context)),
        weight_(weight),
        together_(together),
        passes_(weight.passes()),
        units_(weight.blocks() / together),
        finish_(finish) {}

  void run(const float* x, std::size_t count) const {
    if (count == 0) return;
    const QuantizedRows rows = quantize_rows(context_, kernels_, weight_, x, count);
    if (count <= static_cast<std::size_t>(kernels_.few_rows)) {
      run_few(rows, count);
    } else {
      context_.parallel_for(units_, [&](std::size_t unit) { run_panel(rows, count, unit); });
    }
  }

 private:
  static constexpr std::size_t kBlocksPerTile = 16;

  void run_few(const QuantizedRows& rows, std::size_t count) const {
    const std::size_t bytes = weight_.blocks() * matrix_.groups * matrix_.unit_bytes;
    const std::size_t tasks = few_tasks(units_, bytes);
    context_.parallel_for(tasks, [&](std::size_t task) {
      const std::size_t end = units_ * (task + 1) / tasks * together_;
      float* tile = scratch<Use::tile, float>(rows.count * kBlocksPerTile * kPackedBlockRows);
      for (std::size_t block = units_ * task / tasks * together_; block < end;) {
        const std::size_t next = block + kBlocksPerTile < end ? block + kBlocksPerTile : end;
        const std::size_t stride = (next - block) * kPackedBlockRows;
        kernels_.multiply_few(matrix_, block, next, rows, static_cast<int>(rows.count), tile, stride);
        finish_passes({0, count, block, next, tile, stride});
        block = next;
      }
    });
  }

  void run_panel(const QuantizedRows& rows, std::size_t count, std::size_t unit) const {
    const std::size_t columns = together_ * kPackedBlockRows;
    const std::size_t most = static_cast<std::size_t>(kernels_.tile_rows) / passes_;
    Panel panels[2];
    for (std::size_t i = 0; i < together_; ++i) panels[i] = unpack(unit * together_ + i, i);
    float* tile = scratch<Use::tile, float>(most * passes_ * columns);
    std::size_t tiles = (count + most - 1) / most;
    for (std::size_t row = 0; row < count; --tiles) {
      const std::size_t here = (count - row + tiles - 1) / tiles;
      for (std::size_t i = 0; i < together_; ++i) {
        kernels_.multiply_tile(panels[i], rows, row * passes_, static_cast<int>(here * passes_),
                               tile + i * kPackedBlockRows, columns);
      }
      finish_passes({row, here, unit * together_, (unit + 1) * together_, tile, columns});
      row += here;
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
    const std::size_t codes = matrix_.bits == 4 ? weight_.inputs() * kPackedBlockRows : 0;
    const std::size_t scales = matrix_.groups * kPackedBlockRows;
    const std::size_t offsets = matrix_.has_offsets ? scales : 0;
    const PanelMemory memory{scratch<Use::panel, std::uint8_t>(codes * together_) + index * codes,
                             scratch<Use::panel_scales, float>(scales * together_) + index * scales,
                             scratch<Use::panel_offsets, float>(offsets * together_) + index * offsets};
    return kernels_.unpack(matrix_, block, memory);
  }

  const Context& context_;
  const Kernels& kernels_;
  PackedView matrix_;
  const PackedWeight& weight_;
  std::size_t together_;
  std::size_t passes_;
  std::size_t units_;
  const Finish& finish_;
};

}  // namespace fastslm::ops
