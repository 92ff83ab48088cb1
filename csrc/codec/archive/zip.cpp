#include "codec/archive/zip.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <fastslm/hash.hpp>

#include "codec/refuse.hpp"

namespace fastslm {
namespace {

constexpr std::size_t kLongestDescriptor = 24;

// Length of the descriptor in front, or nothing when none of its four forms tells these values.
std::size_t descriptor_length(const Gather& record, const zip::Member& member) {
  for (const bool wide : {member.wide, !member.wide}) {
    for (const std::size_t at : {4U, 0U}) {
      if (at == 4 && record.number<std::uint32_t>(0) != zip::kDescriptor) continue;
      const auto number = [&](std::size_t where) {
        return wide ? record.number<std::uint64_t>(where) : record.number<std::uint32_t>(where);
      };
      const std::size_t width = wide ? 8 : 4;
      const bool same = record.number<std::uint32_t>(at) == member.crc && number(at + 4) == member.packed &&
                        number(at + 4 + width) == member.size;
      if (same) return at + 4 + 2 * width;
    }
  }
  return 0;
}

}  // namespace

void ZipReader::push(const Block& block) {
  Bytes in = block.bytes;
  while (!in.empty()) {
    if (part_ == Part::stored) {
      in = in.subspan(take_stored({in, block.owner}));
    } else if (part_ == Part::deflated) {
      in = in.subspan(take_deflated(in));
    } else {
      step(in);
    }
  }
}

void ZipReader::finish() {
  if (part_ != Part::over) refuse_archive("ends too early");
}

void ZipReader::step(Bytes& in) {
  switch (part_) {
    case Part::signature:
      if (record_.fill(in, 4)) read_signature();
      break;
    case Part::local:
      if (fill_record(in, zip::kLocalBytes, zip::local_rest)) begin_member();
      break;
    case Part::descriptor:
      if (record_.fill(in, kLongestDescriptor)) read_descriptor();
      break;
    case Part::central:
      if (fill_record(in, zip::kCentralBytes, zip::central_rest)) match_central();
      break;
    case Part::end64:
      if (!record_.fill(in, zip::kEnd64Bytes)) break;
      end64_ = zip::read_end64(record_);
      if (record_.number<std::uint64_t>(4) != zip::kEnd64Bytes - 12)
        refuse_archive("has an unknown ZIP64 end record");
      central_end_ = record_at_;
      end_record(zip::kEnd64Bytes);
      break;
    case Part::locator64:
      if (!record_.fill(in, zip::kLocator64Bytes)) break;
      if (!end64_ || record_.number<std::uint64_t>(8) != central_end_)
        refuse_archive("has a wrong ZIP64 locator");
      end_record(zip::kLocator64Bytes);
      break;
    case Part::end:
      if (!fill_record(in, zip::kEndBytes, zip::end_rest)) break;
      match_end(zip::read_end(record_), end64_.has_value());
      part_ = Part::over;
      break;
    default:
      refuse_archive("goes on after its end");
  }
}

void ZipReader::read_signature() {
  const auto signature = record_.number<std::uint32_t>(0);
  const bool before_end = !end64_.has_value();
  if (signature == zip::kLocal && !central_at_) {
    part_ = Part::local;
  } else if (signature == zip::kCentral && before_end) {
    if (!central_at_) central_at_ = record_at_;
    part_ = Part::central;
  } else if (signature == zip::kEnd64 && before_end) {
    part_ = Part::end64;
  } else if (signature == zip::kLocator64) {
    part_ = Part::locator64;
  } else if (signature == zip::kEnd) {
    if (!end64_) central_end_ = record_at_;
    part_ = Part::end;
  } else {
    refuse_archive("is damaged or not in zip format: byte `" + std::to_string(record_at_) +
                   "` begins no record that belongs there");
  }
}

// A record whose fixed part tells the length of the rest.
bool ZipReader::fill_record(Bytes& in, std::size_t fixed, std::size_t (*rest)(const Gather&)) {
  return record_.fill(in, fixed) && record_.fill(in, fixed + rest(record_));
}

void ZipReader::end_record(std::size_t size) {
  record_at_ += size;
  record_.drop(size);
  part_ = Part::signature;
}

void ZipReader::begin_member() {
  member_ = zip::read_local(record_, record_at_);
  end_record(record_.bytes().size());
  crc_ = 0;
  packed_ = size_ = 0;
  if (member_.is_folder()) {
    if (member_.size != 0)
      refuse(member_.name, "is a folder with content", std::to_string(member_.size), "none");
    files_.add_folder(member_.name);
  } else {
    files_.begin(member_.name, member_.described ? std::nullopt : std::optional(member_.size));
  }
  if (member_.method == zip::kDeflated) {
    inflater_.reset();
    part_ = Part::deflated;
  } else {
    part_ = Part::stored;
    if (member_.described || member_.packed == 0) end_content();
  }
}

std::size_t ZipReader::take_stored(const Block& rest) {
  const auto taken =
      static_cast<std::size_t>(std::min<std::uint64_t>(member_.packed - packed_, rest.bytes.size()));
  const Block block = rest.part(0, taken);
  packed_ += taken;
  count(block.bytes);
  files_.write(block);
  if (packed_ == member_.packed) end_content();
  return taken;
}

std::size_t ZipReader::take_deflated(Bytes in) {
  if (!member_.described) {
    in = in.first(static_cast<std::size_t>(std::min<std::uint64_t>(member_.packed - packed_, in.size())));
  }
  std::size_t taken = 0;
  for (;;) {
    if (!buffer_) buffer_ = pool_.take(kBlockBytes);
    const auto space = buffer_->bytes().subspan(filled_);
    const DecodeStep step = inflater_.inflate(in.subspan(taken), space);
    taken += step.consumed;
    packed_ += step.consumed;
    count(space.first(step.produced));
    filled_ += step.produced;
    const bool full = filled_ == buffer_->size;
    if (full) flush();
    if (step.finished) break;
    if (full) continue;
    if (!member_.described && packed_ == member_.packed) {
      refuse(member_.name, "is damaged", "more deflate data than announced",
             std::to_string(member_.packed) + " bytes");
    }
    if (taken == in.size()) return taken;
    if (step.consumed + step.produced == 0)
      refuse(member_.name, "is damaged", "deflate data without end", "its end");
  }
  flush();
  Bytes surplus = inflater_.surplus();
  packed_ -= surplus.size();
  if (!member_.described && packed_ != member_.packed) {
    refuse(member_.name, "has a wrong size", std::to_string(packed_) + " packed bytes",
           std::to_string(member_.packed));
  }
  record_.fill(surplus, surplus.size());
  end_content();
  return taken;
}

void ZipReader::flush() {
  if (filled_ == 0) return;
  const Block block{buffer_->bytes().first(filled_), buffer_};
  buffer_.reset();
  filled_ = 0;
  if (!member_.is_folder()) files_.write(block);
}

void ZipReader::count(Bytes made) {
  meter_.made(made.size());
  crc_ = crc32(made, crc_);
  size_ += made.size();
  const bool too_much = (!member_.described && size_ > member_.size) || (member_.is_folder() && size_ > 0);
  if (too_much)
    refuse(member_.name, "has a wrong size", std::to_string(size_) + " bytes", std::to_string(member_.size));
}

void ZipReader::end_content() {
  record_at_ += packed_;
  part_ = Part::descriptor;
  if (!member_.described) end_member();
}

void ZipReader::read_descriptor() {
  member_.crc = crc_;
  member_.packed = packed_;
  member_.size = size_;
  const std::size_t length = descriptor_length(record_, member_);
  if (length == 0) refuse(member_.name, "is damaged", "another CRC-32 or size than unpacked", "the same");
  end_record(length);
  end_member();
}

void ZipReader::end_member() {
  if (crc_ != member_.crc || size_ != member_.size) {
    refuse(member_.name, "is damaged",
           "CRC-32 " + std::to_string(crc_) + " of " + std::to_string(size_) + " bytes",
           std::to_string(member_.crc) + " of " + std::to_string(member_.size));
  }
  if (!member_.is_folder()) files_.end();
  ++members_;
  unmatched_.emplace(member_.offset, std::move(member_));
  part_ = Part::signature;
}

void ZipReader::match_central() {
  const zip::Member told = zip::read_central(record_);
  const auto found = unmatched_.find(told.offset);
  const bool same = found != unmatched_.end() && found->second.name == told.name &&
                    found->second.method == told.method && found->second.crc == told.crc &&
                    found->second.packed == told.packed && found->second.size == told.size;
  if (!same)
    refuse(told.name, "is told differently at the archive's end", "another member", "what is at its front");
  unmatched_.erase(found);
  ++matched_;
  end_record(record_.bytes().size());
}

// Values that do not fit into the old end record are all ones there, and in the ZIP64 one.
void ZipReader::match_end(const zip::End& told, bool wide) {
  const auto same = [wide](std::uint64_t value, std::uint64_t ones, std::uint64_t real) {
    return value == real || (wide && value == ones);
  };
  const std::uint64_t at = central_at_.value_or(central_end_);
  const std::uint64_t size = central_end_ - at;
  const bool right = same(told.entries, 0xffff, matched_) && same(told.size, 0xffffffff, size) &&
                     same(told.offset, 0xffffffff, at);
  const bool right64 =
      !end64_ || (end64_->entries == matched_ && end64_->size == size && end64_->offset == at);
  if (!right || !right64 || !unmatched_.empty() || matched_ != members_) {
    refuse_archive("is damaged: its end does not tell the `" + std::to_string(members_) +
                   "` members in front of it");
  }
}

}  // namespace fastslm
