// What a later process must know to go on: which bytes of the partial file are written, with their checksums.
//
// Layout, little endian: magic (8), version u32, size u64, piece size u64, length u32 and bytes of the
// identity, bytes that were hashed u64, length u32 and bytes of the hash's state, number of synced ranges u32
// and begin and end u64 of each, the same of ranges that were given back, number of spans u32 and begin, end
// and checksum u64 of each, CRC-32 of all before. It is written after the data that it speaks of. A journal
// that is torn, foreign, of another version, identity or size is treated as absent.
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
#include "fetch/state/spans.hpp"

namespace fastslm {

// What is known of a file under way.
struct Notes {
  std::vector<Span> spans;  // written
  Extents synced;           // of these, known to be on the disk itself
  std::uint64_t hashed = 0;
  std::string hash_state;  // of the first `hashed` bytes
  Extents given{};         // hashed, used, and no longer on the disk
};

struct Journal {
  std::uint64_t size = 0;
  std::uint64_t piece_bytes = 0;
  std::string identity;
  Notes notes;
};

std::vector<std::byte> encode(const Journal& journal);

// Nothing unless every byte is as `encode` writes it and the ranges are sorted, apart and inside the file.
std::optional<Journal> decode(std::span<const std::byte> bytes);

void save_journal(const std::string& path, const Journal& journal,
                  Durability durability = Durability::process);

// What was noted of the file with this identity and size: nothing when the journal cannot be used, or when
// the partial file is missing or of another size.
Notes load_notes(const std::string& path, const std::string& partial_path, const std::string& identity,
                 std::uint64_t size);

// The spans whose bytes are not on the disk as they were received, of those that `select` picks.
std::vector<Span> damaged(const File& file, const std::vector<Span>& spans,
                          const std::function<bool(const Span&)>& select);

// Takes out what was lost with the power: spans written after the last sync that are not what they were. A
// hash that went over them begins anew.
void drop_lost(Notes& notes, const File& file);

// What was given back is to be fetched again; the hash, which went over it, begins anew.
void drop_given(Notes& notes);

// Decides when the journal of one file is written. Thread-safe.
class JournalKeeper {
 public:
  // Without an identity, or a size, nothing is ever saved: a later process could not trust it.
  JournalKeeper(std::string path, std::string identity, std::optional<std::uint64_t> size,
                std::uint64_t piece_bytes, double interval_s);

  bool is_active() const noexcept { return size_ && !identity_.empty(); }

  Notes load(const std::string& partial_path);

  // Save what `look` returns, if enough happened since the last time; `written` is how many bytes there are.
  void save_if_due(std::uint64_t written, const std::function<Notes()>& look);
  void save_now(const std::function<Notes()>& look, Durability durability = Durability::process);

  // Remove the journal; later saves write another one.
  void begin_again();

  // Remove the journal; later saves do nothing.
  void close();

 private:
  void save(const Notes& notes, std::uint64_t written, Durability durability);
  std::uint64_t news(std::uint64_t written) const;
  std::uint64_t step() const;
  bool is_due(std::uint64_t written) const;

  const std::string path_;
  const std::string identity_;
  const std::optional<std::uint64_t> size_;
  const std::uint64_t piece_bytes_;
  const std::chrono::duration<double> interval_;
  std::mutex mutex_;
  bool closed_ = false;
  std::atomic<std::uint64_t> saved_bytes_ = 0;
  std::chrono::steady_clock::time_point saved_at_ = std::chrono::steady_clock::now();
};

}  // namespace fastslm
