// The kernels of every instruction set that runs here, without ONNX Runtime: against sums in double, and row
// by row.
#include <array>
#include <cmath>
#include <cstring>
#include <random>

#include <fastslm/isa.hpp>
#include <fastslm/packed.hpp>

#include "check.hpp"
#include "kernels_of.hpp"

namespace {

using namespace fastslm;
using namespace fastslm::ops;

struct Product {
  PackedFormat format;
  std::size_t inputs;
  std::size_t blocks = 2;
  std::size_t count;
  PlainMatrix plain{};
  std::vector<float> x{};
  Aligned<std::uint8_t> packed{0};

  explicit Product(const PackedFormat& of, std::size_t wide = 256, std::size_t rows_of_x = 14)
      : format(of), inputs(wide), count(rows_of_x) {
    std::mt19937 random(5);
    std::uniform_int_distribution<int> code(0, format.bits == 4 ? 15 : 255);
    std::normal_distribution<float> normal;
    const std::size_t rows = blocks * 32, groups = inputs / static_cast<std::size_t>(format.group);
    plain = {rows, inputs, std::vector<std::uint8_t>(rows * inputs), std::vector<float>(rows * groups),
             std::vector<float>(format.has_offsets ? rows * groups : 0)};
    plain.steps.resize(format.has_steps ? rows * inputs / kStepInputs : 0);
    for (auto& each : plain.steps) {
      each = static_cast<std::uint8_t>(code(random));
      const int least = -128 + 8 * each, most = 127 - 7 * each;
      plain.bases.push_back(
          static_cast<std::int8_t>(std::uniform_int_distribution<int>(least, most)(random)));
    }
    for (auto& each : plain.codes) each = static_cast<std::uint8_t>(code(random));
    // Multiples of 1/256 are the same in float16.
    for (float& each : plain.scales) each = static_cast<float>(1 + code(random)) / 256.0F;
    for (float& each : plain.offsets) each = std::round(normal(random) * 64.0F) / 256.0F;
    x.resize(count * inputs);
    for (float& each : x) each = normal(random);
    packed = Aligned<std::uint8_t>(format.packed_bytes(rows, inputs));
    pack_linear({rows, inputs, plain.codes, plain.scales, plain.offsets, plain.steps, plain.bases}, format,
                packed.span());
  }

  std::size_t groups() const { return inputs / static_cast<std::size_t>(format.group); }
  std::size_t width() const { return blocks * 32; }
  PackedView view() {
    return {packed.data(),    format.unit_bytes(), format.code_bytes(), groups(),
            format.bits,      format.group,        format.has_offsets,  format.scales_offsets,
            format.has_steps, format.bases_at(),   format.steps_at()};
  }
  int zero() const { return format.has_offsets ? 0 : (format.bits == 4 ? 8 : 128); }
  // What the kernels subtract from the codes that they multiply: with steps, these are of 8 bits.
  int zero_of(const Kernels& kernels) const {
    const bool wide = format.bits == 8 || format.has_steps;
    return (format.has_offsets ? 0 : wide ? 128 : 8) - (wide ? kernels.bias8 : 0);
  }

  double weight(std::size_t n, std::size_t k) const {
    const std::size_t g = n * groups() + k / static_cast<std::size_t>(format.group);
    double offset = format.has_offsets ? double{plain.offsets[g]} : 0.0;
    if (format.scales_offsets) offset *= double{plain.scales[g]};
    int whole = plain.codes[n * inputs + k] - zero();
    const std::size_t part = (n * inputs + k) / kStepInputs;
    if (format.has_steps) whole = plain.steps[part] * whole + plain.bases[part];
    return double{plain.scales[g]} * whole + offset;
  }
};

struct Activations {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  std::vector<std::int32_t> starts;
  std::vector<float> sums;
  std::vector<std::int32_t> parts;
  QuantizedRows rows{};

