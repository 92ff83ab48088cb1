// The part of `Vec` that AVX2 and AVX-VNNI share: 8 lanes, 16 registers, no EVEX. Included inside an
// anonymous namespace.

struct Vec256 {
  using Float = __m256;
  using Int = __m256i;
  static constexpr int lanes = 8;
  static constexpr int float_registers = 4;  // that multiply_few may use for float sums
  static constexpr int few_at_once = 4;
  static constexpr int tile_rows = 4;
  static constexpr int attention_rows = 6;
  static constexpr int strip = 2;  // vectors of columns that attention sums at once

  static Float set(float x) { return _mm256_set1_ps(x); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  // a / b for b that is at least 1.
  static Float quotient(Float a, Float b) { return div(a, b); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float abs(Float a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), a); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static float sum(Float a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
  }
  static float greatest(Float a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
  }
  static void greatest_of_each(const Float (&a)[4], float* to) {
    const Float ab = max(_mm256_unpacklo_ps(a[0], a[1]), _mm256_unpackhi_ps(a[0], a[1]));
    const Float cd = max(_mm256_unpacklo_ps(a[2], a[3]), _mm256_unpackhi_ps(a[2], a[3]));
    const Float all = max(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    _mm_storeu_ps(to, _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
  static void sum_of_each(const Float (&a)[4], float* to) {
    const Float all = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }
  static Float half(const std::uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Float half_everywhere(const std::uint8_t* p) {
    short bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return _mm256_cvtph_ps(_mm_set1_epi16(bits));
  }
  static void store_half(std::uint8_t* p, Float a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }
  static Float signed_bytes(const std::uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }

  static Int set32(std::int32_t x) { return _mm256_set1_epi32(x); }
  static Int add32(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static void sum_of_each(const Int (&a)[4], std::int32_t* to) {
    const Int all = _mm256_hadd_epi32(_mm256_hadd_epi32(a[0], a[1]), _mm256_hadd_epi32(a[2], a[3]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
  }
  static Int round(Float a) { return _mm256_cvtps_epi32(a); }
  static Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
  static Float power_of_two(Int n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  static Float times_power_of_two(Float a, Int n) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(n, 23)));
  }
  static void narrow(std::int8_t* p, Int a) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  }

  static void narrow_words(std::uint8_t* p, Int a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
  }
  static Int load32(const std::int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store32(std::int32_t* p, Int a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
  // Products of pairs of words and their sum.
  static Int dot_pairs(Int sum, Int a, Int b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
  // Words at p and q, one of each in a lane.
  static Int side_by_side(const std::uint8_t* p, const std::uint8_t* q) {
    const auto words = [](const std::uint8_t* at) {
      return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    };
    return _mm256_or_si256(words(p), _mm256_slli_epi32(words(q), 16));
  }

  static Int load_bytes(const std::uint8_t* p) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
  }
  static void store_bytes(std::uint8_t* p, Int a) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), a); }
  static Int low_nibbles(Int a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
  static Int high_nibbles(Int a) { return _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15)); }
  static Int four(const std::int8_t* p) {
    std::int32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return _mm256_set1_epi32(bits);
  }
  // Bytes at p, one for each column: four times, or their low or high nibbles, once and twice in 16 bits.
  static Int four_times(const std::uint8_t* p) {
    const __m128i low = _mm_setr_epi32(0x00000000, 0x04040404, 0x08080808, 0x0c0c0c0c);
    return _mm256_shuffle_epi8(bytes_of_lanes(p), _mm256_broadcastsi128_si256(low));
  }
  static Int step(const std::uint8_t* p, bool high) {
    const Int both = bytes_of_lanes(p);
    return high ? _mm256_srli_epi32(both, 4) : _mm256_and_si256(both, _mm256_set1_epi32(15));
  }
  static Int step_twice(const std::uint8_t* p, bool high) {
    const Int once = step(p, high);
    return _mm256_or_si256(once, _mm256_slli_epi32(once, 16));
  }
  static Int bytes_of_lanes(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  // base + step * code, which fits into a byte, so the products of neighbours do not meet.
  static Int add_steps(Int base, Int codes, Int step) {
    return _mm256_add_epi8(base, _mm256_mullo_epi16(codes, step));
  }
  // 32-bit sums plus neighbouring 16-bit sums.
  static Int add_pairs(Int total, Int sum) {
    return _mm256_add_epi32(total, _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
  }

  static Float load_first(const float* p, int n) { return _mm256_maskload_ps(p, between_mask(0, n)); }
  static void store_first(float* p, Float a, int n) { _mm256_maskstore_ps(p, between_mask(0, n), a); }
  static Float between(Float a, Float b, int first, int end) {
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(between_mask(first, end)));
  }
  static Int between_mask(int first, int end) {
    const Int lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(first), lane),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane));
  }

  // 8 x 8, as in avx512_vnni.cpp with quads of two rows.
  static void transpose(const float* from, std::size_t from_stride, float* to, std::size_t to_stride) {
    for (std::size_t quad = 0; quad < 8; quad += 4) {
      Float r[4];
#pragma GCC unroll 4
      for (std::size_t i = 0; i < 4; ++i) {
        const float* p = from + i * from_stride + quad;
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)),
                                    _mm_loadu_ps(p + 4 * from_stride), 1);
      }
      const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(r[0], r[1]));
      const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(r[0], r[1]));
      const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(r[2], r[3]));
      const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(r[2], r[3]));
      store(to + quad * to_stride, _mm256_castpd_ps(_mm256_unpacklo_pd(a, c)));
      store(to + (quad + 1) * to_stride, _mm256_castpd_ps(_mm256_unpackhi_pd(a, c)));
      store(to + (quad + 2) * to_stride, _mm256_castpd_ps(_mm256_unpacklo_pd(b, d)));
      store(to + (quad + 3) * to_stride, _mm256_castpd_ps(_mm256_unpackhi_pd(b, d)));
    }
  }
};
