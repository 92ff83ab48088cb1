// Attention of every instruction set that runs here, without ONNX Runtime: against sums in double, and row by
// row.
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "check.hpp"
#include "kernels_of.hpp"

namespace {

using namespace fastslm;
using namespace fastslm::ops;

struct Format {
  CacheFormat format;
  double rounding;  // most that a number of size 4 loses when it is stored
};

const std::array<Format, 4> kFormats{{{CacheFormat::f32, 0},
                                      {CacheFormat::f16, 0x1p-10},
                                      {CacheFormat::int16, 4.0 / 8192},
                                      {CacheFormat::int8, 4.0 / 127}}};

std::size_t row_bytes(CacheFormat format, std::size_t head_dim) {
  if (format == CacheFormat::int8) return head_dim + (head_dim + 31) / 32 * 2;
  if (format == CacheFormat::int16) return head_dim * 2 + 4;
  return head_dim * (format == CacheFormat::f32 ? 4 : 2);
}

// Keys and values of one head, and rows at its last positions.
struct Scene {
  static constexpr std::size_t kKeys = 150, kRows = 40;  // some more than a tile of the matrix units
  std::size_t head_dim;
  Format format;
  std::vector<float> queries, keys, values, slopes;
  std::vector<std::int64_t> positions;
  std::vector<const float*> query_rows;
  Aligned<std::uint8_t> stored_keys, stored_values;

  Scene(const Kernels& kernels, std::size_t size, Format as)
      : head_dim(size),
        format(as),
        queries(kRows * size),
        keys(kKeys * size),
        values(kKeys * size),
        stored_keys(kKeys * row_bytes(as.format, size)),
        stored_values(kKeys * row_bytes(as.format, size)) {
    std::mt19937 random(3);
    std::uniform_real_distribution<float> number(-1, 1);
    for (auto* all : {&queries, &keys, &values}) {
      for (float& each : *all) each = number(random);
    }
    for (std::size_t r = 0; r < kRows; ++r) {
      query_rows.push_back(&queries[r * size]);
      positions.push_back(static_cast<std::int64_t>(kKeys - kRows + r));
      slopes.push_back(0.003F * static_cast<float>(r));
    }
    store(kernels);
  }

  void store(const Kernels& kernels) {
    for (std::size_t k = 0; k < kKeys; ++k) {
      const std::size_t at = k * row_bytes(format.format, head_dim);
      kernels.store_row(format.format, &keys[k * head_dim], head_dim, stored_keys.data() + at);
      kernels.store_row(format.format, &values[k * head_dim], head_dim, stored_values.data() + at);
    }
  }

  // Results of `count` rows from `first` on, head_dim each.
  std::vector<float> attend(const Kernels& kernels, std::size_t first, std::size_t count,
                            std::int64_t window) {
    const AttentionRows rows{&query_rows[first],
                             &positions[first],
                             &slopes[first],
                             count,
                             stored_keys.data(),
                             stored_values.data(),
                             format.format,
                             row_bytes(format.format, head_dim),
                             head_dim,
                             window,
                             0.25F,
                             0};
    const std::size_t stride = (head_dim + 15) / 16 * 16;
    Aligned<float> scratch((kAttendScratch + count) * ((head_dim + 63) / 64 * 64 + 1)), sums(count * stride);
    std::vector<float> most(count), totals(count * kTotals), y(count * head_dim);
    kernels.attend(rows, 0, kKeys, scratch.data(), {most.data(), totals.data(), sums.data(), stride}, {});
    for (std::size_t r = 0; r < count; ++r) {
      const float total = std::accumulate(&totals[r * kTotals], &totals[r * kTotals] + kTotals, 0.0F);
      for (std::size_t d = 0; d < head_dim; ++d) y[r * head_dim + d] = sums.data()[r * stride + d] / total;
    }
    return y;
  }

