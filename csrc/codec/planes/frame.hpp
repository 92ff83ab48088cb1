// Frames: at most 1 MiB of a file of numbers each, packed without loss, independent of each other.
//
// Layout, little endian: magic `FSP1` (4), width u8, lead u8, zero u16, offset of the first byte in the file
// u64, raw size u32, payload size u32, XXH64 of the 24 bytes before and the payload u64. The payload is
// `lead` bytes that end a number of the frame before, then each plane (kernels.hpp) as a u32 and its bytes,
// then what is left of a cut number. The u32 is the size of the bytes, its highest bit says that they are a
// zstd frame (RFC 8878); otherwise they are the plane itself.
//
// Frames need no index: they begin where a request asks for, so that any range of the file can be had packed,
// and a download resumes, splits and mixes sources as it does with plain bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <fastslm/planes.hpp>

#include "codec/planes/kernels.hpp"

namespace fastslm::planes {

constexpr std::size_t kHeadBytes = 32;
constexpr std::size_t kMostPayload = kMostFrame + 4 * kMostWidth;  // a plane that does not shrink is stored

struct Head {
  std::size_t width = 1;
  std::size_t lead = 0;
  std::uint64_t offset = 0;
  std::size_t raw = 0;
  std::size_t payload = 0;
  std::uint64_t checksum = 0;
};

// Throws Error(bad_format) for what `pack_frame` does not write.
Head parse_head(std::span<const std::byte, kHeadBytes> bytes);

// The original bytes of a frame, into `out` of exactly `head.raw` bytes. Throws Error(bad_format).
class FrameDecoder {
 public:
  explicit FrameDecoder(Path path = best_path());
  FrameDecoder(const FrameDecoder&) = delete;
  FrameDecoder& operator=(const FrameDecoder&) = delete;
  ~FrameDecoder();

  void decode(std::span<const std::byte, kHeadBytes> head_bytes, const Head& head, Bytes payload,
              std::span<std::byte> out);

 private:
  const std::byte* plane(Bytes& payload, std::size_t index, std::size_t count);

  struct Zstd;
  const Path path_;
  std::unique_ptr<Zstd> zstd_;
  std::array<std::vector<std::byte>, kMostWidth> planes_;
};

}  // namespace fastslm::planes
