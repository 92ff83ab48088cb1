// RFC 1952, one member: header, deflate data, CRC-32 and size modulo 2^32.
#include <cstring>
#include <string>

#include <fastslm/hash.hpp>

#include "codec/decoder.hpp"
#include "codec/gather.hpp"
#include "codec/refuse.hpp"
#include "codec/stream/inflate.hpp"

namespace fastslm {
namespace {

constexpr std::size_t kFixedHeader = 10;
constexpr std::size_t kTrailer = 8;
constexpr std::size_t kLongestText = 1U << 16U;
enum Flag : unsigned { header_crc = 2, extra = 4, name = 8, comment = 16, reserved = 0xe0 };

class GzipDecoder : public Decoder {
 public:
  DecodeStep decode(Bytes in, std::span<std::byte> out) override {
    const std::size_t before = in.size();
    while (!in.empty() && part_ != Part::data) {
      if (parse(in)) return {before - in.size(), 0, true};
    }
    const std::size_t parsed = before - in.size();
    if (part_ != Part::data) return {parsed, 0, false};
    DecodeStep step = inflater_.inflate(in, out);
    crc_ = crc32(out.first(step.produced), crc_);
    size_ += static_cast<std::uint32_t>(step.produced);
    step.consumed += parsed;
    step.finished = step.finished && end_data();
    return step;
  }

 private:
  enum class Part { fixed, extra_size, extra, name, comment, crc, data, trailer };

  // One part of the header, or the trailer; true when the member has ended.
  bool parse(Bytes& in) {
    switch (part_) {
      case Part::fixed:
        if (header_.fill(in, kFixedHeader)) next(check_fixed());
        break;
      case Part::extra_size:
        if (header_.fill(in, 2)) extra_size_ = header_.number<std::uint16_t>(0), next(Part::extra);
        break;
      case Part::extra:
        if (header_.fill(in, extra_size_)) next(after_extra());
        break;
      case Part::name:
        if (skip_text(in)) next((flags_ & comment) != 0 ? Part::comment : after_text());
        break;
      case Part::comment:
        if (skip_text(in)) next(after_text());
        break;
      case Part::crc:
        if (header_.fill(in, 2)) next(Part::data);
        break;
      case Part::trailer:
        if (!header_.fill(in, kTrailer)) break;
        check_trailer();
        return true;
      case Part::data:
        break;
    }
    return false;
  }

  void next(Part part) {
    part_ = part;
    header_.clear();
  }

  Part check_fixed() {
    if (header_.number<std::uint16_t>(0) != 0x8b1f) refuse_archive("is not in gzip format");
    if (header_.number<std::uint8_t>(2) != 8) refuse_archive("is packed by a method that gzip does not have");
    flags_ = header_.number<std::uint8_t>(3);
    if ((flags_ & reserved) != 0) refuse_archive("has flags that gzip does not have");
    return (flags_ & extra) != 0 ? Part::extra_size : after_extra();
  }

  Part after_extra() const {
    if ((flags_ & name) != 0) return Part::name;
    return (flags_ & comment) != 0 ? Part::comment : after_text();
  }

  Part after_text() const { return (flags_ & header_crc) != 0 ? Part::crc : Part::data; }

  bool skip_text(Bytes& in) {
    while (!in.empty()) {
      const std::byte letter = in.front();
      in = in.subspan(1);
      if (letter == std::byte{0}) {
        text_size_ = 0;
        return true;
      }
      if (++text_size_ > kLongestText) refuse_archive("has an endless gzip header");
    }
    return false;
  }

  // What the inflater read ahead is the begin of the trailer.
  bool end_data() {
    next(Part::trailer);
    Bytes surplus = inflater_.surplus();
    return !surplus.empty() && parse(surplus);
  }

  void check_trailer() {
    const auto crc = header_.number<std::uint32_t>(0);
    const auto size = header_.number<std::uint32_t>(4);
    if (crc != crc_ || size != size_) {
      refuse_archive("is damaged: its content has the CRC-32 `" + std::to_string(crc_) + "` and size `" +
                     std::to_string(size_) + "`, expected `" + std::to_string(crc) + "` and `" +
                     std::to_string(size) + "`");
    }
    next(Part::fixed);
    inflater_.reset();
    crc_ = size_ = 0;
  }

  Part part_ = Part::fixed;
  Gather header_;
  Inflater inflater_;
  unsigned flags_ = 0;
  std::size_t extra_size_ = 0;
  std::size_t text_size_ = 0;
  std::uint32_t crc_ = 0;
  std::uint32_t size_ = 0;
};

}  // namespace

std::unique_ptr<Decoder> make_gzip_decoder() { return std::make_unique<GzipDecoder>(); }

}  // namespace fastslm
