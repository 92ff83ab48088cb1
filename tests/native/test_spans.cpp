#include <random>

#include "check.hpp"
#include "fetch/state/spans.hpp"
#include "samples.hpp"

namespace {

using fastslm::ByteRange;
using fastslm::Checksum64;
using fastslm::Span;
using fastslm::Spans;
using fastslm::SpanSummer;

std::uint64_t sum_of(std::string_view text) {
  Checksum64 sum;
  sum.update(bytes_of(text));
  return sum.value();
}

// The values that the reference implementation gives for these inputs with seed 0.
void known_checksums_come_out() {
  CHECK_EQUAL(sum_of(""), 0xEF46DB3751D8E999U);
  CHECK_EQUAL(sum_of("a"), 0xD24EC4F1A98C6E5BU);
  CHECK_EQUAL(sum_of("abc"), 0x44BC2CF5AD770999U);
  CHECK_EQUAL(sum_of("xxhash"), 0x32DD38952C4BC720U);
}

void a_checksum_does_not_depend_on_the_blocks() {
  const std::string text = random_text(1000);
  const std::uint64_t whole = sum_of(text);
  std::mt19937 random(7);
  for (int round = 0; round < 100; ++round) {
    Checksum64 sum;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t step = 1 + random() % 90;
      sum.update(bytes_of(std::string_view(text).substr(at, step)));
      at += step;
    }
    CHECK_EQUAL(sum.value(), whole);
  }
}

void spans_end_at_the_borders_of_pieces() {
  SpanSummer summer;
  const std::string text = random_text(100);
  const auto first = summer.feed(25, bytes_of(text).first(10), 30);
  CHECK_EQUAL(first.size(), 2U);
  CHECK_EQUAL(first[0].range, (ByteRange{25, 30}));
  CHECK_EQUAL(first[1].range, (ByteRange{30, 35}));
  const auto longer = summer.feed(35, bytes_of(text).subspan(10, 5), 30);
  CHECK_EQUAL(longer[0].range, (ByteRange{30, 40}));
  CHECK_EQUAL(longer[0].sum, sum_of(std::string_view(text).substr(5, 10)));
  CHECK_EQUAL(summer.feed(50, bytes_of(text).first(1), 30)[0].range, (ByteRange{50, 51}));  // behind a gap
}

void what_is_written_twice_counts_once() {
  Spans spans;
  spans.put({{0, 10}, 1});
  spans.put({{10, 20}, 2});
  spans.put({{0, 15}, 3});  // replaces both
  CHECK_EQUAL(spans.all().size(), 1U);
  CHECK_EQUAL(spans.extents().total(), 15U);
  spans.put({{20, 30}, 4});
  CHECK_EQUAL(spans.extents().ranges().size(), 2U);
  spans.put({{12, 21}, 5});
  CHECK_EQUAL(spans.all().size(), 1U);
}

// Whatever the order and the blocks, every span's checksum is the one of its bytes.
void random_writes_are_summed_right() {
  const std::string text = random_text(5000);
  for (unsigned seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    Spans spans;
    SpanSummer summers[3];
    std::size_t at[3] = {0, 1700, 3333};
    const std::size_t end[3] = {1700, 3333, 5000};
    const std::uint64_t piece = 50 + random() % 300;
    while (at[0] < end[0] || at[1] < end[1] || at[2] < end[2]) {
      const std::size_t run = random() % 3;
      const std::size_t step = std::min<std::size_t>(end[run] - at[run], random() % 200);
      const auto data = bytes_of(text).subspan(at[run], step);
      for (const Span& span : summers[run].feed(at[run], data, piece)) spans.put(span);
      at[run] += step;
    }
    for (const Span& span : spans.all()) {
      CHECK_EQUAL(span.sum, sum_of(std::string_view(text).substr(span.range.begin, span.range.size())));
    }
    CHECK_EQUAL(spans.extents().prefix(), 5000U);
  }
}

}  // namespace

int main() {
  return check::run({{"known checksums come out", known_checksums_come_out},
                     {"a checksum does not depend on the blocks", a_checksum_does_not_depend_on_the_blocks},
                     {"spans end at the borders of pieces", spans_end_at_the_borders_of_pieces},
                     {"what is written twice counts once", what_is_written_twice_counts_once},
                     {"random writes are summed right", random_writes_are_summed_right}});
}
