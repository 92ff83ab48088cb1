// The fault table: each fault either leaves the same bytes or gives the named error.
#include <set>

#include "scene.hpp"

namespace {

using fastslm::ErrorCode;
using fastslm::FileState;

std::string failure_name(Scene& scene) {
  return std::string(fastslm::error_name(scene.expect_failed().code()));
}

void a_file_arrives_by_several_connections() {
  Scene scene;
  scene.expect_fetched();
  CHECK(scene.server->seen().size() >= 4);
  std::set<std::string> ranges;
  for (const auto& request : scene.server->seen()) ranges.insert(request.range);
  CHECK_EQUAL(ranges.size(), scene.server->seen().size());
}

void sizes_around_a_piece_arrive() {
  for (const std::size_t size : {0U, 1U, 999U, 1000U, 1001U, 3999U, 4000U, 4001U, 8000U, 8001U, 64'001U}) {
    for (const unsigned connections : {1U, 3U}) {
      Scene scene(size);
      scene.options.connections = connections;
      scene.expect_fetched();
      if (size == 0) CHECK(scene.server->seen().empty());
    }
  }
}

void a_faulty_answer_is_survived() {
  const Fault faults[] = {
      {.cut_after = 0},
      {.cut_after = 1},
      {.cut_after = 7777},
      {.end_after = 3},
      {.stall_after = 500},
      {.status = 500},
      {.status = 503, .headers = {{"retry-after", "0"}}},
      {.status = 429},
      {.status = 416},
      {.shift = 1},
      {.total = 7},
      {.headers = {{"content-range", ""}}},
      {.headers = {{"content-encoding", "gzip"}}},
      {.headers = {{"content-type", "multipart/byteranges"}}},
      {.surplus = "more"},
      {.ignore_range = true},
  };
  for (const Fault& fault : faults) {
    for (const unsigned connections : {1U, 4U}) {
      Scene scene;
      scene.options.connections = connections;
      // The first request of a single connection asks for no range; spoil a later one as well.
      scene.server->script({.cut_after = 20'000});
      scene.server->script(fault);
      if (connections == 1 && !fault.surplus.empty()) continue;
      scene.expect_fetched();
    }
  }
}

void a_fault_that_stays_gives_its_error() {
  const std::pair<Fault, const char*> table[] = {
      {{.status = 404}, "server_refused"},
      {{.status = 400}, "server_refused"},
      {{.status = 403}, "link_expired"},
      {{.status = 500}, "server_busy"},
      {{.status = 429, .headers = {{"retry-after", "4000"}}}, "server_busy"},
      {{.cut_after = 0}, "connection_lost"},
      {{.stall_after = 0}, "connection_lost"},
      {{.shift = 1}, "range_mismatch"},
      {{.total = 7}, "range_mismatch"},
      {{.flip = true}, "checksum_mismatch"},
      {{.status = 302}, "server_refused"},
      {{.status = 302, .headers = {{"location", "/file?secret=1"}}}, "server_refused"},
  };
  for (const auto& [fault, name] : table) {
    Scene scene;
    scene.options.max_attempts = 3;
    scene.server->stall_timeout_s = 0.02;
    scene.server->always = fault;
    CHECK_EQUAL(failure_name(scene), name);
  }
}

void final_errors_are_not_tried_again() {
  Scene scene;
  scene.options.connections = 1;
  scene.server->always = {.status = 404};
  const auto error = scene.expect_failed();
  CHECK_EQUAL(scene.server->seen().size(), 1U);
  CHECK_EQUAL(error.facts().status, 404);
  CHECK(std::string(error.what()).find("secret") == std::string::npos);
}

void only_attempts_without_progress_count() {
  Scene scene;
  scene.options.connections = 1;
  scene.options.max_attempts = 2;
  scene.server->always = {.cut_after = 1500};
  scene.expect_fetched();
  CHECK(scene.server->seen().size() > 100);
  CHECK_EQUAL(scene.server->sent_bytes, scene.content.size());
}

void a_server_without_ranges_is_served_by_one_stream() {
  for (const unsigned connections : {1U, 4U, 8U}) {
    Scene scene;
    scene.options.connections = connections;
    scene.server->always = {.ignore_range = true};
    scene.expect_fetched();
  }
}

void a_stream_that_breaks_starts_again() {
  Scene scene;
  scene.server->always = {.ignore_range = true};
  for (int i = 0; i < 4; ++i) scene.server->script({.ignore_range = true, .cut_after = 50'000});
  scene.expect_fetched();
}

void wrong_bytes_leave_nothing_behind() {
  Scene scene;
  scene.server->always = {.flip = true};
  const auto error = scene.expect_failed();
  CHECK_EQUAL(error.facts().expected, scene.digest);
  CHECK_EQUAL(error.facts().found.size(), scene.digest.size());
  CHECK(!fastslm::file_size(scene.partial()));
  CHECK(!fastslm::file_size(scene.journal()));
  scene.server->always = {};
  scene.expect_fetched();
}

void a_file_of_another_size_is_refused() {
  Scene scene(3000);
  auto file = scene.request();
  file.size = 2999;
  CHECK_EQUAL(fastslm::error_name(scene.expect_failed(file).code()), "size_mismatch");
  file.size = 3001;
  CHECK_EQUAL(fastslm::error_name(scene.expect_failed(file).code()), "size_mismatch");
}

// Without a length in the head only counting shows it, and only before the file is called whole.
void a_body_that_is_too_long_is_noticed() {
  Scene scene(3000);
  scene.server->always = {.surplus = "x"};
  auto file = scene.request();
  file.algorithm.reset();
  file.expected_hash.clear();
  CHECK_EQUAL(fastslm::error_name(scene.expect_failed(file).code()), "size_mismatch");
  CHECK(!fastslm::file_size(scene.partial()));
}

void a_file_without_a_known_size_arrives() {
  for (const std::size_t size : {0U, 5U, 200'000U}) {
    Scene scene(size);
    auto file = scene.request();
    file.size.reset();
    scene.server->script({.cut_after = 3});
    scene.server->script({.status = 503});
    scene.expect_verified(scene.fetch(file).files.at(0));
  }
}

void one_failed_file_does_not_stop_the_others() {
  Scene scene;
  auto missing = scene.request();
  missing.url = "http://host/none";
  missing.partial_path = scene.folder.file("none.partial");
  missing.journal_path = scene.folder.file("none.journal");
  auto unwritable = missing;
  unwritable.partial_path = scene.folder.file("no/such/folder");
  unwritable.journal_path = scene.folder.file("no/such/journal");
  fastslm::Download download({missing, scene.request(), unwritable}, scene.options, scene.server);
  CHECK(download.wait(30));
  const auto files = download.progress().files;
  CHECK_EQUAL(fastslm::error_name(files.at(0).error->code()), "server_refused");
  scene.expect_verified(files.at(1));
  CHECK_EQUAL(fastslm::error_name(files.at(2).error->code()), "file_system");
}

void many_small_files_arrive() {
  Scene scene(10);
  std::vector<fastslm::FileRequest> files;
  for (int i = 0; i < 300; ++i) {
    files.push_back(scene.request());
    files.back().partial_path = scene.folder.file(std::to_string(i));
    files.back().journal_path = scene.folder.file(std::to_string(i) + ".journal");
  }
  fastslm::Download download(files, scene.options, scene.server);
  CHECK(download.wait(30));
  for (const auto& file : download.progress().files) CHECK(file.state == FileState::verified);
  CHECK_EQUAL(scene.server->seen().size(), 300U);
}

void a_disk_that_is_too_small_stops_before_the_first_byte() {
  Scene scene;
  auto file = scene.request();
  file.size = fastslm::free_bytes(scene.folder.file(".")) + (std::uint64_t{1} << 44U);
  CHECK(scene.expect_failed(file).code() == ErrorCode::disk_full);
  CHECK(scene.server->seen().empty());
  CHECK(!fastslm::file_size(scene.partial()));
}

void values_that_cannot_be_meant_are_refused() {
  Scene scene;
  const auto start = [&](const fastslm::FileRequest& file, const fastslm::DownloadOptions& options) {
    return fastslm::Download({file}, options, scene.server).wait(10);
  };
  auto options = scene.options;
  options.connections = 0;
  CHECK_ERROR(invalid_argument, start(scene.request(), options));
  const auto refused = [&](auto change) {
    auto file = scene.request();
    change(file);
    CHECK_ERROR(invalid_argument, start(file, scene.options));
  };
  refused([](auto& file) { file.algorithm.reset(); });
  refused([](auto& file) { file.expected_hash = "ABC"; });
  refused([](auto& file) { file.partial_path.clear(); });
  refused([](auto& file) { file.journal_path = file.partial_path; });
  refused([](auto& file) { file.headers = {"A: b\r\nC: d"}; });
  CHECK(scene.server->seen().empty());
}

void a_redirect_is_followed_once_and_remembered() {
  Scene scene;
  scene.options.connections = 1;
  scene.server->contents["http://cdn/real"] = scene.content;
  scene.server->script({.status = 302, .headers = {{"location", "http://cdn/real"}}});
  scene.server->script({.cut_after = 5000});
  scene.expect_fetched();
  CHECK_EQUAL(scene.server->seen().at(1).url, "http://cdn/real");
}

void a_remembered_address_that_expires_is_resolved_again() {
  Scene scene;
  scene.options.connections = 1;
  scene.server->contents["http://cdn/real"] = scene.content;
  scene.server->script({.status = 302, .headers = {{"location", "http://cdn/real"}}});
  scene.server->script({.end_after = 5000});
  scene.server->script({.status = 302, .headers = {{"location", "http://cdn/real"}}});
  scene.server->script({.end_after = 6000});
  scene.server->script({.status = 403});
  scene.expect_fetched();
}

}  // namespace

int main() {
  return check::run(
      {{"a file arrives by several connections", a_file_arrives_by_several_connections},
       {"sizes around a piece arrive", sizes_around_a_piece_arrive},
       {"a faulty answer is survived", a_faulty_answer_is_survived},
       {"a fault that stays gives its error", a_fault_that_stays_gives_its_error},
       {"final errors are not tried again", final_errors_are_not_tried_again},
       {"only attempts without progress count", only_attempts_without_progress_count},
       {"a server without ranges is served by one stream", a_server_without_ranges_is_served_by_one_stream},
       {"a stream that breaks starts again", a_stream_that_breaks_starts_again},
       {"wrong bytes leave nothing behind", wrong_bytes_leave_nothing_behind},
       {"a file of another size is refused", a_file_of_another_size_is_refused},
       {"a body that is too long is noticed", a_body_that_is_too_long_is_noticed},
       {"a file without a known size arrives", a_file_without_a_known_size_arrives},
       {"one failed file does not stop the others", one_failed_file_does_not_stop_the_others},
       {"many small files arrive", many_small_files_arrive},
       {"a disk that is too small stops before the first byte",
        a_disk_that_is_too_small_stops_before_the_first_byte},
       {"values that cannot be meant are refused", values_that_cannot_be_meant_are_refused},
       {"a redirect is followed once and remembered", a_redirect_is_followed_once_and_remembered},
       {"a remembered address that expires is resolved again",
        a_remembered_address_that_expires_is_resolved_again}});
}
