// The inner loops of the quantiser, compiled once for each instruction set.
//
// Law: sixteen groups are treated side by side, one in each lane, so no sum crosses lanes and the results are
// the same on every instruction set.
#pragma once

#include <cstdint>

#include <fastslm/packed.hpp>
#include <fastslm/quantize.hpp>

namespace fastslm::quant {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kMostParts = kLargestQuantGroup / kStepInputs;

// Sixteen groups of `group` weights, element by element: `weights[i][lane]`.
struct Tile {
  alignas(64) float weights[kLargestQuantGroup][kLanes];
  alignas(64) float importance[kLargestQuantGroup][kLanes];
  std::size_t group = 32;
  bool has_importance = false;  // or all count the same
};

struct TileResult {
  alignas(64) float codes[kLargestQuantGroup][kLanes];  // 0 to 15, or 0 to 255
  alignas(64) float scales[kLanes];
  alignas(64) float zeros[kLanes];  // or offsets
  alignas(64) float steps[kMostParts][kLanes];
  alignas(64) float bases[kMostParts][kLanes];
  bool finite = false;
};

struct Kernels {
  void (*four)(const Tile&, Effort, TileResult&);
  void (*four_offsets)(const Tile&, Effort, TileResult&);
  void (*four_steps)(const Tile&, Effort, TileResult&);
  void (*eight)(const Tile&, TileResult&);
};

extern const Kernels kPortable;
#if defined(FASTSLM_X86)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace fastslm::quant
