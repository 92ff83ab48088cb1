// Work on single rows of floats for any vector instruction set; see linear.inl for how it is included.

constexpr std::size_t index(int i) { return static_cast<std::size_t>(i); }

// 2^(x log2 e) with the exponent split off; the polynomial is the Taylor series of 2^f for |f| <= 1/2,
// relative error below 2e-7. Clamped where float32 ends.
inline Vec::Float exponential(Vec::Float x) {
  const Vec::Float t =
      Vec::max(Vec::min(Vec::mul(x, Vec::set(1.44269504F)), Vec::set(126.0F)), Vec::set(-126.0F));
  const Vec::Int whole = Vec::round(t);
  const Vec::Float f = Vec::sub(t, Vec::to_float(whole));
  Vec::Float p = Vec::set(1.54035304e-4F);
  p = Vec::fma(p, f, Vec::set(1.33335581e-3F));
  p = Vec::fma(p, f, Vec::set(9.61812911e-3F));
  p = Vec::fma(p, f, Vec::set(5.55041087e-2F));
  p = Vec::fma(p, f, Vec::set(2.40226507e-1F));
  p = Vec::fma(p, f, Vec::set(6.93147182e-1F));
  p = Vec::fma(p, f, Vec::set(1.0F));
  return Vec::mul(p, Vec::power_of_two(whole));
}

// Symmetric rounding to -127 .. 127 per group; a group of zeros has scale 0.
void quantize(const float* x, std::size_t row, int zero, const QuantizedRows& to) {
  std::int8_t* codes = to.codes + row * to.inputs;
  for (std::size_t g = 0; g < to.groups; ++g) {
    const float* from = x + g * static_cast<std::size_t>(to.group);
    Vec::Float most = Vec::set(0);
    for (int i = 0; i < to.group; i += Vec::lanes) most = Vec::max(most, Vec::abs(Vec::load(from + i)));
    const float peak = Vec::greatest(most);
    const Vec::Float inverse = Vec::set(peak > 0 ? 127.0F / peak : 0.0F);
    Vec::Int sum = Vec::set32(0);
    for (int i = 0; i < to.group; i += Vec::lanes, codes += Vec::lanes) {
      const Vec::Int code = Vec::round(Vec::mul(Vec::load(from + i), inverse));
      sum = Vec::add32(sum, code);
      Vec::narrow(codes, code);
    }
    const std::int32_t total = Vec::sum32(sum);
    const std::size_t at = g * to.count + row;
    to.scales[at] = peak / 127.0F;
    to.starts[at] = -zero * total;
    to.sums[at] = to.scales[at] * static_cast<float>(total);
  }
}

// What the codes of a row leave of it.
void remainder(const float* x, std::size_t row, const QuantizedRows& of, float* left) {
  const auto* codes = reinterpret_cast<const std::uint8_t*>(of.codes + row * of.inputs);
  for (std::size_t g = 0; g < of.groups; ++g) {
    const Vec::Float scale = Vec::set(-of.scales[g * of.count + row]);
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
  return Vec::div(x, Vec::add(Vec::set(1.0F), exponential(Vec::sub(Vec::set(0), x))));
}

// 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
inline Vec::Float gelu_tanh(Vec::Float x) {
  const Vec::Float inner = Vec::fma(Vec::mul(Vec::mul(x, x), x), Vec::set(0.044715F), x);
  const Vec::Float grown = exponential(Vec::mul(inner, Vec::set(-1.5957691216F)));
  return Vec::div(x, Vec::add(Vec::set(1.0F), grown));
}

// 0.5 x (1 + erf(x / sqrt 2)); erf by Abramowitz and Stegun 7.1.26, absolute error below 2e-7.
inline Vec::Float gelu_erf(Vec::Float x) {
  const Vec::Float z = Vec::mul(Vec::abs(x), Vec::set(0.70710678F));
  const Vec::Float t = Vec::div(Vec::set(1.0F), Vec::fma(z, Vec::set(0.3275911F), Vec::set(1.0F)));
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

inline Vec::Float activate(Activation activation, Vec::Float x) {
  if (activation == Activation::silu) return silu(x);
  return activation == Activation::gelu_tanh ? gelu_tanh(x) : gelu_erf(x);
}

// The first operand of min and max is the bound, so that what is no number stays so.
inline Vec::Float clamped_silu(Vec::Float gate, Vec::Float up) {
  const Vec::Float bound = Vec::set(7.0F);
  gate = Vec::min(bound, gate);
  up = Vec::max(Vec::set(-7.0F), Vec::min(bound, up));
  const Vec::Float grown = exponential(Vec::mul(gate, Vec::set(-1.702F)));
  return Vec::mul(Vec::div(gate, Vec::add(Vec::set(1.0F), grown)), Vec::add(up, Vec::set(1.0F)));
}

void put_gated(const Block& block, Activation activation) {
  const bool clamped = activation == Activation::clamped_silu;
  for (std::size_t r = 0; r < block.rows; ++r) {
    const float* gate = block.raw + r * block.stride;
    float* y = block.y + r * block.width;
    for (std::size_t i = 0; i < block.columns; i += Vec::lanes) {
      const Vec::Float x = Vec::load(gate + i), up = Vec::load(gate + 32 + i);
      const Vec::Float both = clamped ? clamped_silu(x, up) : Vec::mul(activate(activation, x), up);
      store_some(y + i, both, block.columns - i);
    }
  }
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
