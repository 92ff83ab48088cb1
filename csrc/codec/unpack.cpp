// Puts the stages for a format together: decoder, container, folder.
#include <algorithm>
#include <string>
#include <utility>

#include <fastslm/cpu.hpp>
#include <fastslm/error.hpp>
#include <fastslm/unpack.hpp>

#include "codec/archive/files_out.hpp"
#include "codec/archive/tar.hpp"
#include "codec/archive/zip.hpp"
#include "codec/meter.hpp"
#include "codec/refuse.hpp"
#include "codec/stream/decompress.hpp"
#include "codec/stream/zstd_frames.hpp"

namespace fastslm {
namespace {

// All bytes are one file.
class OneFile : public Stage {
 public:
  OneFile(FilesOut& files, const std::string& name) : files_(files) { files_.begin(name, std::nullopt); }
  void push(const Block& block) override { files_.write(block); }
  void finish() override { files_.end(); }

 private:
  FilesOut& files_;
};

// Counts what an archive without compression holds.
class Plain : public Stage {
 public:
  Plain(Meter& meter, Stage& next) : meter_(meter), next_(next) {}
  void push(const Block& block) override {
    meter_.made(block.bytes.size());
    next_.push(block);
  }
  void finish() override { next_.finish(); }

 private:
  Meter& meter_;
  Stage& next_;
};

class Pipeline : public Unpacker {
 public:
  explicit Pipeline(const UnpackOptions& options) : meter_(options.limits), files_(options, meter_) {
    container_ = make_container(options);
    decoder_ = make_decoder(options);
  }

  void push(Bytes data) override {
    meter_.took(data.size());
    first().push({data});
  }

  std::vector<UnpackedFile> finish() override {
    first().finish();
    return files_.finish();
  }

 private:
  std::unique_ptr<Stage> make_container(const UnpackOptions& options) {
    switch (options.format) {
      case ArchiveFormat::zip:
        return std::make_unique<ZipReader>(files_, meter_);
      case ArchiveFormat::tar:
      case ArchiveFormat::tar_gzip:
      case ArchiveFormat::tar_zstd:
        return std::make_unique<TarReader>(files_);
      default:
        return std::make_unique<OneFile>(files_, options.name);
    }
  }

  std::unique_ptr<Stage> make_decoder(const UnpackOptions& options) {
    switch (options.format) {
      case ArchiveFormat::gzip:
      case ArchiveFormat::tar_gzip:
        return std::make_unique<Decompress>(make_gzip_decoder(), meter_, *container_);
      case ArchiveFormat::zstd:
      case ArchiveFormat::tar_zstd:
        return std::make_unique<ZstdFrames>(options.threads > 0 ? options.threads : cpu_info().threads,
                                            meter_, *container_);
      case ArchiveFormat::tar:
        return std::make_unique<Plain>(meter_, *container_);
      default:
        return nullptr;  // zip decodes by itself
    }
  }

  Stage& first() { return decoder_ ? *decoder_ : *container_; }

  Meter meter_;
  FilesOut files_;
  std::unique_ptr<Stage> container_;
  std::unique_ptr<Stage> decoder_;
};

[[noreturn]] void refuse_option(const std::string& name, const std::string& value,
                                const std::string& expected) {
  throw Error(ErrorCode::invalid_argument, "`" + name + "` is `" + value + "`, expected " + expected,
              {.name = name});
}

void check(const UnpackOptions& options) {
  if (options.folder.empty()) refuse_option("folder", "", "a path");
  if (options.limits.total_bytes == 0) refuse_option("total_bytes", "0", "at least 1");
  if (options.limits.ratio == 0) refuse_option("ratio", "0", "at least 1");
  if (options.threads > 256) refuse_option("threads", std::to_string(options.threads), "0 to 256");
  const bool one_file = options.format == ArchiveFormat::gzip || options.format == ArchiveFormat::zstd;
  if (one_file == options.name.empty()) {
    refuse_option("name", options.name, one_file ? "a name for the file" : "none, as the archive has names");
  }
}

}  // namespace

std::optional<ArchiveFormat> archive_format(std::string_view file_name) noexcept {
  static constexpr std::pair<std::string_view, ArchiveFormat> endings[] = {
      {".tar.gz", ArchiveFormat::tar_gzip},  {".tgz", ArchiveFormat::tar_gzip},
      {".tar.zst", ArchiveFormat::tar_zstd}, {".tzst", ArchiveFormat::tar_zstd},
      {".tar", ArchiveFormat::tar},          {".zip", ArchiveFormat::zip},
      {".whl", ArchiveFormat::zip},          {".gz", ArchiveFormat::gzip},
      {".zst", ArchiveFormat::zstd},
  };
  const auto same = [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
  };
  for (const auto& [ending, format] : endings) {
    if (file_name.size() <= ending.size()) continue;
    const auto tail = file_name.substr(file_name.size() - ending.size());
    if (std::equal(tail.begin(), tail.end(), ending.begin(), same)) return format;
  }
  return std::nullopt;
}

std::unique_ptr<Unpacker> make_unpacker(const UnpackOptions& options) {
  check(options);
  return std::make_unique<Pipeline>(options);
}

}  // namespace fastslm
