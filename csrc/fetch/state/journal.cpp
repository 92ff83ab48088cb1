#include "fetch/state/journal.hpp"

#include <algorithm>
#include <array>

#include <fastslm/download.hpp>
#include <fastslm/files.hpp>
#include <fastslm/hash.hpp>

namespace fastslm {
namespace {

constexpr std::array<char, 8> kMagic{'F', 'S', 'L', 'M', 'J', 'R', 'N', 'L'};
constexpr std::uint32_t kVersion = 4;
constexpr std::size_t kMostBytes = 256U << 20U;
constexpr std::uint64_t kBlockBytes = 1U << 20U;
constexpr std::uint64_t kLeastNews = 64U << 10U;
constexpr std::uint64_t kSavesPerFile = 100;  // so a kill loses at most this part of a fast download

class Writer {
 public:
  template <class Number>
  void number(Number value) {
    for (std::size_t i = 0; i < sizeof value; ++i)
      bytes_.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
  }
  void text(std::span<const char> chars) {
    for (const char c : chars) bytes_.push_back(static_cast<std::byte>(c));
  }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Reads past the end give zeros and clear `good`.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class Number>
  Number number() {
    Number value = 0;
    const auto raw = take(sizeof value);
    for (std::size_t i = 0; i < raw.size(); ++i) {
      value = static_cast<Number>(value | static_cast<Number>(std::to_integer<Number>(raw[i]) << (8 * i)));
    }
    return value;
  }
  std::string text(std::size_t length) {
    std::string result;
    for (const std::byte byte : take(length)) result += static_cast<char>(byte);
    return result;
  }
  bool good() const { return good_; }
  bool at_end() const { return rest_.empty(); }

 private:
  std::span<const std::byte> take(std::size_t length) {
    good_ = good_ && length <= rest_.size();
    if (!good_) return {};
    const auto taken = rest_.first(length);
    rest_ = rest_.subspan(length);
    return taken;
  }

  std::span<const std::byte> rest_;
  bool good_ = true;
};

// One range of a sorted list; `least` is where it may begin at the earliest.
bool read_range(Reader& reader, ByteRange& range, std::uint64_t least, std::uint64_t size) {
  range.begin = reader.number<std::uint64_t>();
  range.end = reader.number<std::uint64_t>();
  return reader.good() && range.begin >= least && range.begin < range.end && range.end <= size;
}

void write_ranges(Writer& writer, const Extents& extents) {
  writer.number(static_cast<std::uint32_t>(extents.ranges().size()));
  for (const ByteRange& range : extents.ranges()) {
    writer.number(range.begin);
    writer.number(range.end);
  }
}

bool read_ranges(Reader& reader, Extents& extents, std::uint64_t size) {
  const auto count = reader.number<std::uint32_t>();
  std::uint64_t least = 0;  // a range may not touch the one before it
  ByteRange range;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!read_range(reader, range, least, size)) return false;
    extents.add(range);
    least = range.end + 1;
  }
  return reader.good();
}

bool read_spans(Reader& reader, Journal& journal) {
  const auto count = reader.number<std::uint32_t>();
  std::uint64_t least = 0;
  Span span;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!read_range(reader, span.range, least, journal.size)) return false;
    span.sum = reader.number<std::uint64_t>();
    journal.notes.spans.push_back(span);
    least = span.range.end;
  }
  return reader.good();
}

std::uint64_t total(const std::vector<Span>& spans) {
  std::uint64_t sum = 0;
  for (const Span& span : spans) sum += span.range.size();
  return sum;
}

bool covers(const Extents& extents, const ByteRange& range) {
  return std::any_of(extents.ranges().begin(), extents.ranges().end(), [&](const ByteRange& known) {
    return known.begin <= range.begin && range.end <= known.end;
  });
}

bool is_intact(const File& file, const Span& span, std::vector<std::byte>& block) {
  block.resize(static_cast<std::size_t>(std::min(span.range.size(), kBlockBytes)));
  Checksum64 sum;
  for (std::uint64_t at = span.range.begin; at < span.range.end; at += block.size()) {
    const auto part = std::span(block).first(std::min<std::uint64_t>(block.size(), span.range.end - at));
    if (file.read_at(part, at) != part.size()) return false;
    sum.update(part);
  }
  return sum.value() == span.sum;
}

}  // namespace

std::vector<std::byte> encode(const Journal& journal) {
  Writer writer;
  writer.text(kMagic);
  writer.number(kVersion);
  writer.number(journal.size);
  writer.number(journal.piece_bytes);
  writer.number(static_cast<std::uint32_t>(journal.identity.size()));
  writer.text(journal.identity);
  const Notes& notes = journal.notes;
  writer.number(notes.hashed);
  writer.number(static_cast<std::uint32_t>(notes.hash_state.size()));
  writer.text(notes.hash_state);
  write_ranges(writer, notes.synced);
  write_ranges(writer, notes.given);
  writer.number(static_cast<std::uint32_t>(notes.spans.size()));
  for (const Span& span : notes.spans) {
    writer.number(span.range.begin);
    writer.number(span.range.end);
    writer.number(span.sum);
  }
  writer.number(crc32(writer.bytes()));
  return std::move(writer.bytes());
}

