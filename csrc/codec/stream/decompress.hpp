// The stage that runs a Decoder: one stream after another, out in full blocks.
#pragma once

#include <memory>

#include "codec/blocks.hpp"
#include "codec/decoder.hpp"
#include "codec/meter.hpp"

namespace fastslm {

class Decompress : public Stage {
 public:
  Decompress(std::unique_ptr<Decoder> decoder, Meter& meter, Stage& next)
      : decoder_(std::move(decoder)), meter_(meter), next_(next) {}

  void push(const Block& block) override;
  void finish() override;

  void flush();                                        // hand on what is ready
  bool is_inside() const noexcept { return inside_; }  // a stream that has not ended

 private:
  const std::unique_ptr<Decoder> decoder_;
  Meter& meter_;
  Stage& next_;
  BufferPool pool_;
  std::shared_ptr<Buffer> buffer_;
  std::size_t filled_ = 0;
  bool inside_ = false;
  bool any_ = false;
};

}  // namespace fastslm
