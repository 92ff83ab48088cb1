// A streaming decoder: packed bytes in, plain bytes out, in whatever pieces the caller has. Allocates nothing
// that grows with what the bytes claim, except a window that has a limit.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include <fastslm/files.hpp>

namespace fastslm {

struct DecodeStep {
  std::size_t consumed = 0;
  std::size_t produced = 0;
  bool finished = false;  // the end of a member, frame or stream, with its checksum right
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Goes on until `in` is used up, `out` is full or the stream has ended; the next call after an end begins
  // the next stream. Throws Error(bad_format).
  virtual DecodeStep decode(Bytes in, std::span<std::byte> out) = 0;
};

std::unique_ptr<Decoder> make_gzip_decoder();  // RFC 1952, one member
std::unique_ptr<Decoder> make_zstd_decoder();  // RFC 8878, one frame; skippable frames produce nothing

}  // namespace fastslm
