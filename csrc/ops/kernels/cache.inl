// Rows of a KV cache from floats and back, for any vector instruction set; see linear.inl for how it is
// included.

constexpr std::size_t kLanes = Vec::lanes;

// Calls step(at, n) for every vector of `count` numbers; n < kLanes in the last one only.
template <class Step>
inline void by_vectors(std::size_t count, const Step& step) {
  std::size_t at = 0;
  for (; at + kLanes <= count; at += kLanes) step(at, kLanes);
  if (at < count) step(at, count - at);
}

// The bytes of n of kLanes numbers, completed with zeros where reading on would leave the row.
template <std::size_t Size>
struct Padded {
  std::uint8_t copy[kLanes * Size] = {};
  const std::uint8_t* bytes;

  Padded(const std::uint8_t* from, std::size_t n) : bytes(from) {
    if (n == kLanes) return;
    __builtin_memcpy(copy, from, n * Size);
    bytes = copy;
  }
};

inline Vec::Float load_up_to(const float* from, std::size_t n) {
  return n == kLanes ? Vec::load(from) : Vec::load_first(from, static_cast<int>(n));
}

inline void store_up_to(float* to, Vec::Float x, std::size_t n) {
  if (n == kLanes) {
    Vec::store(to, x);
  } else {
    Vec::store_first(to, x, static_cast<int>(n));
  }
}

inline Vec::Float bounded(Vec::Float x, float most) {
  return Vec::max(Vec::min(x, Vec::set(most)), Vec::set(-most));
}

inline void widen_f16(const std::uint8_t* row, std::size_t count, float* to) {
  by_vectors(count, [&](std::size_t at, std::size_t n) {
    store_up_to(to + at, Vec::half(Padded<2>(row + 2 * at, n).bytes), n);
  });
}

inline void widen_int8(const std::uint8_t* row, std::size_t count, float* to) {
  const std::uint8_t* scales = row + count;
  for (std::size_t first = 0; first < count; first += kCacheGroup, scales += 2) {
    const Vec::Float scale = Vec::half_everywhere(scales);
    const std::size_t size = count - first < kCacheGroup ? count - first : kCacheGroup;
    by_vectors(size, [&](std::size_t at, std::size_t n) {
      const Padded<1> codes(row + first + at, n);
      store_up_to(to + first + at, Vec::mul(Vec::signed_bytes(codes.bytes), scale), n);
    });
  }
}

// Bounds of rows that are rounded to words: a product of a query with a key stays below 2^31 by that of their
// Euclidean norms, with half a step for every number of a head; one of softmax weights with values by the
// greatest word.
constexpr float kQueryNorm = 32500.0F;
constexpr float kRowNorm = 65000.0F;
constexpr float kMostWord = 32700.0F;
constexpr float kLeastScale = 1e-30F;  // what is smaller is nothing

// Nearest whole numbers in steps of the scale, which is returned, as words of a norm of at most `norm`. The
// scale is 0 for zeros, NaN where a number is not finite.
inline float round_to_words(const float* x, std::size_t count, float norm, std::uint8_t* words) {
  Vec::Float most = Vec::set(0);
  by_vectors(count,
             [&](std::size_t at, std::size_t n) { most = Vec::max(most, Vec::abs(load_up_to(x + at, n))); });
  const float peak = Vec::greatest(most);
  const float unit = peak > kLeastScale ? 1.0F / peak : 0.0F;
  Vec::Float squares = Vec::set(0);
  by_vectors(count, [&](std::size_t at, std::size_t n) {
    const Vec::Float part = Vec::mul(load_up_to(x + at, n), Vec::set(unit));
    squares = Vec::fma(part, part, squares);
  });
  const float sum = Vec::sum(squares);
  if (sum != sum) {  // something is infinite or no number, and is to be seen in the results
    __builtin_memset(words, 0, 2 * count);
    return __builtin_nanf("");
  }
  const float length = __builtin_sqrtf(sum) / norm;
  const float step = length > 1.0F / kMostWord ? length : 1.0F / kMostWord;
  by_vectors(count, [&](std::size_t at, std::size_t n) {
    std::uint8_t rounded[kLanes * 2];
    const Vec::Float part = Vec::mul(load_up_to(x + at, n), Vec::set(unit));
    Vec::narrow_words(rounded, Vec::round(Vec::mul(part, Vec::set(1.0F / step))));
    __builtin_memcpy(words + 2 * at, rounded, 2 * n);
  });
  return unit > 0 ? peak * step : 0;
}

inline float word_scale(const std::uint8_t* row, std::size_t count) {
  float scale;
  __builtin_memcpy(&scale, row + 2 * count, sizeof scale);
  return scale;
}

// `count` rows of a cache as floats, head_dim apart: where they are, or in `memory`.
inline const float* rows_as_floats(const AttentionRows& rows, const std::uint8_t* from, std::size_t count,
                                   float* memory) {
  if (rows.format == CacheFormat::f32) return reinterpret_cast<const float*>(from);
  const auto widen = rows.format == CacheFormat::f16 ? widen_f16 : widen_int8;
  for (std::size_t r = 0; r < count; ++r) {
    widen(from + r * rows.row_bytes, rows.head_dim, memory + r * rows.head_dim);
  }
  return memory;
}

// Beyond the range of float16 the greatest number stands for all.
inline void store_f16(const float* x, std::size_t count, std::uint8_t* row) {
  by_vectors(count, [&](std::size_t at, std::size_t n) {
    std::uint8_t halves[kLanes * 2];
    Vec::store_half(halves, bounded(load_up_to(x + at, n), 65504.0F));
    __builtin_memcpy(row + 2 * at, halves, 2 * n);
  });
}

// Symmetric rounding to -127 .. 127 in steps of the scale as float16 holds it.
inline void store_int8_group(const float* x, std::size_t count, std::uint8_t* codes, std::uint8_t* scale) {
  Vec::Float most = Vec::set(0);
  by_vectors(count,
             [&](std::size_t at, std::size_t n) { most = Vec::max(most, Vec::abs(load_up_to(x + at, n))); });
  std::uint8_t halves[kLanes * 2];
  Vec::store_half(halves, bounded(Vec::set(Vec::greatest(most) / 127.0F), 65504.0F));
  __builtin_memcpy(scale, halves, 2);
  const float step = Vec::greatest(Vec::half_everywhere(scale));
  const Vec::Float inverse = Vec::set(step > 0 ? 1.0F / step : 0.0F);
  by_vectors(count, [&](std::size_t at, std::size_t n) {
    std::int8_t rounded[kLanes];
    Vec::narrow(rounded, Vec::round(bounded(Vec::mul(load_up_to(x + at, n), inverse), 127.0F)));
    __builtin_memcpy(codes + at, rounded, n);
  });
}

void store_row(CacheFormat format, const float* x, std::size_t count, std::uint8_t* row) {
  if (format == CacheFormat::f32) {
    __builtin_memcpy(row, x, count * sizeof(float));
  } else if (format == CacheFormat::f16) {
    store_f16(x, count, row);
  } else if (format == CacheFormat::int16) {
    const float scale = round_to_words(x, count, kRowNorm, row);
    __builtin_memcpy(row + 2 * count, &scale, sizeof scale);
  } else {
    for (std::size_t at = 0; at < count; at += kCacheGroup) {
      const std::size_t size = count - at < kCacheGroup ? count - at : kCacheGroup;
      store_int8_group(x + at, size, row + at, row + count + at / kCacheGroup * 2);
    }
  }
}
