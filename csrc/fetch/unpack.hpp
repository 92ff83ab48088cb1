// The unpacker that follows a download: it reads what has arrived without a gap, from the page cache.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include <fastslm/files.hpp>
#include <fastslm/unpack.hpp>

namespace fastslm {

class UnpackFollower {
 public:
  using Make = std::function<std::unique_ptr<Unpacker>()>;

  // Forget what was unpacked; the next bytes are the first ones.
  void begin(unsigned round);

  // These bytes cannot be unpacked: wait for another round.
  void give_up();

  // Unpack on to `frontier`, at most one block; false when there was nothing to do. Throws as Unpacker.
  bool advance(const Make& make, const File& file, std::uint64_t frontier);

  // All bytes were pushed and are the right ones.
  std::vector<UnpackedFile> finish(const Make& make);

  std::uint64_t unpacked() const noexcept { return unpacked_; }
  unsigned round() const noexcept { return round_; }
  bool gave_up() const noexcept { return unpacked_ == kNever; }

 private:
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  std::unique_ptr<Unpacker> unpacker_;
  std::uint64_t unpacked_ = 0;
  unsigned round_ = 0;
  std::vector<std::byte> block_;
};

}  // namespace fastslm
