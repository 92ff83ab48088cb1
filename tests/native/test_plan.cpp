#include <random>
#include <vector>

#include "check.hpp"
#include "fetch/state/plan.hpp"

namespace {

using fastslm::ByteRange;
using fastslm::Extents;
using fastslm::Offer;
using fastslm::RangePlan;
using fastslm::Run;
using Runs = std::vector<std::shared_ptr<Run>>;

constexpr double kLater = 1000;  // by then every run of these tests is slow

Offer at(double now_s, double rate = 0) {
  return {.now_s = now_s, .rate = rate, .latency_s = 0.8, .connections = 4};
}

void low_offsets_go_out_first() {
  RangePlan plan(1000, {}, 10, false);
  std::uint64_t next = 0;
  while (const auto run = plan.take(at(0))) {
    CHECK_EQUAL(run->position, next);
    CHECK(run->end % 10 == 0);
    next = run->end;
  }
  CHECK_EQUAL(next, 1000U);
}

void a_small_file_is_one_run() {
  RangePlan plan(20, {}, 10, false);
  CHECK_EQUAL(plan.take(at(0))->end, 20U);
  CHECK(!plan.take(at(0)));
}

void one_connection_takes_everything_at_once() {
  RangePlan plan(1'000'000, {}, 10, true);
  CHECK_EQUAL(plan.take(at(0))->end, 1'000'000U);
}

void only_what_is_missing_is_fetched() {
  Extents done;
  done.add({0, 25});
  done.add({50, 100});
  RangePlan plan(100, done, 10, false);
  const auto run = plan.take(at(0));
  CHECK_EQUAL(run->position, 25U);
  CHECK_EQUAL(run->end, 50U);
  CHECK(!plan.take(at(0)));
}

void a_run_is_sized_by_its_connections_rate() {
  RangePlan plan(100'000, {}, 10, false);
  CHECK_EQUAL(plan.take(at(0))->end, 80U);  // nobody knows the rate
  CHECK_EQUAL(plan.take(at(0, 100))->end, 80U + 600U);
  CHECK_EQUAL(plan.take(at(0, 1))->end, 680U + 40U);      // not too short
  CHECK_EQUAL(plan.take(at(0, 1e9))->end, 720U + 2560U);  // nor too long
  RangePlan small(1000, {}, 10, false);
  CHECK_EQUAL(small.take(at(0, 1e9))->end, 250U);  // a share for each connection
}

void an_idle_connection_gets_the_tail_of_the_slowest_run() {
  RangePlan plan(1600, {}, 10, false);
  const auto first = plan.take(at(0, 50));
  const auto second = plan.take(at(0, 50));
  CHECK_EQUAL(first->end, 300U);
  CHECK_EQUAL(second->end, 600U);
  plan.claim(*first, 100);
  plan.claim(*second, 200);
  const auto tail = plan.split(at(10));
  CHECK_EQUAL(tail->position, 200U);
  CHECK_EQUAL(tail->end, 300U);
  CHECK_EQUAL(first->end, 200U);
  CHECK_EQUAL(second->end, 600U);
}

void a_fast_helper_takes_the_larger_part() {
  RangePlan plan(1000, {}, 1, true);
  const auto run = plan.take(at(0));
  plan.claim(*run, 100);                                // 10 bytes a second
  CHECK_EQUAL(plan.split(at(10, 30))->position, 331U);  // 25 s for each, the latency included
  CHECK_EQUAL(run->end, 331U);
}

void a_run_that_is_soon_over_is_left_alone() {
  RangePlan plan(1000, {}, 1, true);
  const auto run = plan.take(at(0));
  CHECK(!plan.split(at(1.9)));  // it has had no time to start
  plan.claim(*run, 500);
  CHECK(!plan.split(at(1.9)));  // half took 1.9 seconds, so will the rest
  const auto tail = plan.split(at(2.1));
  CHECK_EQUAL(tail->position, 750U);
}

void a_run_that_does_not_start_is_split() {
  RangePlan plan(1000, {}, 1, true);
  const auto run = plan.take(at(0));
  CHECK_EQUAL(plan.split(at(2.1))->position, 500U);
}

void a_moved_end_holds_back_bytes_that_arrive_late() {
  RangePlan plan(80, {}, 10, false);
  const auto run = plan.take(at(0));
  plan.claim(*run, 10);
  const auto tail = plan.split(at(kLater));
  CHECK_EQUAL(plan.claim(*run, 1000), (ByteRange{10, tail->position}));
  CHECK_EQUAL(plan.claim(*run, 1).size(), 0U);
}

void a_crawling_rest_is_fetched_twice_and_the_first_wins() {
  RangePlan plan(20, {}, 80, false);
  const auto slow = plan.take(at(0));
  plan.claim(*slow, 4);
  CHECK(!plan.split(at(100, 10)));  // too short for that
  CHECK(!plan.twin(at(1, 10)));     // it is not slow yet
  const auto fast = plan.twin(at(100, 10));
  CHECK_EQUAL(fast->position, 4U);
  CHECK(!plan.twin(at(100, 10)));  // one helper is enough
  CHECK_EQUAL(plan.claim(*fast, 10), (ByteRange{4, 14}));
  CHECK_EQUAL(plan.claim(*slow, 5).size(), 0U);  // all of it is there already
  CHECK_EQUAL(plan.claim(*slow, 6), (ByteRange{14, 15}));
  CHECK_EQUAL(plan.claim(*fast, 9), (ByteRange{15, 20}));
  plan.finish(fast);
  CHECK(slow->dropped);
  CHECK(!plan.has_runs());
  CHECK(!plan.has_free());
}

void a_twin_that_breaks_leaves_the_rest_to_the_other() {
  RangePlan plan(20, {}, 10, false);
  const auto slow = plan.take(at(0));
  plan.claim(*slow, 4);
  const auto fast = plan.twin(at(100, 10));
  plan.claim(*fast, 10);
  plan.finish(fast);
  CHECK(!plan.has_free());
  CHECK_EQUAL(plan.claim(*slow, 16), (ByteRange{14, 20}));
}

void a_dropped_run_gives_its_bytes_back() {
  RangePlan plan(20, {}, 10, false);
  const auto run = plan.take(at(0));
  plan.claim(*run, 4);
  plan.drop(run);
  CHECK_EQUAL(plan.claim(*run, 4).size(), 0U);
  CHECK_EQUAL(plan.take(at(0))->position, 4U);
  plan.finish(run);  // its worker comes back
  CHECK(plan.has_runs());
}

void what_a_run_leaves_is_handed_out_again() {
  RangePlan plan(100, {}, 100, false);
  const auto run = plan.take(at(0));
  plan.claim(*run, 30);
  plan.finish(run);
  CHECK(!plan.has_runs());
  CHECK_EQUAL(plan.take(at(0))->position, 30U);
}

void a_stream_drops_all_other_runs() {
  RangePlan plan(400, {}, 10, false);
  const auto first = plan.take(at(0));
  const auto second = plan.take(at(0));
  plan.become_stream(first.get());
  CHECK(second->dropped);
  CHECK_EQUAL(plan.claim(*second, 10).size(), 0U);
  CHECK(first->stream);
  CHECK_EQUAL(first->end, 400U);
  CHECK(!plan.take(at(0)));
  CHECK(!plan.split(at(kLater)));
}

void a_run_that_reads_a_whole_body_becomes_the_stream() {
  RangePlan plan(80, {}, 10, false);
  const auto first = plan.take(at(0));
  first->whole = true;
  const auto tail = plan.split(at(kLater));
  CHECK(first->end < 80);
  plan.become_stream(nullptr);
  CHECK(tail->dropped);
  CHECK(!first->dropped);
  CHECK_EQUAL(first->end, 80U);
}

void a_stream_without_a_reader_is_handed_out() {
  RangePlan plan(400, {}, 10, false);
  const auto run = plan.take(at(0));
  plan.become_stream(nullptr);
  plan.finish(run);
  const auto stream = plan.take(at(0));
  CHECK(stream->stream);
  CHECK_EQUAL(stream->position, 0U);
  CHECK(!plan.take(at(0)));
}

void an_unknown_size_is_one_stream() {
  RangePlan plan(fastslm::kUnknownSize, {}, 10, false);
  CHECK(plan.take(at(0))->stream);
  CHECK(!plan.take(at(0)));
  CHECK(!plan.split(at(kLater)));
}

// Whatever happens, each byte is claimed exactly once.
void random_histories_cover_the_file_exactly_once() {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const std::uint64_t size = 1 + random() % 2000;
    RangePlan plan(size, {}, 1 + random() % 20, false);
    std::vector<int> claimed(size);
    Runs runs;
    const auto give = [&] {
      const Offer offer = at(kLater, 1e6);
      return random() % 3 == 0 ? plan.split(offer) : random() % 3 == 0 ? plan.twin(offer) : plan.take(at(0));
    };
    while (plan.has_free() || plan.has_runs()) {
      if (auto run = give()) runs.push_back(run);
      if (runs.empty()) continue;
      const std::size_t chosen = random() % runs.size();
      const auto run = runs[chosen];
      const ByteRange range = plan.claim(*run, random() % 60);
      for (auto i = range.begin; i < range.end; ++i) ++claimed[i];
      if (random() % 20 == 0) plan.drop(run);
      if (run->position < run->end && !run->dropped && random() % 10 != 0) continue;
      plan.finish(run);
      runs.erase(runs.begin() + static_cast<std::ptrdiff_t>(chosen));
    }
    CHECK(claimed == std::vector<int>(size, 1));
  }
}

}  // namespace

