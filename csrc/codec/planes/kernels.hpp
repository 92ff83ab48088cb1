// Numbers to byte planes and back: plane k holds byte k of every number, after a rotation that puts the whole
// exponent of a float into its highest byte and the sign beside the mantissa.
//
// Definition: r = rotate_left(number, 1) in its own width; byte k of r goes to plane k, lowest first. It is
// the split of ZipNN (arXiv 2411.05239), which makes the exponents, 2.6 bits of 8, stand alone.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <fastslm/files.hpp>

namespace fastslm::planes {

constexpr std::size_t kMostWidth = 4;

// Ways of doing the same; every one gives the same bytes.
enum class Path { portable, avx2 };

const char* name(Path path) noexcept;
std::vector<Path> paths();  // what this processor has, the slowest first
Path best_path();

using PlanesIn = std::array<const std::byte*, kMostWidth>;
using PlanesOut = std::array<std::byte*, kMostWidth>;

// `width` is 1, 2 or 4 bytes; the first `width` planes have `count` bytes, `numbers` has width * count.
void split(const std::byte* numbers, const PlanesOut& planes, std::size_t width, std::size_t count,
           Path path);
void merge(const PlanesIn& planes, std::byte* numbers, std::size_t width, std::size_t count, Path path);

}  // namespace fastslm::planes
