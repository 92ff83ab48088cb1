// Tensors of floats, packed without loss for the way between two machines: bytes by significance, exponents
// entropy-coded, in frames that are independent of each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fastslm/files.hpp>

namespace fastslm::planes {

constexpr std::size_t kMostFrame = 1U << 20U;       // bytes of the file in one frame
constexpr std::string_view kEncoding = "planes-1";  // the name of the layout, for both sides

// What a stretch of a file is made of: numbers of `width` bytes (1, 2 or 4), the first of which begins `lead`
// bytes in.
struct Numbers {
  std::size_t width = 1;
  std::size_t lead = 0;
};

// A frame of the bytes at `offset` of a file. Throws Error(invalid_argument) unless there are 1 to kMostFrame
// of them, and `lead` is less than `width`.
std::vector<std::byte> pack_frame(Bytes raw, std::uint64_t offset, const Numbers& numbers);

// The bytes of one whole frame that begins at `offset` of its file. Throws Error(bad_format).
std::vector<std::byte> unpack_frame(Bytes frame, std::uint64_t offset);

}  // namespace fastslm::planes
