#include "fetch/sources.hpp"

#include "net/expiry.hpp"
#include "net/url.hpp"

namespace fastslm {
namespace {

constexpr unsigned kMostIdleRenewals = 2;
constexpr double kLongestWaitS = 180;

}  // namespace

Sources::Sources(const FileRequest& request) : renewable_(request.renewable) {
  list_.push_back({.address = {request.url, request.headers}, .location = request.url});
  for (const Address& mirror : request.mirrors) list_.push_back({.address = mirror, .location = mirror.url});
}

bool Sources::is_usable(std::size_t source) const {
  if (list_[source].dropped_for || (only_ && *only_ != source)) return false;
  return source != 0 || !link_dead_;
}

std::optional<Target> Sources::begin_transfer(double now_s) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < list_.size(); ++i) {
    if (is_usable(i) && (!best || list_[i].transfers < list_[*best].transfers)) best = i;
  }
  if (!best) return std::nullopt;
  look_at_expiry(*best, now_s);
  ++list_[*best].transfers;
  return Target{*best, list_[*best].address, list_[*best].location, renewals_};
}

// An address that a redirect gave is asked for again where it came from; one that the caller gave is wanted
// anew while the old one still works.
void Sources::look_at_expiry(std::size_t index, double now_s) {
  Source& source = list_[index];
  if (source.received_s == 0) source.received_s = now_s;
  const auto expiry = expiry_of(source.location);
  if (!expiry || !is_ending(*expiry, source.received_s, now_s)) return;
  if (source.location != source.address.url) {
    source.location = source.address.url;
  } else if (index == 0 && renewable_ && !link_wanted_) {
    link_wanted_ = true;
    wanted_since_s_ = now_s;
  }
}

void Sources::set_location(std::size_t index, const std::string& url, double now_s) {
  Source& source = list_[index];
  if (source.location == url) return;
  source.location = url;
  source.received_s = now_s;
}

bool Sources::expire(const Target& target, const Error& error, std::uint64_t done_bytes, double now_s) {
  if (target.source != 0 || !renewable_) return false;
  if (link_dead_ || target.renewals != renewals_) return true;  // another connection found out first
  idle_renewals_ = done_bytes > bytes_at_renewal_ ? 0 : idle_renewals_ + 1;
  if (idle_renewals_ > kMostIdleRenewals) return false;
  bytes_at_renewal_ = done_bytes;
  link_error_ = error;
  link_dead_ = true;
  if (!link_wanted_) wanted_since_s_ = now_s;
  link_wanted_ = true;
  return true;
}

void Sources::renew(const Address& address, double now_s) {
  list_[0].address = address;
  list_[0].location = address.url;
  list_[0].received_s = now_s;
  link_wanted_ = link_dead_ = false;
  ++renewals_;
}

bool Sources::is_forsaken(double now_s) const noexcept {
  return link_dead_ && now_s - wanted_since_s_ > kLongestWaitS;
}

bool Sources::drop(std::size_t source, const std::string& reason) {
  if (list_[source].dropped_for) return true;
  if (live().size() < 2) return false;
  list_[source].dropped_for = "the source `" + redacted(list_[source].address.url) + "` " + reason;
  if (only_ == source) only_.reset();
  if (source == 0) link_wanted_ = link_dead_ = false;
  return true;
}

std::vector<std::size_t> Sources::live() const {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < list_.size(); ++i) {
    if (!list_[i].dropped_for) result.push_back(i);
  }
  return result;
}

std::vector<std::string> Sources::dropped() const {
  std::vector<std::string> result;
  for (const Source& source : list_) {
    if (source.dropped_for) result.push_back(*source.dropped_for);
  }
  return result;
}

}  // namespace fastslm
