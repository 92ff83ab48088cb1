#include "net/redirect.hpp"

#include <algorithm>
#include <cctype>

#include <fastslm/error.hpp>

#include "net/response.hpp"
#include "net/url.hpp"

namespace fastslm {
namespace {

constexpr int kMostRedirects = 10;
constexpr std::size_t kMostRedirectBody = 1U << 16U;

bool is_redirect(const ResponseHead& head) {
  const int s = head.status;
  return (s == 301 || s == 302 || s == 303 || s == 307 || s == 308) && !header(head, "location").empty();
}

// Passes a final answer on; keeps the target of a redirect and swallows its short body, so that the
// connection stays usable.
class RedirectReceiver : public Receiver {
 public:
  explicit RedirectReceiver(Receiver& inner) : inner_(inner) {}

  bool on_head(const ResponseHead& head) override {
    if (!is_redirect(head)) return inner_.on_head(head);
    target_ = header(head, "location");
    return true;
  }

  bool on_body(std::span<const std::byte> data) override {
    if (target_.empty()) return inner_.on_body(data);
    swallowed_ += data.size();
    return swallowed_ <= kMostRedirectBody;
  }

  bool wanted() override { return inner_.wanted(); }

  const std::string& target() const { return target_; }

 private:
  Receiver& inner_;
  std::string target_;
  std::size_t swallowed_ = 0;
};

bool is_credential(const std::string& line) {
  std::string name = line.substr(0, line.find(':'));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name == "authorization" || name == "cookie" || name == "proxy-authorization";
}

HttpRequest aimed_at(const HttpRequest& request, const std::string& url) {
  HttpRequest aimed = request;
  aimed.url = url;
  if (!same_origin(request.url, url)) std::erase_if(aimed.headers, is_credential);
  return aimed;
}

[[noreturn]] void refuse(const std::string& url, const std::string& what) {
  throw Error(ErrorCode::server_refused, "`" + redacted(url) + "` " + what, {.url = redacted(url)});
}

std::string next_url(const std::string& from, const std::string& location) {
  std::string target;
  try {
    target = resolve_url(from, location);
  } catch (const Error&) {
    refuse(from, "redirects to `" + redacted(location) + "`, which is no http or https address");
  }
  if (parse_url(from).scheme == "https" && parse_url(target).scheme == "http") {
    refuse(from, "redirects from https to `" + redacted(target) + "`");
  }
  return target;
}

}  // namespace

Followed get_following(Connection& connection, const HttpRequest& request, const std::string& start,
                       Receiver& receiver) {
  std::string url = start;
  for (int hops = 0; hops <= kMostRedirects; ++hops) {
    RedirectReceiver redirect(receiver);
    const Ended ended = connection.get(aimed_at(request, url), redirect);
    if (redirect.target().empty()) return {ended, url};
    if (!receiver.wanted()) return {Ended::stopped, url};
    url = next_url(url, redirect.target());
  }
  refuse(request.url, "redirects more than " + std::to_string(kMostRedirects) + " times");
}

}  // namespace fastslm
