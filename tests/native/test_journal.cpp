#include <chrono>
#include <future>
#include <thread>

#include <fastslm/download.hpp>

#include "check.hpp"
#include "fetch/state/journal.hpp"
#include "samples.hpp"

namespace {

using fastslm::decode;
using fastslm::encode;
using fastslm::Journal;
using fastslm::load_notes;

Journal sample() {
  Journal journal{.size = 1000, .piece_bytes = 64, .identity = "etag\nhash", .notes = {}};
  journal.notes.spans = {{{0, 64}, 7}, {{64, 100}, ~std::uint64_t{0}}, {{300, 301}, 0}, {{900, 1000}, 9}};
  journal.notes.synced.add({0, 64});
  journal.notes.synced.add({300, 301});
  journal.notes.given.add({4, 20});
  journal.notes.given.add({32, 60});
  journal.notes.hashed = 90;
  journal.notes.hash_state = std::string("a\0b", 3);
  return journal;
}

void what_was_written_is_read_back() {
  const auto copy = decode(encode(sample()));
  CHECK(copy.has_value());
  CHECK_EQUAL(copy->size, 1000U);
  CHECK_EQUAL(copy->piece_bytes, 64U);
  CHECK_EQUAL(copy->identity, "etag\nhash");
  CHECK(copy->notes.spans == sample().notes.spans);
  CHECK_EQUAL(copy->notes.synced.ranges(), sample().notes.synced.ranges());
  CHECK_EQUAL(copy->notes.given.ranges(), sample().notes.given.ranges());
  CHECK_EQUAL(copy->notes.hashed, 90U);
  CHECK_EQUAL(copy->notes.hash_state, sample().notes.hash_state);
}

// With the spans that it touches, and with the hash, which went over it.
void what_was_given_back_can_be_dropped() {
  auto notes = sample().notes;
  fastslm::drop_given(notes);
  CHECK_EQUAL(notes.spans.size(), 3U);
  CHECK_EQUAL(notes.spans[0].range.begin, 64U);
  CHECK(notes.given.ranges().empty());
  CHECK_EQUAL(notes.hashed, 0U);
  CHECK_EQUAL(notes.synced.total(), 64U - 16U - 28U + 1U);
}

void a_journal_torn_anywhere_is_no_journal() {
  const auto bytes = encode(sample());
  for (std::size_t length = 0; length < bytes.size(); ++length)
    CHECK(!decode(std::span(bytes).first(length)));
}

void a_flipped_bit_anywhere_is_noticed() {
  const auto bytes = encode(sample());
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      auto damaged = bytes;
      damaged[at] ^= static_cast<std::byte>(1U << bit);
      CHECK(!decode(damaged));
    }
  }
}

void trailing_bytes_are_noticed() {
  auto bytes = encode(sample());
  bytes.push_back(std::byte{0});
  CHECK(!decode(bytes));
}

// A right checksum does not make ranges outside of the file believable.
void ranges_outside_of_the_file_are_refused() {
  Journal journal = sample();
  journal.size = 999;
  CHECK(!decode(encode(journal)));
}

void only_the_right_journal_of_a_whole_partial_file_counts() {
  const check::TemporaryFolder folder;
  const std::string journal = folder.file("journal");
  const std::string partial = folder.file("partial");
  const auto done = [&](const std::string& identity, std::uint64_t size) {
    fastslm::Spans spans;
    for (const auto& span : load_notes(journal, partial, identity, size).spans) spans.put(span);
    return spans.extents().total();
  };
  fastslm::save_journal(journal, sample());
  CHECK_EQUAL(done("etag\nhash", 1000), 0U);  // no partial file
  write_text(partial, std::string(999, 'x'));
  CHECK_EQUAL(done("etag\nhash", 1000), 0U);  // too short
  write_text(partial, std::string(1000, 'x'));
  CHECK_EQUAL(done("etag\nhash", 1000), 201U);
  CHECK_EQUAL(done("other", 1000), 0U);
  CHECK_EQUAL(done("", 1000), 0U);
  write_text(partial, std::string(2000, 'x'));
  CHECK_EQUAL(done("etag\nhash", 2000), 0U);  // another size than the journal's
  write_text(journal, "rubbish");
  CHECK_EQUAL(done("etag\nhash", 2000), 0U);
}

// Else a kill would cost more and more while one thread is held up in the middle of a save.
void a_transfer_does_not_run_away_from_a_slow_save() {
  const check::TemporaryFolder folder;
  constexpr std::uint64_t size = 100U << 20U;
  fastslm::JournalKeeper keeper(folder.file("journal"), "etag", size, 64, 1000);
  const auto up_to = [](std::uint64_t end) { return fastslm::Notes{{{{0, end}, 0}}, {}, 0, {}}; };
  std::promise<void> saving;
  std::thread slow([&] {
    keeper.save_if_due(size / 50, [&] {
      saving.set_value();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      return up_to(size / 50);
    });
  });
  saving.get_future().wait();
  keeper.save_if_due(size / 2, [&] { return up_to(size / 2); });
  slow.join();
  const auto saved = fastslm::read_file(folder.file("journal"), 1U << 20U);
  CHECK(saved.has_value());
  CHECK_EQUAL(decode(*saved)->notes.spans.at(0).range.end, size / 2);
}

void what_is_left_of_a_file_can_be_told_without_its_identity() {
  const check::TemporaryFolder folder;
  const auto partial = folder.file("partial");
  const auto journal = folder.file("journal");
  CHECK(!fastslm::find_unfinished(partial, journal));
  fastslm::save_journal(journal, sample());
  CHECK(!fastslm::find_unfinished(partial, journal));
  write_text(partial, std::string(1000, 'x'));
  const auto found = fastslm::find_unfinished(partial, journal);
  CHECK(found.has_value());
  CHECK_EQUAL(found->size, 1000U);
  CHECK_EQUAL(found->done_bytes, 201U);
  write_text(partial, "another size");
  CHECK(!fastslm::find_unfinished(partial, journal));
}

}  // namespace

int main() {
  return check::run(
      {{"what was written is read back", what_was_written_is_read_back},
       {"what was given back can be dropped", what_was_given_back_can_be_dropped},
       {"a journal torn anywhere is no journal", a_journal_torn_anywhere_is_no_journal},
       {"a flipped bit anywhere is noticed", a_flipped_bit_anywhere_is_noticed},
       {"trailing bytes are noticed", trailing_bytes_are_noticed},
       {"ranges outside of the file are refused", ranges_outside_of_the_file_are_refused},
       {"what is left of a file can be told without its identity",
        what_is_left_of_a_file_can_be_told_without_its_identity},
       {"a transfer does not run away from a slow save", a_transfer_does_not_run_away_from_a_slow_save},
       {"only the right journal of a whole partial file counts",
        only_the_right_journal_of_a_whole_partial_file_counts}});
}
