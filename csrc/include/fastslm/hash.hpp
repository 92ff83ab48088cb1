// Streaming hashes: SHA-256, and the SHA-1 by which git names a blob (sha1 of "blob <size>\0" and the
// contents).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace fastslm {

enum class HashAlgorithm { sha256, git_sha1 };

class Hasher {
 public:
  // `size` is the number of bytes to come; git's SHA-1 needs it first, SHA-256 does not look at it.
  Hasher(HashAlgorithm algorithm, std::uint64_t size);

  void update(std::span<const std::byte> data);

  // The state so far as bytes that `restore` on any machine goes on from.
  std::string save() const;

  // Nothing for bytes that `save` of this algorithm does not write.
  static std::optional<Hasher> restore(HashAlgorithm algorithm, std::string_view state);

  // Lower-case hex digest. The hasher is spent afterwards.
  std::string finish();

 private:
  struct State;

  HashAlgorithm algorithm_;
  std::unique_ptr<State, void (*)(State*)> state_;
};

// CRC-32 (ISO 3309, the one of gzip and PNG) of bytes that follow others with the CRC `before`.
std::uint32_t crc32(std::span<const std::byte> data, std::uint32_t before = 0) noexcept;

}  // namespace fastslm
