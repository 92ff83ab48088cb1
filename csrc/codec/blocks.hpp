// Blocks of bytes that are handed on without a copy, and a pool that uses their memory again: fresh memory
// costs a page fault every four kilobytes.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <fastslm/files.hpp>

namespace fastslm {

constexpr std::size_t kBlockBytes = 256U << 10U;  // stays in a core's second-level cache

// Bytes and who keeps them alive; without an owner they live as long as the call they came with.
struct Block {
  Bytes bytes;
  std::shared_ptr<const void> owner{};

  Block part(std::size_t offset, std::size_t length) const { return {bytes.subspan(offset, length), owner}; }
};

struct Buffer {
  explicit Buffer(std::size_t capacity)
      : size(capacity), data(std::make_unique_for_overwrite<std::byte[]>(capacity)) {}

  std::span<std::byte> bytes() const noexcept { return {data.get(), size}; }

  std::size_t size;
  std::unique_ptr<std::byte[]> data;
};

// Thread-safe; buffers may outlive it.
class BufferPool {
 public:
  // At least `size` bytes of any content.
  std::shared_ptr<Buffer> take(std::size_t size);

 private:
  struct Shelf {
    Shelf() { free.reserve(kMostKept); }

    static constexpr std::size_t kMostKept = 64;
    std::mutex mutex;
    std::vector<std::unique_ptr<Buffer>> free;
  };

  std::shared_ptr<Shelf> shelf_ = std::make_shared<Shelf>();
};

// A stage of unpacking: blocks of one kind in, of another kind out to the next stage.
class Stage {
 public:
  virtual ~Stage() = default;
  virtual void push(const Block& block) = 0;
  virtual void finish() = 0;  // there is no more; throws Error(bad_format) when something is missing
};

}  // namespace fastslm