int main() {
  return check::run(
      {{"low offsets go out first", low_offsets_go_out_first},
       {"a small file is one run", a_small_file_is_one_run},
       {"one connection takes everything at once", one_connection_takes_everything_at_once},
       {"only what is missing is fetched", only_what_is_missing_is_fetched},
       {"a run is sized by its connection's rate", a_run_is_sized_by_its_connections_rate},
       {"a fast helper takes the larger part", a_fast_helper_takes_the_larger_part},
       {"a crawling rest is fetched twice and the first wins",
        a_crawling_rest_is_fetched_twice_and_the_first_wins},
       {"a twin that breaks leaves the rest to the other", a_twin_that_breaks_leaves_the_rest_to_the_other},
       {"a dropped run gives its bytes back", a_dropped_run_gives_its_bytes_back},
       {"an idle connection gets the tail of the slowest run",
        an_idle_connection_gets_the_tail_of_the_slowest_run},
       {"a run that is soon over is left alone", a_run_that_is_soon_over_is_left_alone},
       {"a run that does not start is split", a_run_that_does_not_start_is_split},
       {"a moved end holds back bytes that arrive late", a_moved_end_holds_back_bytes_that_arrive_late},
       {"what a run leaves is handed out again", what_a_run_leaves_is_handed_out_again},
       {"a stream drops all other runs", a_stream_drops_all_other_runs},
       {"a run that reads a whole body becomes the stream", a_run_that_reads_a_whole_body_becomes_the_stream},
       {"a stream without a reader is handed out", a_stream_without_a_reader_is_handed_out},
       {"an unknown size is one stream", an_unknown_size_is_one_stream},
       {"random histories cover the file exactly once", random_histories_cover_the_file_exactly_once}});
}
