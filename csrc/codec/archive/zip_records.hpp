// The records of a zip archive (PKWARE APPNOTE 6.3.10), parsed and checked one by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "codec/gather.hpp"

namespace fastslm::zip {

constexpr std::uint32_t kLocal = 0x04034b50;
constexpr std::uint32_t kCentral = 0x02014b50;
constexpr std::uint32_t kDescriptor = 0x08074b50;
constexpr std::uint32_t kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50;
constexpr std::uint32_t kLocator64 = 0x07064b50;

constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kCentralBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocator64Bytes = 20;

constexpr unsigned kStored = 0;
constexpr unsigned kDeflated = 8;

// What both headers of a member tell.
struct Member {
  std::string name;
  unsigned method = kStored;
  bool described = false;  // CRC and sizes come behind the content
  bool wide = false;       // and the sizes with 64 bits
  std::uint32_t crc = 0;
  std::uint64_t packed = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;  // of its local header

  bool is_folder() const { return !name.empty() && name.back() == '/'; }
};

struct End {
  std::uint64_t entries = 0;
  std::uint64_t size = 0;    // of the central directory
  std::uint64_t offset = 0;  // of it
};

// Bytes behind the fixed part of a header whose fixed part is there.
std::size_t local_rest(const Gather& header);
std::size_t central_rest(const Gather& header);
std::size_t end_rest(const Gather& header);

// From whole records. Throw Error(bad_format) for what is damaged, encrypted, a link or of an unknown method.
Member read_local(const Gather& header, std::uint64_t offset);
Member read_central(const Gather& header);
End read_end(const Gather& record);
End read_end64(const Gather& record);

}  // namespace fastslm::zip
