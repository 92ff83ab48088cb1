// For machines without ISA-L.
#include <algorithm>
#include <limits>
#include <string>

#include <zlib.h>

#include <fastslm/error.hpp>

#include "codec/refuse.hpp"
#include "codec/stream/inflate.hpp"

namespace fastslm {

struct Inflater::State {
  State() {
    if (inflateInit2(&zlib, -MAX_WBITS) != Z_OK) throw Error(ErrorCode::internal, "zlib cannot start");
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { inflateEnd(&zlib); }

  z_stream zlib{};
};

Inflater::Inflater() : state_(std::make_unique<State>()) {}

Inflater::~Inflater() = default;

void Inflater::reset() { inflateReset(&state_->zlib); }

DecodeStep Inflater::inflate(Bytes in, std::span<std::byte> out) {
  constexpr std::size_t most = std::numeric_limits<uInt>::max();
  in = in.first(std::min(in.size(), most));
  out = out.first(std::min(out.size(), most));
  z_stream& zlib = state_->zlib;
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
  zlib.avail_in = static_cast<uInt>(in.size());
  zlib.next_out = reinterpret_cast<Bytef*>(out.data());
  zlib.avail_out = static_cast<uInt>(out.size());
  const int result = ::inflate(&zlib, Z_NO_FLUSH);
  if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
    refuse_archive("is damaged: its deflate data is not valid (" + std::to_string(result) + ")");
  }
  return {in.size() - zlib.avail_in, out.size() - zlib.avail_out, result == Z_STREAM_END};
}

}  // namespace fastslm
