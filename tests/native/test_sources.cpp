#include "check.hpp"
#include "fetch/hosts.hpp"
#include "fetch/repair.hpp"
#include "fetch/sources.hpp"
#include "net/expiry.hpp"

namespace {

using fastslm::Error;
using fastslm::ErrorCode;
using fastslm::expiry_of;
using fastslm::Extents;
using fastslm::FileRequest;
using fastslm::Repair;
using fastslm::Sources;

constexpr double kNow = 1'700'000'000;

FileRequest request(bool renewable, std::vector<fastslm::Address> mirrors = {}) {
  FileRequest file;
  file.url = "http://hub/f";
  file.renewable = renewable;
  file.mirrors = std::move(mirrors);
  return file;
}

const Error kExpired(ErrorCode::link_expired, "expired");

void transfers_are_spread_over_the_sources() {
  Sources sources(request(false, {{"http://m1/f", {}}, {"http://m2/f", {"A: b"}}}));
  for (std::size_t i = 0; i < 6; ++i) CHECK_EQUAL(sources.begin_transfer(kNow)->source, i % 3);
  sources.end_transfer(1);
  CHECK_EQUAL(sources.begin_transfer(kNow)->source, 1U);
  CHECK(sources.drop(1, "lied"));
  for (int i = 0; i < 4; ++i) CHECK(sources.begin_transfer(kNow)->source != 1);
  CHECK_EQUAL(sources.dropped().at(0), "the source `http://m1/f` lied");
  CHECK(sources.drop(0, "lied"));
  CHECK(!sources.drop(2, "lied"));  // better a bad source than none
  CHECK_EQUAL(sources.live().size(), 1U);
}

void a_repair_asks_one_source_only() {
  Sources sources(request(false, {{"http://m1/f", {}}}));
  sources.use_only(1);
  for (int i = 0; i < 3; ++i) CHECK_EQUAL(sources.begin_transfer(kNow)->source, 1U);
}

void a_dead_address_waits_for_a_fresh_one() {
  Sources sources(request(true));
  const auto old = *sources.begin_transfer(kNow);
  CHECK(sources.expire(old, kExpired, 0, kNow));
  CHECK(sources.link_wanted());
  CHECK(!sources.begin_transfer(kNow));
  CHECK(sources.expire(old, kExpired, 0, kNow));  // a second connection found the same
  CHECK(!sources.is_forsaken(kNow + 10));
  CHECK(sources.is_forsaken(kNow + 1000));
  sources.renew({"http://hub/f?new", {"A: c"}}, kNow);
  const auto target = sources.begin_transfer(kNow);
  CHECK_EQUAL(target->location, "http://hub/f?new");
  CHECK_EQUAL(target->address.headers.at(0), "A: c");
}

void addresses_that_never_work_are_not_renewed_for_ever() {
  Sources sources(request(true));
  const auto first = *sources.begin_transfer(kNow);
  for (int i = 0; i < 2; ++i) {
    CHECK(sources.expire(*sources.begin_transfer(kNow), kExpired, 0, kNow));
    sources.renew({"http://hub/f", {}}, kNow);
  }
  CHECK(!sources.expire(*sources.begin_transfer(kNow), kExpired, 0, kNow));
  CHECK(sources.expire(first, kExpired, 0, kNow));  // it speaks of an address of long ago
  CHECK(!sources.link_wanted());
  CHECK(sources.expire(*sources.begin_transfer(kNow), kExpired, 1, kNow));  // a byte is progress
}

void without_a_caller_to_renew_it_an_address_is_final() {
  Sources sources(request(false));
  CHECK(!sources.expire(*sources.begin_transfer(kNow), kExpired, 0, kNow));
  CHECK(!sources.link_wanted());
}

void an_address_near_its_end_is_wanted_anew_while_it_works() {
  FileRequest file = request(true);
  file.url = "http://cdn/f?Expires=1700003600";
  Sources sources(file);
  CHECK(sources.begin_transfer(kNow).has_value());
  CHECK(!sources.link_wanted());
  CHECK(sources.begin_transfer(kNow + 3350).has_value());
  CHECK(sources.link_wanted());
}

void a_redirects_target_near_its_end_is_asked_for_at_its_origin() {
  Sources sources(request(false));
  sources.set_location(0, "http://cdn/f?Expires=1700003600", kNow);
  CHECK_EQUAL(sources.begin_transfer(kNow)->location, "http://cdn/f?Expires=1700003600");
  CHECK_EQUAL(sources.begin_transfer(kNow + 3500)->location, "http://hub/f");
}

void both_ways_to_sign_an_address_are_read() {
  CHECK_EQUAL(*expiry_of("https://cdn/f?Policy=x&Expires=1700000000&Signature=y"), 1.7e9);
  CHECK_EQUAL(*expiry_of("https://cdn/f?X-Amz-Date=20231114T221320Z&X-Amz-Expires=3600"), 1.7e9 + 3600);
  CHECK_EQUAL(*expiry_of("https://cdn/f?x-amz-expires=60&x-amz-date=19700101T000000Z"), 60.0);
  for (const char* const text :
       {"https://cdn/Expires=5", "https://cdn/f?Expires=", "https://cdn/f?Expires=-1",
        "https://cdn/f?Expires=soon", "https://cdn/f?Expires=0", "https://cdn/f?Expires=99999999999999999999",
        "https://cdn/f?XExpires=7", "https://cdn/f?X-Amz-Expires=60",
        "https://cdn/f?X-Amz-Date=20231341T000000Z&X-Amz-Expires=60",
        "https://cdn/f?X-Amz-Date=now&X-Amz-Expires=60", "https://cdn/f?#&Expires=5", "", "?", "?&&=&"}) {
    CHECK(!expiry_of(text));
  }
}

void an_address_ends_before_its_time_is_up() {
  CHECK(!fastslm::is_ending(3600, 0, 3200));
  CHECK(fastslm::is_ending(3600, 0, 3301));
  CHECK(!fastslm::is_ending(60, 0, 50));  // of a short life a tenth
  CHECK(fastslm::is_ending(60, 0, 55));
  CHECK(!fastslm::is_ending(100, 200, 300));  // it came expired: the clock is wrong
}

void a_pause_holds_for_one_host() {
  fastslm::Hosts hosts;
  hosts.pause("http://a:80", 10);
  hosts.pause("http://a:80", 5);  // a shorter one does not end it
  CHECK_EQUAL(hosts.wait_s("http://a:80", 4), 6.0);
  CHECK_EQUAL(hosts.wait_s("http://a:80", 11), 0.0);
  CHECK_EQUAL(hosts.wait_s("http://b:80", 4), 0.0);
  CHECK_EQUAL(hosts.pauses(), 2U);
}

void a_repair_trusts_one_source_after_the_other() {
  Repair repair;
  repair.note({0, 50}, 0, false);
  repair.note({50, 100}, 1, false);
  CHECK(repair.may_look_at_disk());
  CHECK(!repair.may_look_at_disk());
  CHECK_EQUAL(*repair.next_round({0, 1}), 0U);
  CHECK_EQUAL(repair.from(0).total(), 50U);
  repair.note({50, 100}, 0, true);  // source 0 contradicts source 1
  CHECK(repair.liars() == std::vector<std::size_t>{1});
  CHECK_EQUAL(*repair.next_round({0, 1}), 1U);
  CHECK(repair.liars().empty());
  CHECK(repair.next_round({0, 1}).has_value());
  CHECK(repair.next_round({0, 1}).has_value());
  CHECK(!repair.next_round({0, 1}));
}

void one_source_that_says_the_same_twice_is_not_asked_again() {
  Repair same;
  CHECK(same.next_round({0}).has_value());
  CHECK(!same.next_round({0}));
  Repair changing;
  CHECK(changing.next_round({0}).has_value());
  changing.note({0, 5}, 0, true);
  CHECK(changing.next_round({0}).has_value());
  changing.note({0, 5}, 0, true);
  CHECK(!changing.next_round({0}));
  CHECK_EQUAL(changing.changed_bytes(), 10U);
}

}  // namespace

int main() {
  return check::run(
      {{"transfers are spread over the sources", transfers_are_spread_over_the_sources},
       {"a repair asks one source only", a_repair_asks_one_source_only},
       {"a dead address waits for a fresh one", a_dead_address_waits_for_a_fresh_one},
       {"addresses that never work are not renewed for ever",
        addresses_that_never_work_are_not_renewed_for_ever},
       {"without a caller to renew it an address is final", without_a_caller_to_renew_it_an_address_is_final},
       {"an address near its end is wanted anew while it works",
        an_address_near_its_end_is_wanted_anew_while_it_works},
       {"a redirect's target near its end is asked for at its origin",
        a_redirects_target_near_its_end_is_asked_for_at_its_origin},
       {"both ways to sign an address are read", both_ways_to_sign_an_address_are_read},
       {"an address ends before its time is up", an_address_ends_before_its_time_is_up},
       {"a pause holds for one host", a_pause_holds_for_one_host},
       {"a repair trusts one source after the other", a_repair_trusts_one_source_after_the_other},
       {"one source that says the same twice is not asked again",
        one_source_that_says_the_same_twice_is_not_asked_again}});
}
