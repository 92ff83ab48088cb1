#include "codec/blocks.hpp"

#include <algorithm>

namespace fastslm {

std::shared_ptr<Buffer> BufferPool::take(std::size_t size) {
  std::unique_ptr<Buffer> buffer;
  {
    const std::lock_guard lock(shelf_->mutex);
    auto& free = shelf_->free;
    const auto fits = [size](const auto& kept) { return kept->size >= size; };
    const auto found = std::find_if(free.begin(), free.end(), fits);
    if (found != free.end()) {
      buffer = std::move(*found);
      free.erase(found);
    } else if (free.size() >= Shelf::kMostKept) {
      free.erase(free.begin());
    }
  }
  if (!buffer) buffer = std::make_unique<Buffer>(size);
  // Back to the shelf when the last block of it is gone.
  return {buffer.release(), [shelf = shelf_](Buffer* spent) {
            std::unique_ptr<Buffer> kept(spent);
            const std::lock_guard lock(shelf->mutex);
            if (shelf->free.size() < Shelf::kMostKept) shelf->free.push_back(std::move(kept));
          }};
}

}  // namespace fastslm
