// RFC 8878 by libzstd. A window above 128 MiB is refused: it is memory that a stranger asks for.
#include "codec/stream/zstd.hpp"

#include <memory>
#include <string>

#include <zstd.h>

#include "codec/refuse.hpp"

namespace fastslm {
namespace {

constexpr int kMostWindowLog = 27;

class ZstdDecoder : public Decoder {
 public:
  ZstdDecoder() : context_(new_zstd_context()) {}

  DecodeStep decode(Bytes in, std::span<std::byte> out) override {
    ZSTD_inBuffer source{in.data(), in.size(), 0};
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    const std::size_t left = ZSTD_decompressStream(context_.get(), &target, &source);
    if (ZSTD_isError(left) != 0) refuse_zstd(left);
    return {source.pos, target.pos, left == 0};
  }

 private:
  ZstdContext context_;
};

}  // namespace

void FreeZstd::operator()(ZSTD_DCtx_s* context) const noexcept { ZSTD_freeDCtx(context); }

ZstdContext new_zstd_context() {
  ZstdContext context(ZSTD_createDCtx());
  if (!context) throw std::bad_alloc();
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kMostWindowLog);
  return context;
}

std::size_t decode_zstd_frame(ZSTD_DCtx_s* context, Bytes frame, std::span<std::byte> out) {
  const std::size_t size = ZSTD_decompressDCtx(context, out.data(), out.size(), frame.data(), frame.size());
  if (ZSTD_isError(size) != 0) refuse_zstd(size);
  return size;
}

void refuse_zstd(std::size_t result) {
  refuse_archive(std::string("is damaged or needs more memory than allowed: zstd says `") +
                 ZSTD_getErrorName(result) + "`");
}

std::unique_ptr<Decoder> make_zstd_decoder() { return std::make_unique<ZstdDecoder>(); }

}  // namespace fastslm
