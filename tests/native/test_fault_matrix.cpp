// Every fault of a server that passes, and every one that stays, met by a fresh and by a resumed download
// over one connection and over eight.
#include <string>
#include <vector>

#include "scene.hpp"

namespace {

using fastslm::ErrorCode;
using fastslm::FileState;

constexpr std::size_t kSize = 200'000;
constexpr unsigned kTimes = 3;  // in a row, for the faults that pass

struct Case {
  const char* name;
  Fault fault;
  ErrorCode lasting;  // what it becomes when it stays
};

Fault answers(int status, std::map<std::string, std::string> headers = {}) {
  Fault fault;
  fault.status = status;
  fault.headers = std::move(headers);
  return fault;
}

Fault says(const char* name, const std::string& value) {
  Fault fault;
  fault.headers = {{name, value}};
  return fault;
}

Fault cut_after(std::size_t bytes) {
  Fault fault;
  fault.cut_after = bytes;
  return fault;
}

Fault end_after(std::size_t bytes) {
  Fault fault;
  fault.end_after = bytes;
  return fault;
}

// The line breaks, with more or less of the body through.
std::vector<Case> broken_lines() {
  Fault stalled;
  stalled.stall_after = 0;
  return {
      {"cut before the first byte", cut_after(0), ErrorCode::connection_lost},
      {"ended before the first byte", end_after(0), ErrorCode::connection_lost},
      {"silent before the first byte", stalled, ErrorCode::connection_lost},
  };
}

// These let some bytes through each time, so they cost time and never the file.
std::vector<Case> lines_that_break_on_the_way() {
  Fault stalled;
  stalled.stall_after = 1500;
  return {
      {"cut on the way", cut_after(1500), ErrorCode::internal},
      {"ended on the way", end_after(1500), ErrorCode::internal},
      {"silent on the way", stalled, ErrorCode::internal},
  };
}

std::vector<Case> refusals() {
  return {
      {"408", answers(408), ErrorCode::server_busy},
      {"416 for a good range", answers(416, {{"content-range", "bytes */" + std::to_string(kSize)}}),
       ErrorCode::range_mismatch},
      {"429 with Retry-After", answers(429, {{"retry-after", "0"}}), ErrorCode::server_busy},
      {"429 with RateLimit", answers(429, {{"ratelimit", "\"resolvers\";r=0;t=0"}}), ErrorCode::server_busy},
      {"500", answers(500), ErrorCode::server_busy},
      {"502", answers(502), ErrorCode::server_busy},
      {"503", answers(503), ErrorCode::server_busy},
      {"504", answers(504), ErrorCode::server_busy},
  };
}

// Answers that must not be written; they only meet requests for a range.
std::vector<Case> wrong_ranges() {
  Fault shifted;
  shifted.shift = 1;
  Fault other_total;
  other_total.total = static_cast<std::int64_t>(kSize) + 1;
  Fault more;
  more.surplus = "and more";
  return {
      {"a shifted range", shifted, ErrorCode::range_mismatch},
      {"another total", other_total, ErrorCode::range_mismatch},
      {"no Content-Range", says("content-range", ""), ErrorCode::range_mismatch},
      {"a Content-Range without a range", says("content-range", "bytes */" + std::to_string(kSize)),
       ErrorCode::range_mismatch},
      {"a Content-Range that is no number", says("content-range", "bytes 0-99999999999999999999999/5"),
       ErrorCode::range_mismatch},
      {"several parts", says("content-type", "multipart/byteranges; boundary=x"), ErrorCode::range_mismatch},
      {"an encoded range", says("content-encoding", "gzip"), ErrorCode::range_mismatch},
      {"a length that is not the range's", says("content-length", "7"), ErrorCode::range_mismatch},
      {"more bytes than the range", more, ErrorCode::range_mismatch},
  };
}

// Stop in the middle, as a kill does after the last save of the journal.
void begin(Scene& scene) {
  scene.server->hold_after = kSize / 2;
  fastslm::Download download({scene.request()}, scene.options, scene.server);
  while (download.progress().files.at(0).done_bytes < kSize / 3) CHECK(!download.wait(0.002));
  download.cancel();
  CHECK(download.wait(1));
  scene.server->hold_after = Fault::never;
}

template <class Check>
void in_every_way(const std::vector<Case>& cases, Check holds) {
  for (const Case& one : cases) {
    for (const bool resumed : {false, true}) {
      for (const unsigned connections : {1U, 8U}) {
        try {
          Scene scene(kSize);
          scene.options.connections = connections;
          scene.server->stall_timeout_s = 0.02;
          if (resumed) begin(scene);
          holds(scene, one);
        } catch (const std::exception& error) {
          throw check::Failure(std::string(one.name) + (resumed ? ", resumed, " : ", fresh, ") +
                               std::to_string(connections) + " connections: " + error.what());
        }
      }
    }
  }
}

void passes(Scene& scene, const Case& one) {
  for (unsigned i = 0; i < kTimes; ++i) scene.server->script(one.fault);
  scene.expect_fetched();
}

// The error is told, the file is not, and what was good before is where the next attempt goes on.
void stays(Scene& scene, const Case& one) {
  scene.options.max_attempts = 2;
  scene.server->always = one.fault;
  const auto error = scene.expect_failed();
  CHECK_EQUAL(fastslm::error_name(error.code()), fastslm::error_name(one.lasting));
  scene.server->always = {};
  scene.expect_fetched();
}

bool asks_for_ranges(const Scene& scene) {
  return scene.options.connections > 1 || fastslm::file_size(scene.journal());
}

void passes_for_ranges(Scene& scene, const Case& one) {
  if (asks_for_ranges(scene)) passes(scene, one);
}

// A download that begins with one request for the whole file does not meet these faults.
void stays_for_ranges(Scene& scene, const Case& one) {
  if (asks_for_ranges(scene)) stays(scene, one);
}

void faults_that_pass_cost_only_time() {
  in_every_way(broken_lines(), passes);
  in_every_way(lines_that_break_on_the_way(), passes);
  in_every_way(refusals(), passes);
  in_every_way(wrong_ranges(), passes_for_ranges);
}

void faults_that_stay_are_told_and_spoil_nothing() {
  in_every_way(broken_lines(), stays);
  in_every_way(refusals(), stays);
  in_every_way(wrong_ranges(), stays_for_ranges);
}

void a_line_that_breaks_again_and_again_is_slow_and_no_more() {
  in_every_way(lines_that_break_on_the_way(), [](Scene& scene, const Case& one) {
    scene.server->always = one.fault;
    scene.expect_fetched();
  });
}

void wrong_bytes_are_repaired_or_refused() {
  Fault flipped;
  flipped.flip = true;
  in_every_way({{"a wrong byte", flipped, ErrorCode::checksum_mismatch}}, [](Scene& scene, const Case& one) {
    scene.server->script(one.fault);
    scene.expect_fetched();
  });
  in_every_way({{"wrong bytes", flipped, ErrorCode::checksum_mismatch}}, [](Scene& scene, const Case& one) {
    const auto good = scene.content;
    scene.server->contents[Scene::url][kSize - 1] ^= 1;
    const auto error = scene.expect_failed();
    CHECK_EQUAL(fastslm::error_name(error.code()), fastslm::error_name(one.lasting));
    CHECK(!fastslm::file_size(scene.partial()));
    scene.server->contents[Scene::url] = good;
    scene.expect_fetched();
  });
}

void a_whole_file_instead_of_a_range_is_taken_or_waited_for() {
  Fault whole;
  whole.ignore_range = true;
  in_every_way({{"200 for a range", whole, ErrorCode::internal}}, [](Scene& scene, const Case& one) {
    scene.server->always = one.fault;
    scene.expect_fetched();
  });
}

void an_address_that_ended_is_renewed_once_and_nothing_is_lost() {
  for (const int status : {401, 403, 410}) {
    in_every_way({{"an expired address", answers(status), ErrorCode::link_expired}},
                 [](Scene& scene, const Case& one) {
                   constexpr const char* fresh = "http://host/fresh";
                   scene.server->contents[fresh] = scene.content;
                   scene.server->of_url[Scene::url] = one.fault;
                   auto file = scene.request();
                   file.renewable = true;
                   unsigned renewals = 0;
                   fastslm::Download download({file}, scene.options, scene.server);
                   while (!download.wait(0.002)) {
                     if (!download.progress().files.at(0).link_wanted) continue;
                     download.renew(0, {fresh, {}});
                     ++renewals;
                   }
                   CHECK_EQUAL(renewals, 1U);
                   scene.expect_verified(download.progress().files.at(0));
                 });
  }
}

void what_is_final_is_final_at_once() {
  in_every_way({{"400", answers(400), ErrorCode::server_refused},
                {"404", answers(404), ErrorCode::server_refused},
                {"another size", answers(416, {{"content-range", "bytes */7"}}), ErrorCode::size_mismatch}},
               [](Scene& scene, const Case& one) {
                 scene.server->always = one.fault;
                 const auto asked = scene.server->seen().size();
                 const auto error = scene.expect_failed();
                 CHECK_EQUAL(fastslm::error_name(error.code()), fastslm::error_name(one.lasting));
                 CHECK(scene.server->seen().size() <= asked + scene.options.connections);
               });
}

}  // namespace

int main() {
  return check::run(
      {{"faults that pass cost only time", faults_that_pass_cost_only_time},
       {"faults that stay are told and spoil nothing", faults_that_stay_are_told_and_spoil_nothing},
       {"a line that breaks again and again is slow and no more",
        a_line_that_breaks_again_and_again_is_slow_and_no_more},
       {"wrong bytes are repaired or refused", wrong_bytes_are_repaired_or_refused},
       {"a whole file instead of a range is taken or waited for",
        a_whole_file_instead_of_a_range_is_taken_or_waited_for},
       {"an address that ended is renewed once and nothing is lost",
        an_address_that_ended_is_renewed_once_and_nothing_is_lost},
       {"what is final is final at once", what_is_final_is_final_at_once}});
}
