#include "codec/planes/kernels.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include <fastslm/cpu.hpp>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastslm::planes {
namespace {

// The definition, written down; compilers make vectors of it where they can.
template <class Number>
void split_from(const std::byte* numbers, const PlanesOut& planes, std::size_t first, std::size_t count) {
  for (std::size_t i = first; i < count; ++i) {
    std::uint32_t number = 0;
    for (std::size_t k = 0; k < sizeof(Number); ++k) {
      number |= std::to_integer<std::uint32_t>(numbers[i * sizeof(Number) + k]) << (8 * k);
    }
    const std::uint32_t rotated = std::rotl(static_cast<Number>(number), 1);
    for (std::size_t k = 0; k < sizeof(Number); ++k) {
      planes[k][i] = static_cast<std::byte>((rotated >> (8 * k)) & 0xFFU);
    }
  }
}

template <class Number>
void merge_from(const PlanesIn& planes, std::byte* numbers, std::size_t first, std::size_t count) {
  for (std::size_t i = first; i < count; ++i) {
    std::uint32_t rotated = 0;
    for (std::size_t k = 0; k < sizeof(Number); ++k) {
      rotated |= std::to_integer<std::uint32_t>(planes[k][i]) << (8 * k);
    }
    const std::uint32_t number = std::rotr(static_cast<Number>(rotated), 1);
    for (std::size_t k = 0; k < sizeof(Number); ++k) {
      numbers[i * sizeof(Number) + k] = static_cast<std::byte>((number >> (8 * k)) & 0xFFU);
    }
  }
}

#if defined(__x86_64__)

constexpr std::size_t kLane = 32;  // bytes of one vector

// Unaligned access goes through these two alone.
__attribute__((target("avx2"))) inline __m256i load(const std::byte* from) {
  return _mm256_loadu_si256(static_cast<const __m256i_u*>(static_cast<const void*>(from)));
}

__attribute__((target("avx2"))) inline void store(std::byte* to, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i_u*>(static_cast<void*>(to)), value);
}

__attribute__((target("avx2"))) inline __m256i rotr16(__m256i value) {
  return _mm256_or_si256(_mm256_srli_epi16(value, 1), _mm256_slli_epi16(value, 15));
}

__attribute__((target("avx2"))) inline __m256i rotl16(__m256i value) {
  return _mm256_or_si256(_mm256_slli_epi16(value, 1), _mm256_srli_epi16(value, 15));
}

__attribute__((target("avx2"))) inline __m256i rotr32(__m256i value) {
  return _mm256_or_si256(_mm256_srli_epi32(value, 1), _mm256_slli_epi32(value, 31));
}

// Each returns how many numbers it did; the rest is left to the definition.
__attribute__((target("avx2"))) std::size_t merge2_avx2(const PlanesIn& planes, std::byte* numbers,
                                                        std::size_t count) {
  std::size_t i = 0;
  for (; i + kLane <= count; i += kLane) {
    const __m256i low = load(planes[0] + i);
    const __m256i high = load(planes[1] + i);
    const __m256i a = rotr16(_mm256_unpacklo_epi8(low, high));  // numbers 0-7 and 16-23
    const __m256i b = rotr16(_mm256_unpackhi_epi8(low, high));  // numbers 8-15 and 24-31
    store(numbers + 2 * i, _mm256_permute2x128_si256(a, b, 0x20));
    store(numbers + 2 * i + kLane, _mm256_permute2x128_si256(a, b, 0x31));
  }
  return i;
}