  Activations(const Kernels& kernels, const Product& of, std::size_t first, std::size_t count)
      : codes(count * (of.inputs + 64)),
        scales(count * of.groups()),
        starts(scales.size()),
        sums(scales.size()),
        parts(count * of.inputs / kStepInputs) {
    rows = {codes.data(), scales.data(),  starts.data(), sums.data(),    parts.data(),
            count,        of.inputs + 64, of.groups(),   of.format.group};
    for (std::size_t m = 0; m < count; ++m) {
      kernels.quantize(&of.x[(first + m) * of.inputs], m, of.zero_of(kernels), rows);
      if (kernels.sum_parts != nullptr) kernels.sum_parts(m, rows);
    }
  }
  double value(const Product& of, std::size_t row, std::size_t k) const {
    const std::size_t g = k / static_cast<std::size_t>(of.format.group);
    return double{scales[g * rows.stride + row]} * codes[row * rows.code_stride + k];
  }
};

// A panel with its memory.
struct PanelOf {
  Aligned<std::uint8_t> codes;
  Aligned<float> scales, offsets;
  Aligned<std::int32_t> steps;
  Panel panel{};

  PanelOf(const Kernels& kernels, Product& of, std::size_t block)
      : codes(of.inputs * 32), scales(of.groups() * 32), offsets(of.groups() * 32), steps(2 * of.inputs) {
    panel = kernels.unpack(of.view(), block, {codes.data(), scales.data(), offsets.data(), steps.data()});
  }
};

// Calls step(row, count) for as many rows as a call may have, one time after the other.
template <class Step>
void for_calls(const Kernels& kernels, std::size_t count, const Step& step) {
  const auto most = static_cast<std::size_t>(kernels.tile_rows);
  for (std::size_t row = 0; row < count; row += most)
    step(row, static_cast<int>(std::min(most, count - row)));
}

std::vector<float> by_tiles(const Kernels& kernels, Product& of, const Activations& a, std::size_t count) {
  std::vector<float> y(count * of.width());
  for (std::size_t block = 0; block < of.blocks; ++block) {
    const PanelOf one(kernels, of, block);
    for_calls(kernels, count, [&](std::size_t row, int here) {
      kernels.multiply_tile(one.panel, a.rows, row, here, &y[row * of.width() + block * 32], of.width());
    });
  }
  return y;
}

std::vector<float> by_pairs(const Kernels& kernels, Product& of, const Activations& a, std::size_t count) {
  std::vector<float> y(count * of.width());
  const PanelOf left(kernels, of, 0), right(kernels, of, 1);
  const Panel both[2] = {left.panel, right.panel};
  for_calls(kernels, count, [&](std::size_t row, int here) {
    kernels.multiply_pair(both, a.rows, row, here, &y[row * of.width()], of.width());
  });
  return y;
}

const std::array<PackedFormat, 13> kFormats{{{4, 32, false},
                                             {4, 32, true},
                                             {4, 64, false},
                                             {4, 128, true},
                                             {8, 32, false},
                                             {8, 32, true},
                                             {8, 64, true},
                                             {8, 128, false},
                                             {4, 32, true, true},
                                             {4, 32, false, false, true},
                                             {4, 64, false, false, true},
                                             {4, 128, false, false, true},
                                             {4, 256, false, false, true}}};

// Integer sums are exact; 2^-20 covers a float32 addition and multiplication per group.
void products_agree_with_double(const Kernels& kernels, std::size_t inputs) {
  for (const PackedFormat& format : kFormats) {
    Product product(format, inputs);
    const Activations a(kernels, product, 0, product.count);
    const std::vector<float> y = by_tiles(kernels, product, a, product.count);
    for (std::size_t m = 0; m < product.count; ++m) {
      for (std::size_t n = 0; n < product.width(); ++n) {
        double sum = 0, size = 0;
        for (std::size_t k = 0; k < product.inputs; ++k) {
          const double part = product.weight(n, k) * a.value(product, m, k);
          sum += part;
          size += std::fabs(part) + std::fabs(product.plain.codes[0] * a.value(product, m, k));
        }
        CHECK(std::fabs(double{y[m * product.width() + n]} - sum) <= size * 0x1p-18);
      }
    }
  }
}

void rows_do_not_depend_on_their_company(const Kernels& kernels, std::size_t inputs) {
  for (const PackedFormat& format : kFormats) {
    Product product(format, inputs);
    const Activations all(kernels, product, 0, product.count);
    const std::vector<float> tiles = by_tiles(kernels, product, all, product.count);
    for (std::size_t m = 0; m < product.count; ++m) {
      const Activations one(kernels, product, m, 1);
      const std::vector<float> alone = by_tiles(kernels, product, one, 1);
      CHECK_EQUAL(std::memcmp(alone.data(), &tiles[m * product.width()], product.width() * sizeof(float)), 0);
    }
    for (int count = 1; count <= kernels.few_rows; ++count) {
      const Activations some(kernels, product, 0, static_cast<std::size_t>(count));
      std::vector<float> few(static_cast<std::size_t>(count) * product.width());
      kernels.multiply_few(product.view(), 0, product.blocks, some.rows, count, few.data(), product.width());
      CHECK_EQUAL(std::memcmp(few.data(), tiles.data(), few.size() * sizeof(float)), 0);
    }
  }
}

// The matrix units sum integers, the rest is the same operations: so are the bits. Widths that end within a
// chunk of the panel, at one or after several are there, and more rows than a tile, than a call and than
// both.
void tiles_give_the_bits_of_the_vectors(const Kernels& kernels) {
  const Kernels& vectors = kernels_of(Isa::avx512_vnni);
  for (const PackedFormat& format : kFormats) {
    for (const std::size_t inputs : {256U, 512U, 1280U}) {
      Product product(format, inputs, 97);
      const Activations all(kernels, product, 0, product.count);
      for (std::size_t count = 1; count <= product.count; count += count < 40 ? 1 : 19) {
        const std::vector<float> expected = by_tiles(vectors, product, all, count);
        const std::vector<float> y = by_tiles(kernels, product, all, count);
        CHECK_EQUAL(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)), 0);
        const std::vector<float> pairs = by_pairs(kernels, product, all, count);
        CHECK_EQUAL(std::memcmp(pairs.data(), expected.data(), pairs.size() * sizeof(float)), 0);
      }
    }
  }
}

