#include <algorithm>
#include <string>

#include <fastslm/error.hpp>
#include <fastslm/isa.hpp>
#include <fastslm/quantize.hpp>

#include "quant/kernels/kernels.hpp"

namespace fastslm {
namespace {

using quant::Kernels;
using quant::kLanes;
using quant::Tile;
using quant::TileResult;

void check_size(const char* name, std::size_t found, std::size_t expected) {
  if (found == expected) return;
  throw Error(ErrorCode::invalid_argument,
              "`" + std::string(name) + "` has " + std::to_string(found) + " values, expected " +
                  std::to_string(expected),
              {.name = name});
}

void check(FloatRows rows, std::span<const float> importance, const QuantizedRows& result, unsigned bits) {
  const std::size_t count = rows.values.size();
  if (rows.group != 32 && rows.group != 64 && rows.group != 128) {
    throw Error(ErrorCode::invalid_argument,
                "`group` is `" + std::to_string(rows.group) + "`, expected 32, 64 or 128", {.name = "group"});
  }
  if (rows.columns == 0 || rows.columns % rows.group != 0 || count % rows.columns != 0) {
    throw Error(ErrorCode::invalid_argument,
                "`columns` is `" + std::to_string(rows.columns) + "`, expected a multiple of " +
                    std::to_string(rows.group) + " that divides " + std::to_string(count),
                {.name = "columns"});
  }
  if (!importance.empty()) check_size("importance", importance.size(), rows.columns);
  check_size("codes", result.codes.size(), count * bits / 8);
  check_size("scales", result.scales.size(), count / rows.group);
  const bool has_offsets = !result.offsets.empty();
  if (has_offsets) check_size("offsets", result.offsets.size(), count / rows.group);
  if (bits == 4 && !has_offsets) check_size("zeros", result.zeros.size(), count / rows.group);
}

const Kernels& kernels() {
#if defined(FASTSLM_X86)
  switch (active_isa()) {
    case Isa::amx:
    case Isa::avx512_vnni:
      return quant::kAvx512;
    case Isa::avx_vnni:
    case Isa::avx2:
      return quant::kAvx2;
    default:
      break;
  }
#endif
  return quant::kPortable;
}

// Up to sixteen groups from `first` on; lanes without a group are zeros.
void fill(Tile& tile, FloatRows rows, std::span<const float> importance, std::size_t first,
          std::size_t groups) {
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const std::size_t at = (first + lane) * tile.group;
    for (std::size_t i = 0; i < tile.group; ++i) {
      tile.weights[i][lane] = lane < groups ? rows.values[at + i] : 0.0F;
      if (tile.has_importance)
        tile.importance[i][lane] = lane < groups ? importance[(at + i) % rows.columns] : 0.0F;
    }
  }
}

// The results of a tile's groups, which begin with number `first`.
void put(const TileResult& result, std::size_t size, std::size_t first, std::size_t groups, unsigned bits,
         const QuantizedRows& to) {
  for (std::size_t lane = 0; lane < groups; ++lane) {
    const std::size_t group = first + lane;
    const auto code = [&](std::size_t i) { return static_cast<std::uint8_t>(result.codes[i][lane]); };
    std::uint8_t* const codes = to.codes.data() + group * size * bits / 8;
    if (bits == 8) {
      for (std::size_t i = 0; i < size; ++i) codes[i] = code(i);
    } else {
      for (std::size_t i = 0; i < size / 2; ++i) {
        codes[i] = static_cast<std::uint8_t>(code(2 * i) | code(2 * i + 1) << 4);
      }
      if (to.offsets.empty()) {
        to.zeros[group] = static_cast<std::uint8_t>(result.zeros[lane]);
      } else {
        to.offsets[group] = result.zeros[lane];
      }
    }
    to.scales[group] = result.scales[lane];
  }
}

template <class Step>
bool by_tiles(FloatRows rows, std::span<const float> importance, unsigned bits, const QuantizedRows& to,
              Step step) {
  const std::size_t count = rows.values.size() / rows.group;
  Tile tile;
  tile.group = rows.group;
  tile.has_importance = !importance.empty();
  TileResult result;
  bool finite = true;
  for (std::size_t first = 0; first < count; first += kLanes) {
    const std::size_t groups = std::min(kLanes, count - first);
    fill(tile, rows, importance, first, groups);
    step(tile, result);
    finite = finite && result.finite;
    put(result, tile.group, first, groups, bits, to);
  }
  return finite;
}

}  // namespace

bool quantize4(FloatRows rows, std::span<const float> importance, Effort effort, QuantizedRows result) {
  check(rows, importance, result, 4);
  const Kernels& use = kernels();
  return by_tiles(rows, importance, 4, result,
                  [&](const Tile& tile, TileResult& done) { use.four(tile, effort, done); });
}

bool quantize4_offsets(FloatRows rows, std::span<const float> importance, Effort effort,
                       QuantizedRows result) {
  check(rows, importance, result, 4);
  check_size("offsets", result.offsets.size(), rows.values.size() / rows.group);
  const Kernels& use = kernels();
  return by_tiles(rows, importance, 4, result,
                  [&](const Tile& tile, TileResult& done) { use.four_offsets(tile, effort, done); });
}

bool quantize8(FloatRows rows, QuantizedRows result) {
  check(rows, {}, result, 8);
  const Kernels& use = kernels();
  return by_tiles(rows, {}, 8, result, [&](const Tile& tile, TileResult& done) { use.eight(tile, done); });
}

}  // namespace fastslm
