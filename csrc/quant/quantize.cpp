#include <algorithm>
#include <array>
#include <string>

#include <fastslm/error.hpp>
#include <fastslm/isa.hpp>
#include <fastslm/packed.hpp>
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

// How many values there are, if they are whole groups of a size that is one of `sizes`.
std::size_t checked(FloatRows rows, std::span<const float> importance, std::span<const std::size_t> sizes,
                    const char* expected) {
  const std::size_t count = rows.values.size();
  if (std::find(sizes.begin(), sizes.end(), rows.group) == sizes.end()) {
    throw Error(ErrorCode::invalid_argument,
                "`group` is `" + std::to_string(rows.group) + "`, expected " + expected, {.name = "group"});
  }
  if (rows.columns == 0 || rows.columns % rows.group != 0 || count % rows.columns != 0) {
    throw Error(ErrorCode::invalid_argument,
                "`columns` is `" + std::to_string(rows.columns) + "`, expected a multiple of " +
                    std::to_string(rows.group) + " that divides " + std::to_string(count),
                {.name = "columns"});
  }
  if (!importance.empty()) check_size("importance", importance.size(), rows.columns);
  return count;
}

constexpr std::array<std::size_t, 4> kGroups{32, 64, 128, 256};

void check(FloatRows rows, std::span<const float> importance, const QuantizedRows& result, unsigned bits) {
  const std::size_t count = checked(rows, importance, std::span(kGroups).first(3), "32, 64 or 128");
  check_size("codes", result.codes.size(), count * bits / 8);
  check_size("scales", result.scales.size(), count / rows.group);
  const bool has_offsets = !result.offsets.empty();
  if (has_offsets) check_size("offsets", result.offsets.size(), count / rows.group);
  if (bits == 4 && !has_offsets) check_size("zeros", result.zeros.size(), count / rows.group);
}

void check(FloatRows rows, std::span<const float> importance, const SteppedRows& result) {
  const std::size_t count = checked(rows, importance, kGroups, "32, 64, 128 or 256");
  check_size("codes", result.codes.size(), count / 2);
  check_size("scales", result.scales.size(), count / rows.group);
  check_size("steps", result.steps.size(), count / kStepInputs);
  check_size("bases", result.bases.size(), count / kStepInputs);
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

// The codes of one group, two in a byte if they have 4 bits.
void put_codes(const TileResult& result, std::size_t lane, std::size_t size, unsigned bits,
               std::uint8_t* to) {
  const auto code = [&](std::size_t i) { return static_cast<std::uint8_t>(result.codes[i][lane]); };
  if (bits == 8) {
    for (std::size_t i = 0; i < size; ++i) to[i] = code(i);
  } else {
    for (std::size_t i = 0; i < size / 2; ++i) {
      to[i] = static_cast<std::uint8_t>(code(2 * i) | code(2 * i + 1) << 4);
    }
  }
}

// What one lane of a tile holds becomes group number `group`.
void put(const TileResult& result, std::size_t lane, std::size_t size, unsigned bits, std::size_t group,
         const QuantizedRows& to) {
  put_codes(result, lane, size, bits, to.codes.data() + group * size * bits / 8);
  to.scales[group] = result.scales[lane];
  if (bits == 8) return;
  if (to.offsets.empty()) {
    to.zeros[group] = static_cast<std::uint8_t>(result.zeros[lane]);
  } else {
    to.offsets[group] = result.zeros[lane];
  }
}

void put(const TileResult& result, std::size_t lane, std::size_t size, std::size_t group,
         const SteppedRows& to) {
  put_codes(result, lane, size, 4, to.codes.data() + group * size / 2);
  to.scales[group] = result.scales[lane];
  const std::size_t parts = size / kStepInputs;
  for (std::size_t part = 0; part < parts; ++part) {
    to.steps[group * parts + part] = static_cast<std::uint8_t>(result.steps[part][lane]);
    to.bases[group * parts + part] = static_cast<std::int8_t>(result.bases[part][lane]);
  }
}

// Calls search(tile, result) for every tile, and store(result, lane, group) for every group.
template <class Search, class Store>
bool by_tiles(FloatRows rows, std::span<const float> importance, const Search& search, const Store& store) {
  const std::size_t count = rows.values.size() / rows.group;
  Tile tile;
  tile.group = rows.group;
  tile.has_importance = !importance.empty();
  TileResult result;
  bool finite = true;
  for (std::size_t first = 0; first < count; first += kLanes) {
    const std::size_t groups = std::min(kLanes, count - first);
    fill(tile, rows, importance, first, groups);
    search(tile, result);
    finite = finite && result.finite;
    for (std::size_t lane = 0; lane < groups; ++lane) store(result, lane, first + lane);
  }
  return finite;
}

}  // namespace

bool quantize4(FloatRows rows, std::span<const float> importance, Effort effort, QuantizedRows result) {
  check(rows, importance, result, 4);
  const Kernels& use = kernels();
  return by_tiles(
      rows, importance, [&](const Tile& tile, TileResult& done) { use.four(tile, effort, done); },
      [&](const TileResult& done, std::size_t lane, std::size_t group) {
        put(done, lane, rows.group, 4, group, result);
      });
}

bool quantize4_offsets(FloatRows rows, std::span<const float> importance, Effort effort,
                       QuantizedRows result) {
  check(rows, importance, result, 4);
  check_size("offsets", result.offsets.size(), rows.values.size() / rows.group);
  const Kernels& use = kernels();
  return by_tiles(
      rows, importance, [&](const Tile& tile, TileResult& done) { use.four_offsets(tile, effort, done); },
      [&](const TileResult& done, std::size_t lane, std::size_t group) {
        put(done, lane, rows.group, 4, group, result);
      });
}

bool quantize4_steps(FloatRows rows, std::span<const float> importance, Effort effort, SteppedRows result) {
  check(rows, importance, result);
  const Kernels& use = kernels();
  return by_tiles(
      rows, importance, [&](const Tile& tile, TileResult& done) { use.four_steps(tile, effort, done); },
      [&](const TileResult& done, std::size_t lane, std::size_t group) {
        put(done, lane, rows.group, group, result);
      });
}

bool quantize8(FloatRows rows, QuantizedRows result) {
  check(rows, {}, result, 8);
  const Kernels& use = kernels();
  return by_tiles(
      rows, {}, [&](const Tile& tile, TileResult& done) { use.eight(tile, done); },
      [&](const TileResult& done, std::size_t lane, std::size_t group) {
        put(done, lane, rows.group, 8, group, result);
      });
}

}  // namespace fastslm
