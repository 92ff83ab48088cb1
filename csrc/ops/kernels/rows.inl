// Work on single rows of floats for any vector instruction set; see linear.inl for how it is included.

constexpr std::size_t index(int i) { return static_cast<std::size_t>(i); }

// 2^f for |f| <= 1/2: of the polynomials of degree 5 that are 1 at 0, the one with the least relative error,
// below 2e-7 with rounding.
inline Vec::Float power_of_part(Vec::Float f) {
  Vec::Float p = Vec::set(1.32648787e-3F);
  p = Vec::fma(p, f, Vec::set(9.67150927e-3F));
  p = Vec::fma(p, f, Vec::set(5.55073321e-2F));
  p = Vec::fma(p, f, Vec::set(2.40222424e-1F));
  p = Vec::fma(p, f, Vec::set(6.93147004e-1F));
  return Vec::fma(p, f, Vec::set(1.0F));
}

// 2^(x log2 e) with the exponent split off; clamped where float32 ends.
inline Vec::Float exponential(Vec::Float x) {
  const Vec::Float t =
      Vec::max(Vec::min(Vec::mul(x, Vec::set(kLog2OfE)), Vec::set(126.0F)), Vec::set(-125.0F));
  const Vec::Int whole = Vec::round(t);
  return Vec::times_power_of_two(power_of_part(Vec::sub(t, Vec::to_float(whole))), whole);
}

constexpr std::size_t kGroupsAtOnce = 4;  // so many are as fast to reduce and to divide as one

// Symmetric rounding of some groups to -127 .. 127; a group of zeros has scale 0.
template <int Group, std::size_t Count>
inline void quantize_groups(const float* x, std::size_t row, std::size_t first, int zero,
                            const QuantizedRows& to) {
  Vec::Float most[kGroupsAtOnce] = {};
#pragma GCC unroll 4
  for (std::size_t g = 0; g < Count; ++g) {
    for (int i = 0; i < Group; i += Vec::lanes)
      most[g] = Vec::max(most[g], Vec::abs(Vec::load(x + index(Group) * g + i)));
  }
  float peaks[kGroupsAtOnce], scales[kGroupsAtOnce], inverses[kGroupsAtOnce];
  Vec::greatest_of_each(most, peaks);
  for (std::size_t g = 0; g < kGroupsAtOnce; ++g) {
    scales[g] = peaks[g] / 127.0F;
    inverses[g] = 127.0F / (peaks[g] > 1e-36F ? peaks[g] : 1e-36F);
  }
  Vec::Int sums[kGroupsAtOnce] = {};
  std::int8_t* codes = to.codes + row * to.code_stride + first * index(Group);
#pragma GCC unroll 4
  for (std::size_t g = 0; g < Count; ++g) {
    const Vec::Float inverse = Vec::set(inverses[g]);
    for (int i = 0; i < Group; i += Vec::lanes, codes += Vec::lanes) {
      const Vec::Int code = Vec::round(Vec::mul(Vec::load(x + index(Group) * g + i), inverse));
      sums[g] = Vec::add32(sums[g], code);
      Vec::narrow(codes, code);
    }
  }
  std::int32_t totals[kGroupsAtOnce];
  Vec::sum_of_each(sums, totals);
  for (std::size_t g = 0; g < Count; ++g) {
    const std::size_t at = (first + g) * to.stride + row;
    to.scales[at] = scales[g];
    to.starts[at] = -zero * totals[g];
    to.sums[at] = scales[g] * static_cast<float>(totals[g]);
  }
}

template <int Group>
void quantize_row(const float* x, std::size_t row, int zero, const QuantizedRows& to) {
  std::size_t g = 0;
  for (; g + kGroupsAtOnce <= to.groups; g += kGroupsAtOnce)
    quantize_groups<Group, kGroupsAtOnce>(x + g * index(Group), row, g, zero, to);
  for (; g < to.groups; ++g) quantize_groups<Group, 1>(x + g * index(Group), row, g, zero, to);
}

void quantize(const float* x, std::size_t row, int zero, const QuantizedRows& to) {
  const auto run = to.group == 32    ? quantize_row<32>
                   : to.group == 64  ? quantize_row<64>
                   : to.group == 128 ? quantize_row<128>
                                     : quantize_row<256>;
  run(x, row, zero, to);
}

