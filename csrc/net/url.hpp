// Addresses: parts, relative references (RFC 3986 section 5.2), origins (RFC 6454). Pure.
#pragma once

#include <string>
#include <string_view>

namespace fastslm {

struct Url {
  std::string scheme;     // `http` or `https`
  std::string authority;  // as written: userinfo, host and port
  std::string host;       // lower case
  std::string port;       // the scheme's own when none is written
  std::string path;       // begins with `/`
  std::string query;      // with its `?`, or empty
};

// Throws Error(invalid_argument) for anything but an http or https address.
Url parse_url(std::string_view text);

std::string to_string(const Url& url);

// Where `reference` leads when it is met at `base`; the fragment is dropped. Throws Error(invalid_argument).
std::string resolve_url(std::string_view base, std::string_view reference);

// Same scheme, host and port: the border that credentials do not cross.
bool same_origin(std::string_view left, std::string_view right);

// `scheme://host:port` of an address.
std::string origin_of(std::string_view text);

// The address without userinfo, query and fragment, for messages; never throws on odd input.
std::string redacted(std::string_view text);

}  // namespace fastslm
