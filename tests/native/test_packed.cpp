// Files that a mirror sends in packed frames: the same bytes, the same resumption, and no damaged frame
// believed.
#include <string>

#include "scene.hpp"

namespace {

using fastslm::ErrorCode;

constexpr const char* kMirror = "http://mirror/file";

void a_packed_file_is_the_file() {
  for (const std::size_t frame : {std::size_t{1}, std::size_t{777}, std::size_t{1U << 20U}}) {
    Scene scene(frame == 1 ? 5000 : 200'000);
    scene.server->always = {.frame_bytes = frame};
    scene.expect_fetched();
  }
}

void one_connection_takes_a_packed_stream() {
  Scene scene;
  scene.options.connections = 1;
  scene.server->always = {.frame_bytes = 5000};
  scene.expect_fetched();
  CHECK_EQUAL(scene.server->seen().size(), 1U);
}

void a_whole_packed_file_for_a_range() {
  Scene scene;
  scene.server->always = {.ignore_range = true, .frame_bytes = 5000};
  scene.expect_fetched();
}

// Trouble that passes: damage, connections that break inside a frame, bodies that end too soon or too late.
void damage_costs_another_request() {
  const Fault kinds[] = {{.flip = true, .frame_bytes = 900},       {.cut_after = 2345, .frame_bytes = 900},
                         {.end_after = 2345, .frame_bytes = 900},  {.end_after = 10, .frame_bytes = 900},
                         {.surplus = "more", .frame_bytes = 900},  {.frame_bytes = 900, .frame_shift = 1},
                         {.stall_after = 1500, .frame_bytes = 900}};
  for (const Fault& kind : kinds) {
    Scene scene;
    scene.server->always = {.frame_bytes = 900};
    for (int i = 0; i < 3; ++i) scene.server->script(kind);
    scene.expect_fetched();
  }
}

void damage_for_good_is_an_error() {
  Scene scene;
  scene.options.max_attempts = 3;
  scene.server->always = {.flip = true, .frame_bytes = 900};
  const auto error = scene.expect_failed();
  CHECK_EQUAL(fastslm::error_name(error.code()), fastslm::error_name(ErrorCode::range_mismatch));
  CHECK(std::string(error.what()).find("frame") != std::string::npos);
  CHECK(std::string(error.what()).find("secret") == std::string::npos);
}

void frames_of_other_bytes_fail_by_their_hash() {
  Scene scene;
  std::string wrong = scene.content;
  wrong[1234] = static_cast<char>(~wrong[1234]);
  scene.server->contents[Scene::url] = wrong;
  scene.server->always = {.frame_bytes = 900};
  const auto error = scene.expect_failed();
  CHECK_EQUAL(fastslm::error_name(error.code()), fastslm::error_name(ErrorCode::checksum_mismatch));
}

void an_unknown_packing_is_refused() {
  Scene scene;
  scene.server->always = {.headers = {{"x-fastslm-encoding", "planes-9"}}};
  const auto error = scene.expect_failed();
  CHECK_EQUAL(fastslm::error_name(error.code()), fastslm::error_name(ErrorCode::server_refused));
}

void packed_and_plain_sources_make_one_file() {
  Scene scene;
  scene.server->contents[kMirror] = scene.content;
  auto file = scene.request();
  file.mirrors = {{kMirror, {}}};
  scene.server->always = {.block_seconds = 0.0002};
  scene.server->of_url[kMirror] = {.frame_bytes = 900, .block_seconds = 0.0002};
  scene.expect_verified(scene.fetch(file).files.at(0));
}

void a_stopped_packed_download_goes_on_where_it_was() {
  Scene scene;
  scene.server->always = {.frame_bytes = 900};
  scene.server->hold_after = 90'000;
  {
    fastslm::Download download({scene.request()}, scene.options, scene.server);
    for (int i = 0; i < 1000 && download.progress().files.at(0).done_bytes < 50'000; ++i) download.wait(0.01);
    download.cancel();
    CHECK(download.wait(30));
  }
  scene.server->hold_after = Fault::never;
  const auto progress = scene.fetch(scene.request());
  scene.expect_verified(progress.files.at(0));
  CHECK(progress.files.at(0).resumed_bytes >= 50'000);
}

}  // namespace

int main() {
  return check::run({
      {"a packed file is the file", a_packed_file_is_the_file},
      {"one connection takes a packed stream", one_connection_takes_a_packed_stream},
      {"a whole packed file for a range", a_whole_packed_file_for_a_range},
      {"damage costs another request", damage_costs_another_request},
      {"damage for good is an error", damage_for_good_is_an_error},
      {"frames of other bytes fail by their hash", frames_of_other_bytes_fail_by_their_hash},
      {"an unknown packing is refused", an_unknown_packing_is_refused},
      {"packed and plain sources make one file", packed_and_plain_sources_make_one_file},
      {"a stopped packed download goes on where it was", a_stopped_packed_download_goes_on_where_it_was},
  });
}
