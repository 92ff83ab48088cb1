// What a later process must know to go on: which bytes of the partial file are written.
//
// Layout, little endian: magic (8), version u32, size u64, piece size u64, length u32 and bytes of the
// identity and of the boot, then the ranges that are written and those that were synced: number u32, begin
// and end u64 of each; CRC-32 of all before. It is written after the data that it speaks of. A journal that
// is torn, foreign, of another version, identity or size is treated as absent.
//
// A killed process loses nothing of what it wrote, so written bytes count until the machine is started again.
// After that, which may have been a power cut, only synced bytes do.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fastslm/files.hpp>

#include "base/extents.hpp"

namespace fastslm {

std::string boot_id();  // changes when the machine is started; empty when the system does not tell

struct Journal {
  std::uint64_t size = 0;
  std::uint64_t piece_bytes = 0;
  std::string identity;
  Extents done;
  Extents synced{};
  std::string boot = boot_id();
};

std::vector<std::byte> encode(const Journal& journal);

// Nothing unless every byte is as `encode` writes it and the ranges are sorted, apart and inside the file.
std::optional<Journal> decode(std::span<const std::byte> bytes);

void save_journal(const std::string& path, const Journal& journal,
                  Durability durability = Durability::process);

// The journal of the file with this identity and size, its `done` reduced to what can be relied on now:
// nothing of it when the journal cannot be used, or when the partial file is missing or of another size.
Journal load_journal(const std::string& path, const std::string& partial_path, const std::string& identity,
                     std::uint64_t size);

// Decides when the journal of one file is written. Thread-safe.
class JournalKeeper {
 public:
  // Without an identity, or a size, nothing is ever saved: a later process could not trust it.
  JournalKeeper(std::string path, std::string identity, std::optional<std::uint64_t> size,
                std::uint64_t piece_bytes, double interval_s);

  bool is_active() const noexcept { return size_ && !identity_.empty(); }

  Extents load(const std::string& partial_path);

  // Save what `look` returns, if enough happened since the last time.
  void save_if_due(const std::function<Extents()>& look);
  void save_now(const std::function<Extents()>& look);

  // Now and then: sync the partial file, and save durably that what `look` returned before is on the disk.
  // Slow, so it is done beside the transfer; the saves above do not wait for it.
  void sync_if_due(File& partial, const std::function<Extents()>& look);

  // Remove the journal; later saves do nothing.
  void close();

 private:
  static constexpr std::chrono::seconds kSyncInterval{1};

  void save(const Extents& done, Durability durability);
  bool sync_is_due() const;
  std::uint64_t news(const Extents& done) const;
  std::uint64_t step() const;
  bool is_due(const Extents& done) const;

  const std::string path_;
  const std::string identity_;
  const std::optional<std::uint64_t> size_;
  const std::uint64_t piece_bytes_;
  const std::chrono::duration<double> interval_;
  mutable std::mutex mutex_;
  bool closed_ = false;
  std::atomic<std::uint64_t> saved_bytes_ = 0;
  Extents synced_;
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point sync_due_at_ = saved_at_ + kSyncInterval;
};

}  // namespace fastslm
