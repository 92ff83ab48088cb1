// Servers that lie, crawl, ask for pauses or let addresses end, and sources beside them; limits and
// adaptation.
#include <chrono>

#include "scene.hpp"

namespace {

using fastslm::FileState;

constexpr const char* kMirror = "http://mirror/file";

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

fastslm::FileRequest mirrored(Scene& scene) {
  scene.server->contents.try_emplace(kMirror, scene.content);
  auto file = scene.request();
  file.mirrors = {{kMirror, {}}};
  return file;
}

std::string flipped(std::string text, std::size_t at) {
  text[at] = static_cast<char>(~text[at]);
  return text;
}

void ranges_come_from_every_source() {
  Scene scene;
  const auto file = mirrored(scene);
  scene.server->always = {.block_seconds = 0.0002};
  scene.expect_verified(scene.fetch(file).files.at(0));
  bool first = false;
  bool second = false;
  for (const auto& seen : scene.server->seen()) (seen.url == kMirror ? second : first) = true;
  CHECK(first);
  CHECK(second);
}

void each_source_gets_its_own_headers() {
  Scene scene;
  auto file = mirrored(scene);
  file.headers = {"Authorization: Bearer x"};
  scene.server->always = {.block_seconds = 0.0002};
  scene.expect_verified(scene.fetch(file).files.at(0));
  for (const auto& seen : scene.server->seen()) CHECK_EQUAL(seen.headers.empty(), seen.url == kMirror);
}

void a_source_that_lies_is_found_out_and_named() {
  for (const bool mirror_lies : {true, false}) {
    Scene scene;
    const auto file = mirrored(scene);
    std::string wrong = scene.content;
    for (std::size_t at = 0; at < wrong.size(); at += 500) wrong = flipped(std::move(wrong), at);
    scene.server->contents[mirror_lies ? kMirror : Scene::url] = wrong;
    scene.server->always = {.block_seconds = 0.0002};
    const auto progress = scene.fetch(file);
    scene.expect_verified(progress.files.at(0));
    CHECK(progress.files.at(0).repaired_bytes > 0);
    CHECK_EQUAL(progress.files.at(0).dropped_sources.size(), 1U);
    const std::string named = progress.files.at(0).dropped_sources.at(0);
    CHECK_EQUAL(named, mirror_lies ? "the source `http://mirror/file` sent wrong bytes"
                                   : "the source `http://host/file` sent wrong bytes");
  }
}

void a_source_that_fails_is_done_without() {
  const Fault faults[] = {{.status = 404}, {.status = 403}, {.status = 500}, {.cut_after = 0}, {.shift = 1}};
  for (const Fault& fault : faults) {
    for (const char* const bad : {kMirror, Scene::url}) {
      Scene scene;
      scene.options.max_attempts = 2;
      const auto file = mirrored(scene);
      scene.server->of_url[bad] = fault;
      scene.server->always = {.block_seconds = 0.0002};
      const auto progress = scene.fetch(file);
      scene.expect_verified(progress.files.at(0));
      CHECK_EQUAL(progress.files.at(0).dropped_sources.size(), 1U);
    }
  }
}

void without_a_hash_a_mirror_is_refused() {
  Scene scene;
  auto file = mirrored(scene);
  file.expected_hash.clear();
  CHECK_ERROR(invalid_argument, fastslm::Download({file}, scene.options, scene.server));
}

void a_wrong_byte_is_repaired() {
  for (const unsigned connections : {1U, 4U}) {
    for (const std::size_t pieces : {3U, 200U}) {
      Scene scene(pieces * 1000);
      scene.options.connections = connections;
      scene.server->script({.flip = true});
      const auto progress = scene.fetch(scene.request());
      scene.expect_verified(progress.files.at(0));
      CHECK(progress.files.at(0).repaired_bytes > 0);
      CHECK(progress.wire_bytes <= 2 * scene.content.size() + 10'000);
    }
  }
}

void a_repair_ends_when_the_hash_is_right() {
  Scene scene(1'000'000);
  scene.options.connections = 1;
  scene.server->script({.flip = true});
  scene.server->script({.block_seconds = 0.0005});  // the second time it comes slowly
  const auto progress = scene.fetch(scene.request());
  scene.expect_verified(progress.files.at(0));
  CHECK(progress.wire_bytes < scene.content.size() * 3 / 2);
}

void a_file_that_stays_wrong_is_given_up_after_a_few_rounds() {
  Scene scene;
  scene.server->contents[Scene::url] = flipped(scene.content, 77);
  const auto progress = scene.fetch(scene.request());
  CHECK(progress.files.at(0).state == FileState::failed);
  CHECK_EQUAL(fastslm::error_name(progress.files.at(0).error->code()), "checksum_mismatch");
  CHECK(progress.wire_bytes < 3 * scene.content.size());
  CHECK(!fastslm::file_size(scene.partial()));
  CHECK(!fastslm::file_size(scene.journal()));
}

// Answers `link_wanted` as the caller does; returns how often.
unsigned renewing(Scene& scene, const fastslm::FileRequest& file, const fastslm::Address& address) {
  fastslm::Download download({file}, scene.options, scene.server);
  unsigned renewals = 0;
  const auto start = std::chrono::steady_clock::now();
  while (!download.wait(0.002) && seconds_since(start) < 30) {
    if (!download.progress().files.at(0).link_wanted) continue;
    ++renewals;
    download.renew(0, address);
  }
  if (!address.url.empty())
    scene.expect_verified(download.progress().files.at(0));
  else
    CHECK_EQUAL(fastslm::error_name(download.progress().files.at(0).error->code()), "link_expired");
  return renewals;
}

void an_address_that_ends_is_renewed_without_losing_a_byte() {
  for (const int status : {401, 403, 410}) {
    Scene scene;
    auto file = scene.request();
    file.renewable = true;
    for (int i = 0; i < 4; ++i) scene.server->script({.cut_after = 20'000});
    scene.server->of_url[Scene::url] = {.status = status};
    scene.server->contents["http://host/fresh"] = scene.content;
    CHECK_EQUAL(renewing(scene, file, {"http://host/fresh", {}}), 1U);
    CHECK(scene.server->sent_bytes <= scene.content.size() + 8000);
  }
}

void an_address_that_cannot_be_renewed_is_given_up() {
  Scene scene;
  auto file = scene.request();
  file.renewable = true;
  scene.server->always = {.status = 403};
  CHECK_EQUAL(renewing(scene, file, {}), 1U);
}

void a_pause_that_one_connection_is_told_holds_for_all() {
  Scene scene;
  scene.server->script({.status = 503, .headers = {{"retry-after", "1"}}});
  scene.server->always = {.block_seconds = 0.001};
  const auto start = std::chrono::steady_clock::now();
  fastslm::Download download({scene.request()}, scene.options, scene.server);
  CHECK(!download.wait(0.3));
  const auto asked = scene.server->seen().size();
  CHECK(!download.wait(0.3));
  CHECK(scene.server->seen().size() <= asked + 1);  // those under way end, nobody begins
  CHECK(download.wait(20));
  CHECK(seconds_since(start) > 1);
  scene.expect_verified(download.progress().files.at(0));
}

void a_crawling_connection_is_replaced() {
  Scene scene(4'000'000);
  scene.options.connections = 8;
  scene.options.piece_bytes = 10'000;
  scene.server->script({.block_seconds = 0.5});  // would take minutes
  scene.server->always = {.block_seconds = 0.004};
  const auto start = std::chrono::steady_clock::now();
  scene.expect_fetched();
  CHECK(seconds_since(start) < 12);
}

void a_limit_is_kept_to_by_all_connections_together() {
  Scene scene(300'000);
  scene.options.limit_rate = 200'000;
  const auto start = std::chrono::steady_clock::now();
  scene.expect_fetched();
  const double rate = 300'000 / seconds_since(start);
  CHECK(rate < 210'000 + 20'000);  // a tenth of a second of it comes at once
  CHECK(rate > 150'000);
}

void an_adaptive_download_arrives_too() {
  for (const unsigned connections : {1U, 3U, 16U}) {
    Scene scene;
    scene.options.connections = connections;
    scene.options.adaptive = true;
    scene.server->always = {.block_seconds = 0.0005};
    scene.expect_fetched();
  }
}

}  // namespace

int main() {
  return check::run(
      {{"ranges come from every source", ranges_come_from_every_source},
       {"each source gets its own headers", each_source_gets_its_own_headers},
       {"a source that lies is found out and named", a_source_that_lies_is_found_out_and_named},
       {"a source that fails is done without", a_source_that_fails_is_done_without},
       {"without a hash a mirror is refused", without_a_hash_a_mirror_is_refused},
       {"a wrong byte is repaired", a_wrong_byte_is_repaired},
       {"a repair ends when the hash is right", a_repair_ends_when_the_hash_is_right},
       {"a file that stays wrong is given up after a few rounds",
        a_file_that_stays_wrong_is_given_up_after_a_few_rounds},
       {"an address that ends is renewed without losing a byte",
        an_address_that_ends_is_renewed_without_losing_a_byte},
       {"an address that cannot be renewed is given up", an_address_that_cannot_be_renewed_is_given_up},
       {"a pause that one connection is told holds for all",
        a_pause_that_one_connection_is_told_holds_for_all},
       {"a crawling connection is replaced", a_crawling_connection_is_replaced},
       {"a limit is kept to by all connections together", a_limit_is_kept_to_by_all_connections_together},
       {"an adaptive download arrives too", an_adaptive_download_arrives_too}});
}
