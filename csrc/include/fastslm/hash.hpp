// Streaming hashes: SHA-256, and the SHA-1 by which git names a blob (sha1 of "blob <size>\0" and the
// contents).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace fastslm {

enum class HashAlgorithm { sha256, git_sha1 };

class Hasher {
 public:
  // `size` is the number of bytes to come; git's SHA-1 needs it first, SHA-256 does not look at it.
  Hasher(HashAlgorithm algorithm, std::uint64_t size);

  void update(std::span<const std::byte> data);

  // Lower-case hex digest. The hasher is spent afterwards.
  std::string finish();

 private:
  std::unique_ptr<void, void (*)(void*)> context_;
};

// CRC-32 (ISO 3309, the one of gzip and PNG).
std::uint32_t crc32(std::span<const std::byte> data) noexcept;

}  // namespace fastslm
