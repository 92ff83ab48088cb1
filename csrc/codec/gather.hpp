// Collects the bytes of a header that arrives in pieces, and no byte more than was asked for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <fastslm/files.hpp>

namespace fastslm {

class Gather {
 public:
  // Takes what is missing of `size` bytes from the front of `in`; true when they are all there.
  bool fill(Bytes& in, std::size_t size) {
    const std::size_t taken = size > bytes_.size() ? std::min(in.size(), size - bytes_.size()) : 0;
    bytes_.insert(bytes_.end(), in.begin(), in.begin() + static_cast<std::ptrdiff_t>(taken));
    in = in.subspan(taken);
    return bytes_.size() >= size;
  }

  Bytes bytes() const noexcept { return bytes_; }
  void clear() noexcept { bytes_.clear(); }
  void drop(std::size_t size) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(size));
  }

  // Little-endian number of `Number`'s size; the bytes must be there.
  template <class Number>
  Number number(std::size_t offset) const {
    return little<Number>(Bytes(bytes_).subspan(offset));
  }

  std::string_view text(std::size_t offset, std::size_t size) const {
    return {reinterpret_cast<const char*>(bytes_.data()) + offset, size};
  }

  template <class Number>
  static Number little(Bytes bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = sizeof(Number); i-- > 0;)
      value = value << 8U | std::to_integer<std::uint64_t>(bytes[i]);
    return static_cast<Number>(value);
  }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace fastslm
