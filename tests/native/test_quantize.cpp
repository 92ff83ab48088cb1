// The quantiser gives the same numbers on every instruction set, and refuses what it cannot do.
#include <algorithm>
#include <cmath>
#include <random>

#include <fastslm/isa.hpp>
#include <fastslm/packed.hpp>
#include <fastslm/quantize.hpp>

#include "check.hpp"
#include "quant/kernels/kernels.hpp"

namespace {

using fastslm::Effort;
using fastslm::quant::Kernels;
using fastslm::quant::Tile;
using fastslm::quant::TileResult;

std::vector<const Kernels*> runnable() {
  std::vector<const Kernels*> found{&fastslm::quant::kPortable};
#if defined(FASTSLM_X86)
  const auto isas = fastslm::available_isas();
  const auto has = [&](fastslm::Isa isa) { return std::find(isas.begin(), isas.end(), isa) != isas.end(); };
  if (has(fastslm::Isa::avx2)) found.push_back(&fastslm::quant::kAvx2);
  if (has(fastslm::Isa::avx512_vnni)) found.push_back(&fastslm::quant::kAvx512);
#endif
  return found;
}

Tile random_tile(unsigned seed, bool has_importance, std::size_t group = 32) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.01F, 0.05F);
  Tile tile;
  tile.group = group;
  tile.has_importance = has_importance;
  for (std::size_t i = 0; i < group; ++i) {
    for (std::size_t lane = 0; lane < fastslm::quant::kLanes; ++lane) {
      tile.weights[i][lane] =
          lane == 3 ? 0.0F : normal(engine) * std::pow(10.0F, static_cast<float>(lane) - 8);
      tile.importance[i][lane] = std::fabs(normal(engine));
    }
  }
  return tile;
}

void expect_same(const TileResult& one, const TileResult& other, std::size_t group) {
  CHECK(std::equal(&one.codes[0][0], &one.codes[group - 1][0] + fastslm::quant::kLanes, &other.codes[0][0]));
  CHECK(std::equal(std::begin(one.scales), std::end(one.scales), std::begin(other.scales)));
  CHECK_EQUAL(one.finite, other.finite);
}

void every_instruction_set_gives_the_same_bits() {
  for (unsigned seed = 0; seed < 50; ++seed) {
    const std::size_t group = std::size_t{32} << seed % 3;
    const Tile tile = random_tile(seed, seed % 2 == 1, group);
    const Effort effort = seed % 4 < 2 ? Effort::quick : Effort::thorough;
    TileResult expected;
    TileResult found;
    fastslm::quant::kPortable.four(tile, effort, expected);
    for (const Kernels* kernels : runnable()) {
      kernels->four(tile, effort, found);
      expect_same(expected, found, group);
      CHECK(std::equal(std::begin(expected.zeros), std::end(expected.zeros), std::begin(found.zeros)));
    }
    fastslm::quant::kPortable.eight(tile, expected);
    for (const Kernels* kernels : runnable()) {
      kernels->eight(tile, found);
      expect_same(expected, found, group);
    }
  }
}

void every_instruction_set_finds_the_same_steps() {
  for (unsigned seed = 0; seed < 32; ++seed) {
    const std::size_t group = std::size_t{32} << seed % 4;
    const Tile tile = random_tile(seed, seed % 8 < 4, group);
    const Effort effort = seed % 16 < 8 ? Effort::quick : Effort::thorough;
    TileResult expected;
    TileResult found;
    fastslm::quant::kPortable.four_steps(tile, effort, expected);
    for (const Kernels* kernels : runnable()) {
      kernels->four_steps(tile, effort, found);
      expect_same(expected, found, group);
      const std::size_t count = group / fastslm::kStepInputs * fastslm::quant::kLanes;
      CHECK(std::equal(&expected.steps[0][0], &expected.steps[0][0] + count, &found.steps[0][0]));
      CHECK(std::equal(&expected.bases[0][0], &expected.bases[0][0] + count, &found.bases[0][0]));
    }
  }
}

