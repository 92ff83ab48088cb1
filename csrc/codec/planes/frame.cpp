#include "codec/planes/frame.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#define ZSTD_STATIC_LINKING_ONLY  // for ZSTD_c_literalCompressionMode, a number that the shared library knows
#include <zstd.h>

#include <fastslm/error.hpp>

#include "hash/checksum.hpp"

namespace fastslm::planes {
namespace {

constexpr std::uint32_t kMagic = 0x31505346;  // `FSP1`
constexpr std::uint32_t kPacked = 1U << 31U;
constexpr std::size_t kSummed = 24;  // bytes of the head that the checksum covers

// Matches do not pay in exponents: a level that hardly looks for them, with Huffman codes always, packs three
// times as fast as level 1, and better.
constexpr int kLevel = -1000;
constexpr std::size_t kTaste = 32U << 10U;  // a plane whose beginning does not shrink is not tried further

template <class Number>
void put(std::vector<std::byte>& out, Number value) {
  for (std::size_t k = 0; k < sizeof(Number); ++k) {
    out.push_back(static_cast<std::byte>((std::uint64_t{value} >> (8 * k)) & 0xFFU));
  }
}

template <class Number>
Number get(const std::byte* from) {
  std::uint64_t value = 0;
  for (std::size_t k = 0; k < sizeof(Number); ++k)
    value |= std::to_integer<std::uint64_t>(from[k]) << (8 * k);
  return static_cast<Number>(value);
}

[[noreturn]] void damaged(const std::string& what) {
  throw Error(ErrorCode::bad_format, "a packed frame " + what, {.name = "frame"});
}

std::uint64_t checksum(Bytes head, Bytes payload) {
  Checksum64 sum;
  sum.update(head.first(kSummed));
  sum.update(payload);
  return sum.value();
}

class Packer {
 public:
  Packer() : context_(ZSTD_createCCtx()) {
    if (!context_) throw std::bad_alloc();
    set(ZSTD_c_compressionLevel, kLevel);
    set(ZSTD_c_literalCompressionMode, ZSTD_lcm_huffman);
    set(ZSTD_c_contentSizeFlag, 1);
  }

  // The plane with its size before it, packed if that is worth anything.
  void add(Bytes plane, std::vector<std::byte>& out) {
    const bool tasty = plane.size() <= kTaste || shrinks(plane.first(kTaste));
    const std::size_t size = tasty ? compress(plane) : 0;
    const Bytes chosen = size > 0 ? Bytes(buffer_).first(size) : plane;
    put(out, static_cast<std::uint32_t>(chosen.size()) | (size > 0 ? kPacked : 0U));
    out.insert(out.end(), chosen.begin(), chosen.end());
  }

 private:
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };

  // An older library may not know a wish; then it packs a little worse.
  void set(ZSTD_cParameter parameter, int value) {
    static_cast<void>(ZSTD_CCtx_setParameter(context_.get(), parameter, value));
  }

  bool shrinks(Bytes sample) { return compress(sample) > 0; }

  // The packed size, 0 when it is hardly less.
  std::size_t compress(Bytes plane) {
    buffer_.resize(std::max(buffer_.size(), ZSTD_compressBound(plane.size())));
    const std::size_t size =
        ZSTD_compress2(context_.get(), buffer_.data(), buffer_.size(), plane.data(), plane.size());
    return ZSTD_isError(size) == 0 && size < plane.size() - plane.size() / 50 ? size : 0;
  }

  std::unique_ptr<ZSTD_CCtx, Free> context_;
  std::vector<std::byte> buffer_;
};

void check(Bytes raw, const Numbers& numbers) {
  const bool known = numbers.width == 1 || numbers.width == 2 || numbers.width == 4;
  if (!known || numbers.lead >= numbers.width) {
    const std::string found = std::to_string(numbers.width) + " and " + std::to_string(numbers.lead);
    throw Error(ErrorCode::invalid_argument,
                "`width` and `lead` are `" + found + "`, expected 1, 2 or 4 and less than that",
                {.name = "width"});
  }
  if (raw.empty() || raw.size() > kMostFrame) {
    throw Error(ErrorCode::invalid_argument,
                "a frame of `" + std::to_string(raw.size()) + "` bytes, expected 1 to 1048576",
                {.name = "raw"});
  }
}

void put_planes(Bytes numbers, std::size_t width, std::vector<std::byte>& out) {
  const std::size_t count = numbers.size() / width;
  const std::unique_ptr<std::byte[]> flat(
      new std::byte[numbers.size()]);  // not cleared, as a vector would be
  PlanesOut planes{};
  for (std::size_t k = 0; k < width; ++k) planes[k] = flat.get() + k * count;
  split(numbers.data(), planes, width, count, best_path());
  Packer packer;
  for (std::size_t k = 0; k < width; ++k) packer.add({planes[k], count}, out);
}

void put_payload(Bytes raw, const Numbers& numbers, std::vector<std::byte>& out) {
  const std::size_t lead = std::min(numbers.lead, raw.size());
  const std::size_t whole = (raw.size() - lead) / numbers.width * numbers.width;
  const Bytes rest = raw.subspan(lead + whole);
  out.insert(out.end(), raw.begin(), raw.begin() + static_cast<std::ptrdiff_t>(lead));
  put_planes(raw.subspan(lead, whole), numbers.width, out);
  out.insert(out.end(), rest.begin(), rest.end());
}

std::vector<std::byte> head_of(Bytes raw, std::uint64_t offset, const Numbers& numbers, Bytes payload) {
  std::vector<std::byte> head;
  put(head, kMagic);
  put(head, static_cast<std::uint8_t>(numbers.width));
  put(head, static_cast<std::uint8_t>(std::min(numbers.lead, raw.size())));
  put(head, std::uint16_t{0});
  put(head, offset);
  put(head, static_cast<std::uint32_t>(raw.size()));
  put(head, static_cast<std::uint32_t>(payload.size()));
  put(head, checksum(head, payload));
  return head;
}

}  // namespace

