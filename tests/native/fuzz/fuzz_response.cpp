// Any text as the head of a response, `Name: value` lines behind the status: an error of the right kind or a
// body that is what was asked for; and as the target of a redirect.
#include <cmath>
#include <optional>
#include <string>

#include <fastslm/error.hpp>
#include <fastslm/transport.hpp>

#include "fuzz.hpp"
#include "net/redirect.hpp"
#include "net/response.hpp"
#include "net/url.hpp"

namespace {

fastslm::ResponseHead head_of(std::string_view text) {
  fastslm::ResponseHead head{206, {}};
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto colon = line.find(": ");
    if (colon != line.npos) {
      head.headers[std::string(line.substr(0, colon))] = line.substr(colon + 2);
    } else if (const auto status = fastslm::parse_number(line)) {
      head.status = static_cast<int>(*status % 1000);
    }
  }
  return head;
}

// Answers with one head, and with nothing after it.
class OneAnswer : public fastslm::Connection {
 public:
  explicit OneAnswer(fastslm::ResponseHead head) : head_(std::move(head)) {}

  fastslm::Ended get(const fastslm::HttpRequest& request, fastslm::Receiver& receiver) override {
    const auto url = fastslm::parse_url(request.url);
    must_hold(url.scheme == "https" || url.scheme == "http", "only http is followed");
    must_hold(url.scheme == "https" || !secure_, "https never leads to http");
    secure_ = secure_ || url.scheme == "https";
    must_hold(++requests_ <= 12, "redirects have an end");
    return receiver.on_head(head_) ? fastslm::Ended::complete : fastslm::Ended::stopped;
  }

 private:
  fastslm::ResponseHead head_;
  bool secure_ = false;
  unsigned requests_ = 0;
};

class Nobody : public fastslm::Receiver {
 public:
  bool on_head(const fastslm::ResponseHead&) override { return true; }
  bool on_body(std::span<const std::byte>) override { return true; }
  bool wanted() override { return true; }
};

void check_body(const fastslm::ResponseHead& head) {
  const fastslm::Expected expected{"https://host/file", fastslm::ByteRange{100, 200}, 1000};
  try {
    const auto body = fastslm::check_head(head, expected);
    must_hold(body == fastslm::Body::whole || head.status == 206, "a part comes with status 206");
  } catch (const fastslm::Error& error) {
    must_hold(error.code() != fastslm::ErrorCode::internal, error.what());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = fuzz_text(data, size);
  if (const auto found = fastslm::parse_content_range(text)) {
    must_hold(found->range.begin < found->range.end, "a range is not empty");
    must_hold(!found->total || found->range.end <= *found->total, "a range is inside the file");
  }
  const auto head = head_of(text);
  const double wait_s = fastslm::retry_after_seconds(head);
  must_hold(std::isfinite(wait_s) && wait_s >= 0, "a wait is a time");
  check_body(head);
  OneAnswer connection(head);
  Nobody receiver;
  try {
    fastslm::get_following(connection, {"https://host/file", {}, ""}, "https://host/file", receiver);
  } catch (const fastslm::Error& error) {
    must_hold(error.code() != fastslm::ErrorCode::internal, error.what());
  }
  return 0;
}