std::optional<Journal> decode(std::span<const std::byte> bytes) {
  if (bytes.size() < kMagic.size() + sizeof kVersion) return std::nullopt;
  const auto body = bytes.first(bytes.size() - sizeof(std::uint32_t));
  if (Reader(bytes.subspan(body.size())).number<std::uint32_t>() != crc32(body)) return std::nullopt;
  Reader reader(body);
  if (reader.text(kMagic.size()) != std::string(kMagic.begin(), kMagic.end())) return std::nullopt;
  if (reader.number<std::uint32_t>() != kVersion) return std::nullopt;
  Journal journal;
  journal.size = reader.number<std::uint64_t>();
  journal.piece_bytes = reader.number<std::uint64_t>();
  journal.identity = reader.text(reader.number<std::uint32_t>());
  journal.notes.hashed = reader.number<std::uint64_t>();
  journal.notes.hash_state = reader.text(reader.number<std::uint32_t>());
  const bool good = read_ranges(reader, journal.notes.synced, journal.size) &&
                    read_ranges(reader, journal.notes.given, journal.size) && read_spans(reader, journal) &&
                    reader.at_end();
  if (!good || journal.notes.hashed > journal.size) return std::nullopt;
  return journal;
}

void save_journal(const std::string& path, const Journal& journal, Durability durability) {
  replace_file(path, encode(journal), durability);
}

Notes load_notes(const std::string& path, const std::string& partial_path, const std::string& identity,
                 std::uint64_t size) {
  if (identity.empty() || file_size(partial_path) != size) return {};
  const auto bytes = read_file(path, kMostBytes);
  auto journal = bytes ? decode(*bytes) : std::nullopt;
  if (!journal || journal->identity != identity || journal->size != size) return {};
  return std::move(journal->notes);
}

std::optional<Unfinished> find_unfinished(const std::string& partial_path, const std::string& journal_path) {
  const auto bytes = read_file(journal_path, kMostBytes);
  const auto journal = bytes ? decode(*bytes) : std::nullopt;
  if (!journal || file_size(partial_path) != journal->size) return std::nullopt;
  return Unfinished{journal->size, total(journal->notes.spans)};
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> find_given(const std::string& partial_path,
                                                                const std::string& journal_path) {
  const auto bytes = read_file(journal_path, kMostBytes);
  const auto journal = bytes ? decode(*bytes) : std::nullopt;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  if (!journal || file_size(partial_path) != journal->size) return ranges;
  for (const ByteRange& range : journal->notes.given.ranges()) ranges.emplace_back(range.begin, range.end);
  return ranges;
}

std::vector<Span> damaged(const File& file, const std::vector<Span>& spans,
                          const std::function<bool(const Span&)>& select) {
  std::vector<Span> found;
  std::vector<std::byte> block;
  for (const Span& span : spans) {
    if (select(span) && !is_intact(file, span, block)) found.push_back(span);
  }
  return found;
}

void drop_lost(Notes& notes, const File& file) {
  const auto lost =
      damaged(file, notes.spans, [&](const Span& span) { return !covers(notes.synced, span.range); });
  std::erase_if(notes.spans,
                [&](const Span& span) { return std::find(lost.begin(), lost.end(), span) != lost.end(); });
  Spans kept;
  for (const Span& span : notes.spans) kept.put(span);
  if (notes.hashed <= kept.extents().prefix()) return;
  notes.hashed = 0;
  notes.hash_state.clear();
}

void drop_given(Notes& notes) {
  for (const ByteRange& range : notes.given.ranges()) {
    std::erase_if(notes.spans, [&](const Span& span) {
      return span.range.begin < range.end && range.begin < span.range.end;
    });
    notes.synced.remove(range);
  }
  notes.given.clear();
  notes.hashed = 0;
  notes.hash_state.clear();
}

JournalKeeper::JournalKeeper(std::string path, std::string identity, std::optional<std::uint64_t> size,
                             std::uint64_t piece_bytes, double interval_s)
    : path_(std::move(path)),
      identity_(std::move(identity)),
      size_(size),
      piece_bytes_(piece_bytes),
      interval_(interval_s) {}

Notes JournalKeeper::load(const std::string& partial_path) {
  const std::lock_guard lock(mutex_);
  Notes notes = is_active() ? load_notes(path_, partial_path, identity_, *size_) : Notes{};
  saved_bytes_ = total(notes.spans);
  return notes;
}

std::uint64_t JournalKeeper::news(std::uint64_t written) const {
  return written - std::min<std::uint64_t>(written, saved_bytes_);
}

std::uint64_t JournalKeeper::step() const { return std::max(*size_ / kSavesPerFile, kLeastNews); }

bool JournalKeeper::is_due(std::uint64_t written) const {
  if (news(written) == 0) return false;
  return news(written) >= step() || std::chrono::steady_clock::now() - saved_at_ >= interval_;
}

// Whoever finds the journal being written need not wait, the next block will be in the next save; unless the
// transfer runs away from a slow save, and a kill would lose more and more.
void JournalKeeper::save_if_due(std::uint64_t written, const std::function<Notes()>& look) {
  if (!is_active()) return;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) {
    if (news(written) < 2 * step()) return;
    lock.lock();
  }
  if (!closed_ && is_due(written)) save(look(), written, Durability::process);
}

void JournalKeeper::save_now(const std::function<Notes()>& look, Durability durability) {
  const std::lock_guard lock(mutex_);
  if (closed_ || !is_active()) return;
  const Notes notes = look();
  if (!notes.spans.empty()) save(notes, total(notes.spans), durability);
}

void JournalKeeper::save(const Notes& notes, std::uint64_t written, Durability durability) {
  save_journal(path_, {*size_, piece_bytes_, identity_, notes}, durability);
  saved_bytes_ = written;
  saved_at_ = std::chrono::steady_clock::now();
}

void JournalKeeper::begin_again() {
  const std::lock_guard lock(mutex_);
  remove_file(path_);
  saved_bytes_ = 0;
}

void JournalKeeper::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  remove_file(path_);
}

}  // namespace fastslm
