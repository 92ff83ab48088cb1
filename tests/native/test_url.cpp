#include "check.hpp"
#include "net/url.hpp"

namespace {

using fastslm::parse_url;
using fastslm::redacted;
using fastslm::resolve_url;
using fastslm::same_origin;

void an_address_falls_into_its_parts() {
  const auto url = parse_url("HTTPS://user:pw@Hub.Example:8443/a/b?c=d#e");
  CHECK_EQUAL(url.scheme, "https");
  CHECK_EQUAL(url.host, "hub.example");
  CHECK_EQUAL(url.port, "8443");
  CHECK_EQUAL(url.path, "/a/b");
  CHECK_EQUAL(url.query, "?c=d");
  CHECK_EQUAL(parse_url("http://h").path, "/");
  CHECK_EQUAL(parse_url("http://h").port, "80");
  CHECK_EQUAL(parse_url("https://[::1]/x").host, "[::1]");
  CHECK_EQUAL(parse_url("https://[::1]:81/x").port, "81");
}

void what_is_no_web_address_is_refused() {
  for (const char* text : {"", "ftp://h/x", "file:///etc/passwd", "//h/x", "http://", "http:///x",
                           "http://h:port/", "http://h:123456/", "http://h/\r\nX: y", "http://h\\@evil/x",
                           "http://a@b@c/", "http://a b/", "http://h%2F/", "http://[x]/", "https//h"}) {
    CHECK_ERROR(invalid_argument, parse_url(text));
  }
}

// RFC 3986 section 5.4, without the dots, which libcurl removes.
void references_are_resolved() {
  const char* const base = "http://a/b/c/d?q";
  const std::pair<const char*, const char*> table[] = {
      {"https://g/x", "https://g/x"},   {"//g/x?y", "http://g/x?y"}, {"/g", "http://a/g"},
      {"g", "http://a/b/c/g"},          {"?y", "http://a/b/c/d?y"},  {"g?y=a:b", "http://a/b/c/g?y=a:b"},
      {"g#s", "http://a/b/c/g"},        {"", "http://a/b/c/d?q"},    {"/g h", "http://a/g%20h"},
      {"/\xC3\xA9", "http://a/%C3%A9"},
  };
  for (const auto& [reference, expected] : table) CHECK_EQUAL(resolve_url(base, reference), expected);
  CHECK_ERROR(invalid_argument, resolve_url(base, "javascript:alert(1)"));
}

void an_origin_is_scheme_host_and_port() {
  CHECK(same_origin("http://a/x", "http://A:80/y?z"));
  CHECK(same_origin("https://u@a/x", "https://a:443/"));
  CHECK(!same_origin("http://a", "https://a"));
  CHECK(!same_origin("http://a", "http://b"));
  CHECK(!same_origin("http://a", "http://a:81"));
  CHECK(!same_origin("http://a", "http://a.evil"));
}

void secrets_stay_out_of_messages() {
  CHECK_EQUAL(redacted("https://h/p?X-Amz-Signature=abc#f"), "https://h/p");
  CHECK_EQUAL(redacted("https://user:pw@h/p@q"), "https://h/p@q");
  CHECK_EQUAL(redacted("not an address?secret"), "not an address");
}

}  // namespace

int main() {
  return check::run({{"an address falls into its parts", an_address_falls_into_its_parts},
                     {"what is no web address is refused", what_is_no_web_address_is_refused},
                     {"references are resolved", references_are_resolved},
                     {"an origin is scheme, host and port", an_origin_is_scheme_host_and_port},
                     {"secrets stay out of messages", secrets_stay_out_of_messages}});
}
