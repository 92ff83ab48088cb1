#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <fastslm/unpack.hpp>

#include "check.hpp"
#include "samples.hpp"

namespace {

using fastslm::ArchiveFormat;
using fastslm::UnpackOptions;
namespace fs = std::filesystem;

const std::map<std::string, ArchiveFormat> kFormats{{"gzip", ArchiveFormat::gzip},
                                                    {"zstd", ArchiveFormat::zstd},
                                                    {"zip", ArchiveFormat::zip},
                                                    {"tar", ArchiveFormat::tar}};

UnpackOptions options(const std::string& folder, ArchiveFormat format) {
  UnpackOptions result;
  result.format = format;
  result.folder = folder;
  if (format == ArchiveFormat::gzip || format == ArchiveFormat::zstd) result.name = "file";
  result.limits.total_bytes = 1U << 20U;
  result.durable = false;
  result.threads = 2;
  return result;
}

std::vector<fastslm::UnpackedFile> unpack(const UnpackOptions& how, const std::string& bytes,
                                          std::size_t piece = 1000) {
  const auto unpacker = fastslm::make_unpacker(how);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    unpacker->push(bytes_of(std::string_view(bytes).substr(at, piece)));
  }
  return unpacker->finish();
}

// Every seed of the fuzz targets that must unpack: its format and its bytes.
std::vector<std::pair<ArchiveFormat, std::string>> good_seeds() {
  std::vector<std::pair<ArchiveFormat, std::string>> seeds;
  for (const auto& [name, format] : kFormats) {
    for (const auto& entry : fs::directory_iterator(fs::path(FASTSLM_CORPUS) / name)) {
      if (entry.path().filename().string().starts_with("good-")) {
        seeds.emplace_back(format, read_text(entry.path().string()));
      }
    }
  }
  CHECK(seeds.size() > 15);
  return seeds;
}

std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      found[fs::relative(entry.path(), folder).generic_string()] = read_text(entry.path().string());
    }
  }
  return found;
}

void formats_are_told_by_name() {
  CHECK(fastslm::archive_format("m.gguf.GZ") == ArchiveFormat::gzip);
  CHECK(fastslm::archive_format("m.tar.gz") == ArchiveFormat::tar_gzip);
  CHECK(fastslm::archive_format("m.tgz") == ArchiveFormat::tar_gzip);
  CHECK(fastslm::archive_format("m.tar.zst") == ArchiveFormat::tar_zstd);
  CHECK(fastslm::archive_format("m-1.0-py3-none-any.whl") == ArchiveFormat::zip);
  CHECK(!fastslm::archive_format("m.gguf"));
  CHECK(!fastslm::archive_format(".gz"));
}

void pieces_of_any_size_give_the_same_files() {
  for (const auto& [format, bytes] : good_seeds()) {
    std::map<std::string, std::string> whole;
    for (const std::size_t piece : {std::size_t{1} << 20U, std::size_t{1}, std::size_t{3}, std::size_t{64}}) {
      const check::TemporaryFolder folder;
      unpack(options(folder.file("out"), format), bytes, piece);
      const auto found = contents(folder.file("out"));
      if (whole.empty()) whole = found;
      CHECK(found == whole);
    }
  }
}

// Only a tar may lack its very end: all that follows its first empty block is padding.
void an_archive_cut_off_anywhere_is_refused_and_leaves_nothing() {
  for (const auto& [format, bytes] : good_seeds()) {
    const bool tar = format == ArchiveFormat::tar;
    std::size_t whole = 0;
    for (std::size_t length = 0; length < bytes.size(); length += tar ? 61 : 1) {
      if (tar && bytes.find_first_not_of('\0', length) == std::string::npos) break;
      const check::TemporaryFolder folder;
      try {
        unpack(options(folder.file("out"), format), bytes.substr(0, length));
        CHECK(format == ArchiveFormat::gzip || format == ArchiveFormat::zstd);
        ++whole;
      } catch (const fastslm::Error& error) {
        CHECK_EQUAL(fastslm::error_name(error.code()), "bad_format");
        CHECK(!fs::exists(folder.file("out")));
      }
    }
    CHECK(whole <= 3);  // a file of several members or frames is whole at the end of each
  }
}

