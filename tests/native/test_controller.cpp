// The controller on lines that are formulas: where it ends, and how fast.
#include <algorithm>
#include <cmath>
#include <functional>

#include "check.hpp"
#include "fetch/policy/controller.hpp"

namespace {

using fastslm::Controller;

using Line = std::function<double(unsigned)>;  // total bytes per second of so many connections

constexpr double kTickS = 0.025;

// A download over a line. A connection brings its share from one latency after its start; one that is too
// many goes on until its run of three seconds ends.
class Ride {
 public:
  Ride(Line line, double latency_s, unsigned ceiling)
      : line_(std::move(line)), latency_s_(latency_s), controller_(ceiling, true) {}

  void go(double seconds) {
    for (const double end = now_s_ + seconds; now_s_ < end; now_s_ += kTickS) step();
  }

  unsigned level() const { return controller_.level(); }
  double bytes() const { return bytes_; }
  Controller& controller() { return controller_; }

 private:
  void step() {
    while (started_.size() < controller_.level()) started_.push_back(now_s_);
    std::erase_if(started_, [&](double since) {
      const bool surplus = started_.size() > controller_.level();
      return surplus && since == started_.back() && std::fmod(now_s_ - since, 3.0) < kTickS && now_s_ > since;
    });
    const auto flowing = std::count_if(started_.begin(), started_.end(),
                                       [&](double since) { return now_s_ - since >= latency_s_; });
    bytes_ += flowing > 0 ? line_(static_cast<unsigned>(flowing)) * kTickS : 0;
    controller_.observe({now_s_, static_cast<std::uint64_t>(bytes_), static_cast<unsigned>(started_.size()),
                         flowing > 0 ? latency_s_ : 0});
  }

  Line line_;
  double latency_s_;
  Controller controller_;
  double now_s_ = 100;
  double bytes_ = 0;
  std::vector<double> started_;
};

Line capped(double each, double link) {
  return [=](unsigned n) { return std::min(each * n, link); };
}

void a_line_with_a_cap_for_each_connection_is_filled_at_once() {
  Ride ride(capped(4e6, 60e6), 0.08, 16);
  ride.go(0.6);
  CHECK_EQUAL(ride.level(), 16U);
  const double before = ride.bytes();
  ride.go(20);
  CHECK(ride.level() >= 14);
  CHECK(ride.bytes() - before > 0.98 * 20 * 60e6);
}

void a_line_that_one_connection_fills_is_left_to_one() {
  Ride ride([](unsigned) { return 20e6; }, 0.08, 16);
  ride.go(10);
  CHECK(ride.level() <= 2);
  CHECK(ride.bytes() > 0.97 * 9.9 * 20e6);
  ride.go(30);
  CHECK(ride.level() <= 2);
}

void a_line_that_suffers_from_many_connections_gets_few() {
  Ride ride([](unsigned n) { return 20e6 * std::pow(0.93, n - 1); }, 0.03, 16);
  ride.go(20);
  CHECK(ride.level() <= 2);
}

void a_line_that_six_connections_fill_gets_six() {
  Ride ride(capped(10e6, 60e6), 0.03, 16);
  ride.go(30);
  CHECK(ride.level() >= 6);
  CHECK(ride.level() <= 8);
}

void one_quiet_moment_does_not_end_the_start() {
  for (double quiet_from = 0.05; quiet_from < 0.6; quiet_from += 0.025) {
    double now = 0;
    Ride ride(
        [&](unsigned n) {
          now += kTickS;
          return now > quiet_from && now < quiet_from + 0.1 ? 1e6 : std::min(4e6 * n, 60e6);
        },
        0.08, 16);
    ride.go(4);
    CHECK_EQUAL(ride.level(), 16U);
  }
}

void the_ceiling_is_never_passed() {
  for (const unsigned ceiling : {1U, 2U, 3U, 5U, 8U}) {
    Ride ride(capped(1e6, 1e9), 0.05, ceiling);
    unsigned highest = 0;
    for (int i = 0; i < 800; ++i) {
      ride.go(kTickS);
      CHECK(ride.level() >= 1);
      highest = std::max(highest, ride.level());
    }
    CHECK_EQUAL(highest, ceiling);
  }
}

void a_mute_server_is_asked_by_a_few_connections() {
  Ride ride([](unsigned) { return 0.0; }, 1e9, 16);
  ride.go(5);
  CHECK_EQUAL(ride.level(), 4U);
}

void a_line_that_gets_better_is_noticed() {
  double link = 8e6;
  Ride ride([&](unsigned n) { return std::min(4e6 * n, link); }, 0.05, 16);
  ride.go(12);
  CHECK(ride.level() <= 4);
  link = 60e6;
  ride.go(60);
  CHECK(ride.level() >= 12);
}

void a_busy_host_halves_the_level_for_a_while() {
  Ride ride(capped(4e6, 1e9), 0.05, 16);
  ride.go(3);
  CHECK_EQUAL(ride.level(), 16U);
  ride.controller().slow_down();
  CHECK_EQUAL(ride.level(), 8U);
  ride.go(8);
  CHECK_EQUAL(ride.level(), 8U);
}

void a_fixed_number_is_fixed() {
  Controller controller(7, false);
  for (int i = 0; i < 100; ++i) controller.observe({.now_s = 0.1 * i, .bytes = 0, .busy = 1, .latency_s = 1});
  CHECK_EQUAL(controller.level(), 7U);
}

}  // namespace

int main() {
  return check::run(
      {{"a line with a cap for each connection is filled at once",
        a_line_with_a_cap_for_each_connection_is_filled_at_once},
       {"a line that one connection fills is left to one", a_line_that_one_connection_fills_is_left_to_one},
       {"a line that suffers from many connections gets few",
        a_line_that_suffers_from_many_connections_gets_few},
       {"a line that six connections fill gets six", a_line_that_six_connections_fill_gets_six},
       {"one quiet moment does not end the start", one_quiet_moment_does_not_end_the_start},
       {"the ceiling is never passed", the_ceiling_is_never_passed},
       {"a mute server is asked by a few connections", a_mute_server_is_asked_by_a_few_connections},
       {"a line that gets better is noticed", a_line_that_gets_better_is_noticed},
       {"a busy host halves the level for a while", a_busy_host_halves_the_level_for_a_while},
       {"a fixed number is fixed", a_fixed_number_is_fixed}});
}
