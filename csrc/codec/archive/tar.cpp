// Format: POSIX.1-2001, pax interchange format; GNU tar manual, "Basic Tar Format".
#include "codec/archive/tar.hpp"

#include <algorithm>
#include <charconv>

#include "codec/refuse.hpp"
#include "codec/text.hpp"

namespace fastslm {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::uint64_t kLongestText = 1U << 20U;
constexpr std::uint64_t kMostSize = std::uint64_t{1} << 60U;

struct Field {
  std::size_t offset;
  std::size_t size;
};
constexpr Field kName{0, 100};
constexpr Field kSize{124, 12};
constexpr Field kChecksum{148, 8};
constexpr Field kMagic{257, 6};
constexpr Field kPrefix{345, 155};
constexpr std::size_t kType = 156;

std::string_view field(const Gather& header, Field where) { return header.text(where.offset, where.size); }

std::string_view up_to_nul(std::string_view text) { return text.substr(0, text.find('\0')); }

bool is_zero(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

// GNU's base 256: the first bit set, a big-endian number after it.
std::optional<std::uint64_t> binary_number(std::string_view text) {
  std::uint64_t value = static_cast<unsigned char>(text.front()) & 0x7fU;
  if (value != 0) return std::nullopt;  // negative, or far too large
  for (const char c : text.substr(1)) {
    if (value >= kMostSize) return std::nullopt;
    value = value << 8U | static_cast<unsigned char>(c);
  }
  return value;
}

std::optional<std::uint64_t> number(std::string_view text) {
  if ((static_cast<unsigned char>(text.front()) & 0x80U) != 0) return binary_number(text);
  const auto first = text.find_first_not_of(' ');
  if (first == text.npos) return 0;
  text = text.substr(first);
  text = text.substr(0, text.find_first_of(std::string_view(" \0", 2)));
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (text.empty()) return 0;
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

bool has_right_checksum(const Gather& header) {
  std::uint64_t sum = 0;
  for (const std::byte byte : header.bytes()) sum += std::to_integer<unsigned>(byte);
  for (const char c : field(header, kChecksum)) sum -= static_cast<unsigned char>(c);
  return number(field(header, kChecksum)) == sum + kChecksum.size * ' ';
}

std::string name_of(const Gather& header) {
  const std::string name(up_to_nul(field(header, kName)));
  const std::string_view prefix = up_to_nul(field(header, kPrefix));
  const bool posix = field(header, kMagic) == std::string_view("ustar\0", 6);
  return posix && !prefix.empty() ? std::string(prefix) + "/" + name : name;
}

const char* kind_of(char type) {
  switch (type) {
    case '1':
      return "a hard link";
    case '2':
      return "a symbolic link";
    case '3':
    case '4':
      return "a device";
    case '6':
      return "a pipe";
    case 'S':
      return "a sparse file";
    default:
      return "a member of unknown type";
  }
}

}  // namespace

void TarReader::push(const Block& block) {
  Bytes in = block.bytes;
  while (!in.empty()) {
    switch (part_) {
      case Part::header:
        if (header_.fill(in, kBlock)) read_header();
        break;
      case Part::text:
        if (header_.fill(in, static_cast<std::size_t>(left_))) end_text();
        break;
      case Part::content:
        in = in.subspan(take_content({in, block.owner}));
        break;
      case Part::padding: {
        const auto skipped = static_cast<std::size_t>(std::min<std::uint64_t>(padding_, in.size()));
        in = in.subspan(skipped);
        padding_ -= skipped;
        if (padding_ == 0) part_ = Part::header;
        break;
      }
      case Part::end:
        if (!is_zero(in)) refuse_archive("goes on after its end");
        return;
    }
  }
}

void TarReader::finish() {
  const bool at_end =
      part_ == Part::end || (zero_blocks_ == 1 && part_ == Part::header && header_.bytes().empty());
  if (!at_end) refuse_archive("ends too early");
}

void TarReader::read_header() {
  if (is_zero(header_.bytes())) {
    header_.clear();
    if (++zero_blocks_ == 2) part_ = Part::end;
    return;
  }
  if (zero_blocks_ > 0) refuse_archive("goes on after its end");
  const auto size = number(field(header_, kSize));
  if (!has_right_checksum(header_) || !size || *size > kMostSize) {
    refuse_archive("is damaged or not in tar format: a header has a wrong checksum or size");
  }
  const char type = header_.text(kType, 1).front();
  left_ = *size;
  if (type == 'x' || type == 'g' || type == 'L' || type == 'K') return begin_text(type, left_);
  left_ = next_size_.value_or(left_);
  std::string name = next_name_ ? *next_name_ : name_of(header_);
  next_name_.reset();
  next_size_.reset();
  header_.clear();
  begin_member(type, std::move(name));
}

void TarReader::begin_member(char type, std::string name) {
  const bool old_folder = (type == '\0' || type == '0') && !name.empty() && name.back() == '/';
  if (type == '5' || old_folder) {
    if (left_ > 0) refuse(name, "is a folder with content", std::to_string(left_) + " bytes", "none");
    files_.add_folder(name);
    return;
  }
  if (type != '\0' && type != '0' && type != '7')
    refuse(name, "is not a plain file", kind_of(type), "a file or folder");
  files_.begin(name, left_);
  padding_ = (kBlock - left_ % kBlock) % kBlock;
  part_ = Part::content;
  if (left_ == 0) end_content();
}

void TarReader::begin_text(char type, std::uint64_t size) {
  if (size > kLongestText) refuse_archive("has an endless header");
  header_.clear();
  text_type_ = type;
  padding_ = (kBlock - size % kBlock) % kBlock;
  part_ = Part::text;
  if (size == 0) end_text();
}

void TarReader::end_text() {
  const std::string_view text = header_.text(0, static_cast<std::size_t>(left_));
  if (text_type_ == 'L') next_name_ = std::string(up_to_nul(text));
  if (text_type_ == 'x' || text_type_ == 'g') read_pax(text, text_type_ == 'g');
  header_.clear();
  left_ = 0;
  part_ = padding_ > 0 ? Part::padding : Part::header;
}

// Records of the form "<length> <key>=<value>\n", where the length counts all of the record.
void TarReader::read_pax(std::string_view records, bool global) {
  while (!records.empty()) {
    std::size_t length = 0;
    const auto [end, error] = std::from_chars(records.data(), records.data() + records.size(), length);
    const auto head = static_cast<std::size_t>(end - records.data());
    const bool sound = error == std::errc() && length > head + 1 && length <= records.size() &&
                       records[head] == ' ' && records[length - 1] == '\n';
    if (!sound) refuse_archive("is damaged: an extended header has no valid record");
    const std::string_view record = records.substr(head + 1, length - head - 2);
    const auto equals = record.find('=');
    if (equals == record.npos) refuse_archive("is damaged: an extended header has no valid record");
    set(record.substr(0, equals), record.substr(equals + 1), global);
    records.remove_prefix(length);
  }
}

void TarReader::set(std::string_view key, std::string_view value, bool global) {
  if (key.starts_with("GNU.sparse.")) refuse_archive("has a sparse file, expected plain files");
  if (key != "path" && key != "size") return;  // owner, times and such
  if (global) refuse_archive("has a `" + std::string(key) + "` for all members, expected one for each");
  if (key == "path") {
    next_name_ = std::string(value);
    return;
  }
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), size);
  if (error != std::errc() || end != value.data() + value.size() || size > kMostSize) {
    refuse_archive("is damaged: an extended header has the size `" + shown(value) + "`");
  }
  next_size_ = size;
}

std::size_t TarReader::take_content(const Block& rest) {
  const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(left_, rest.bytes.size()));
  files_.write(rest.part(0, taken));
  left_ -= taken;
  if (left_ == 0) end_content();
  return taken;
}

void TarReader::end_content() {
  files_.end();
  part_ = padding_ > 0 ? Part::padding : Part::header;
}

}  // namespace fastslm
