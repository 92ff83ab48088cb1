// Files that are used while they arrive: what was used leaves the disk, and is never taken for what it was.
#include <algorithm>

#include "fetch/state/journal.hpp"
#include "scene.hpp"

namespace {

using fastslm::Download;
using fastslm::FileProgress;
using fastslm::FileState;

constexpr std::uint64_t kHalf = 512'000;
constexpr std::uint64_t kGiven = 409'600;  // whole pages, so that every byte of them is gone

fastslm::FileRequest passing(const Scene& scene, std::uint64_t limit = kHalf) {
  auto file = scene.request();
  file.first_limit = limit;
  return file;
}

bool is_given(const Scene& scene) { return !fastslm::find_given(scene.partial(), scene.journal()).empty(); }

template <class Condition>
void wait_for(Download& download, Condition condition) {
  for (int i = 0; i < 1000 && !condition(); ++i) CHECK(!download.wait(0.01));
  CHECK(condition());
}

// Fetch one half, use most of it, and wait until that is off the disk.
void use_half(const Scene& scene, Download& download) {
  wait_for(download, [&] { return download.progress().files.at(0).hashed_bytes >= kHalf; });
  download.give_back(0, {{0, kGiven}}, kHalf);
  wait_for(download, [&] { return is_given(scene) && read_text(scene.partial())[0] == '\0'; });
}

void stop_after_half(Scene& scene) {
  Download download({passing(scene)}, scene.options, scene.server);
  use_half(scene, download);
  download.cancel();
  CHECK(download.wait(2));
}

std::string with_a_hole(const Scene& scene) {
  return std::string(kGiven, '\0') + scene.content.substr(kGiven);
}

FileProgress ended(Download& download) {
  CHECK(download.wait(30));
  return download.progress().files.at(0);
}

void used_bytes_leave_the_disk_and_the_hash_is_right() {
  Scene scene(1'024'000);
  Download download({passing(scene)}, scene.options, scene.server);
  use_half(scene, download);
  download.give_back(0, {}, scene.content.size());
  const auto file = ended(download);
  CHECK(file.state == FileState::verified);
  CHECK_EQUAL(file.digest, scene.digest);
  CHECK(!file.doubted);
  CHECK(read_text(scene.partial()) == with_a_hole(scene));
  CHECK(is_given(scene));
}

void nothing_behind_the_limit_is_fetched() {
  Scene scene(1'024'000);
  Download download({passing(scene, 100'000)}, scene.options, scene.server);
  wait_for(download, [&] { return download.progress().files.at(0).hashed_bytes >= 100'000; });
  CHECK(!download.wait(0.2));
  CHECK(download.progress().files.at(0).done_bytes <= 100'000 + 4 * scene.options.piece_bytes);
  download.give_back(0, {}, scene.content.size());
  CHECK(ended(download).state == FileState::verified);
}

void what_is_not_hashed_is_not_given_back() {
  Scene scene(1'024'000);
  Download download({passing(scene)}, scene.options, scene.server);
  download.give_back(0, {{900'000, 1'000'000}}, kHalf);
  use_half(scene, download);
  CHECK_EQUAL(fastslm::find_given(scene.partial(), scene.journal()).size(), 1U);
  CHECK_EQUAL(fastslm::find_given(scene.partial(), scene.journal())[0].second, kGiven);
}

void another_process_goes_on_behind_it() {
  Scene scene(1'024'000);
  stop_after_half(scene);
  const std::uint64_t before = scene.server->sent_bytes;
  Download download({passing(scene, scene.content.size())}, scene.options, scene.server);
  const auto file = ended(download);
  CHECK(file.state == FileState::verified);
  CHECK_EQUAL(file.digest, scene.digest);
  CHECK(!file.doubted);
  CHECK(file.resumed_bytes >= kHalf);
  CHECK(scene.server->sent_bytes - before < scene.content.size() * 6 / 10);
  CHECK(read_text(scene.partial()) == with_a_hole(scene));
}

void a_verified_file_that_passed_is_verified_again_without_a_request() {
  Scene scene(1'024'000);
  stop_after_half(scene);
  for (int i = 0; i < 2; ++i) {
    const std::size_t requests = scene.server->seen().size();
    Download download({passing(scene, scene.content.size())}, scene.options, scene.server);
    CHECK(ended(download).state == FileState::verified);
    CHECK_EQUAL(i == 1, scene.server->seen().size() == requests);
  }
}

void whoever_keeps_the_file_gets_what_was_given_back_once_more() {
  Scene scene(1'024'000);
  stop_after_half(scene);
  const std::uint64_t before = scene.server->sent_bytes;
  scene.expect_fetched();
  const std::uint64_t sent = scene.server->sent_bytes - before;
  CHECK(sent >= scene.content.size() - kHalf + kGiven);
  CHECK(sent < scene.content.size());
}

void a_hash_that_turns_out_wrong_costs_one_more_download() {
  Scene scene(1'024'000);
  scene.server->script({.flip = true});
  Download download({passing(scene)}, scene.options, scene.server);
  use_half(scene, download);
  download.give_back(0, {}, scene.content.size());
  const auto file = ended(download);
  CHECK(file.state == FileState::verified);
  CHECK_EQUAL(file.digest, scene.digest);
  CHECK(file.doubted);
  CHECK(read_text(scene.partial()) == scene.content);
  CHECK(!is_given(scene));
}

void a_file_that_stays_wrong_is_refused() {
  Scene scene(1'024'000);
  scene.server->contents[Scene::url][5] ^= 1;
  Download download({passing(scene)}, scene.options, scene.server);
  use_half(scene, download);
  download.give_back(0, {}, scene.content.size());
  const auto file = ended(download);
  CHECK(file.state == FileState::failed);
  CHECK_EQUAL(fastslm::error_name(file.error->code()), "checksum_mismatch");
  CHECK(!fastslm::file_size(scene.partial()));
}

// Where the hash cannot be taken up again, the bytes are needed again, and what was made of them is doubted.
void a_journal_without_its_hash_is_no_reason_to_believe() {
  Scene scene(1'024'000);
  stop_after_half(scene);
  auto journal = *fastslm::decode(bytes_of(read_text(scene.journal())));
  journal.notes.hash_state = "torn";
  fastslm::save_journal(scene.journal(), journal);
  Download download({passing(scene, scene.content.size())}, scene.options, scene.server);
  const auto file = ended(download);
  CHECK(file.state == FileState::verified);
  CHECK(file.doubted);
  CHECK(read_text(scene.partial()) == scene.content);
}

void only_a_file_of_known_hash_can_pass() {
  Scene scene;
  auto file = passing(scene);
  file.expected_hash.clear();
  CHECK_ERROR(invalid_argument, Download({file}, scene.options, scene.server));
}

}  // namespace

int main() {
  {
    const check::TemporaryFolder folder;
    if (!fastslm::can_punch(folder.file("."))) return 0;  // nothing is ever given back on this file system
  }
  return check::run(
      {{"used bytes leave the disk and the hash is right", used_bytes_leave_the_disk_and_the_hash_is_right},
       {"nothing behind the limit is fetched", nothing_behind_the_limit_is_fetched},
       {"what is not hashed is not given back", what_is_not_hashed_is_not_given_back},
       {"another process goes on behind it", another_process_goes_on_behind_it},
       {"a verified file that passed is verified again without a request",
        a_verified_file_that_passed_is_verified_again_without_a_request},
       {"whoever keeps the file gets what was given back once more",
        whoever_keeps_the_file_gets_what_was_given_back_once_more},
       {"a hash that turns out wrong costs one more download",
        a_hash_that_turns_out_wrong_costs_one_more_download},
       {"a file that stays wrong is refused", a_file_that_stays_wrong_is_refused},
       {"a journal without its hash is no reason to believe",
        a_journal_without_its_hash_is_no_reason_to_believe},
       {"only a file of known hash can pass", only_a_file_of_known_hash_can_pass}});
}
