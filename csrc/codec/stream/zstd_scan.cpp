#include "codec/stream/zstd_scan.hpp"

#include <algorithm>

#include "codec/refuse.hpp"

namespace fastslm {
namespace {

constexpr std::uint32_t kMagic = 0xFD2FB528;
constexpr std::uint32_t kSkippableMagic = 0x184D2A50;  // the last four bits are free
constexpr unsigned kSingleSegment = 0x20;
constexpr unsigned kChecksum = 0x04;

std::size_t dictionary_bytes(unsigned descriptor) {
  constexpr std::size_t sizes[] = {0, 1, 2, 4};
  return sizes[descriptor & 3U];
}

std::size_t size_bytes(unsigned descriptor) {
  constexpr std::size_t sizes[] = {0, 2, 4, 8};
  const unsigned flag = descriptor >> 6U;
  return flag == 0 && (descriptor & kSingleSegment) != 0 ? 1 : sizes[flag];
}

}  // namespace

std::size_t FrameScanner::feed(Bytes in) {
  const std::size_t before = in.size();
  while (!in.empty() && part_ != Part::end) {
    if (part_ != Part::skip) {
      if (bytes_.fill(in, need_)) step();
      continue;
    }
    const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, in.size()));
    in = in.subspan(taken);
    skip_ -= taken;
    if (skip_ == 0) part_ = after_skip_;
  }
  return before - in.size();
}

void FrameScanner::step() {
  switch (part_) {
    case Part::magic:
      return read_magic();
    case Part::skippable_size:
      skip_ = bytes_.number<std::uint32_t>(0);
      part_ = skip_ == 0 ? Part::end : Part::skip;
      return;
    case Part::descriptor:
      return read_descriptor();
    case Part::header:
      return read_header();
    case Part::block:
      return read_block();
    case Part::checksum:
      part_ = Part::end;
      return;
    case Part::skip:
    case Part::end:
      return;
  }
}

void FrameScanner::expect(Part part, std::size_t size) {
  bytes_.clear();
  part_ = part;
  need_ = size;
}

void FrameScanner::read_magic() {
  const auto magic = bytes_.number<std::uint32_t>(0);
  skippable_ = (magic & ~15U) == kSkippableMagic;
  if (!skippable_ && magic != kMagic) refuse_archive("is not in zstd format");
  skippable_ ? expect(Part::skippable_size, 4) : expect(Part::descriptor, 1);
}

void FrameScanner::read_descriptor() {
  descriptor_ = bytes_.number<std::uint8_t>(0);
  const std::size_t window = (descriptor_ & kSingleSegment) != 0 ? 0 : 1;
  expect(Part::header, window + dictionary_bytes(descriptor_) + size_bytes(descriptor_));
  if (need_ == 0) read_header();
}

void FrameScanner::read_header() {
  const std::size_t size = size_bytes(descriptor_);
  const std::size_t at = need_ - size;
  if (size == 1) content_size_ = bytes_.number<std::uint8_t>(at);
  if (size == 2) content_size_ = bytes_.number<std::uint16_t>(at) + 256U;
  if (size == 4) content_size_ = bytes_.number<std::uint32_t>(at);
  if (size == 8) content_size_ = bytes_.number<std::uint64_t>(at);
  expect(Part::block, 3);
}

void FrameScanner::read_block() {
  const unsigned high = bytes_.number<std::uint8_t>(2);
  const unsigned head = high << 16U | bytes_.number<std::uint16_t>(0);
  const unsigned type = head >> 1U & 3U;
  if (type == 3) refuse_archive("is damaged: a zstd block has the type `3`, expected `0` to `2`");
  const bool last = (head & 1U) != 0;
  const bool repeated = type == 1;  // one byte for all
  ++blocks_;
  const bool checksum = (descriptor_ & kChecksum) != 0;
  if (last && checksum) {
    expect(Part::checksum, 4);
  } else if (last) {
    expect(Part::end, 0);
  } else {
    expect(Part::block, 3);
  }
  skip_ = repeated ? 1 : head >> 3U;
  after_skip_ = part_;
  if (skip_ > 0) part_ = Part::skip;
}

}  // namespace fastslm
