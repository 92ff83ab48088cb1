// Archives and compressed files, unpacked in one pass while their bytes arrive.
//
// Law: the bytes are pushed in order and belong to a stranger. Whatever is wrong with them throws
// Error(bad_format), and nothing that was unpacked before it stays; a folder is left only by a `finish` that
// returned.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fastslm/files.hpp>

namespace fastslm {

enum class ArchiveFormat { gzip, zstd, zip, tar, tar_gzip, tar_zstd };

// By the end of a file's name, whatever its case: .gz .zst .zip .whl .tar .tar.gz .tgz .tar.zst .tzst.
std::optional<ArchiveFormat> archive_format(std::string_view file_name) noexcept;

// What an archive may become; whoever unpacks says how much room there is.
struct UnpackLimits {
  std::uint64_t total_bytes = 0;
  std::uint64_t members = 100'000;  // folders included
  std::uint64_t ratio = 1000;       // bytes out for a byte in, once 64 MiB are out
};

struct UnpackOptions {
  ArchiveFormat format{};
  std::string folder;  // made by the unpacker; must not exist
  std::string name;    // of the one file in a .gz or .zst
  UnpackLimits limits{};
  std::vector<std::string> only{};  // members to write; all when empty. The others are checked all the same
  bool digests = false;             // compute the SHA-256 of every file that is written
  bool durable = true;              // sync everything before `finish` returns
  unsigned threads = 0;             // decoding frames; 0 for as many as there are processors
};

struct UnpackedFile {
  std::string name;  // inside the folder, with forward slashes
  std::uint64_t size = 0;
  std::string sha256{};  // if asked for
};

// Takes the bytes of one file that was packed somehow. Used by one thread; destroyed before `finish` returned
// it takes away what it wrote.
class Unpacker {
 public:
  virtual ~Unpacker() = default;

  // The next bytes. Throws Error(bad_format), Error(disk_full), Error(file_system).
  virtual void push(Bytes data) = 0;

  // There are no more: everything was complete, right and written. Throws as `push`.
  virtual std::vector<UnpackedFile> finish() = 0;
};

// Throws Error(invalid_argument) for options that cannot be meant, Error(file_system).
std::unique_ptr<Unpacker> make_unpacker(const UnpackOptions& options);

// A file that is all there being unpacked by a thread; who drops it cancels and waits.
class Unpacking {
 public:
  // Throws as make_unpacker.
  Unpacking(const std::string& path, const UnpackOptions& options);
  Unpacking(const Unpacking&) = delete;
  Unpacking& operator=(const Unpacking&) = delete;
  ~Unpacking();

  // Wait at most `timeout_s`; true when finished.
  bool wait(double timeout_s);

  std::uint64_t size() const;        // of the packed file
  std::uint64_t done_bytes() const;  // of it
  void cancel();

  // What came out; waits for the end. Throws as Unpacker, and Error(cancelled).
  std::vector<UnpackedFile> files();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// The same at once.
std::vector<UnpackedFile> unpack_file(const std::string& path, const UnpackOptions& options);

}  // namespace fastslm
