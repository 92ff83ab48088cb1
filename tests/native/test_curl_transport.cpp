#include <chrono>

#include <fastslm/transport.hpp>

#include "check.hpp"
#include "raw_server.hpp"

namespace {

using fastslm::Ended;

class Collector : public fastslm::Receiver {
 public:
  bool on_head(const fastslm::ResponseHead& arrived) override {
    head = arrived;
    ++heads;
    if (throws) throw fastslm::Error(fastslm::ErrorCode::range_mismatch, "mine");
    return true;
  }
  bool on_body(std::span<const std::byte> data) override {
    for (const std::byte byte : data) body += static_cast<char>(byte);
    return !stops;
  }
  bool wanted() override { return std::chrono::steady_clock::now() < deadline; }

  fastslm::ResponseHead head;
  int heads = 0;
  std::string body;
  bool throws = false;
  bool stops = false;
  std::chrono::steady_clock::time_point deadline =
      std::chrono::steady_clock::now() + std::chrono::seconds(10);
};

fastslm::TransportOptions options() {
  fastslm::TransportOptions result;
  result.stall_timeout_s = 0.2;
  return result;
}

Ended get(const RawServer& server, Collector& collector) {
  const auto connection = fastslm::make_curl_transport(options())->connect();
  return connection->get({server.url(), {"X-Mine: 1"}, "bytes=5-9"}, collector);
}

void a_request_says_what_was_asked() {
  const RawServer server("HTTP/1.1 206 OK\r\nContent-Length: 5\r\nX-Some:  Thing \r\n\r\nhello");
  Collector collector;
  CHECK(get(server, collector) == Ended::complete);
  CHECK_EQUAL(collector.head.status, 206);
  CHECK_EQUAL(collector.head.headers.at("x-some"), "Thing");
  CHECK_EQUAL(collector.body, "hello");
  const std::string request = server.request();
  for (const char* line : {"GET /file HTTP/1.1\r\n", "Range: bytes=5-9\r\n", "Accept-Encoding: identity\r\n",
                           "User-Agent: fastslm\r\n", "X-Mine: 1\r\n"}) {
    CHECK(request.find(line) != std::string::npos);
  }
}

void an_interim_answer_is_passed_over() {
  const RawServer server(
      "HTTP/1.1 103 Early\r\nX-A: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  Collector collector;
  get(server, collector);
  CHECK_EQUAL(collector.heads, 1);
  CHECK_EQUAL(collector.head.status, 200);
  CHECK(!collector.head.headers.contains("x-a"));
}

void a_redirect_is_not_followed_here() {
  const RawServer server("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
  Collector collector;
  CHECK(get(server, collector) == Ended::complete);
  CHECK_EQUAL(collector.head.status, 302);
}

void broken_answers_are_lost_connections() {
  for (const char* answer : {"", "rubbish\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
                             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"}) {
    const RawServer server(answer);
    Collector collector;
    CHECK_ERROR(connection_lost, get(server, collector));
  }
}

void silence_is_a_stall() {
  const RawServer server("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", true);
  Collector collector;
  const auto error = ERROR_OF(get(server, collector));
  CHECK_EQUAL(fastslm::error_name(error.code()), "connection_lost");
  CHECK(std::string(error.what()).find("sent no byte") != std::string::npos);
  CHECK_EQUAL(collector.body, "short");
}

void the_receiver_can_end_a_silent_transfer() {
  const RawServer server("", true);
  Collector collector;
  collector.deadline = std::chrono::steady_clock::now();
  CHECK(get(server, collector) == Ended::stopped);
}

void the_receiver_can_end_a_body() {
  const RawServer server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
  Collector collector;
  collector.stops = true;
  CHECK(get(server, collector) == Ended::stopped);
}

void the_receivers_error_comes_through() {
  const RawServer server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
  Collector collector;
  collector.throws = true;
  CHECK_EQUAL(std::string(ERROR_OF(get(server, collector)).what()), "mine");
  CHECK_EQUAL(collector.body, "");
}

void a_refused_connection_names_the_address_without_its_query() {
  Collector collector;
  const auto connection = fastslm::make_curl_transport(options())->connect();
  const auto error = ERROR_OF(connection->get({"http://127.0.0.1:1/x?secret", {}, ""}, collector));
  CHECK_EQUAL(fastslm::error_name(error.code()), "connection_lost");
  CHECK_EQUAL(error.facts().url, "http://127.0.0.1:1/x");
  CHECK(std::string(error.what()).find("secret") == std::string::npos);
}

void other_protocols_are_refused() {
  Collector collector;
  const auto connection = fastslm::make_curl_transport(options())->connect();
  CHECK_ERROR(invalid_argument, connection->get({"file:///etc/hostname", {}, ""}, collector));
}

}  // namespace

int main() {
  return check::run({{"a request says what was asked", a_request_says_what_was_asked},
                     {"an interim answer is passed over", an_interim_answer_is_passed_over},
                     {"a redirect is not followed here", a_redirect_is_not_followed_here},
                     {"broken answers are lost connections", broken_answers_are_lost_connections},
                     {"silence is a stall", silence_is_a_stall},
                     {"the receiver can end a silent transfer", the_receiver_can_end_a_silent_transfer},
                     {"the receiver can end a body", the_receiver_can_end_a_body},
                     {"the receiver's error comes through", the_receivers_error_comes_through},
                     {"a refused connection names the address without its query",
                      a_refused_connection_names_the_address_without_its_query},
                     {"other protocols are refused", other_protocols_are_refused}});
}
