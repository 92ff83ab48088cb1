// Stopping and going on: cancel, a crash, and what another process finds.
#include <chrono>
#include <fstream>

#include "fetch/state/journal.hpp"
#include "scene.hpp"

namespace {

using fastslm::FileState;

// Stop a download in the middle, as Ctrl-C does.
void stop_half_way(Scene& scene) {
  scene.server->hold_after = scene.content.size() / 2;
  fastslm::Download download({scene.request()}, scene.options, scene.server);
  while (download.progress().files.at(0).done_bytes < scene.content.size() / 3) CHECK(!download.wait(0.002));
  download.cancel();
  CHECK(download.wait(1));
  CHECK(download.progress().files.at(0).state == FileState::cancelled);
  scene.server->hold_after = Fault::never;
}

void a_cancelled_download_goes_on_where_it_was() {
  Scene scene(1'000'000);
  stop_half_way(scene);
  CHECK(fastslm::file_size(scene.journal()).has_value());
  const auto progress = scene.fetch(scene.request());
  scene.expect_verified(progress.files.at(0));
  CHECK(progress.files.at(0).resumed_bytes > scene.content.size() / 3);
  // What one run had read ahead when another took over its tail comes twice.
  CHECK(progress.files.at(0).resumed_bytes + progress.wire_bytes < scene.content.size() * 105 / 100);
}

// A crash between two saves leaves a journal that knows less than the file holds, and perhaps a torn `.tmp`.
void a_crash_loses_only_what_the_journal_does_not_know() {
  Scene scene(1'000'000);
  stop_half_way(scene);
  const std::string older = read_text(scene.journal());
  write_text(scene.journal() + ".tmp", std::string_view(older).substr(0, older.size() / 2));
  const auto known = fastslm::decode(bytes_of(older));
  CHECK(known.has_value());
  const auto progress = scene.fetch(scene.request());
  CHECK(progress.files.at(0).state == FileState::verified);
  CHECK(read_text(scene.partial()) == scene.content);
  fastslm::Spans spans;
  for (const auto& span : known->notes.spans) spans.put(span);
  CHECK_EQUAL(progress.files.at(0).resumed_bytes, spans.extents().total());
}

// Slower than the one second after which the partial file is synced for the first time.
void a_long_download_is_synced_while_it_runs() {
  Scene scene(1'000'000);
  scene.server->hold_after = scene.content.size() / 2;
  fastslm::Download download({scene.request()}, scene.options, scene.server);
  const auto synced = [&] {
    const auto bytes = fastslm::read_file(scene.journal(), 1U << 20U);
    const auto journal = bytes ? fastslm::decode(*bytes) : std::nullopt;
    return journal ? journal->notes.synced.total() : 0;
  };
  for (int i = 0; i < 500 && synced() == 0; ++i) CHECK(!download.wait(0.02));
  CHECK(synced() > scene.content.size() / 3);
  CHECK(synced() <= download.progress().files.at(0).done_bytes);
}

void starts_over(void (*spoil)(Scene&)) {
  Scene scene;
  stop_half_way(scene);
  spoil(scene);
  const auto progress = scene.fetch(scene.request());
  CHECK(progress.files.at(0).state == FileState::verified);
  CHECK(read_text(scene.partial()) == scene.content);
  CHECK_EQUAL(progress.files.at(0).resumed_bytes, 0U);
}

void a_journal_that_cannot_be_trusted_means_starting_over() {
  starts_over([](Scene& scene) { write_text(scene.journal(), "torn"); });
  starts_over([](Scene& scene) { fastslm::remove_file(scene.journal()); });
  starts_over([](Scene& scene) { fastslm::remove_file(scene.partial()); });
  starts_over([](Scene& scene) { write_text(scene.partial(), "short"); });
}

void another_identity_means_starting_over() {
  Scene scene;
  stop_half_way(scene);
  auto file = scene.request();
  file.identity = "a new version";
  CHECK_EQUAL(scene.fetch(file).files.at(0).resumed_bytes, 0U);
}

void without_any_identity_nothing_is_resumed() {
  Scene scene;
  stop_half_way(scene);
  auto file = scene.request();
  file.algorithm.reset();
  file.expected_hash.clear();
  const auto progress = scene.fetch(file);
  CHECK_EQUAL(progress.files.at(0).resumed_bytes, 0U);
  CHECK_EQUAL(progress.files.at(0).digest, scene.digest);
}

// What was written since the last sync is compared with its checksums, so damage costs only itself.
void a_lost_tail_is_fetched_again() {
  Scene scene(1'000'000);
  stop_half_way(scene);
  const auto known = fastslm::decode(bytes_of(read_text(scene.journal())))->notes.spans;
  const auto lost = known.back().range;
  {
    std::fstream partial(scene.partial(), std::ios::in | std::ios::out | std::ios::binary);
    partial.seekp(static_cast<std::streamoff>(lost.begin));
    partial.write(std::string(lost.size(), '\0').data(), static_cast<std::streamsize>(lost.size()));
  }
  std::uint64_t all = 0;
  for (const auto& span : known) all += span.range.size();
  const auto progress = scene.fetch(scene.request());
  scene.expect_verified(progress.files.at(0));
  CHECK_EQUAL(progress.files.at(0).resumed_bytes, all - lost.size());
}

void spoil(const std::string& path, std::size_t at, char byte) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

// Where the journal vouches for synced bytes nothing is read again; the hash finds the damage, the checksums
// where it is.
void damage_to_synced_bytes_is_repaired_by_one_piece() {
  Scene scene(1'000'000);
  stop_half_way(scene);
  auto journal = *fastslm::decode(bytes_of(read_text(scene.journal())));
  journal.notes.synced.add({0, journal.size});
  journal.notes.hashed = 0;
  fastslm::save_journal(scene.journal(), journal);
  spoil(scene.partial(), 10, static_cast<char>(~scene.content[10]));
  const auto progress = scene.fetch(scene.request());
  scene.expect_verified(progress.files.at(0));
  CHECK(progress.files.at(0).resumed_bytes + progress.wire_bytes < scene.content.size() * 105 / 100);
}

void a_complete_partial_file_needs_no_request() {
  Scene scene;
  write_text(scene.partial(), scene.content);
  fastslm::Checksum64 sum;
  sum.update(bytes_of(scene.content));
  fastslm::Journal journal{
      .size = scene.content.size(), .piece_bytes = 1, .identity = "\n" + scene.digest, .notes = {}};
  journal.notes.spans = {{{0, scene.content.size()}, sum.value()}};
  fastslm::save_journal(scene.journal(), journal);
  scene.expect_fetched();
  CHECK(scene.server->seen().empty());
}

void a_failed_download_keeps_what_it_has() {
  Scene scene;
  scene.options.max_attempts = 2;
  scene.options.connections = 1;
  scene.server->script({.cut_after = 150'000});
  scene.server->always = {.status = 404};
  scene.expect_failed();
  scene.server->always = {};
  const auto progress = scene.fetch(scene.request());
  scene.expect_verified(progress.files.at(0));
  CHECK_EQUAL(progress.files.at(0).resumed_bytes, 150'000U);
}

void a_download_that_brought_nothing_leaves_nothing() {
  Scene scene;
  scene.server->always = {.status = 404};
  scene.expect_failed();
  CHECK(!fastslm::file_size(scene.partial()));
  scene.server->always = {.stall_after = 0};
  scene.server->stall_timeout_s = 20;
  fastslm::Download download({scene.request()}, scene.options, scene.server);
  CHECK(!download.wait(0.1));
  download.cancel();
  CHECK(download.wait(1));
  CHECK(!fastslm::file_size(scene.partial()));
}

void a_file_that_was_not_started_is_left_alone() {
  Scene scene;
  stop_half_way(scene);
  const std::string before = read_text(scene.journal());
  Scene blocked;
  blocked.options.connections = 1;
  blocked.server->always = {.stall_after = 0};
  blocked.server->stall_timeout_s = 20;
  fastslm::Download download({blocked.request(), scene.request()}, blocked.options, blocked.server);
  CHECK(!download.wait(0.1));
  download.cancel();
  CHECK(download.wait(1));
  CHECK(read_text(scene.journal()) == before);
  scene.expect_verified(scene.fetch(scene.request()).files.at(0));
}

void a_resumed_file_of_a_server_without_ranges_is_streamed() {
  Scene scene;
  stop_half_way(scene);
  scene.server->always = {.ignore_range = true};
  scene.expect_verified(scene.fetch(scene.request()).files.at(0));
}

void stops_within_a_second(const Fault& fault, double backoff_s) {
  Scene scene;
  scene.server->always = fault;
  scene.server->stall_timeout_s = 20;
  scene.options.backoff_s = backoff_s;
  scene.options.max_attempts = 1000;
  fastslm::Download download({scene.request()}, scene.options, scene.server);
  download.wait(0.05);
  download.cancel();
  CHECK(download.wait(1));
  CHECK(download.progress().finished);
  CHECK(download.progress().files.at(0).state == FileState::cancelled);
}

void a_stalled_or_waiting_download_stops_within_a_second() {
  stops_within_a_second({.stall_after = 100}, 0.001);
  stops_within_a_second({.status = 503, .headers = {{"retry-after", "60"}}}, 0.001);
  stops_within_a_second({.status = 500}, 25);
}

void dropping_a_download_stops_it() {
  Scene scene;
  scene.server->always = {.stall_after = 100};
  scene.server->stall_timeout_s = 20;
  const auto start = std::chrono::steady_clock::now();
  {
    const fastslm::Download download({scene.request()}, scene.options, scene.server);
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));
}

}  // namespace

int main() {
  return check::run(
      {{"a cancelled download goes on where it was", a_cancelled_download_goes_on_where_it_was},
       {"a crash loses only what the journal does not know",
        a_crash_loses_only_what_the_journal_does_not_know},
       {"a long download is synced while it runs", a_long_download_is_synced_while_it_runs},
       {"a journal that cannot be trusted means starting over",
        a_journal_that_cannot_be_trusted_means_starting_over},
       {"another identity means starting over", another_identity_means_starting_over},
       {"without any identity nothing is resumed", without_any_identity_nothing_is_resumed},
       {"a lost tail is fetched again", a_lost_tail_is_fetched_again},
       {"damage to synced bytes is repaired by one piece", damage_to_synced_bytes_is_repaired_by_one_piece},
       {"a complete partial file needs no request", a_complete_partial_file_needs_no_request},
       {"a failed download keeps what it has", a_failed_download_keeps_what_it_has},
       {"a download that brought nothing leaves nothing", a_download_that_brought_nothing_leaves_nothing},
       {"a file that was not started is left alone", a_file_that_was_not_started_is_left_alone},
       {"a resumed file of a server without ranges is streamed",
        a_resumed_file_of_a_server_without_ranges_is_streamed},
       {"a stalled or waiting download stops within a second",
        a_stalled_or_waiting_download_stops_within_a_second},
       {"dropping a download stops it", dropping_a_download_stops_it}});
}
