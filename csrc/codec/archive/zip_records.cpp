#include "codec/archive/zip_records.hpp"

#include "codec/refuse.hpp"

namespace fastslm::zip {
namespace {

constexpr unsigned kEncrypted = 1U << 0U | 1U << 6U | 1U << 13U;
constexpr unsigned kDescribed = 1U << 3U;
constexpr unsigned kPatched = 1U << 5U;
constexpr std::uint16_t kZip64 = 0x0001;
constexpr std::uint32_t kElsewhere = 0xffffffff;  // the value is in the ZIP64 field
constexpr unsigned kKindMask = 0170000;           // of a Unix mode
constexpr unsigned kFileKind = 0100000;
constexpr unsigned kFolderKind = 0040000;

// Offsets of what both headers have, which differ by their start.
struct Layout {
  std::size_t flags;
  std::size_t fixed;
  bool central;
};
constexpr Layout kLocalLayout{6, kLocalBytes, false};
constexpr Layout kCentralLayout{8, kCentralBytes, true};

void check_flags(const Member& member, unsigned flags) {
  if ((flags & kEncrypted) != 0) refuse(member.name, "is encrypted", "encryption", "none");
  const bool known = member.method == kStored || member.method == kDeflated;
  if (!known || (flags & kPatched) != 0) {
    refuse(member.name, "is packed by an unknown method", std::to_string(member.method), "deflate");
  }
}

Bytes find_zip64(const Member& member, Bytes extra) {
  Bytes found;
  while (extra.size() >= 4) {
    const auto id = Gather::little<std::uint16_t>(extra);
    const auto size = Gather::little<std::uint16_t>(extra.subspan(2));
    if (size > extra.size() - 4) break;
    if (id == kZip64) {
      if (found.data() != nullptr) refuse(member.name, "has two ZIP64 fields", "2", "1");
      found = extra.subspan(4, size);
    }
    extra = extra.subspan(4U + size);
  }
  return found;
}

// Values of 32 bits that say "elsewhere" come from the field, in the order of the record.
void widen(Member& member, Bytes field, bool central) {
  std::uint64_t* const values[] = {&member.size, &member.packed, &member.offset};
  for (std::size_t i = 0; i < (central ? 3U : 2U); ++i) {
    if (*values[i] != kElsewhere) continue;
    if (field.size() < 8) refuse(member.name, "has a damaged ZIP64 field", "too few bytes", "a size");
    *values[i] = Gather::little<std::uint64_t>(field);
    field = field.subspan(8);
  }
}

Member read(const Gather& header, Layout layout) {
  Member member;
  const auto at = layout.flags;
  const auto flags = header.number<std::uint16_t>(at);
  const std::size_t name_size = header.number<std::uint16_t>(at + 20);
  const std::size_t extra_size = header.number<std::uint16_t>(at + 22);
  member.method = header.number<std::uint16_t>(at + 2);
  member.crc = header.number<std::uint32_t>(at + 8);
  member.packed = header.number<std::uint32_t>(at + 12);
  member.size = header.number<std::uint32_t>(at + 16);
  if (layout.central) member.offset = header.number<std::uint32_t>(42);
  member.name = header.text(layout.fixed, name_size);
  member.described = (flags & kDescribed) != 0;
  check_flags(member, flags);
  const Bytes field = find_zip64(member, header.bytes().subspan(layout.fixed + name_size, extra_size));
  member.wide = field.data() != nullptr;
  widen(member, field, layout.central);
  return member;
}

// The kind of file that made-by-Unix entries carry; zero where nobody told.
void check_kind(const Member& member, std::uint32_t attributes) {
  const unsigned kind = attributes >> 16U & kKindMask;
  const bool plain = kind == 0 || kind == kFileKind || (kind == kFolderKind && member.is_folder());
  if (!plain) refuse(member.name, "is not a plain file", "a link or device", "a file or folder");
}

}  // namespace

std::size_t local_rest(const Gather& header) {
  return std::size_t{header.number<std::uint16_t>(26)} + header.number<std::uint16_t>(28);
}

std::size_t central_rest(const Gather& header) {
  return std::size_t{header.number<std::uint16_t>(28)} + header.number<std::uint16_t>(30) +
         header.number<std::uint16_t>(32);
}

std::size_t end_rest(const Gather& header) { return header.number<std::uint16_t>(20); }

Member read_local(const Gather& header, std::uint64_t offset) {
  Member member = read(header, kLocalLayout);
  member.offset = offset;
  if (member.described && member.method == kStored && !member.is_folder()) {
    refuse(member.name, "is stored without its size in front", "a data descriptor", "a size");
  }
  return member;
}

Member read_central(const Gather& header) {
  if (header.number<std::uint16_t>(34) != 0) refuse_archive("is split over several files, expected one");
  Member member = read(header, kCentralLayout);
  check_kind(member, header.number<std::uint32_t>(38));
  return member;
}

End read_end(const Gather& record) {
  if (record.number<std::uint16_t>(4) != record.number<std::uint16_t>(6)) {
    refuse_archive("is split over several files, expected one");
  }
  return {record.number<std::uint16_t>(10), record.number<std::uint32_t>(12),
          record.number<std::uint32_t>(16)};
}

End read_end64(const Gather& record) {
  return {record.number<std::uint64_t>(32), record.number<std::uint64_t>(40),
          record.number<std::uint64_t>(48)};
}

}  // namespace fastslm::zip
