// ISA-L reads up to eight bytes ahead into a register and leaves them there: they are the surplus.
#include <algorithm>
#include <limits>
#include <string>

#include <isa-l/igzip_lib.h>

#include "codec/refuse.hpp"
#include "codec/stream/inflate.hpp"

namespace fastslm {

struct Inflater::State {
  inflate_state isal;
};

Inflater::Inflater() : state_(std::make_unique<State>()) { reset(); }

Inflater::~Inflater() = default;

void Inflater::reset() {
  isal_inflate_init(&state_->isal);
  surplus_count_ = 0;
}

DecodeStep Inflater::inflate(Bytes in, std::span<std::byte> out) {
  constexpr std::size_t most = std::numeric_limits<std::int32_t>::max();
  in = in.first(std::min(in.size(), most));
  out = out.first(std::min(out.size(), most));
  inflate_state& isal = state_->isal;
  // The library does not write through next_in; its type has no const.
  isal.next_in = reinterpret_cast<std::uint8_t*>(const_cast<std::byte*>(in.data()));
  isal.avail_in = static_cast<std::uint32_t>(in.size());
  isal.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  isal.avail_out = static_cast<std::uint32_t>(out.size());
  const int result = isal_inflate(&isal);
  if (result != ISAL_DECOMP_OK) {
    refuse_archive("is damaged: its deflate data is not valid (" + std::to_string(result) + ")");
  }
  const bool finished = isal.block_state == ISAL_BLOCK_FINISH;
  if (finished) {
    std::uint64_t ahead = isal.read_in >> (isal.read_in_length % 8);
    surplus_count_ = static_cast<std::size_t>(isal.read_in_length / 8);
    for (std::size_t i = 0; i < surplus_count_; ++i, ahead >>= 8U)
      surplus_[i] = static_cast<std::byte>(ahead & 0xffU);
  }
  return {in.size() - isal.avail_in, out.size() - isal.avail_out, finished};
}

}  // namespace fastslm