void activations_round_to_the_nearest_of_255_steps(const Kernels& kernels) {
  const Product product({4, 32, false});
  const Activations a(kernels, product, 0, product.count);
  for (std::size_t m = 0; m < product.count; ++m) {
    for (std::size_t k = 0; k < product.inputs; ++k) {
      const double step = a.scales[k / 32 * product.count + m];
      CHECK(std::fabs(a.value(product, m, k) - double{product.x[m * product.inputs + k]}) <= step * 0.50001);
    }
  }
}

// Rows of 32 gates and as many ups, and what comes out for the first `columns` of each.
std::vector<float> gated(const Kernels& kernels, Activation activation, const std::vector<float>& gates,
                         float up, std::size_t columns = 32) {
  const std::size_t rows = gates.size() / 32;
  std::vector<float> raw(2 * gates.size(), up), y(gates.size(), -1.0F);
  for (std::size_t i = 0; i < gates.size(); ++i) raw[i / 32 * 64 + i % 32] = gates[i];
  kernels.put_gated({raw.data(), 64, rows, columns, y.data(), 32}, activation);
  return y;
}

void gates_agree_with_their_definitions(const Kernels& kernels) {
  std::vector<float> x(32 * 40);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = (static_cast<float>(i) - 640.0F) / 16.0F;
  const auto worst = [&](Activation activation, auto exact) {
    const std::vector<float> y = gated(kernels, activation, x, 2.0F);
    double most = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = 2 * exact(double{x[i]});
      most = std::max(most, std::fabs(double{y[i]} - expected) / std::max(1.0, std::fabs(expected)));
    }
    return most;
  };
  CHECK(worst(Activation::silu, [](double v) { return v / (1 + std::exp(-v)); }) < 1e-6);
  CHECK(worst(Activation::gelu_erf, [](double v) { return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0))); }) <
        1e-6);
  CHECK(worst(Activation::gelu_tanh, [](double v) {
          return 0.5 * v * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v)));
        }) < 1e-6);
  // With up at 2, within its limits, the clamped one multiplies by 3.
  CHECK(worst(Activation::clamped_silu, [](double v) {
          const double gate = std::min(v, 7.0);
          return 1.5 * gate / (1 + std::exp(-1.702 * gate));
        }) < 1e-6);
  const std::vector<float> ones(32, 1.0F);
  for (const float limit : {-7.0F, 7.0F}) {
    const auto at = [&](float up) { return gated(kernels, Activation::clamped_silu, ones, up); };
    CHECK(at(limit * 1.5F) == at(limit));
  }
  const std::vector<float> whole = gated(kernels, Activation::silu, x, 2.0F);
  const std::vector<float> part = gated(kernels, Activation::silu, x, 2.0F, 27);
  for (std::size_t i = 0; i < x.size(); ++i) CHECK_EQUAL(part[i], i % 32 < 27 ? whole[i] : -1.0F);
}