// What the codes of a row leave of it.
void remainder(const float* x, std::size_t row, const QuantizedRows& of, float* left) {
  const auto* codes = reinterpret_cast<const std::uint8_t*>(of.codes + row * of.code_stride);
  for (std::size_t g = 0; g < of.groups; ++g) {
    const Vec::Float scale = Vec::set(-of.scales[g * of.stride + row]);
    for (int i = 0; i < of.group; i += Vec::lanes) {
      Vec::store(left, Vec::fma(Vec::signed_bytes(codes), scale, Vec::load(x)));
      codes += Vec::lanes;
      left += Vec::lanes;
      x += Vec::lanes;
    }
  }
}

void add(float* y, const float* x, std::size_t count) {
  std::size_t i = 0;
  for (; i + Vec::lanes <= count; i += Vec::lanes)
    Vec::store(y + i, Vec::add(Vec::load(y + i), Vec::load(x + i)));
  for (; i < count; ++i) y[i] += x[i];
}

inline void store_some(float* y, Vec::Float values, std::size_t count) {
  if (count >= Vec::lanes) return Vec::store(y, values);
  Vec::store_first(y, values, static_cast<int>(count));
}

// raw has room for whole vectors, bias and residual have not.
void put(const Block& block, const float* bias, const float* residual) {
  for (std::size_t r = 0; r < block.rows; ++r) {
    const float* raw = block.raw + r * block.stride;
    const std::size_t row = r * block.width;
    for (std::size_t i = 0; i < block.columns; i += Vec::lanes) {
      const std::size_t left = block.columns - i;
      const int some = left < Vec::lanes ? static_cast<int>(left) : Vec::lanes;
      const auto load = [&](const float* x) {
        return some == Vec::lanes ? Vec::load(x) : Vec::load_first(x, some);
      };
      Vec::Float sum = Vec::load(raw + i);
      if (bias != nullptr) sum = Vec::add(sum, load(bias + i));
      if (residual != nullptr) sum = Vec::add(sum, load(residual + row + i));
      store_some(block.y + row + i, sum, left);
    }
  }
}

inline Vec::Float silu(Vec::Float x) {
  return Vec::quotient(x, Vec::add(Vec::set(1.0F), exponential(Vec::sub(Vec::set(0), x))));
}

// 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
inline Vec::Float gelu_tanh(Vec::Float x) {
  const Vec::Float inner = Vec::fma(Vec::mul(Vec::mul(x, x), x), Vec::set(0.044715F), x);
  const Vec::Float grown = exponential(Vec::mul(inner, Vec::set(-1.5957691216F)));
  return Vec::quotient(x, Vec::add(Vec::set(1.0F), grown));
}

// 0.5 x (1 + erf(x / sqrt 2)); erf by Abramowitz and Stegun 7.1.26, absolute error below 2e-7.
inline Vec::Float gelu_erf(Vec::Float x) {
  const Vec::Float z = Vec::mul(Vec::abs(x), Vec::set(0.70710678F));
  const Vec::Float t = Vec::quotient(Vec::set(1.0F), Vec::fma(z, Vec::set(0.3275911F), Vec::set(1.0F)));
  Vec::Float p = Vec::set(1.061405429F);
  p = Vec::fma(p, t, Vec::set(-1.453152027F));
  p = Vec::fma(p, t, Vec::set(1.421413741F));
  p = Vec::fma(p, t, Vec::set(-0.284496736F));
  p = Vec::fma(p, t, Vec::set(0.254829592F));
  const Vec::Float tail = Vec::mul(Vec::mul(p, t), exponential(Vec::sub(Vec::set(0), Vec::mul(z, z))));
  const Vec::Float half = Vec::mul(x, Vec::set(0.5F));
  // For x > 0 the result is x - half * tail, for x < 0 it is half * tail.
  return Vec::fma(Vec::sub(Vec::set(0), Vec::abs(half)), tail, Vec::max(x, Vec::set(0)));
}

