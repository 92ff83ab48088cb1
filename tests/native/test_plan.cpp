#include <random>
#include <vector>

#include "check.hpp"
#include "fetch/plan.hpp"

namespace {

using fastslm::Extents;
using fastslm::RangePlan;
using fastslm::Run;
using Runs = std::vector<std::shared_ptr<Run>>;

constexpr double kLater = 1000;  // by then every run of these tests is slow

void low_offsets_go_out_first() {
  RangePlan plan(1000, {}, 10, 2);
  std::uint64_t next = 0;
  while (const auto run = plan.take(0)) {
    CHECK_EQUAL(run->position, next);
    CHECK(run->end % 10 == 0);
    next = run->end;
  }
  CHECK_EQUAL(next, 1000U);
}

void a_small_file_is_one_run() {
  RangePlan plan(40, {}, 10, 8);
  CHECK_EQUAL(plan.take(0)->end, 40U);
  CHECK(!plan.take(0));
  CHECK(!plan.split(kLater));
}

void one_connection_takes_everything_at_once() {
  RangePlan plan(1'000'000, {}, 10, 1);
  CHECK_EQUAL(plan.take(0)->end, 1'000'000U);
}

void only_what_is_missing_is_fetched() {
  Extents done;
  done.add({0, 25});
  done.add({50, 100});
  RangePlan plan(100, done, 10, 4);
  const auto run = plan.take(0);
  CHECK_EQUAL(run->position, 25U);
  CHECK_EQUAL(run->end, 50U);
  CHECK(!plan.take(0));
}

void an_idle_connection_gets_the_tail_of_the_slowest_run() {
  RangePlan plan(1600, {}, 10, 2);
  const auto first = plan.take(0);
  const auto second = plan.take(0);
  CHECK_EQUAL(first->end, 400U);
  CHECK_EQUAL(second->end, 700U);
  plan.claim(*first, 100);
  plan.claim(*second, 200);
  const auto tail = plan.split(10);
  CHECK_EQUAL(tail->position, 250U);
  CHECK_EQUAL(tail->end, 400U);
  CHECK_EQUAL(first->end, 250U);
  CHECK_EQUAL(second->end, 700U);
}

void a_run_that_is_soon_over_is_left_alone() {
  RangePlan plan(1000, {}, 1, 1);
  const auto run = plan.take(0);
  CHECK(!plan.split(1.9));  // it has had no time to start
  plan.claim(*run, 500);
  CHECK(!plan.split(1.9));  // half took 1.9 seconds, so will the rest
  const auto tail = plan.split(2.1);
  CHECK_EQUAL(tail->position, 750U);
}

void a_run_that_does_not_start_is_split() {
  RangePlan plan(1000, {}, 1, 1);
  const auto run = plan.take(0);
  CHECK_EQUAL(plan.split(2.1)->position, 500U);
}

void a_moved_end_holds_back_bytes_that_arrive_late() {
  RangePlan plan(80, {}, 10, 1);
  const auto run = plan.take(0);
  plan.claim(*run, 10);
  const auto tail = plan.split(kLater);
  CHECK_EQUAL(plan.claim(*run, 1000), tail->position - 10);
  CHECK_EQUAL(plan.claim(*run, 1), 0U);
}

void what_a_run_leaves_is_handed_out_again() {
  RangePlan plan(100, {}, 100, 4);
  const auto run = plan.take(0);
  plan.claim(*run, 30);
  plan.finish(run);
  CHECK(!plan.has_runs());
  CHECK_EQUAL(plan.take(0)->position, 30U);
}

void a_stream_drops_all_other_runs() {
  RangePlan plan(400, {}, 10, 2);
  const auto first = plan.take(0);
  const auto second = plan.take(0);
  plan.become_stream(first.get());
  CHECK(second->dropped);
  CHECK_EQUAL(plan.claim(*second, 10), 0U);
  CHECK(first->stream);
  CHECK_EQUAL(first->end, 400U);
  CHECK(!plan.take(0));
  CHECK(!plan.split(kLater));
}

void a_run_that_reads_a_whole_body_becomes_the_stream() {
  RangePlan plan(80, {}, 10, 1);
  const auto first = plan.take(0);
  first->whole = true;
  const auto tail = plan.split(kLater);
  CHECK(first->end < 80);
  plan.become_stream(nullptr);
  CHECK(tail->dropped);
  CHECK(!first->dropped);
  CHECK_EQUAL(first->end, 80U);
}

void a_stream_without_a_reader_is_handed_out() {
  RangePlan plan(400, {}, 10, 2);
  const auto run = plan.take(0);
  plan.become_stream(nullptr);
  plan.finish(run);
  const auto stream = plan.take(0);
  CHECK(stream->stream);
  CHECK_EQUAL(stream->position, 0U);
  CHECK(!plan.take(0));
}

void an_unknown_size_is_one_stream() {
  RangePlan plan(fastslm::kUnknownSize, {}, 10, 8);
  CHECK(plan.take(0)->stream);
  CHECK(!plan.take(0));
  CHECK(!plan.split(kLater));
}

// Whatever happens, each byte is claimed exactly once.
void random_histories_cover_the_file_exactly_once() {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const std::uint64_t size = 1 + random() % 2000;
    RangePlan plan(size, {}, 1 + random() % 20, static_cast<unsigned>(1 + random() % 6));
    std::vector<int> claimed(size);
    Runs runs;
    while (plan.has_free() || plan.has_runs()) {
      if (auto run = random() % 3 == 0 ? plan.split(kLater) : plan.take(0)) runs.push_back(run);
      if (runs.empty()) continue;
      const std::size_t at = random() % runs.size();
      const std::uint64_t start = runs[at]->position;
      const std::uint64_t count = plan.claim(*runs[at], random() % 60);
      for (auto i = start; i < start + count; ++i) ++claimed[i];
      if (runs[at]->position < runs[at]->end && random() % 10 != 0) continue;
      plan.finish(runs[at]);
      runs.erase(runs.begin() + static_cast<std::ptrdiff_t>(at));
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
