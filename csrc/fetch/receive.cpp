#include "fetch/receive.hpp"

#include <algorithm>

#include <fastslm/planes.hpp>

#include "base/clock.hpp"
#include "codec/planes/stream.hpp"
#include "net/response.hpp"
#include "net/url.hpp"

namespace fastslm {
namespace {

constexpr std::uint64_t kLeastBlock = 16U << 10U;  // libcurl hands out so much at a time
constexpr std::uint64_t kMostBlock = 256U << 10U;
constexpr std::uint64_t kBlocksPerFile = 1000;
constexpr std::chrono::milliseconds kLongestHold{30};
constexpr double kGlanceS = 0.1;

// What a killed process holds back is lost, so small files are written in small blocks.
std::size_t block_bytes(std::optional<std::uint64_t> file_size) {
  const std::uint64_t wanted = file_size.value_or(kMostBlock * kBlocksPerFile) / kBlocksPerFile;
  return static_cast<std::size_t>(std::clamp(wanted, kLeastBlock, kMostBlock));
}

[[noreturn]] void refuse_encoding(const std::string& address, std::string_view found) {
  const std::string url = redacted(address);
  const std::string expected(planes::kEncoding);
  throw Error(ErrorCode::server_refused,
              "`" + url + "` packs its answer as `" + std::string(found) + "`, expected `" + expected + "`",
              {.url = url, .expected = expected, .found = std::string(found)});
}

}  // namespace

RunReceiver::RunReceiver(FileTask& task, Run& run, Traffic& traffic, const StopFlag& stop)
    : task_(task),
      run_(run),
      traffic_(traffic),
      stop_(stop),
      asked_(task.next_range(run)),
      block_(block_bytes(task.request().size)) {
  buffer_.reserve(block_);
}

std::string RunReceiver::range_header() const {
  if (!asked_) return {};
  return "bytes=" + std::to_string(asked_->begin) + "-" + std::to_string(asked_->end - 1);
}

bool RunReceiver::on_head(const ResponseHead& head) {
  traffic_.note_latency(std::chrono::duration<double>(Clock::now() - started_).count());
  const auto size = task_.progress().size;
  const Body body = check_head(head, {task_.request().url, asked_, size});
  announced_ = body == Body::part ? asked_->size() : size;
  const auto encoding = header(head, "x-fastslm-encoding");
  if (encoding == planes::kEncoding && size) {
    decoder_ = make_planes_decoder(body == Body::part ? *asked_ : ByteRange{0, *size});
    unpacked_.resize(block_);
  } else if (!encoding.empty()) {
    refuse_encoding(task_.request().url, encoding);
  }
  return body == Body::part || !asked_ || task_.accept_whole(run_);
}

bool RunReceiver::on_body(std::span<const std::byte> data) {
  traffic_.wire_bytes += data.size();
  if (!(decoder_ ? take_packed(data) : take(data))) return false;
  if (is_due() && !flush()) return false;
  return keep_to_limit(data.size());
}

// What of a damaged body came before the damage is good, and the rest may be had by another request.
bool RunReceiver::take_packed(Bytes data) {
  DecodeStep step;
  do {
    try {
      step = decoder_->decode(data, unpacked_);
    } catch (const Error& error) {
      const std::string url = redacted(task_.request().url);
      throw Error(ErrorCode::range_mismatch, "`" + url + "` sent " + error.what(),
                  {.url = url, .offset = run_.position});
    }
    if (!take(Bytes(unpacked_).first(step.produced))) return false;
    data = data.subspan(step.consumed);
    if (step.finished && !data.empty()) refuse_surplus();
  } while (step.produced == unpacked_.size());
  return true;
}

bool RunReceiver::take(Bytes data) {
  received_ += data.size();
  if (announced_ && received_ > *announced_) refuse_surplus();
  while (!data.empty()) {
    if (buffer_.size() == block_ && !flush()) return false;
    const std::size_t step = std::min(data.size(), block_ - buffer_.size());
    buffer_.insert(buffer_.end(), data.begin(), data.begin() + static_cast<std::ptrdiff_t>(step));
    data = data.subspan(step);
  }
  return true;
}

bool RunReceiver::wanted() { return (!is_due() || flush()) && task_.wants(run_); }

bool RunReceiver::flush() {
  flushed_at_ = Clock::now();
  if (buffer_.empty()) return true;
  const bool more = task_.write(run_, buffer_);
  buffer_.clear();
  return more;
}

bool RunReceiver::is_due() const { return !is_whole() && Clock::now() - flushed_at_ >= kLongestHold; }

// A connection that is not read from fills its window, and the server waits.
bool RunReceiver::keep_to_limit(std::size_t bytes) {
  for (double left = traffic_.limit.reserve(bytes, steady_s()); left > 0; left -= kGlanceS) {
    if (!stop_.sleep(std::min(left, kGlanceS)) || !wanted()) return false;
  }
  return true;
}

void RunReceiver::refuse_surplus() {
  buffer_.clear();
  const std::string url = redacted(task_.request().url);
  throw Error(
      asked_ ? ErrorCode::range_mismatch : ErrorCode::size_mismatch,
      "`" + url + "` sent more than the " + std::to_string(*announced_) + " bytes that were expected",
      {.url = url, .expected = std::to_string(*announced_), .found = std::to_string(received_), .name = url});
}

}  // namespace fastslm