  double exact(std::size_t row, std::size_t d, std::int64_t window) const {
    double total = 0, sum = 0;
    for (std::int64_t k = window > 0 ? positions[row] - window + 1 : 0; k <= positions[row]; ++k) {
      const std::size_t key = static_cast<std::size_t>(k) * head_dim;
      double score = 0;
      for (std::size_t i = 0; i < head_dim; ++i) score += double{queries[row * head_dim + i]} * keys[key + i];
      const double weight = std::exp(score * 0.25 + slopes[row] * static_cast<double>(k - positions[row]));
      total += weight;
      sum += weight * values[key + d];
    }
    return sum / total;
  }
};

// A value of at most 1 loses a quarter of the bound; errors of scores move the weights by as much at most.
void results_agree_with_double(const Kernels& kernels) {
  for (const std::size_t head_dim : {64U, 33U, 130U}) {
    for (const Format& format : kFormats) {
      for (const std::int64_t window : {0, 70}) {
        Scene scene(kernels, head_dim, format);
        const std::vector<float> y = scene.attend(kernels, 0, Scene::kRows, window);
        for (std::size_t i = 0; i < y.size(); ++i) {
          const double error = std::fabs(y[i] - scene.exact(i / head_dim, i % head_dim, window));
          CHECK(error <= 2e-6 + format.rounding / 2);
        }
      }
    }
  }
}

void rows_do_not_depend_on_their_company(const Kernels& kernels, std::size_t head_dim, std::int64_t window) {
  for (const Format& format : kFormats) {
    Scene scene(kernels, head_dim, format);
    const std::array<std::int64_t, 7> edges{3, 62, 63, 64, 65, 130, 149};
    for (std::size_t r = 0; r < Scene::kRows; ++r)
      scene.positions[r] = edges[r * edges.size() / Scene::kRows];
    const std::vector<float> together = scene.attend(kernels, 0, Scene::kRows, window);
    for (std::size_t r = 0; r < Scene::kRows; ++r) {
      const std::vector<float> alone = scene.attend(kernels, r, 1, window);
      CHECK_EQUAL(std::memcmp(alone.data(), &together[r * head_dim], head_dim * sizeof(float)), 0);
    }
  }
}

// A query of zeros, or of next to nothing, sees all its keys alike.
void queries_of_zeros_take_the_mean(const Kernels& kernels) {
  for (const Format& format : kFormats) {
    for (const float size : {0.0F, 1e-33F}) {
      Scene scene(kernels, 64, format);
      scene.slopes.assign(Scene::kRows, 0);
      scene.queries.assign(scene.queries.size(), size);
      const std::vector<float> y = scene.attend(kernels, 0, Scene::kRows, 0);
      for (std::size_t i = 0; i < y.size(); ++i) {
        CHECK(std::fabs(y[i] - scene.exact(i / 64, i % 64, 0)) <= 2e-6 + format.rounding / 2);
      }
    }
  }
}

// A key behind a row makes no difference to it, however much greater its value is; a value that is no number
// is seen by those who see its key.
void what_is_hidden_does_not_matter(const Kernels& kernels) {
  const Format format = kFormats[2];
  Scene scene(kernels, 64, format);
  const std::size_t row = 5;
  const auto hidden = static_cast<std::size_t>(scene.positions[row] + 1);
  for (std::size_t i = 0; i < hidden * 64; ++i) scene.values[i] *= 1e-24F;
  scene.store(kernels);
  const std::vector<float> before = scene.attend(kernels, 0, row + 1, 0);
  for (std::size_t i = hidden * 64; i < scene.values.size(); ++i) scene.values[i] = 1e12F;
  scene.store(kernels);
  const std::vector<float> after = scene.attend(kernels, 0, Scene::kRows, 0);
  CHECK_EQUAL(std::memcmp(&before[row * 64], &after[row * 64], 64 * sizeof(float)), 0);
  scene.values[0] = std::nanf("");
  scene.store(kernels);
  CHECK(std::isnan(scene.attend(kernels, 0, 1, 0)[1]));
}

// The slow twin rounds to the neighbours of a float16 and takes the nearer one.
void halves_are_the_nearest(const Kernels& kernels) {
  std::mt19937 random(11);
  std::uniform_real_distribution<float> exponent(-26, 15.99F);
  for (int i = 0; i < 2000; ++i) {
    const float value = (i % 2 == 0 ? 1.0F : -1.0F) * std::exp2(exponent(random));
    std::uint8_t bytes[2];
    kernels.store_row(CacheFormat::f16, &value, 1, bytes);
    const unsigned bits = bytes[0] | static_cast<unsigned>(bytes[1]) << 8;
    const int power = std::max(static_cast<int>(bits >> 10 & 31U), 1) - 25;
    const double mantissa = (bits & 1023U) + ((bits >> 10 & 31U) == 0 ? 0 : 1024);
    const double stored = std::ldexp(mantissa, power) * (bits >> 15 != 0 ? -1 : 1);
    CHECK(std::fabs(stored - double{value}) <= std::ldexp(0.5, power));
  }
}

int run_for(Isa isa) {
  const Kernels& kernels = kernels_of(isa);
  std::cout << isa_name(isa) << '\n';
  return check::run({
      {"results agree with double", [&] { results_agree_with_double(kernels); }},
      {"rows do not depend on their company",
       [&] {
         for (const std::size_t head_dim : {33U, 64U}) {
           for (const std::int64_t window : {0, 70})
             rows_do_not_depend_on_their_company(kernels, head_dim, window);
         }
       }},
      {"queries of zeros take the mean", [&] { queries_of_zeros_take_the_mean(kernels); }},
      {"what is hidden does not matter", [&] { what_is_hidden_does_not_matter(kernels); }},
      {"halves are the nearest", [&] { halves_are_the_nearest(kernels); }},
  });
}

}  // namespace

int main() {
  int status = 0;
  for (const Isa isa : available_isas()) status |= run_for(isa);
  return status;
}