// The first operand of min and max is the bound, so that what is no number stays so.
inline Vec::Float clamped_silu(Vec::Float gate, Vec::Float up) {
  const Vec::Float bound = Vec::set(7.0F);
  gate = Vec::min(bound, gate);
  up = Vec::max(Vec::set(-7.0F), Vec::min(bound, up));
  const Vec::Float grown = exponential(Vec::mul(gate, Vec::set(-1.702F)));
  return Vec::mul(Vec::quotient(gate, Vec::add(Vec::set(1.0F), grown)), Vec::add(up, Vec::set(1.0F)));
}

template <Activation activation>
inline Vec::Float gated(Vec::Float gate, Vec::Float up) {
  if constexpr (activation == Activation::silu) return Vec::mul(silu(gate), up);
  if constexpr (activation == Activation::gelu_tanh) return Vec::mul(gelu_tanh(gate), up);
  if constexpr (activation == Activation::gelu_erf) return Vec::mul(gelu_erf(gate), up);
  if constexpr (activation == Activation::clamped_silu) return clamped_silu(gate, up);
}

// Whole rows have a loop of their own, whose constants stay in registers.
template <Activation activation>
void put_gated_by(const Block& block) {
  const std::size_t rows = block.rows, stride = block.stride, width = block.width;
  const float* raw = block.raw;
  float* y = block.y;
  if (block.columns == 32) {
    for (std::size_t r = 0; r < rows; ++r, raw += stride, y += width) {
      for (int i = 0; i < 32; i += Vec::lanes)
        Vec::store(y + i, gated<activation>(Vec::load(raw + i), Vec::load(raw + 32 + i)));
    }
    return;
  }
  for (std::size_t r = 0; r < rows; ++r, raw += stride, y += width) {
    for (std::size_t i = 0; i < block.columns; i += Vec::lanes) {
      store_some(y + i, gated<activation>(Vec::load(raw + i), Vec::load(raw + 32 + i)), block.columns - i);
    }
  }
}

void put_gated(const Block& block, Activation activation) {
  if (activation == Activation::silu) return put_gated_by<Activation::silu>(block);
  if (activation == Activation::gelu_tanh) return put_gated_by<Activation::gelu_tanh>(block);
  if (activation == Activation::gelu_erf) return put_gated_by<Activation::gelu_erf>(block);
  put_gated_by<Activation::clamped_silu>(block);
}

void rms_norm(const float* x, const float* weight, float epsilon, std::size_t count, float* y) {
  Vec::Float squares = Vec::set(0);
  std::size_t i = 0;
  for (; i + Vec::lanes <= count; i += Vec::lanes)
    squares = Vec::fma(Vec::load(x + i), Vec::load(x + i), squares);
  float total = Vec::sum(squares);
  for (; i < count; ++i) total += x[i] * x[i];
  const float factor = 1.0F / __builtin_sqrtf(total / static_cast<float>(count) + epsilon);
  for (i = 0; i + Vec::lanes <= count; i += Vec::lanes) {
    Vec::store(y + i, Vec::mul(Vec::mul(Vec::load(x + i), Vec::set(factor)), Vec::load(weight + i)));
  }
  for (; i < count; ++i) y[i] = x[i] * factor * weight[i];
}

// Each row has a sum of its own, so it does not matter how many go together.
template <int R>
inline void dots_of(const float* x, const float* rows, std::size_t width, float* y) {
  Vec::Float sums[index(R)];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sums[r] = Vec::set(0);
  std::size_t i = 0;
  for (; i + Vec::lanes <= width; i += Vec::lanes) {
    const Vec::Float here = Vec::load(x + i);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums[r] = Vec::fma(Vec::load(rows + index(r) * width + i), here, sums[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    y[r] = Vec::sum(sums[r]);
    for (std::size_t k = i; k < width; ++k) y[r] += rows[index(r) * width + k] * x[k];
  }
}

void dots(const float* x, const float* rows, std::size_t count, std::size_t width, float* y) {
  std::size_t row = 0;
  for (; row + 4 <= count; row += 4) dots_of<4>(x, rows + row * width, width, y + row);
  for (; row < count; ++row) dots_of<1>(x, rows + row * width, width, y + row);
}
