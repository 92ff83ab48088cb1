// Where the bytes of one file may be had: its address and its mirrors. Not thread-safe.
//
// Law: a source that lies or fails for good is dropped with its reason, as long as another one is left.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <fastslm/download.hpp>
#include <fastslm/error.hpp>

namespace fastslm {

// One request's destination.
struct Target {
  std::size_t source = 0;
  Address address;
  std::string location;   // where redirects from the address led the last time
  unsigned renewals = 0;  // how often the address had been renewed
};

class Sources {
 public:
  explicit Sources(const FileRequest& request);

  // The source with the fewest transfers of those that may be used, and one transfer more of it; nothing
  // while the only one waits for a fresh address. `now_s` is Unix time.
  std::optional<Target> begin_transfer(double now_s);
  void end_transfer(std::size_t source) { --list_[source].transfers; }

  void set_location(std::size_t source, const std::string& url, double now_s);

  // The server refused the address: whether another one may come. `done_bytes` tells progress from a circle.
  bool expire(const Target& target, const Error& error, std::uint64_t done_bytes, double now_s);
  void renew(const Address& address, double now_s);
  bool link_wanted() const noexcept { return link_wanted_; }
  const std::optional<Error>& link_error() const noexcept { return link_error_; }

  // Whether nobody has answered `link_wanted` for so long that nobody will.
  bool is_forsaken(double now_s) const noexcept;

  // False when no other source is left.
  bool drop(std::size_t source, const std::string& reason);

  // One more connection to the source crawled: whether it should be dropped.
  bool note_crawl(std::size_t source) { return ++list_[source].crawls >= kMostCrawls; }

  // For a repair: use only this source, until the next call.
  void use_only(std::optional<std::size_t> source) { only_ = source; }

  std::vector<std::size_t> live() const;
  std::size_t size() const noexcept { return list_.size(); }
  std::vector<std::string> dropped() const;

 private:
  static constexpr unsigned kMostCrawls = 3;

  struct Source {
    Address address;
    std::string location;
    double received_s = 0;
    unsigned transfers = 0;
    unsigned crawls = 0;
    std::optional<std::string> dropped_for{};
  };

  bool is_usable(std::size_t source) const;
  void look_at_expiry(std::size_t source, double now_s);

  std::vector<Source> list_;
  const bool renewable_;
  std::optional<std::size_t> only_;
  bool link_wanted_ = false;
  bool link_dead_ = false;  // nothing can be had from the first source until it is renewed
  double wanted_since_s_ = 0;
  unsigned renewals_ = 0;
  std::uint64_t bytes_at_renewal_ = 0;
  unsigned idle_renewals_ = 0;
  std::optional<Error> link_error_;
};

}  // namespace fastslm
