// Any bytes as the packed frames of a response: refused, or bytes of the stretch that was asked for.
#include <algorithm>
#include <vector>

#include <fastslm/error.hpp>

#include "codec/planes/frame.hpp"
#include "codec/planes/stream.hpp"
#include "fuzz.hpp"
#include "hash/checksum.hpp"

namespace {

using fastslm::planes::kHeadBytes;

constexpr fastslm::ByteRange kStretch{7,
                                      5007};  // where the frames of the corpus begin, and more than they hold

void check(std::span<const std::byte> in, std::size_t piece) {
  const auto decoder = fastslm::make_planes_decoder(kStretch);
  std::vector<std::byte> out(997);
  std::size_t total = 0;
  try {
    for (;;) {
      const auto step = decoder->decode(in.first(std::min(piece, in.size())), out);
      must_hold(step.produced <= out.size(), "no more than there is room for");
      total += step.produced;
      in = in.subspan(step.consumed);
      if (step.finished || (step.produced < out.size() && in.empty())) break;
    }
  } catch (const fastslm::Error& error) {
    must_hold(error.code() == fastslm::ErrorCode::bad_format, "damage has one name");
  }
  must_hold(total <= kStretch.size(), "no byte outside of the stretch");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = fuzz_bytes(data, size);
  check(bytes, 1 + size % 300);
  if (size < kHeadBytes) return 0;
  // The checksum would hide what is behind it from random changes.
  std::vector<std::byte> sealed(bytes.begin(), bytes.end());
  fastslm::Checksum64 sum;
  sum.update(bytes.first(24));
  sum.update(bytes.subspan(kHeadBytes));
  for (std::size_t k = 0; k < 8; ++k)
    sealed[24 + k] = static_cast<std::byte>((sum.value() >> (8 * k)) & 0xFFU);
  check(sealed, size);
  return 0;
}