__attribute__((target("avx2"))) std::size_t merge4_avx2(const PlanesIn& planes, std::byte* numbers,
                                                        std::size_t count) {
  std::size_t i = 0;
  for (; i + kLane <= count; i += kLane) {
    const __m256i p0 = load(planes[0] + i);
    const __m256i p1 = load(planes[1] + i);
    const __m256i p2 = load(planes[2] + i);
    const __m256i p3 = load(planes[3] + i);
    const __m256i low_a = _mm256_unpacklo_epi8(p0, p1);
    const __m256i low_b = _mm256_unpackhi_epi8(p0, p1);
    const __m256i high_a = _mm256_unpacklo_epi8(p2, p3);
    const __m256i high_b = _mm256_unpackhi_epi8(p2, p3);
    const __m256i x0 = rotr32(_mm256_unpacklo_epi16(low_a, high_a));  // numbers 0-3 and 16-19
    const __m256i x1 = rotr32(_mm256_unpackhi_epi16(low_a, high_a));  // 4-7 and 20-23
    const __m256i x2 = rotr32(_mm256_unpacklo_epi16(low_b, high_b));  // 8-11 and 24-27
    const __m256i x3 = rotr32(_mm256_unpackhi_epi16(low_b, high_b));  // 12-15 and 28-31
    std::byte* const to = numbers + 4 * i;
    store(to, _mm256_permute2x128_si256(x0, x1, 0x20));
    store(to + kLane, _mm256_permute2x128_si256(x2, x3, 0x20));
    store(to + 2 * kLane, _mm256_permute2x128_si256(x0, x1, 0x31));
    store(to + 3 * kLane, _mm256_permute2x128_si256(x2, x3, 0x31));
  }
  return i;
}

__attribute__((target("avx2"))) std::size_t split2_avx2(const std::byte* numbers, const PlanesOut& planes,
                                                        std::size_t count) {
  const __m256i low_byte = _mm256_set1_epi16(0xFF);
  std::size_t i = 0;
  for (; i + kLane <= count; i += kLane) {
    const __m256i a = rotl16(load(numbers + 2 * i));
    const __m256i b = rotl16(load(numbers + 2 * i + kLane));
    const __m256i low = _mm256_packus_epi16(_mm256_and_si256(a, low_byte), _mm256_and_si256(b, low_byte));
    const __m256i high = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    store(planes[0] + i, _mm256_permute4x64_epi64(low, 0xD8));
    store(planes[1] + i, _mm256_permute4x64_epi64(high, 0xD8));
  }
  return i;
}

#endif

std::size_t merge_fast(const PlanesIn& planes, std::byte* numbers, std::size_t width, std::size_t count,
                       Path path) {
#if defined(__x86_64__)
  if (path == Path::avx2 && width == 2) return merge2_avx2(planes, numbers, count);
  if (path == Path::avx2 && width == 4) return merge4_avx2(planes, numbers, count);
#else
  static_cast<void>(planes), static_cast<void>(numbers), static_cast<void>(width);
  static_cast<void>(count), static_cast<void>(path);
#endif
  return 0;
}

std::size_t split_fast(const std::byte* numbers, const PlanesOut& planes, std::size_t width,
                       std::size_t count, Path path) {
#if defined(__x86_64__)
  if (path == Path::avx2 && width == 2) return split2_avx2(numbers, planes, count);
#else
  static_cast<void>(planes), static_cast<void>(numbers), static_cast<void>(width);
  static_cast<void>(count), static_cast<void>(path);
#endif
  return 0;
}

}  // namespace

const char* name(Path path) noexcept { return path == Path::avx2 ? "avx2" : "portable"; }

std::vector<Path> paths() {
  std::vector<Path> result{Path::portable};
#if defined(__x86_64__)
  const auto features = cpu_info().features;
  if (std::find(features.begin(), features.end(), "avx2") != features.end()) result.push_back(Path::avx2);
#endif
  return result;
}

Path best_path() {
  static const Path best = paths().back();
  return best;
}

void split(const std::byte* numbers, const PlanesOut& planes, std::size_t width, std::size_t count,
           Path path) {
  const std::size_t done = split_fast(numbers, planes, width, count, path);
  if (width == 1 && count > 0) std::memcpy(planes[0], numbers, count);
  if (width == 2) split_from<std::uint16_t>(numbers, planes, done, count);
  if (width == 4) split_from<std::uint32_t>(numbers, planes, done, count);
}

void merge(const PlanesIn& planes, std::byte* numbers, std::size_t width, std::size_t count, Path path) {
  const std::size_t done = merge_fast(planes, numbers, width, count, path);
  if (width == 1 && count > 0) std::memcpy(numbers, planes[0], count);
  if (width == 2) merge_from<std::uint16_t>(planes, numbers, done, count);
  if (width == 4) merge_from<std::uint32_t>(planes, numbers, done, count);
}

}  // namespace fastslm::planes