std::vector<std::byte> pack_frame(Bytes raw, std::uint64_t offset, const Numbers& numbers) {
  check(raw, numbers);
  std::vector<std::byte> frame;
  frame.reserve(kHeadBytes + raw.size() + 4 * kMostWidth);
  frame.resize(kHeadBytes);
  put_payload(raw, numbers, frame);
  std::ranges::copy(head_of(raw, offset, numbers, Bytes(frame).subspan(kHeadBytes)), frame.begin());
  return frame;
}

Head parse_head(std::span<const std::byte, kHeadBytes> bytes) {
  const std::byte* const from = bytes.data();
  const Head head{std::to_integer<std::size_t>(from[4]), std::to_integer<std::size_t>(from[5]),
                  get<std::uint64_t>(from + 8),          get<std::uint32_t>(from + 16),
                  get<std::uint32_t>(from + 20),         get<std::uint64_t>(from + 24)};
  const bool known = head.width == 1 || head.width == 2 || head.width == 4;
  if (get<std::uint32_t>(from) != kMagic || get<std::uint16_t>(from + 6) != 0 || !known) {
    damaged("does not begin like one");
  }
  if (head.raw < 1 || head.raw > kMostFrame || head.lead >= head.width || head.lead > head.raw) {
    damaged("of `" + std::to_string(head.raw) + "` bytes, expected 1 to 1048576");
  }
  if (head.payload > head.raw + 4 * head.width) {
    damaged("takes `" + std::to_string(head.payload) + "` bytes for `" + std::to_string(head.raw) + "`");
  }
  return head;
}

struct FrameDecoder::Zstd {
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_DCtx, Free> context{ZSTD_createDCtx()};
};

FrameDecoder::FrameDecoder(Path path) : path_(path), zstd_(std::make_unique<Zstd>()) {
  if (!zstd_->context) throw std::bad_alloc();
}

FrameDecoder::~FrameDecoder() = default;

// The next plane of the payload, which is shortened by it. Packed ones may not become longer than the plane
// is.
const std::byte* FrameDecoder::plane(Bytes& payload, std::size_t index, std::size_t count) {
  if (payload.size() < 4) damaged("ends inside a plane");
  const auto word = get<std::uint32_t>(payload.data());
  const std::size_t size = word & ~kPacked;
  payload = payload.subspan(4);
  if (size > payload.size()) damaged("ends inside a plane");
  const std::byte* const bytes = payload.data();
  payload = payload.subspan(size);
  if ((word & kPacked) == 0) {
    if (size != count) damaged("has a plane of another length than its numbers");
    return bytes;
  }
  planes_[index].resize(count);
  const std::size_t got =
      ZSTD_decompressDCtx(zstd_->context.get(), planes_[index].data(), count, bytes, size);
  if (ZSTD_isError(got) != 0 || got != count) damaged("has a plane that cannot be unpacked");
  return planes_[index].data();
}

void FrameDecoder::decode(std::span<const std::byte, kHeadBytes> head_bytes, const Head& head, Bytes payload,
                          std::span<std::byte> out) {
  if (payload.size() != head.payload || out.size() != head.raw) damaged("is cut off");
  if (checksum(head_bytes, payload) != head.checksum) damaged("has a wrong checksum");
  const std::size_t count = (head.raw - head.lead) / head.width;
  const std::size_t tail = head.raw - head.lead - count * head.width;
  if (payload.size() < head.lead + tail) damaged("ends too soon");
  std::copy_n(payload.begin(), head.lead, out.begin());
  payload = payload.subspan(head.lead);
  PlanesIn planes{};
  for (std::size_t k = 0; k < head.width; ++k) planes[k] = plane(payload, k, count);
  if (payload.size() != tail) damaged("has bytes that belong to nothing");
  merge(planes, out.data() + head.lead, head.width, count, path_);
  std::copy_n(payload.begin(), tail, out.end() - static_cast<std::ptrdiff_t>(tail));
}

std::vector<std::byte> unpack_frame(Bytes frame, std::uint64_t offset) {
  if (frame.size() < kHeadBytes) damaged("is shorter than its head");
  const auto head_bytes = frame.first<kHeadBytes>();
  const Head head = parse_head(head_bytes);
  if (head.offset != offset) damaged("belongs to another place in the file");
  std::vector<std::byte> out(head.raw);
  FrameDecoder().decode(head_bytes, head, frame.subspan(kHeadBytes), out);
  return out;
}

}  // namespace fastslm::planes
