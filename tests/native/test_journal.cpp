#include <chrono>
#include <future>
#include <thread>

#include "check.hpp"
#include "fetch/journal.hpp"
#include "samples.hpp"

namespace {

using fastslm::decode;
using fastslm::encode;
using fastslm::Journal;
using fastslm::load_journal;

Journal sample() {
  Journal journal{.size = 1000, .piece_bytes = 64, .identity = "etag\nhash", .done = {}};
  journal.done.add({0, 100});
  journal.done.add({300, 301});
  journal.done.add({900, 1000});
  journal.synced.add({0, 50});
  return journal;
}

void what_was_written_is_read_back() {
  const auto copy = decode(encode(sample()));
  CHECK(copy.has_value());
  CHECK_EQUAL(copy->size, 1000U);
  CHECK_EQUAL(copy->piece_bytes, 64U);
  CHECK_EQUAL(copy->identity, "etag\nhash");
  CHECK_EQUAL(copy->boot, fastslm::boot_id());
  CHECK_EQUAL(copy->done.ranges(), sample().done.ranges());
  CHECK_EQUAL(copy->synced.ranges(), sample().synced.ranges());
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
    return load_journal(journal, partial, identity, size).done.total();
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

// The start may have followed a power cut, which takes away what was written but not synced.
void after_a_start_of_the_machine_only_synced_bytes_count() {
  const check::TemporaryFolder folder;
  const std::string journal = folder.file("journal");
  const std::string partial = folder.file("partial");
  write_text(partial, std::string(1000, 'x'));
  for (const std::string boot : {"another", ""}) {
    Journal older = sample();
    older.boot = boot;
    fastslm::save_journal(journal, older);
    CHECK_EQUAL(load_journal(journal, partial, "etag\nhash", 1000).done.ranges(), sample().synced.ranges());
  }
}

// Else a kill would cost more and more while one thread is held up in the middle of a save.
void a_transfer_does_not_run_away_from_a_slow_save() {
  const check::TemporaryFolder folder;
  constexpr std::uint64_t size = 100U << 20U;
  fastslm::JournalKeeper keeper(folder.file("journal"), "etag", size, 64, 1000);
  const auto up_to = [](std::uint64_t end) {
    fastslm::Extents done;
    done.add({0, end});
    return done;
  };
  std::promise<void> saving;
  std::thread slow([&, first = true]() mutable {
    keeper.save_if_due([&] {
      if (first) saving.set_value();
      first = false;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      return up_to(size / 50);
    });
  });
  saving.get_future().wait();
  keeper.save_if_due([&] { return up_to(size / 2); });
  slow.join();
  const auto saved = fastslm::read_file(folder.file("journal"), 1U << 20U);
  CHECK(saved.has_value());
  CHECK_EQUAL(decode(*saved)->done.total(), size / 2);
}

}  // namespace

int main() {
  return check::run(
      {{"what was written is read back", what_was_written_is_read_back},
       {"a journal torn anywhere is no journal", a_journal_torn_anywhere_is_no_journal},
       {"a flipped bit anywhere is noticed", a_flipped_bit_anywhere_is_noticed},
       {"trailing bytes are noticed", trailing_bytes_are_noticed},
       {"ranges outside of the file are refused", ranges_outside_of_the_file_are_refused},
       {"after a start of the machine only synced bytes count",
        after_a_start_of_the_machine_only_synced_bytes_count},
       {"a transfer does not run away from a slow save", a_transfer_does_not_run_away_from_a_slow_save},
       {"only the right journal of a whole partial file counts",
        only_the_right_journal_of_a_whole_partial_file_counts}});
}
