// Packed frames: what went in comes out, on every path of the processor, and nothing else is believed.
#include <bit>
#include <functional>
#include <random>

#include <fastslm/planes.hpp>

#include "check.hpp"
#include "codec/planes/frame.hpp"
#include "codec/planes/stream.hpp"
#include "hash/checksum.hpp"

using namespace fastslm;
using planes::kHeadBytes;

namespace {

using Data = std::vector<std::byte>;

// Weights as they are: Gaussian, rounded to bfloat16.
Data weights(std::size_t bytes, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss(0, 0.02F);
  Data data(bytes);
  for (std::size_t i = 0; i + 1 < bytes; i += 2) {
    const auto bits = std::bit_cast<std::uint32_t>(gauss(random)) >> 16U;
    data[i] = static_cast<std::byte>(bits & 0xFFU);
    data[i + 1] = static_cast<std::byte>(bits >> 8U);
  }
  return data;
}

Data noise(std::size_t bytes, unsigned seed) {
  std::mt19937 random(seed);
  Data data(bytes);
  for (auto& byte : data) byte = static_cast<std::byte>(random() & 0xFFU);
  return data;
}

void every_path_gives_what_the_definition_gives() {
  for (const std::size_t width : {std::size_t{1}, std::size_t{2}, std::size_t{4}}) {
    for (const std::size_t count : {0U, 1U, 31U, 32U, 33U, 1000U, 65537U}) {
      const Data numbers = noise(width * count, 7);
      Data first;
      for (const auto path : planes::paths()) {
        Data flat(width * count);
        planes::PlanesOut out{};
        planes::PlanesIn in{};
        for (std::size_t k = 0; k < width; ++k) in[k] = out[k] = flat.data() + k * count;
        planes::split(numbers.data(), out, width, count, path);
        Data back(width * count);
        planes::merge(in, back.data(), width, count, path);
        CHECK(back == numbers);
        if (first.empty()) first = flat;
        CHECK(flat == first);
      }
    }
  }
}

void a_known_number_is_laid_out_as_written() {
  // 1.0 in bfloat16 is 0x3F80: rotated by one, 0x7F00.
  const Data one{std::byte{0x80}, std::byte{0x3F}};
  Data low(1), high(1);
  planes::split(one.data(), {low.data(), high.data()}, 2, 1, planes::Path::portable);
  CHECK_EQUAL(std::to_integer<int>(low[0]), 0x00);
  CHECK_EQUAL(std::to_integer<int>(high[0]), 0x7F);
}

void frames_come_back_whatever_their_size_and_phase() {
  for (const std::size_t size : {1U, 2U, 3U, 4U, 5U, 100U, 4096U, 1048575U, 1048576U}) {
    for (const std::size_t width : {std::size_t{1}, std::size_t{2}, std::size_t{4}}) {
      for (std::size_t lead = 0; lead < width; ++lead) {
        const Data raw = weights(size, 3);
        const Data frame = planes::pack_frame(raw, 12345, {width, lead});
        CHECK(frame.size() <= kHeadBytes + planes::kMostPayload);
        CHECK(planes::unpack_frame(frame, 12345) == raw);
      }
    }
  }
}

void weights_become_a_third_smaller_and_noise_hardly_larger() {
  const Data raw = weights(1U << 20U, 5);
  CHECK(static_cast<double>(planes::pack_frame(raw, 0, {2, 0}).size()) <
        0.69 * static_cast<double>(raw.size()));
  const Data random = noise(1U << 20U, 5);
  CHECK(planes::pack_frame(random, 0, {4, 0}).size() <= random.size() + 64);
  CHECK(planes::pack_frame(Data(1U << 20U), 0, {2, 0}).size() < 1000);
}

void wrong_arguments_are_refused() {
  const Data raw(10);
  for (const planes::Numbers numbers :
       {planes::Numbers{3, 0}, planes::Numbers{0, 0}, planes::Numbers{2, 2}}) {
    CHECK_ERROR(invalid_argument, planes::pack_frame(raw, 0, numbers));
  }
  const Data empty;
  const Data large((1U << 20U) + 1);
  const planes::Numbers bytes{1, 0};
  CHECK_ERROR(invalid_argument, planes::pack_frame(empty, 0, bytes));
  CHECK_ERROR(invalid_argument, planes::pack_frame(large, 0, bytes));
}

Data decoded(Decoder& decoder, Bytes in, std::size_t piece, std::size_t room) {
  Data result;
  Data out(room);
  while (true) {
    const DecodeStep step = decoder.decode(in.first(std::min(piece, in.size())), out);
    result.insert(result.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(step.produced));
    in = in.subspan(step.consumed);
    if (step.finished || (step.produced < room && in.empty())) return result;
  }
}

Data packed(const Data& raw, std::uint64_t offset, std::size_t frame) {
  Data all;
  for (std::size_t at = 0; at < raw.size(); at += frame) {
    const Bytes part = Bytes(raw).subspan(at, std::min(frame, raw.size() - at));
    const Data one = planes::pack_frame(part, offset + at, {2, (offset + at) % 2});
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

void a_stream_may_come_in_any_pieces() {
  const Data raw = weights(300'001, 9);
  const Data all = packed(raw, 1'000'001, 77'777);
  for (const auto& [piece, room] :
       {std::pair<std::size_t, std::size_t>{1, 4096}, {13, 1}, {16384, 100'000}, {all.size(), 1U << 20U}}) {
    const auto decoder = make_planes_decoder({1'000'001, 1'300'002});
    CHECK(decoded(*decoder, all, piece, room) == raw);
  }
}

// A frame changed by somebody who knows how its checksum is made.
Data forged(Data frame, const std::function<void(Data&)>& change) {
  change(frame);
  Checksum64 sum;
  sum.update(Bytes(frame).first(24));
  sum.update(Bytes(frame).subspan(kHeadBytes));
  for (std::size_t k = 0; k < 8; ++k)
    frame[24 + k] = static_cast<std::byte>((sum.value() >> (8 * k)) & 0xFFU);
  return frame;
}

void put32(Data& data, std::size_t at, std::uint32_t value) {
  for (std::size_t k = 0; k < 4; ++k) data[at + k] = static_cast<std::byte>((value >> (8 * k)) & 0xFFU);
}

void every_flipped_or_missing_byte_is_noticed() {
  const Data raw = weights(999, 2);
  const Data frame = planes::pack_frame(raw, 64, {2, 0});
  for (std::size_t i = 0; i < frame.size(); ++i) {
    Data bad = frame;
    bad[i] ^= std::byte{0x10};
    CHECK_ERROR(bad_format, planes::unpack_frame(bad, 64));
    CHECK_ERROR(bad_format, planes::unpack_frame(Bytes(frame).first(i), 64));
  }
  CHECK_ERROR(bad_format, planes::unpack_frame(frame, 65));
}

void sizes_that_lie_are_refused() {
  const Data frame = planes::pack_frame(weights(5000, 2), 0, {2, 0});
  const std::uint32_t lies[] = {0, 1, 4998, 5002, 1U << 20U, (1U << 20U) + 1, 0x7FFFFFFFU, 0xFFFFFFFFU};
  for (const std::uint32_t value : lies) {
    for (const std::size_t at :
         {std::size_t{16}, std::size_t{20}, kHeadBytes}) {  // raw, payload, first plane
      const Data bad = forged(frame, [&](Data& data) { put32(data, at, value); });
      CHECK_ERROR(bad_format, planes::unpack_frame(bad, 0));
    }
  }
}

// A mebibyte of zeros in a few bytes is fine; more than the frame says is not.
void a_bomb_does_not_go_off() {
  const Data small = planes::pack_frame(Data(1U << 20U), 0, {1, 0});
  const Data bad = forged(small, [](Data& data) { put32(data, 16, 1000); });
  CHECK_ERROR(bad_format, planes::unpack_frame(bad, 0));
}

void any_garbage_ends_in_an_error_or_in_bytes_of_the_right_number() {
  std::mt19937 random(17);
  const Data frame = planes::pack_frame(weights(3000, 2), 0, {4, 1});
  unsigned refused = 0;
  for (int round = 0; round < 3000; ++round) {
    const Data bad = forged(frame, [&](Data& data) {
      for (auto n = 1 + random() % 3; n > 0; --n) {
        data[random() % data.size()] = static_cast<std::byte>(random() & 0xFFU);
      }
    });
    try {
      const Data raw = planes::unpack_frame(bad, 0);
      CHECK(raw.size() <= planes::kMostFrame);
    } catch (const Error& error) {
      CHECK_EQUAL(error_name(error.code()), error_name(ErrorCode::bad_format));
      ++refused;
    }
  }
  CHECK(refused > 100);
}

void a_stream_stays_inside_its_stretch() {
  const Data raw = weights(10'000, 4);
  const Data all = packed(raw, 500, 4000);
  for (const ByteRange& stretch : {ByteRange{499, 10'500}, ByteRange{502, 10'500}, ByteRange{500, 9000}}) {
    const auto decoder = make_planes_decoder(stretch);
    CHECK_ERROR(bad_format, decoded(*decoder, all, 1000, 1000));
  }
  const Data twice = packed(Data(raw.begin(), raw.begin() + 4000), 500, 4000);
  Data repeated = twice;
  repeated.insert(repeated.end(), twice.begin(), twice.end());
  const auto decoder = make_planes_decoder({500, 10'500});
  CHECK_ERROR(bad_format, decoded(*decoder, repeated, 1000, 1000));
}

}  // namespace

int main() {
  return check::run({
      {"every path gives what the definition gives", every_path_gives_what_the_definition_gives},
      {"a known number is laid out as written", a_known_number_is_laid_out_as_written},
      {"frames come back whatever their size and phase", frames_come_back_whatever_their_size_and_phase},
      {"weights become a third smaller and noise hardly larger",
       weights_become_a_third_smaller_and_noise_hardly_larger},
      {"wrong arguments are refused", wrong_arguments_are_refused},
      {"a stream may come in any pieces", a_stream_may_come_in_any_pieces},
      {"every flipped or missing byte is noticed", every_flipped_or_missing_byte_is_noticed},
      {"sizes that lie are refused", sizes_that_lie_are_refused},
      {"a bomb does not go off", a_bomb_does_not_go_off},
      {"any garbage ends in an error or in bytes of the right number",
       any_garbage_ends_in_an_error_or_in_bytes_of_the_right_number},
      {"a stream stays inside its stretch", a_stream_stays_inside_its_stretch},
  });
}
