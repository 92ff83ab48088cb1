// The part of `Vec` that the two NEON sets share: 4 lanes, 32 registers. Included inside an anonymous
// namespace.

struct VecNeon {
  using Float = float32x4_t;
  using Int = int32x4_t;
  static constexpr int lanes = 4;
  static constexpr int float_registers = 8;  // that multiply_few may use for float sums
  static constexpr int few_at_once = 4;
  static constexpr int tile_rows = 6;
  static constexpr int attention_rows = 4;
  static constexpr int strip = 4;  // vectors of columns that attention sums at once

  static Float set(float x) { return vdupq_n_f32(x); }
  static Float load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, Float x) { vst1q_f32(p, x); }
  static Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static Float sub(Float a, Float b) { return vsubq_f32(a, b); }
  static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static Float div(Float a, Float b) { return vdivq_f32(a, b); }
  // a / b for b that is at least 1.
  static Float quotient(Float a, Float b) { return div(a, b); }
  static Float max(Float a, Float b) { return vmaxq_f32(a, b); }
  static Float min(Float a, Float b) { return vminq_f32(a, b); }
  static Float abs(Float a) { return vabsq_f32(a); }
  static Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
  static float sum(Float a) { return vaddvq_f32(a); }
  static float greatest(Float a) { return vmaxvq_f32(a); }
  static void greatest_of_each(const Float (&a)[4], float* to) {
    store(to, vpmaxq_f32(vpmaxq_f32(a[0], a[1]), vpmaxq_f32(a[2], a[3])));
  }
  static void sum_of_each(const Float (&a)[4], float* to) {
    store(to, vpaddq_f32(vpaddq_f32(a[0], a[1]), vpaddq_f32(a[2], a[3])));
  }
  static Float half(const std::uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
  static Float half_everywhere(const std::uint8_t* p) {
    std::uint16_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits)));
  }
  static void store_half(std::uint8_t* p, Float a) { vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(a))); }
  static Float signed_bytes(const std::uint8_t* p) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bits))))));
  }

  static Int set32(std::int32_t x) { return vdupq_n_s32(x); }
  static Int add32(Int a, Int b) { return vaddq_s32(a, b); }
  static void sum_of_each(const Int (&a)[4], std::int32_t* to) {
    vst1q_s32(to, vpaddq_s32(vpaddq_s32(a[0], a[1]), vpaddq_s32(a[2], a[3])));
  }
  static Int round(Float a) { return vcvtnq_s32_f32(a); }
  static Float to_float(Int a) { return vcvtq_f32_s32(a); }
  static Float power_of_two(Int n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
  }
  static Float times_power_of_two(Float a, Int n) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), vshlq_n_s32(n, 23)));
  }
  static void narrow(std::int8_t* p, Int a) {
    const int16x4_t words = vqmovn_s32(a);
    const int8x8_t bytes = vqmovn_s16(vcombine_s16(words, words));
    __builtin_memcpy(p, &bytes, 4);
  }

  static void narrow_words(std::uint8_t* p, Int a) { vst1_u8(p, vreinterpret_u8_s16(vqmovn_s32(a))); }
  static Int load32(const std::int32_t* p) { return vld1q_s32(p); }
  static void store32(std::int32_t* p, Int a) { vst1q_s32(p, a); }
  // Products of pairs of words and their sum.
  static Int dot_pairs(Int sum, Int a, Int b) {
    const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    const Int low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(x, y)));
  }
  // Words at p and q, one of each in a lane.
  static Int side_by_side(const std::uint8_t* p, const std::uint8_t* q) {
    const uint16x4_t x = vreinterpret_u16_u8(vld1_u8(p)), y = vreinterpret_u16_u8(vld1_u8(q));
    return vreinterpretq_s32_u16(vcombine_u16(vzip1_u16(x, y), vzip2_u16(x, y)));
  }

  static Int load_bytes(const std::uint8_t* p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
  static void store_bytes(std::uint8_t* p, Int a) { vst1q_u8(p, vreinterpretq_u8_s32(a)); }
  static Int low_nibbles(Int a) {
    return vreinterpretq_s32_u8(vandq_u8(vreinterpretq_u8_s32(a), vdupq_n_u8(15)));
  }
  static Int high_nibbles(Int a) { return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(a), 4)); }
  static Int four(const std::int8_t* p) {
    std::int32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return vdupq_n_s32(bits);
  }
  // Bytes at p, one for each column, four times, or their low or high nibbles.
  static Int four_times(const std::uint8_t* p) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(bits));
    const uint16x4_t twice = vreinterpret_u16_u8(vzip1_u8(bytes, bytes));
    return vreinterpretq_s32_u16(vcombine_u16(vzip1_u16(twice, twice), vzip2_u16(twice, twice)));
  }
  static Int step_twice(const std::uint8_t* p, bool high) {
    return high ? high_nibbles(four_times(p)) : low_nibbles(four_times(p));
  }
  static constexpr int rows_by_parts = 0;
  static Int add_steps(Int base, Int codes, Int step) {
    return vreinterpretq_s32_u8(
        vmlaq_u8(vreinterpretq_u8_s32(base), vreinterpretq_u8_s32(codes), vreinterpretq_u8_s32(step)));
  }
  // Sums are of 32 bits from the start.
  template <int>
  static constexpr bool sums_in_16_bits = false;
  static Int add_pairs(Int total, Int sum) { return vaddq_s32(total, sum); }

  static Float load_first(const float* p, int n) {
    float padded[4] = {};
    for (int i = 0; i < n; ++i) padded[i] = p[i];
    return load(padded);
  }
  static void store_first(float* p, Float a, int n) {
    float all[4];
    store(all, a);
    for (int i = 0; i < n; ++i) p[i] = all[i];
  }
  static Float between(Float a, Float b, int first, int end) {
    const Int lane = {0, 1, 2, 3};
    const uint32x4_t inside = vandq_u32(vcgeq_s32(lane, set32(first)), vcltq_s32(lane, set32(end)));
    return vbslq_f32(inside, a, b);
  }

  static void transpose(const float* from, std::size_t from_stride, float* to, std::size_t to_stride) {
    const float32x4x2_t ab = vtrnq_f32(load(from), load(from + from_stride));
    const float32x4x2_t cd = vtrnq_f32(load(from + 2 * from_stride), load(from + 3 * from_stride));
    store(to, vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0])));
    store(to + to_stride, vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1])));
    store(to + 2 * to_stride, vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0])));
    store(to + 3 * to_stride, vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1])));
  }
};
