#include "ops/product.hpp"

#include <algorithm>
#include <string>
#include <thread>

namespace fastslm::ops {
namespace {

constexpr std::int64_t kMostSide = std::int64_t{1} << 31;

PackedFormat read_format(const Info& info, const std::string& prefix) {
  const auto read = [&](const char* name, std::int64_t least, std::int64_t most) {
    return info.integer((prefix + name).c_str(), least, most);
  };
  const auto layout = read("layout", 0, kMostSide);
  if (layout != kPackedLayoutVersion) {
    throw OpError("packed layout is version " + std::to_string(layout) + ", expected " +
                  std::to_string(kPackedLayoutVersion));
  }
  const auto bits = read("bits", 4, 8);
  if (bits != 4 && bits != 8)
    throw OpError("attribute `" + prefix + "bits` is " + std::to_string(bits) + ", expected 4 or 8");
  const auto offsets = info.integer_or((prefix + "offsets").c_str(), 0, 0, 2);
  const bool has_steps = info.integer_or((prefix + "steps").c_str(), 0, 0, bits == 4 && offsets == 0) != 0;
  const auto group = read("group_size", 32, has_steps ? 256 : 128);
  if (group != 32 && group != 64 && group != 128 && group != 256) {
    throw OpError("attribute `" + prefix + "group_size` is " + std::to_string(group) + ", expected 32, 64" +
                  (has_steps ? ", 128 or 256" : " or 128"));
  }
  return {static_cast<int>(bits), static_cast<int>(group), offsets != 0, offsets == 2, has_steps};
}

}  // namespace

PackedWeight::PackedWeight(const Info& info, std::size_t index, const std::string& prefix, std::size_t count)
    : index_(index),
      count_(count),
      inputs_(static_cast<std::size_t>(info.integer((prefix + "K").c_str(), 1, kMostSide))),
      rows_(static_cast<std::size_t>(info.integer((prefix + "N").c_str(), 1, kMostSide))),
      format_(read_format(info, prefix)),
      passes_(prefix.empty() ? static_cast<std::size_t>(info.integer_or("passes", 1, 1, 2)) : 1) {
  if (inputs_ % static_cast<std::size_t>(format_.group) != 0) {
    throw OpError("attribute `" + prefix + "K` is " + std::to_string(inputs_) +
                  ", expected a multiple of group_size " + std::to_string(format_.group));
  }
  const Tensor constant = info.constant_input(index);
  if (constant) view_ = checked(constant);
}

int PackedWeight::zero(const Kernels& kernels) const {
  const bool wide = format_.bits == 8 || format_.has_steps;  // what is multiplied
  const int centre = format_.has_offsets ? 0 : (wide ? 128 : 8);
  return wide ? centre - kernels.bias8 : centre;
}

PackedView PackedWeight::view(const Context& context) const {
  return view_.units != nullptr ? view_ : checked(context.input(index_));
}

PackedView PackedWeight::checked(const Tensor& tensor) const {
  const std::size_t one = bytes();
  const bool fits = tensor.rank == 1 && tensor.count() % count_ == 0 && tensor.count() / count_ == one;
  if (tensor.element != abi::Element::uint8 || !fits) {
    const std::string times = count_ == 1 ? "" : std::to_string(count_) + " * ";
    throw OpError("packed weights have shape " + tensor.shape() + ", expected [" + times +
                  std::to_string(one) + "] for N " + std::to_string(rows_) + " and K " +
                  std::to_string(inputs_));
  }
  const std::size_t past = reinterpret_cast<std::uintptr_t>(tensor.data) % kPackedAlignment;
  if (tensor.data == nullptr || past != 0) {
    throw OpError("packed weights lie " + std::to_string(past) + " bytes past a multiple of " +
                  std::to_string(kPackedAlignment) + ", expected 0");
  }
  return {tensor.as<const std::uint8_t>(),
          format_.unit_bytes(),
          format_.code_bytes(),
          inputs_ / static_cast<std::size_t>(format_.group),
          format_.bits,
          format_.group,
          format_.has_offsets,
          format_.scales_offsets,
          format_.has_steps,
          format_.bases_at(),
          format_.steps_at()};
}

const float* optional_values(const Tensor& tensor, std::size_t count, const char* name) {
  if (!tensor) return nullptr;
  if (tensor.count() != count) {
    throw OpError(std::string(name) + " has shape " + tensor.shape() + ", expected " + std::to_string(count) +
                  " values");
  }
  return tensor.as<const float>();
}

std::size_t rows_of(const Tensor& x, std::size_t inputs) {
  if (x.rank == 0 || x.dims[x.rank - 1] != static_cast<std::int64_t>(inputs)) {
    throw OpError("input has shape " + x.shape() + ", expected [..., " + std::to_string(inputs) + "]");
  }
  return x.count() / inputs;
}

QuantizedRows quantize_rows(const Context& context, const Kernels& kernels, const PackedWeight& weight,
                            const float* x, std::size_t count_of_x, Calls calls,
                            const std::uint32_t* places) {
  const std::size_t inputs = weight.inputs();
  const std::size_t passes = weight.passes();
  const std::size_t count = count_of_x * passes;
  const std::size_t groups = inputs / static_cast<std::size_t>(weight.format().group);
  // Numbers of a row, and rows of codes, that lie a power of two apart would share a few lines of the cache.
  const std::size_t stride = count % 64 == 0 ? count + 16 : count;
  const std::size_t code_stride = inputs % 128 == 0 ? inputs + 64 : inputs;
  const bool has_parts = weight.format().has_steps && kernels.sum_parts != nullptr &&
                         (calls != Calls::many || kernels.steps_in_panels);
  const QuantizedRows rows{
      scratch<Use::codes, std::int8_t>(count * code_stride),
      scratch<Use::scales, float>(stride * groups),
      scratch<Use::starts, std::int32_t>(stride * groups),
      scratch<Use::sums, float>(stride * groups),
      has_parts ? scratch<Use::parts, std::int32_t>(stride * inputs / kStepInputs) : nullptr,
      stride,
      code_stride,
      groups,
      weight.format().group};
  constexpr std::size_t rows_per_task = 16;  // about 10 us of work
  const int zero = weight.zero(kernels);
  const auto quantize = [&](const float* from, std::size_t row) {
    kernels.quantize(from, row, zero, rows);
    if (has_parts) kernels.sum_parts(row, rows);
  };
  context.parallel_for(ceil_div(count_of_x, rows_per_task), [&](std::size_t task) {
    const std::size_t end = std::min(count_of_x, (task + 1) * rows_per_task);
    float* left = passes == 2 ? scratch<Use::remainder, float>(inputs) : nullptr;
    for (std::size_t row = task * rows_per_task; row < end; ++row) {
      const float* from = x + (places != nullptr ? places[row] : row) * inputs;
      quantize(from, row * passes);
      if (passes == 1) continue;
      kernels.remainder(from, row * passes, rows, left);
      quantize(left, row * passes + 1);
    }
  });
  return rows;
}

void gate_tile(const Kernels& kernels, Activation activation, const float* bias, const RawTile& tile,
               float* y, std::size_t width) {
  const std::size_t all = (tile.end_block - tile.first_block) * kPackedBlockRows;
  for (std::size_t r = 0; bias != nullptr && r < tile.count; ++r) {
    kernels.add(tile.raw + r * tile.stride, bias + tile.first_block * kPackedBlockRows, all);
  }
  const float* raw = tile.raw;
  for (std::size_t block = tile.first_block; block < tile.end_block;
       block += 2, raw += 2 * kPackedBlockRows) {
    const std::size_t first = block / 2 * kPackedBlockRows;
    const std::size_t columns = std::min(kPackedBlockRows, width - first);
    kernels.put_gated({raw, tile.stride, tile.count, columns, y + tile.row * width + first, width},
                      activation);
  }
}

std::size_t few_tasks(std::size_t units, std::size_t bytes) {
  static const std::size_t most =
      std::max<std::size_t>(16, 4 * std::size_t{std::thread::hardware_concurrency()});
  std::size_t tasks = std::min(most, bytes / (48 * 1024));
  if (tasks < 2 && bytes > 64 * 1024) tasks = 2;
  return std::clamp<std::size_t>(tasks, 1, std::max<std::size_t>(1, units));
}

}  // namespace fastslm::ops
