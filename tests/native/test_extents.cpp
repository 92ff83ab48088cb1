#include <random>
#include <vector>

#include "base/extents.hpp"
#include "check.hpp"

namespace {

using fastslm::ByteRange;
using fastslm::Extents;
using Ranges = std::vector<ByteRange>;

Extents of(const Ranges& ranges) {
  Extents extents;
  for (const ByteRange& range : ranges) extents.add(range);
  return extents;
}

void neighbours_become_one() {
  CHECK_EQUAL(of({{0, 5}, {5, 9}}).ranges(), (Ranges{{0, 9}}));
  CHECK_EQUAL(of({{5, 9}, {0, 5}}).ranges(), (Ranges{{0, 9}}));
  CHECK_EQUAL(of({{0, 2}, {4, 6}, {1, 5}}).ranges(), (Ranges{{0, 6}}));
  CHECK_EQUAL(of({{4, 6}, {0, 2}}).ranges(), (Ranges{{0, 2}, {4, 6}}));
  CHECK_EQUAL(of({{3, 3}}).ranges(), Ranges{});
}

void prefix_ends_at_the_first_hole() {
  CHECK_EQUAL(of({}).prefix(), 0U);
  CHECK_EQUAL(of({{1, 9}}).prefix(), 0U);
  CHECK_EQUAL(of({{0, 4}, {5, 9}}).prefix(), 4U);
}

void gaps_are_what_is_missing() {
  CHECK_EQUAL(of({}).gaps(0).ranges(), Ranges{});
  CHECK_EQUAL(of({}).gaps(7).ranges(), (Ranges{{0, 7}}));
  CHECK_EQUAL(of({{2, 3}, {6, 7}}).gaps(7).ranges(), (Ranges{{0, 2}, {3, 6}}));
}

// The slow twin: one flag per byte.
void random_changes_agree_with_a_list_of_flags() {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    Extents extents;
    std::vector<bool> flags(64);
    for (int step = 0; step < 30; ++step) {
      const std::uint64_t begin = random() % 64;
      const std::uint64_t end = begin + random() % (65 - begin);
      const bool add = random() % 2 == 0;
      if (add) extents.add({begin, end});
      if (!add) extents.remove({begin, end});
      for (auto i = begin; i < end; ++i) flags[i] = add;
      std::vector<bool> seen(64);
      for (const ByteRange& range : extents.ranges()) {
        for (auto i = range.begin; i < range.end; ++i) seen[i] = true;
      }
      CHECK(seen == flags);
      CHECK_EQUAL(extents.total() + extents.gaps(64).total(), 64U);
      for (std::size_t i = 1; i < extents.ranges().size(); ++i) {
        CHECK(extents.ranges()[i - 1].end < extents.ranges()[i].begin);
      }
    }
  }
}

}  // namespace

int main() {
  return check::run(
      {{"neighbours become one", neighbours_become_one},
       {"prefix ends at the first hole", prefix_ends_at_the_first_hole},
       {"gaps are what is missing", gaps_are_what_is_missing},
       {"random changes agree with a list of flags", random_changes_agree_with_a_list_of_flags}});
}
