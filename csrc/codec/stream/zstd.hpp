// libzstd, seen by the rest of this folder.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "codec/decoder.hpp"

struct ZSTD_DCtx_s;

namespace fastslm {

struct FreeZstd {
  void operator()(ZSTD_DCtx_s* context) const noexcept;
};
using ZstdContext = std::unique_ptr<ZSTD_DCtx_s, FreeZstd>;

ZstdContext new_zstd_context();

// One whole frame; the size of its content. Throws Error(bad_format), also when `out` is too small.
std::size_t decode_zstd_frame(ZSTD_DCtx_s* context, Bytes frame, std::span<std::byte> out);

[[noreturn]] void refuse_zstd(std::size_t result);

}  // namespace fastslm
