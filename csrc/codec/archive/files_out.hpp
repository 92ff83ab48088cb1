// The folder that an archive becomes. A thread of its own writes, so that decoding goes on meanwhile.
//
// Law: files are made where none were, never through a link, and the whole folder goes when it is not
// finished.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fastslm/files.hpp>
#include <fastslm/hash.hpp>
#include <fastslm/unpack.hpp>

#include "codec/archive/names.hpp"
#include "codec/blocks.hpp"
#include "codec/meter.hpp"

namespace fastslm {

class FilesOut {
 public:
  // Makes the folder. Throws Error(file_system).
  FilesOut(const UnpackOptions& options, Meter& meter);
  FilesOut(const FilesOut&) = delete;
  FilesOut& operator=(const FilesOut&) = delete;
  ~FilesOut();

  // Errors of the writing thread come out of the next call. All throw Error(bad_format) for what the rules
  // forbid.
  void add_folder(std::string_view name);
  void begin(std::string_view name, std::optional<std::uint64_t> size);
  void write(const Block& block);
  void end();
  std::vector<UnpackedFile> finish();

 private:
  struct Current;
  using Order = std::function<void()>;

  void give(Order order, std::size_t bytes);
  void work() noexcept;
  void stop() noexcept;
  void open(const std::string& path, std::optional<std::uint64_t> size);
  void put(Bytes bytes);
  void close();
  std::string in_folder(const std::string& path) const { return options_.folder + "/" + path; }

  const UnpackOptions options_;
  Meter& meter_;
  Names names_;
  BufferPool pool_;
  const std::set<std::string> only_;
  bool skipping_ = false;
  bool finished_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<Order, std::size_t>> orders_;
  std::size_t waiting_bytes_ = 0;
  bool stopping_ = false;
  std::exception_ptr error_;

  std::unique_ptr<Current> current_;  // the thread's alone, as the next one until it has ended
  std::vector<UnpackedFile> done_;
  std::thread thread_;
};

}  // namespace fastslm
