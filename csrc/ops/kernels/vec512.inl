// Vectors of AVX-512 with VNNI: 16 lanes, 32 registers, dot products of unsigned by signed bytes. Included
// once by each file of such an instruction set, inside an anonymous namespace.

struct Vec {
  using Float = __m512;
  using Int = __m512i;
  static constexpr int lanes = 16;
  static constexpr int float_registers = 8;  // that multiply_few may use for float sums
  static constexpr int few_at_once = 12;
  static constexpr int tile_rows = 6;
  static constexpr int attention_rows = 6;
  static constexpr int strip = 4;  // vectors of columns that attention sums at once

  static Float set(float x) { return _mm512_set1_ps(x); }
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  // a / b for b from 1 to 2^126, to about one unit in the last place: a step of Newton from 14 bits.
  static Float quotient(Float a, Float b) {
    const Float guess = _mm512_rcp14_ps(b);
    return _mm512_mul_ps(a, _mm512_fmadd_ps(_mm512_fnmadd_ps(b, guess, set(1)), guess, guess));
  }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float abs(Float a) { return _mm512_abs_ps(a); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static float sum(Float a) { return _mm512_reduce_add_ps(a); }
  static float greatest(Float a) { return _mm512_reduce_max_ps(a); }
  static void greatest_of_each(const Float (&a)[4], float* to) {
    const Float ab = max(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
    const Float cd = max(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    const Float all = max(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(to, _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
  static void sum_of_each(const Float (&a)[4], float* to) {
    const Float ab = add(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
    const Float cd = add(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    const Float all = add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
  static Float half(const std::uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Float half_everywhere(const std::uint8_t* p) {
    short bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return _mm512_cvtph_ps(_mm256_set1_epi16(bits));
  }
  static void store_half(std::uint8_t* p, Float a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }
  static Float signed_bytes(const std::uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }

  static Int set32(std::int32_t x) { return _mm512_set1_epi32(x); }
  static Int add32(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static void sum_of_each(const Int (&a)[4], std::int32_t* to) {
    const Int ab = add32(_mm512_unpacklo_epi32(a[0], a[1]), _mm512_unpackhi_epi32(a[0], a[1]));
    const Int cd = add32(_mm512_unpacklo_epi32(a[2], a[3]), _mm512_unpackhi_epi32(a[2], a[3]));
    const Int all = add32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
  }
  static Int round(Float a) { return _mm512_cvtps_epi32(a); }
  static Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
  static Float power_of_two(Int n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
  }
  static Float times_power_of_two(Float a, Int n) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(n, 23)));
  }
  static void narrow(std::int8_t* p, Int a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(a));
  }

  static void narrow_words(std::uint8_t* p, Int a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(a));
  }
  static Int load32(const std::int32_t* p) { return _mm512_loadu_si512(p); }
  static void store32(std::int32_t* p, Int a) { _mm512_storeu_si512(p, a); }
  // Products of pairs of words and their sum.
  static Int dot_pairs(Int sum, Int a, Int b) { return _mm512_dpwssd_epi32(sum, a, b); }
  // Words at p and q, one of each in a lane.
  static Int side_by_side(const std::uint8_t* p, const std::uint8_t* q) {
    const Int lanes_of = _mm512_add_epi32(
        _mm512_set1_epi32(0x00100000),
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(0x00010001)));
    const Int both =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))),
                           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)), 1);
    return _mm512_permutexvar_epi16(lanes_of, both);
  }

  static Int load_bytes(const std::uint8_t* p) { return _mm512_load_si512(p); }
  static void store_bytes(std::uint8_t* p, Int a) { _mm512_store_si512(p, a); }
  static Int low_nibbles(Int a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
  static Int high_nibbles(Int a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15)); }
  static Int four(const std::int8_t* p) {
    std::int32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return _mm512_set1_epi32(bits);
  }
  template <int>
  static constexpr bool sums_in_16_bits = false;
  template <int>
  static Int dot(Int sum, Int codes, Int a) {
    return _mm512_dpbusd_epi32(sum, codes, a);
  }
  // Bytes at p, one for each column: four times, or their low or high nibbles, once and twice in 16 bits.
  static Int four_times(const std::uint8_t* p) {
    return _mm512_shuffle_epi8(bytes_of_lanes(p),
                               _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0x00000000));
  }
  static Int step(const std::uint8_t* p, bool high) {
    const Int both = bytes_of_lanes(p);
    return high ? _mm512_srli_epi32(both, 4) : _mm512_and_si512(both, _mm512_set1_epi32(15));
  }
  static Int step_twice(const std::uint8_t* p, bool high) {
    const Int once = step(p, high);
    return _mm512_or_si512(once, _mm512_slli_epi32(once, 16));
  }
  static Int bytes_of_lanes(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  // base + step * code, which fits into a byte, so the products of neighbours do not meet.
  static Int add_steps(Int base, Int codes, Int step) {
    return _mm512_add_epi8(base, _mm512_mullo_epi16(codes, step));
  }

  static Int flip_signs(Int bytes) { return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)); }

  // total + step * sum + base * part
  static constexpr int rows_by_parts = 2;  // most rows for which that is faster than codes of 8 bits
  static Int base(const std::uint8_t* p) { return bytes_of_lanes(p); }
  static Int add_stepped(Int total, Int sum, Int step, Int base, Int part) {
    return _mm512_dpwssd_epi32(_mm512_add_epi32(total, _mm512_mullo_epi32(step, sum)), base, part);
  }

  static Int add_pairs(Int total, Int sum) {
    return _mm512_add_epi32(total, _mm512_madd_epi16(sum, _mm512_set1_epi16(1)));
  }

  // The first n lanes, zero in the others.
  static Float load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static void store_first(float* p, Float a, int n) { _mm512_mask_storeu_ps(p, mask(n), a); }
  // Lanes from `first` up to `end` of a, the others of b.
  static Float between(Float a, Float b, int first, int end) {
    return _mm512_mask_mov_ps(b, static_cast<__mmask16>(mask(end) & ~mask(first)), a);
  }
  static __mmask16 mask(int n) {
    return static_cast<__mmask16>(n <= 0 ? 0U : n >= 16 ? 0xffffU : (1U << n) - 1U);
  }

  // 16 x 16: rows of `from` become columns of `to`. Quads of four rows are put side by side, then turned
  // within lanes.
  static void transpose(const float* from, std::size_t from_stride, float* to, std::size_t to_stride) {
    for (std::size_t quad = 0; quad < 16; quad += 4) {
      Float r[4];
#pragma GCC unroll 4
      for (std::size_t i = 0; i < 4; ++i) {
        const float* p = from + i * from_stride + quad;
        r[i] = _mm512_broadcast_f32x4(_mm_loadu_ps(p));
        r[i] = _mm512_mask_broadcast_f32x4(r[i], 0x00f0, _mm_loadu_ps(p + 4 * from_stride));
        r[i] = _mm512_mask_broadcast_f32x4(r[i], 0x0f00, _mm_loadu_ps(p + 8 * from_stride));
        r[i] = _mm512_mask_broadcast_f32x4(r[i], 0xf000, _mm_loadu_ps(p + 12 * from_stride));
      }
      const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1]));
      const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
      const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
      const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
      store(to + quad * to_stride, _mm512_castpd_ps(_mm512_unpacklo_pd(a, c)));
      store(to + (quad + 1) * to_stride, _mm512_castpd_ps(_mm512_unpackhi_pd(a, c)));
      store(to + (quad + 2) * to_stride, _mm512_castpd_ps(_mm512_unpacklo_pd(b, d)));
      store(to + (quad + 3) * to_stride, _mm512_castpd_ps(_mm512_unpackhi_pd(b, d)));
    }
  }
};
