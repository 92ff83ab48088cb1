// Where a zstd frame ends, and how much it may hold, found from its headers alone (RFC 8878, section 3.1).
#pragma once

#include <cstdint>
#include <optional>

#include "codec/gather.hpp"

namespace fastslm {

class FrameScanner {
 public:
  // How many of these bytes belong to the frame; fewer than there are only when it ends. Throws
  // Error(bad_format) for what is no frame.
  std::size_t feed(Bytes in);

  bool ended() const noexcept { return part_ == Part::end; }
  bool is_skippable() const noexcept { return skippable_; }

  // Both are known, as far as the frame tells, once its header was seen.
  std::optional<std::uint64_t> content_size() const noexcept { return content_size_; }

  // The content is no larger than this; grows with each block. Blocks cannot hold more than they may.
  std::uint64_t most_content() const noexcept { return content_size_.value_or(blocks_ * kMostBlock); }

 private:
  static constexpr std::uint64_t kMostBlock = 128U << 10U;
  enum class Part { magic, skippable_size, descriptor, header, block, checksum, skip, end };

  void step();
  void read_magic();
  void read_descriptor();
  void read_header();
  void read_block();
  void expect(Part part, std::size_t size);

  Gather bytes_;
  Part part_ = Part::magic;
  Part after_skip_ = Part::end;
  std::size_t need_ = 4;
  std::uint64_t skip_ = 0;
  unsigned descriptor_ = 0;
  bool skippable_ = false;
  bool last_block_ = false;
  std::uint64_t blocks_ = 0;
  std::optional<std::uint64_t> content_size_;
};

}  // namespace fastslm
