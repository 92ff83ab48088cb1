#include "codec/planes/stream.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <fastslm/error.hpp>

#include "codec/planes/frame.hpp"

namespace fastslm {
namespace {

using planes::Head;
using planes::kHeadBytes;

class PlanesDecoder : public Decoder {
 public:
  explicit PlanesDecoder(ByteRange stretch) : position_(stretch.begin), end_(stretch.end) {}

  DecodeStep decode(Bytes in, std::span<std::byte> out) override {
    DecodeStep step;
    for (;;) {
      step.produced += hand_out(out.subspan(step.produced));
      if (handed_out_ < frame_.size()) break;  // `out` is full
      if (position_ == end_) {
        step.finished = true;
        break;
      }
      const std::size_t taken = take(in.subspan(step.consumed));
      step.consumed += taken;
      if (taken == 0) break;
    }
    return step;
  }

 private:
  std::size_t hand_out(std::span<std::byte> out) {
    const std::size_t size = std::min(out.size(), frame_.size() - handed_out_);
    std::copy_n(frame_.begin() + static_cast<std::ptrdiff_t>(handed_out_), size, out.begin());
    handed_out_ += size;
    return size;
  }

  // Gather the head, then the payload; unpack when both are complete. How much of `in` was used.
  std::size_t take(Bytes in) {
    const std::size_t wanted = kHeadBytes + (head_known_ ? head_.payload : 0);
    const std::size_t size = std::min(in.size(), wanted - packed_.size());
    packed_.insert(packed_.end(), in.begin(), in.begin() + static_cast<std::ptrdiff_t>(size));
    if (packed_.size() < wanted) return size;
    if (!head_known_) {
      read_head();
    } else {
      unpack();
    }
    return size;
  }

  void read_head() {
    head_ = planes::parse_head(Bytes(packed_).first<kHeadBytes>());
    if (head_.offset != position_ || head_.raw > end_ - position_) {
      const std::string found = std::to_string(head_.raw) + " bytes at " + std::to_string(head_.offset);
      const std::string expected = std::to_string(position_) + " to " + std::to_string(end_);
      throw Error(ErrorCode::bad_format, "a packed frame holds " + found + ", expected bytes " + expected,
                  {.offset = position_, .expected = expected, .found = found, .name = "frame"});
    }
    head_known_ = true;
  }

  void unpack() {
    frame_.resize(head_.raw);
    const Bytes packed(packed_);
    decoder_.decode(packed.first<kHeadBytes>(), head_, packed.subspan(kHeadBytes), frame_);
    handed_out_ = 0;
    position_ += head_.raw;
    packed_.clear();
    head_known_ = false;
  }

  std::uint64_t position_;  // of the next frame
  const std::uint64_t end_;
  std::vector<std::byte> packed_;
  bool head_known_ = false;
  Head head_;
  planes::FrameDecoder decoder_;
  std::vector<std::byte> frame_;
  std::size_t handed_out_ = 0;
};

}  // namespace

std::unique_ptr<Decoder> make_planes_decoder(ByteRange stretch) {
  return std::make_unique<PlanesDecoder>(stretch);
}

}  // namespace fastslm
