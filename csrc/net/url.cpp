#include "net/url.hpp"

#include <algorithm>

#include <fastslm/error.hpp>

namespace fastslm {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](char c) { return lower(c); });
  return result;
}

[[noreturn]] void refuse(std::string_view text, const char* reason) {
  throw Error(ErrorCode::invalid_argument, "the address `" + redacted(text) + "` " + reason, {.name = "url"});
}

// Spaces and bytes outside ASCII are escaped as browsers do; control characters are an attack, not a slip.
std::string escaped(std::string_view text) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) refuse(text.substr(0, 0), "holds a control character");
    if (byte == 0x20 || byte > 0x7f) {
      result += {'%', digits[byte >> 4U], digits[byte & 15U]};
    } else {
      result += c;
    }
  }
  return result;
}

bool all_of(std::string_view text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == text.npos;
}

// Strict, so that no other parser can see another host in the same text.
bool is_host(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    return all_of(host.substr(1, host.size() - 2), "0123456789abcdefABCDEF:.");
  }
  constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
  return !host.empty() && all_of(host, allowed);
}

bool is_port(std::string_view port) { return port.size() <= 5 && all_of(port, "0123456789"); }

void split_authority(Url& url, std::string_view text) {
  std::string_view host = url.authority;
  if (const auto at = host.find('@'); at != host.npos) host.remove_prefix(at + 1);
  const auto bracket = host.rfind(']');
  const auto colon = host.rfind(':');
  if (colon != host.npos && (bracket == host.npos || colon > bracket)) {
    url.port = host.substr(colon + 1);
    host = host.substr(0, colon);
  }
  if (!is_host(host) || !is_port(url.port)) refuse(text, "has no valid host and port");
  if (url.port.empty()) url.port = url.scheme == "https" ? "443" : "80";
  url.host = lower(host);
}

}  // namespace

Url parse_url(std::string_view text) {
  const std::string clean = escaped(text);
  std::string_view rest = clean;
  const auto colon = rest.find("://");
  Url url;
  if (colon != rest.npos) url.scheme = lower(rest.substr(0, colon));
  if (url.scheme != "http" && url.scheme != "https") refuse(text, "does not begin with http:// or https://");
  rest.remove_prefix(colon + 3);
  rest = rest.substr(0, rest.find('#'));
  const auto authority_end = std::min(rest.find_first_of("/?\\"), rest.size());
  url.authority = rest.substr(0, authority_end);
  rest.remove_prefix(authority_end);
  const auto question = std::min(rest.find('?'), rest.size());
  url.path = question == 0 ? "/" : std::string(rest.substr(0, question));
  url.query = rest.substr(question);
  if (url.path.front() != '/') refuse(text, "has a path that does not begin with `/`");
  split_authority(url, text);
  return url;
}

std::string to_string(const Url& url) { return url.scheme + "://" + url.authority + url.path + url.query; }

std::string resolve_url(std::string_view base, std::string_view reference) {
  reference = reference.substr(0, reference.find('#'));
  const auto path_start = std::min(reference.find_first_of("/?"), reference.size());
  if (reference.substr(0, path_start).find(':') != reference.npos) return to_string(parse_url(reference));
  Url url = parse_url(base);
  if (reference.starts_with("//")) return to_string(parse_url(url.scheme + ":" + std::string(reference)));
  if (reference.empty()) return to_string(url);
  std::string target(reference);
  if (target.front() == '?') {
    target = url.path + target;
  } else if (target.front() != '/') {
    target = url.path.substr(0, url.path.rfind('/') + 1) + target;
  }
  return to_string(parse_url(url.scheme + "://" + url.authority + target));
}

std::string origin_of(std::string_view text) {
  const Url url = parse_url(text);
  return url.scheme + "://" + url.host + ":" + url.port;
}

bool same_origin(std::string_view left, std::string_view right) {
  return origin_of(left) == origin_of(right);
}

std::string redacted(std::string_view text) {
  text = text.substr(0, text.find_first_of("?#"));
  const auto colon = text.find("://");
  if (colon == text.npos) return std::string(text);
  const auto start = colon + 3;
  const auto end = std::min(text.find('/', start), text.size());
  const auto at = text.substr(start, end - start).rfind('@');
  if (at == text.npos) return std::string(text);
  return std::string(text.substr(0, start)) + std::string(text.substr(start + at + 1));
}

}  // namespace fastslm
