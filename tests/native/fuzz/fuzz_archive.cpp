// An archive's bytes are unpacked whole and in pieces: both must tell the same, and leave no folder when they
// refuse. FUZZ_FORMAT is the format.
#include <filesystem>
#include <optional>

#include <unistd.h>

#include <fastslm/error.hpp>
#include <fastslm/unpack.hpp>

#include "fuzz.hpp"

namespace {

using Files = std::vector<fastslm::UnpackedFile>;

fastslm::UnpackOptions options(const std::string& folder) {
  fastslm::UnpackOptions result;
  result.format = fastslm::ArchiveFormat::FUZZ_FORMAT;
  result.folder = folder;
  const bool one =
      result.format == fastslm::ArchiveFormat::gzip || result.format == fastslm::ArchiveFormat::zstd;
  if (one) result.name = "file";
  result.limits = {.total_bytes = 1U << 20U, .members = 50};
  result.digests = true;
  result.durable = false;
  result.threads = 2;
  return result;
}

std::optional<Files> unpack(fastslm::Bytes data, std::size_t piece, const std::string& folder) {
  try {
    const auto unpacker = fastslm::make_unpacker(options(folder));
    for (std::size_t at = 0; at < data.size(); at += piece) {
      unpacker->push(data.subspan(at, std::min(piece, data.size() - at)));
    }
    return unpacker->finish();
  } catch (const fastslm::Error& error) {
    must_hold(error.code() == fastslm::ErrorCode::bad_format, error.what());
    return std::nullopt;
  }
}

bool same(const std::optional<Files>& left, const std::optional<Files>& right) {
  if (!left || !right) return !left && !right;
  const auto equal = [](const auto& a, const auto& b) {
    return a.name == b.name && a.size == b.size && a.sha256 == b.sha256;
  };
  return std::equal(left->begin(), left->end(), right->begin(), right->end(), equal);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto place =
      std::filesystem::temp_directory_path() / ("fastslm-fuzz-" + std::to_string(getpid()));
  const std::string folder = place.string();
  std::optional<Files> first;
  for (const std::size_t piece : {std::max<std::size_t>(size, 1), std::size_t{1} + size % 7}) {
    const auto files = unpack(fuzz_bytes(data, size), piece, folder);
    must_hold(std::filesystem::exists(folder) == files.has_value(),
              "a folder is left only by a right archive");
    for (const auto& file : files.value_or(Files{})) {
      must_hold(std::filesystem::file_size(place / file.name) == file.size, "files are where they should be");
    }
    std::filesystem::remove_all(place);
    if (piece >= size) {
      first = files;
    } else {
      must_hold(same(first, files), "pieces do not matter");
    }
  }
  return 0;
}
