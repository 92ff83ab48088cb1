#include "fetch/journal.hpp"

#include <algorithm>
#include <array>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <fastslm/error.hpp>
#include <fastslm/hash.hpp>

namespace fastslm {
namespace {

constexpr std::array<char, 8> kMagic{'F', 'S', 'L', 'M', 'J', 'R', 'N', 'L'};
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kMostBytes = 64U << 20U;
constexpr std::uint64_t kSavesPerFile = 100;  // so a kill loses at most this part of a fast download
constexpr std::uint64_t kLeastNews = 64U << 10U;
constexpr std::size_t kMostBootBytes = 64;

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
  void sized_text(const std::string& chars) {
    number(static_cast<std::uint32_t>(chars.size()));
    text(chars);
  }
  void ranges(const Extents& extents) {
    number(static_cast<std::uint32_t>(extents.ranges().size()));
    for (const ByteRange& range : extents.ranges()) {
      number(range.begin);
      number(range.end);
    }
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

bool read_ranges(Reader& reader, std::uint64_t size, Extents& result) {
  const auto count = reader.number<std::uint32_t>();
  std::uint64_t least = 0;  // a range may not touch the one before it
  for (std::uint32_t i = 0; i < count && reader.good(); ++i) {
    const auto begin = reader.number<std::uint64_t>();
    const auto end = reader.number<std::uint64_t>();
    if (begin < least || begin >= end || end > size) return false;
    result.add({begin, end});
    least = end + 1;
  }
  return reader.good();
}

}  // namespace

std::vector<std::byte> encode(const Journal& journal) {
  Writer writer;
  writer.text(kMagic);
  writer.number(kVersion);
  writer.number(journal.size);
  writer.number(journal.piece_bytes);
  writer.sized_text(journal.identity);
  writer.sized_text(journal.boot);
  writer.ranges(journal.done);
  writer.ranges(journal.synced);
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
  journal.boot = reader.text(reader.number<std::uint32_t>());
  const bool good = read_ranges(reader, journal.size, journal.done) &&
                    read_ranges(reader, journal.size, journal.synced) && reader.at_end();
  if (!good) return std::nullopt;
  return journal;
}

std::string boot_id() {
  std::array<char, kMostBootBytes> text{};
#if defined(__APPLE__)
  std::size_t length = text.size();
  if (::sysctlbyname("kern.bootsessionuuid", text.data(), &length, nullptr, 0) != 0) return {};
#else
  try {
    const File file = File::open_for_reading("/proc/sys/kernel/random/boot_id");
    file.read_at(std::as_writable_bytes(std::span(text)), 0);
  } catch (const Error&) {
    return {};
  }
#endif
  return {text.begin(),
          std::find_if(text.begin(), text.end(), [](char c) { return c == '\0' || c == '\n'; })};
}

void save_journal(const std::string& path, const Journal& journal, Durability durability) {
  replace_file(path, encode(journal), durability);
}

Journal load_journal(const std::string& path, const std::string& partial_path, const std::string& identity,
                     std::uint64_t size) {
  if (identity.empty() || file_size(partial_path) != size) return {};
  const auto bytes = read_file(path, kMostBytes);
  auto journal = bytes ? decode(*bytes) : std::nullopt;
  if (!journal || journal->identity != identity || journal->size != size) return {};
  if (journal->boot.empty() || journal->boot != boot_id()) journal->done = journal->synced;
  return std::move(*journal);
}

JournalKeeper::JournalKeeper(std::string path, std::string identity, std::optional<std::uint64_t> size,
                             std::uint64_t piece_bytes, double interval_s)
    : path_(std::move(path)),
      identity_(std::move(identity)),
      size_(size),
      piece_bytes_(piece_bytes),
      interval_(interval_s) {}

Extents JournalKeeper::load(const std::string& partial_path) {
  const std::lock_guard lock(mutex_);
  if (!is_active()) return {};
  Journal journal = load_journal(path_, partial_path, identity_, *size_);
  saved_bytes_ = journal.done.total();
  synced_ = std::move(journal.synced);
  return std::move(journal.done);
}

std::uint64_t JournalKeeper::news(const Extents& done) const {
  return done.total() - std::min<std::uint64_t>(done.total(), saved_bytes_);
}

std::uint64_t JournalKeeper::step() const { return std::max(*size_ / kSavesPerFile, kLeastNews); }

bool JournalKeeper::is_due(const Extents& done) const {
  if (news(done) == 0) return false;
  return news(done) >= step() || std::chrono::steady_clock::now() - saved_at_ >= interval_;
}

// Whoever finds the journal being written need not wait, the next block will be in the next save; unless the
// transfer runs away from a slow save, and a kill would lose more and more.
void JournalKeeper::save_if_due(const std::function<Extents()>& look) {
  if (!is_active()) return;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) {
    if (news(look()) < 2 * step()) return;
    lock.lock();
  }
  if (closed_) return;
  const Extents done = look();
  if (is_due(done)) save(done, Durability::process);
}

void JournalKeeper::save_now(const std::function<Extents()>& look) {
  const std::lock_guard lock(mutex_);
  if (closed_ || !is_active()) return;
  const Extents done = look();
  if (done.total() > 0) save(done, Durability::process);
}

bool JournalKeeper::sync_is_due() const {
  const std::lock_guard lock(mutex_);
  return !closed_ && is_active() && std::chrono::steady_clock::now() >= sync_due_at_;
}

void JournalKeeper::sync_if_due(File& partial, const std::function<Extents()>& look) {
  if (!sync_is_due()) return;
  Extents done = look();
  const auto begin = std::chrono::steady_clock::now();
  partial.sync();
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  synced_ = std::move(done);
  if (synced_.total() > 0) save(look(), Durability::power_cut);
  const auto end = std::chrono::steady_clock::now();
  sync_due_at_ = end + std::max<std::chrono::steady_clock::duration>(kSyncInterval, 4 * (end - begin));
}

void JournalKeeper::save(const Extents& done, Durability durability) {
  save_journal(path_, {*size_, piece_bytes_, identity_, done, synced_}, durability);
  saved_bytes_ = done.total();
  saved_at_ = std::chrono::steady_clock::now();
}

void JournalKeeper::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  remove_file(path_);
}

}  // namespace fastslm
