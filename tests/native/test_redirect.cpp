#include "check.hpp"
#include "fake_transport.hpp"
#include "net/redirect.hpp"

namespace {

using fastslm::Ended;
using fastslm::HttpRequest;

class Collector : public fastslm::Receiver {
 public:
  bool on_head(const fastslm::ResponseHead& head) override {
    status = head.status;
    return true;
  }
  bool on_body(std::span<const std::byte> data) override {
    for (const std::byte byte : data) body += static_cast<char>(byte);
    return true;
  }
  bool wanted() override { return true; }

  int status = 0;
  std::string body;
};

Fault to(const std::string& location) { return {.status = 302, .headers = {{"location", location}}}; }

struct Trip {
  FakeTransport server;
  Collector collector;
  HttpRequest request{"https://hub/start?token", {"Authorization: Bearer x", "X-Other: y", "cookie: z"}, ""};

  fastslm::Followed go() {
    const auto connection = server.connect();
    return fastslm::get_following(*connection, request, request.url, collector);
  }
};

void the_final_answer_reaches_the_receiver() {
  Trip trip;
  trip.server.contents["https://hub/there"] = "hello";
  trip.server.script(to("/next"));
  trip.server.script(to("there"));
  const auto followed = trip.go();
  CHECK(followed.ended == Ended::complete);
  CHECK_EQUAL(followed.url, "https://hub/there");
  CHECK_EQUAL(trip.collector.status, 200);
  CHECK_EQUAL(trip.collector.body, "hello");
}

void credentials_stay_with_their_origin() {
  Trip trip;
  trip.server.script(to("https://hub/inside"));
  trip.server.script(to("https://cdn/outside"));
  trip.server.script(to("https://hub:444/other-port"));
  trip.server.script(to("https://hub/back"));
  trip.go();
  const auto seen = trip.server.seen();
  const std::vector<std::string> without{"X-Other: y"};
  CHECK_EQUAL(seen.at(1).headers, trip.request.headers);
  CHECK_EQUAL(seen.at(2).headers, without);
  CHECK_EQUAL(seen.at(3).headers, without);
  CHECK_EQUAL(seen.at(4).headers, trip.request.headers);
}

void a_remembered_place_elsewhere_gets_no_credentials() {
  Trip trip;
  const auto connection = trip.server.connect();
  fastslm::get_following(*connection, trip.request, "https://cdn/known", trip.collector);
  CHECK_EQUAL(trip.server.seen().at(0).url, "https://cdn/known");
  CHECK_EQUAL(trip.server.seen().at(0).headers, std::vector<std::string>{"X-Other: y"});
}

void bad_targets_are_refused() {
  for (const char* target : {"http://hub/plain", "ftp://hub/x", "file:///etc/passwd", "https://", "//"}) {
    Trip trip;
    trip.server.script(to(target));
    CHECK_ERROR(server_refused, trip.go());
    CHECK_EQUAL(trip.server.seen().size(), 1U);
  }
}

void a_loop_ends() {
  Trip trip;
  trip.server.always = to("/again");
  const auto error = ERROR_OF(trip.go());
  CHECK_EQUAL(fastslm::error_name(error.code()), "server_refused");
  CHECK_EQUAL(trip.server.seen().size(), 11U);
  CHECK(std::string(error.what()).find("token") == std::string::npos);
}

void a_redirect_without_a_target_is_an_answer() {
  Trip trip;
  trip.server.script({.status = 302});
  trip.go();
  CHECK_EQUAL(trip.collector.status, 302);
}

}  // namespace

int main() {
  return check::run(
      {{"the final answer reaches the receiver", the_final_answer_reaches_the_receiver},
       {"credentials stay with their origin", credentials_stay_with_their_origin},
       {"a remembered place elsewhere gets no credentials", a_remembered_place_elsewhere_gets_no_credentials},
       {"bad targets are refused", bad_targets_are_refused},
       {"a loop ends", a_loop_ends},
       {"a redirect without a target is an answer", a_redirect_without_a_target_is_an_answer}});
}
