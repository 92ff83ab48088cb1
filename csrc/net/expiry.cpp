#include "net/expiry.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <string>

#include "net/response.hpp"

namespace fastslm {
namespace {

constexpr double kMarginS = 300;
constexpr double kMarginShare = 0.1;

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

// The value of a query field; empty when it is not there.
std::string_view field(std::string_view url, std::string_view name) {
  auto at = url.find('?');
  while (at != url.npos) {
    const auto end = std::min(url.find('&', at + 1), url.size());
    const auto item = url.substr(at + 1, end - at - 1);
    const auto equals = item.find('=');
    if (equals != item.npos && lower(item.substr(0, equals)) == name) return item.substr(equals + 1);
    at = end < url.size() ? end : url.npos;
  }
  return {};
}

std::optional<double> number(std::string_view text) {
  const auto value = text.size() <= 12 ? parse_number(text) : std::nullopt;
  if (!value) return std::nullopt;
  return static_cast<double>(*value);
}

// `20260131T235959Z`
std::optional<double> parse_stamp(std::string_view text) {
  if (text.size() != 16 || text[8] != 'T' || text[15] != 'Z') return std::nullopt;
  const auto part = [&](std::size_t at, std::size_t length) { return number(text.substr(at, length)); };
  const auto year = part(0, 4), month = part(4, 2), day = part(6, 2);
  const auto hour = part(9, 2), minute = part(11, 2), second = part(13, 2);
  if (!year || !month || !day || !hour || !minute || !second) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return static_cast<double>(days) * 86400 + *hour * 3600 + *minute * 60 + *second;
}

}  // namespace

std::optional<double> expiry_of(std::string_view url) {
  url = url.substr(0, url.find('#'));
  const auto issued = parse_stamp(field(url, "x-amz-date"));
  const auto lasts = number(field(url, "x-amz-expires"));
  if (issued && lasts) return *issued + *lasts;
  const auto expires = number(field(url, "expires"));
  return expires && *expires > 0 ? expires : std::nullopt;
}

bool is_ending(double expiry_s, double received_s, double now_s) noexcept {
  const double lifetime = expiry_s - received_s;
  return lifetime > 0 && expiry_s - now_s < std::min(kMarginS, kMarginShare * lifetime);
}

}  // namespace fastslm