void more_grids_never_fit_worse() {
  double quick_error = 0;
  double thorough_error = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    const Tile tile = random_tile(seed, false);
    TileResult result;
    for (const Effort effort : {Effort::quick, Effort::thorough}) {
      fastslm::quant::kPortable.four(tile, effort, result);
      double error = 0;
      for (std::size_t lane = 0; lane < fastslm::quant::kLanes; ++lane) {
        double own = 0;
        double size = 1e-60;
        for (std::size_t i = 0; i < tile.group; ++i) {
          const double weight = tile.weights[i][lane];
          own += std::pow(weight - result.scales[lane] * (result.codes[i][lane] - result.zeros[lane]), 2);
          size += weight * weight;
        }
        error += own / size;
      }
      (effort == Effort::quick ? quick_error : thorough_error) += error;
    }
  }
  CHECK(thorough_error < quick_error);
  CHECK(thorough_error < 0.0062 * 20 * 15);
}

void a_number_that_is_none_is_noticed_in_every_lane() {
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    for (std::size_t lane = 0; lane < fastslm::quant::kLanes; ++lane) {
      Tile tile = random_tile(1, false);
      tile.weights[lane][lane] = bad;
      TileResult result;
      for (const Kernels* kernels : runnable()) {
        kernels->four(tile, Effort::quick, result);
        CHECK(!result.finite);
        kernels->eight(tile, result);
        CHECK(!result.finite);
        kernels->four_steps(tile, Effort::quick, result);
        CHECK(!result.finite);
      }
    }
  }
}

void sizes_are_checked() {
  std::vector<float> values(96);
  std::vector<std::uint8_t> codes(48);
  std::vector<float> scales(3);
  std::vector<std::uint8_t> zeros(3);
  const fastslm::QuantizedRows good{codes, scales, zeros};
  CHECK(fastslm::quantize4({values, 96}, {}, Effort::quick, good));
  CHECK(fastslm::quantize4({values, 32}, {}, Effort::quick, good));
  CHECK(fastslm::quantize4({values, 96, 32}, {}, Effort::quick, good));
  CHECK_ERROR(invalid_argument, fastslm::quantize4({values, 96, 48}, {}, Effort::quick, good));
  CHECK_ERROR(invalid_argument, fastslm::quantize4({values, 96, 64}, {}, Effort::quick, good));
  CHECK_ERROR(invalid_argument, fastslm::quantize4({values, 40}, {}, Effort::quick, good));
  CHECK_ERROR(invalid_argument, fastslm::quantize4({values, 64}, {}, Effort::quick, good));
  CHECK_ERROR(invalid_argument, fastslm::quantize4({values, 96}, scales, Effort::quick, good));
  CHECK_ERROR(invalid_argument, fastslm::quantize8({values, 96}, good));
  CHECK_ERROR(invalid_argument, fastslm::quantize4({values, 96}, {}, Effort::quick, {codes, scales, {}}));
  std::vector<std::int8_t> bases(3);
  const fastslm::SteppedRows steps{codes, scales, zeros, bases};
  CHECK(fastslm::quantize4_steps({values, 96}, {}, Effort::quick, steps));
  CHECK_ERROR(invalid_argument, fastslm::quantize4_steps({values, 96, 256}, {}, Effort::quick, steps));
  CHECK_ERROR(invalid_argument,
              fastslm::quantize4_steps({values, 96}, {}, Effort::quick, {codes, scales, zeros, {}}));
  CHECK_ERROR(invalid_argument,
              fastslm::quantize4_steps({values, 96}, {}, Effort::quick, {codes, scales, {}, bases}));
}

}  // namespace

int main() {
  return check::run(
      {{"every instruction set gives the same bits", every_instruction_set_gives_the_same_bits},
       {"every instruction set finds the same steps", every_instruction_set_finds_the_same_steps},
       {"more grids never fit worse", more_grids_never_fit_worse},
       {"a number that is none is noticed in every lane", a_number_that_is_none_is_noticed_in_every_lane},
       {"sizes are checked", sizes_are_checked}});
}