// What lies beside the columns of a block stays as it is, and nothing is read beyond them.
void sums_are_put_where_they_belong(const Kernels& kernels) {
  constexpr std::size_t rows = 3, stride = 64, width = 70;
  std::vector<float> raw(rows * stride);
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<float>(i);
  for (const std::size_t columns : {1U, 16U, 31U, 32U, 45U}) {
    const std::size_t first = width - columns;
    const std::vector<float> bias(columns, 0.5F), residual((rows - 1) * width + columns, 0.25F);
    std::vector<float> y(rows * width, -1.0F), plain = y;
    const Block block{raw.data(), stride, rows, columns, y.data() + first, width};
    kernels.put(block, bias.data(), residual.data());
    kernels.put({raw.data(), stride, rows, columns, plain.data() + first, width}, nullptr, nullptr);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const bool inside = i % width >= first;
      const auto sum = static_cast<float>(i / width * stride + i % width - first);
      CHECK_EQUAL(y[i], inside ? sum + 0.75F : -1.0F);
      CHECK_EQUAL(plain[i], inside ? sum : -1.0F);
    }
  }
}

// How many rows there are must not matter to any of them; widths that are no multiple of a vector are there
// too.
void dots_agree_with_double(const Kernels& kernels) {
  constexpr std::size_t rows = 11;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (const std::size_t width : {1U, 31U, 32U, 100U, 576U}) {
    std::vector<float> x(width), matrix(rows * width), all(rows), one(1);
    for (float& each : x) each = normal(random);
    for (float& each : matrix) each = normal(random);
    kernels.dots(x.data(), matrix.data(), rows, width, all.data());
    for (std::size_t r = 0; r < rows; ++r) {
      double expected = 0, size = 0;
      for (std::size_t i = 0; i < width; ++i) {
        const double product = double{x[i]} * double{matrix[r * width + i]};
        expected += product;
        size += std::fabs(product);
      }
      CHECK(std::fabs(double{all[r]} - expected) <= 1e-6 * size);
      kernels.dots(x.data(), matrix.data() + r * width, 1, width, one.data());
      CHECK(std::memcmp(one.data(), all.data() + r, sizeof(float)) == 0);
    }
  }
}

int run_for(Isa isa) {
  const Kernels& kernels = kernels_of(isa);
  std::cout << isa_name(isa) << '\n';
  if (isa == Isa::amx && check::run({{"tiles give the bits of the vectors",
                                      [&] { tiles_give_the_bits_of_the_vectors(kernels); }}}) != 0)
    return 1;
  return check::run({
      {"products agree with double", [&] { products_agree_with_double(kernels, 256); }},
      {"products of several chunks agree with double", [&] { products_agree_with_double(kernels, 1280); }},
      {"rows do not depend on their company", [&] { rows_do_not_depend_on_their_company(kernels, 256); }},
      {"rows of several chunks neither", [&] { rows_do_not_depend_on_their_company(kernels, 1280); }},
      {"activations round to the nearest step",
       [&] { activations_round_to_the_nearest_of_255_steps(kernels); }},
      {"sums are put where they belong", [&] { sums_are_put_where_they_belong(kernels); }},
      {"gates agree with their definitions", [&] { gates_agree_with_their_definitions(kernels); }},
      {"dots agree with double", [&] { dots_agree_with_double(kernels); }},
  });
}

}  // namespace

int main() {
  int status = 0;
  for (const Isa isa : available_isas()) status |= run_for(isa);
  return status;
}
