// The download engine: files fetched by several connections at once, written in place, verified, resumable.
//
// A download starts when it is made and ends when every file is verified, failed or cancelled. One failed
// file does not stop the others. Nothing here calls back: the caller polls.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fastslm/error.hpp>
#include <fastslm/hash.hpp>
#include <fastslm/transport.hpp>
#include <fastslm/unpack.hpp>

namespace fastslm {

struct Address {
  std::string url;
  std::vector<std::string> headers;  // `Name: value`, sent to the origin of `url` only where they are secret
};

struct FileRequest {
  std::string url;
  std::string partial_path;                // receives the bytes; complete, synced and verified in the end
  std::string journal_path;                // what is done, for the next process; removed in the end
  std::optional<std::uint64_t> size;       // nothing: one stream to its end, no resume
  std::optional<HashAlgorithm> algorithm;  // nothing: SHA-256 is computed and compared with nothing
  std::string expected_hash;               // lower-case hex
  std::string identity;  // changes when the content does; without it and a hash nothing is resumed
  std::vector<std::string> headers;  // as in Address
  std::vector<Address> mirrors{};    // of the same bytes; only with a hash, which alone is trusted
  bool renewable = false;            // the caller answers `link_wanted` with `renew`
  // The bytes are used while they arrive and are given back then (`Download::give_back`), so that no space is
  // reserved, what an earlier process gave back counts as there, and partial file and journal stay in the
  // end. The first of them may be fetched up to this offset; nothing: a file to keep, of which all is
  // fetched.
  std::optional<std::uint64_t> first_limit{};
  // With this the bytes are unpacked while they arrive, and the file is verified once that is done as well;
  // partial file and journal then stay, until the caller has put what was unpacked into its place. Called
  // again, when the last one is gone, if bytes turned out to be wrong.
  std::function<std::unique_ptr<Unpacker>()> unpack{};
};

// What an earlier process left of a file, by its journal.
struct Unfinished {
  std::uint64_t size = 0;
  std::uint64_t done_bytes = 0;
};

// Nothing when there is no sound journal, or no partial file of the journal's size.
std::optional<Unfinished> find_unfinished(const std::string& partial_path, const std::string& journal_path);

// What is no longer on the disk of a file that an earlier process fetched and used.
std::vector<std::pair<std::uint64_t, std::uint64_t>> find_given(const std::string& partial_path,
                                                                const std::string& journal_path);

struct DownloadOptions {
  unsigned connections = 16;              // at most
  bool adaptive = true;                   // as many of them as raise the total rate; else all, always
  std::uint64_t limit_rate = 0;           // bytes per second of all connections together, 0 for no limit
  std::uint64_t piece_bytes = 1U << 20U;  // ranges are cut, and checksums taken, at multiples of this
  unsigned max_attempts = 6;              // in a row without progress
  double backoff_s = 0.5;                 // mean of the first wait is half of it
  double max_backoff_s = 30;
  double journal_interval_s = 0.5;
};

enum class FileState { waiting, active, verified, failed, cancelled };

struct FileProgress {
  FileState state = FileState::waiting;
  std::optional<std::uint64_t> size;
  std::uint64_t done_bytes = 0;              // safely written
  std::uint64_t ready_bytes = 0;             // of these, the unbroken stretch from the file's first byte
  std::uint64_t hashed_bytes = 0;            // of these, what the hash went over
  std::uint64_t resumed_bytes = 0;           // of done_bytes, found on disk at the start
  std::uint64_t repaired_bytes = 0;          // written anew because the hash was wrong
  bool doubted = false;                      // the hash was wrong once: what was read before may be
  std::string digest;                        // once verified
  std::vector<UnpackedFile> unpacked;        // once verified
  std::optional<Error> error;                // once failed
  bool link_wanted = false;                  // the address has ended or is about to: `renew` it
  std::vector<std::string> dropped_sources;  // each with its reason
};

struct Progress {
  std::vector<FileProgress> files;  // in the order of the requests
  std::uint64_t wire_bytes = 0;     // body bytes received, wasted ones included
  unsigned connections = 0;         // transfers under way
  unsigned level = 0;               // transfers that may be under way
  bool finished = false;
};

class Download {
 public:
  // Throws Error(invalid_argument) for values that cannot be meant.
  Download(std::vector<FileRequest> files, const DownloadOptions& options,
           std::shared_ptr<Transport> transport);
  Download(const Download&) = delete;
  Download& operator=(const Download&) = delete;
  ~Download();  // cancels and waits

  // Wait at most `timeout_s`; true when finished.
  bool wait(double timeout_s);
  Progress progress() const;

  // A fresh address for a file whose `link_wanted` is set; an empty one gives the file up. Throws
  // Error(invalid_argument) for a file that there is not.
  void renew(std::size_t file, const Address& address);

  // These bytes of a file with a `first_limit` were used for the last time: their space is given back as soon
  // as the hash went over them and the journal tells of it. Its bytes before `limit` may be fetched. When the
  // hash turns out to be wrong the file is fetched once more, from its beginning, and kept.
  void give_back(std::size_t file, const std::vector<std::pair<std::uint64_t, std::uint64_t>>& ranges,
                 std::uint64_t limit);

  void cancel();  // returns at once; the journals are saved

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Hex digest of a whole file.
std::string hash_file(const std::string& path, HashAlgorithm algorithm);

}  // namespace fastslm