void a_flipped_bit_never_changes_what_comes_out() {
  for (const auto& [format, bytes] : good_seeds()) {
    if (format == ArchiveFormat::tar || format == ArchiveFormat::zstd)
      continue;  // no checksum of the content
    const check::TemporaryFolder right;
    unpack(options(right.file("out"), format), bytes);
    const auto known = contents(right.file("out"));
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
      const check::TemporaryFolder folder;
      try {
        unpack(options(folder.file("out"), format), damaged);
      } catch (const fastslm::Error&) {
        continue;
      }
      for (const auto& [name, content] : contents(folder.file("out"))) {
        CHECK(std::any_of(known.begin(), known.end(),
                          [&](const auto& file) { return file.second == content; }));
      }
    }
  }
}

void limits_hold() {
  for (const auto& [format, bytes] : good_seeds()) {
    const check::TemporaryFolder folder;
    auto how = options(folder.file("out"), format);
    const auto files = unpack(how, bytes);
    std::uint64_t total = 0;
    for (const auto& file : files) total += file.size;
    if (total < 2) continue;
    how.folder = folder.file("less");
    how.limits.total_bytes = total - 1;
    CHECK_ERROR(bad_format, unpack(how, bytes));
    CHECK(!fs::exists(how.folder));
  }
}

void only_chosen_members_are_written() {
  const check::TemporaryFolder folder;
  auto how = options(folder.file("out"), ArchiveFormat::zip);
  how.only = {"model/config.json"};
  how.digests = true;
  const auto files = unpack(how, read_text(std::string(FASTSLM_CORPUS) + "/zip/good-deflated"));
  CHECK_EQUAL(files.size(), 1U);
  CHECK_EQUAL(files[0].sha256.size(), 64U);
  CHECK_EQUAL(contents(how.folder).size(), 1U);
  CHECK_EQUAL(contents(how.folder)["model/config.json"], "{\"a\": 1}");
}

void a_folder_that_is_there_stays_as_it_is() {
  const check::TemporaryFolder folder;
  fs::create_directory(folder.file("out"));
  write_text(folder.file("out") + "/mine", "x");
  CHECK_ERROR(file_system, fastslm::make_unpacker(options(folder.file("out"), ArchiveFormat::tar)));
  CHECK_EQUAL(contents(folder.file("out")).size(), 1U);
}

void wrong_options_are_refused() {
  const check::TemporaryFolder folder;
  auto how = options(folder.file("out"), ArchiveFormat::gzip);
  how.name.clear();
  CHECK_ERROR(invalid_argument, fastslm::make_unpacker(how));
  how.name = "../file";
  CHECK_ERROR(bad_format, fastslm::make_unpacker(how));
  how = options(folder.file("out"), ArchiveFormat::tar);
  how.limits.total_bytes = 0;
  CHECK_ERROR(invalid_argument, fastslm::make_unpacker(how));
  CHECK(!fs::exists(folder.file("out")));
}

void an_unpacking_can_be_cancelled() {
  const check::TemporaryFolder folder;
  write_text(folder.file("zeros"), std::string(64U << 20U, '\0'));
  auto how = options(folder.file("out"), ArchiveFormat::tar);
  how.limits.total_bytes = 1U << 30U;
  fastslm::Unpacking unpacking(folder.file("zeros"), how);
  unpacking.cancel();
  CHECK(unpacking.wait(20));
  try {
    unpacking.files();  // all zeros is an empty archive, if it came to its end before
  } catch (const fastslm::Error& error) {
    CHECK_EQUAL(fastslm::error_name(error.code()), "cancelled");
    CHECK(!fs::exists(how.folder));
  }
}

}  // namespace

int main() {
  return check::run({
      {"formats are told by name", formats_are_told_by_name},
      {"pieces of any size give the same files", pieces_of_any_size_give_the_same_files},
      {"an archive cut off anywhere is refused and leaves nothing",
       an_archive_cut_off_anywhere_is_refused_and_leaves_nothing},
      {"a flipped bit never changes what comes out", a_flipped_bit_never_changes_what_comes_out},
      {"limits hold", limits_hold},
      {"only chosen members are written", only_chosen_members_are_written},
      {"a folder that is there stays as it is", a_folder_that_is_there_stays_as_it_is},
      {"wrong options are refused", wrong_options_are_refused},
      {"an unpacking can be cancelled", an_unpacking_can_be_cancelled},
  });
}
