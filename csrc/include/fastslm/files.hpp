// Files: positioned reads and writes, preallocation, atomic replacement, copies.
//
// Every function throws Error(file_system) with path and errno, or Error(disk_full) with needed and available
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace fastslm {

using Bytes = std::span<const std::byte>;

// An open file. Reads and writes name their offset, so that threads can share it.
class File {
 public:
  static File open_for_reading(const std::string& path);
  static File open_for_writing(const std::string& path);  // made if it is not there, contents kept
  static File create(const std::string& path);            // an error when anything is there, a link too

  File(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  File& operator=(File&&) = delete;
  ~File();

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const;

  // Write all of `data` at `offset`.
  void write_at(Bytes data, std::uint64_t offset);

  // Fill `buffer` from `offset`; returns fewer bytes only at the end of the file.
  std::size_t read_at(std::span<std::byte> buffer, std::uint64_t offset) const;

  void resize(std::uint64_t size);

  // Set the size and reserve the disk space for it, so that a full disk shows now and not later; the file is
  // then empty.
  void preallocate(std::uint64_t size);

  // Give the disk space of these bytes back; they are zeros afterwards. False where the file system cannot.
  bool punch(std::uint64_t offset, std::uint64_t length);

  // Ask the system to begin writing these bytes to the disk; a hint that may do nothing.
  void begin_writing_out(std::uint64_t offset, std::uint64_t length) const noexcept;

  // Return once the contents are on the disk.
  void sync();

 private:
  File(int descriptor, std::string path) noexcept;

  int descriptor_;
  std::string path_;
};

std::optional<std::uint64_t> file_size(const std::string& path);  // nothing when there is no such file
void remove_file(const std::string& path);                        // no error when there is no such file
std::uint64_t free_bytes(const std::string& path);                // of the file system that holds `path`
bool can_punch(const std::string& folder);                        // whether File::punch works in a folder

// The whole file, or nothing when it does not exist or is larger than `limit`.
std::optional<std::vector<std::byte>> read_file(const std::string& path, std::size_t limit);

enum class Durability { process, power_cut };  // what a change survives the end of

// Replace the file in one step: a reader or a crash sees the old contents or the new ones. With
// Durability::power_cut the new ones are on the disk before the old ones go.
void replace_file(const std::string& path, Bytes contents, Durability durability = Durability::process);

void make_folder(const std::string& path);   // an error when anything is there
void make_folders(const std::string& path);  // with those above it, where they are missing
void remove_tree(const std::string& path);   // no error when there is nothing; follows no links
void sync_folders(const std::string& path);  // the names in it and in all folders below are on the disk

enum class CopyMethod { reflink, copy };

// Copy without overwriting: shares the blocks where the file system can, else lets the kernel copy, else
// blocks.
CopyMethod copy_file(const std::string& source, const std::string& target);

}  // namespace fastslm
