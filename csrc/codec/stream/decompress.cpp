#include "codec/stream/decompress.hpp"

#include "codec/refuse.hpp"

namespace fastslm {

void Decompress::push(const Block& block) {
  Bytes in = block.bytes;
  if (in.empty()) return;
  for (;;) {
    if (!buffer_) buffer_ = pool_.take(kBlockBytes);
    const DecodeStep step = decoder_->decode(in, buffer_->bytes().subspan(filled_));
    if (step.consumed + step.produced == 0 && !in.empty() && !step.finished) refuse_archive("is damaged");
    meter_.made(step.produced);
    in = in.subspan(step.consumed);
    filled_ += step.produced;
    inside_ = !step.finished;
    any_ = true;
    const bool full = filled_ == buffer_->size;
    if (full) flush();
    if (in.empty() && (step.finished || !full)) return;
  }
}

void Decompress::finish() {
  if (inside_ || !any_) refuse_archive("ends too early");
  flush();
  next_.finish();
}

void Decompress::flush() {
  if (filled_ == 0) return;
  const Block block{buffer_->bytes().first(filled_), buffer_};
  buffer_.reset();
  filled_ = 0;
  next_.push(block);
}

}  // namespace fastslm
