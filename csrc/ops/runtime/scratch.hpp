// Buffers that a thread keeps from one call to the next, because a page fault costs more than the work on a
// page.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace fastslm::ops {

// One use of a buffer; each has its own memory in each thread.
enum class Use {
  codes,
  scales,
  starts,
  sums,
  parts,
  remainder,
  panel,
  panel_scales,
  panel_offsets,
  panel_steps,
  tile,
  rotated,
  queries,
  positions,
  slopes,
  head,
  attend_tiles,
  partial,
  chunks,
  router_logits,
  chosen,
  shares,
  places,
  place_shares,
  expert_starts,
  expert_tasks,
  inner,
  ring,
};

class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  void* get(std::size_t bytes) {
    if (bytes > size_) grow(bytes);
    return data_;
  }

 private:
  void grow(std::size_t bytes) {
    const std::size_t rounded = (bytes + 4095) / 4096 * 4096;
    std::free(data_);
    size_ = 0;
    data_ = std::aligned_alloc(4096, rounded);
    if (data_ == nullptr) throw std::bad_alloc();
    size_ = rounded;
  }

  void* data_ = nullptr;
  std::size_t size_ = 0;
};

// Room for `count` values, aligned to a page, with the content of nobody in particular.
template <Use use, class T>
T* scratch(std::size_t count) {
  thread_local Buffer buffer;
  return static_cast<T*>(buffer.get(count * sizeof(T)));
}

}  // namespace fastslm::ops
