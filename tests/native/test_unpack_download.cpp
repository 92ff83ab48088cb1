#include <cstdio>
#include <filesystem>

#include <fastslm/unpack.hpp>

#include "check.hpp"
#include "scene.hpp"

namespace {

namespace fs = std::filesystem;

std::string octal(std::uint64_t value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(value));
  return text;
}

// A tar archive with one file.
std::string tarred(const std::string& name, const std::string& content) {
  std::string head(512, '\0');
  head.replace(0, name.size(), name);
  head.replace(124, 11, octal(content.size(), 11));
  head.replace(148, 8, 8, ' ');
  head[156] = '0';
  unsigned sum = 0;
  for (const char c : head) sum += static_cast<unsigned char>(c);
  head.replace(148, 6, octal(sum, 6));
  head[154] = '\0';
  return head + content + std::string((512 - content.size() % 512) % 512 + 1024, '\0');
}

// A packed file on the fake server.
struct PackedScene : Scene {
  explicit PackedScene(const std::string& name = "model/a.bin", std::size_t size = 150'000)
      : PackedScene(random_text(size), name) {}

  PackedScene(const std::string& inner_content, const std::string& name) : Scene(1), inner(inner_content) {
    content = tarred(name, inner);
    server->contents[url] = content;
    fastslm::Hasher hasher(fastslm::HashAlgorithm::sha256, content.size());
    hasher.update(bytes_of(content));
    digest = hasher.finish();
  }

  fastslm::FileRequest request() const {
    auto file = Scene::request();
    fastslm::UnpackOptions how;
    how.format = fastslm::ArchiveFormat::tar;
    how.folder = out();
    how.limits.total_bytes = 1U << 30U;
    how.digests = true;
    file.unpack = [how] { return fastslm::make_unpacker(how); };
    return file;
  }

  std::string out() const { return folder.file("out"); }

  fastslm::FileProgress finish(const fastslm::FileRequest& file) const {
    fastslm::Download download({file}, options, server);
    CHECK(download.wait(30));
    return download.progress().files[0];
  }

  void check_unpacked(const fastslm::FileProgress& seen) const {
    CHECK(seen.state == fastslm::FileState::verified);
    CHECK_EQUAL(seen.digest, digest);
    CHECK_EQUAL(seen.unpacked.size(), 1U);
    CHECK_EQUAL(seen.unpacked[0].size, inner.size());
    CHECK(read_text(out() + "/" + seen.unpacked[0].name) == inner);
  }

  std::string inner;
};

void a_file_is_unpacked_while_it_arrives() {
  const PackedScene scene;
  scene.check_unpacked(scene.finish(scene.request()));
}

void without_a_hash_or_a_size_it_is_unpacked_as_well() {
  const PackedScene scene;
  auto file = scene.request();
  file.expected_hash.clear();
  scene.check_unpacked(scene.finish(file));
  fs::remove_all(scene.out());
  fs::remove(file.partial_path);
  fs::remove(file.journal_path);
  file.size.reset();
  scene.check_unpacked(scene.finish(file));
}

void a_small_file_is_unpacked_as_well() {
  const PackedScene scene("a", 100);
  scene.check_unpacked(scene.finish(scene.request()));
}

void unpacking_goes_on_from_the_bytes_on_disk() {
  const PackedScene scene;
  const auto file = scene.request();
  {
    scene.server->hold_after = scene.content.size() / 2;
    fastslm::Download download({file}, scene.options, scene.server);
    while (scene.server->sent_bytes < scene.server->hold_after) CHECK(!download.wait(0.001));
  }
  CHECK(!fs::exists(scene.out()));
  scene.server->hold_after = Fault::never;
  const auto sent = scene.server->sent_bytes.load();
  const auto seen = scene.finish(file);
  scene.check_unpacked(seen);
  CHECK(seen.resumed_bytes > 0);
  CHECK(scene.server->sent_bytes - sent < scene.content.size());
}

void what_was_published_nowhere_is_unpacked_again_without_the_network() {
  const PackedScene scene;
  const auto file = scene.request();
  scene.check_unpacked(scene.finish(file));
  fs::remove_all(scene.out());
  const auto sent = scene.server->sent_bytes.load();
  scene.check_unpacked(scene.finish(file));
  CHECK_EQUAL(scene.server->sent_bytes.load(), sent);
}

void wrong_bytes_are_repaired_and_unpacked_again() {
  for (int faults = 1; faults < 4; ++faults) {
    PackedScene scene;
    for (int i = 0; i < faults; ++i) scene.server->script({.flip = true});
    const auto seen = scene.finish(scene.request());
    scene.check_unpacked(seen);
    CHECK(seen.repaired_bytes > 0);
  }
}

void a_right_file_that_is_no_archive_is_refused_and_not_kept() {
  for (const bool hashed : {true, false}) {
    const PackedScene scene("../escapes");
    auto file = scene.request();
    if (!hashed) file.expected_hash.clear();
    const auto seen = scene.finish(file);
    CHECK(seen.state == fastslm::FileState::failed);
    CHECK_EQUAL(fastslm::error_name(seen.error->code()), "bad_format");
    CHECK(seen.unpacked.empty());
    CHECK(!fs::exists(scene.out()));
    CHECK(!fs::exists(file.partial_path));
    CHECK(!fs::exists(file.journal_path));
  }
}

void a_wrong_hash_leaves_nothing() {
  const PackedScene scene;
  auto file = scene.request();
  file.expected_hash = std::string(64, '0');
  const auto seen = scene.finish(file);
  CHECK_EQUAL(fastslm::error_name(seen.error->code()), "checksum_mismatch");
  CHECK(!fs::exists(scene.out()));
  CHECK(!fs::exists(file.partial_path));
}

void a_folder_in_the_way_is_told_and_the_bytes_are_kept() {
  const PackedScene scene;
  fs::create_directory(scene.out());
  const auto file = scene.request();
  const auto seen = scene.finish(file);
  CHECK_EQUAL(fastslm::error_name(seen.error->code()), "file_system");
  CHECK(fs::exists(scene.out()));
}

}  // namespace

int main() {
  return check::run({
      {"a file is unpacked while it arrives", a_file_is_unpacked_while_it_arrives},
      {"without a hash or a size it is unpacked as well", without_a_hash_or_a_size_it_is_unpacked_as_well},
      {"a small file is unpacked as well", a_small_file_is_unpacked_as_well},
      {"unpacking goes on from the bytes on disk", unpacking_goes_on_from_the_bytes_on_disk},
      {"what was published nowhere is unpacked again without the network",
       what_was_published_nowhere_is_unpacked_again_without_the_network},
      {"wrong bytes are repaired and unpacked again", wrong_bytes_are_repaired_and_unpacked_again},
      {"a right file that is no archive is refused and not kept",
       a_right_file_that_is_no_archive_is_refused_and_not_kept},
      {"a wrong hash leaves nothing", a_wrong_hash_leaves_nothing},
      {"a folder in the way is told, and the bytes are kept",
       a_folder_in_the_way_is_told_and_the_bytes_are_kept},
  });
}
