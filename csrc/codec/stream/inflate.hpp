// Raw deflate (RFC 1951): ISA-L where the build found it, else zlib.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "codec/decoder.hpp"

namespace fastslm {

class Inflater {
 public:
  Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater();

  void reset();

  // As Decoder::decode; `finished` is the end of the last block. Throws Error(bad_format).
  DecodeStep inflate(Bytes in, std::span<std::byte> out);

  // After the end: bytes that count as consumed, but belong to what follows; at most eight.
  Bytes surplus() const noexcept { return Bytes(surplus_).first(surplus_count_); }

 private:
  struct State;

  std::unique_ptr<State> state_;
  std::array<std::byte, 8> surplus_{};
  std::size_t surplus_count_ = 0;
};

}  // namespace fastslm
