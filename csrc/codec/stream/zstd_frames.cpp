#include "codec/stream/zstd_frames.hpp"

#include <algorithm>
#include <exception>
#include <optional>
#include <string>

#include <fastslm/error.hpp>

#include "codec/refuse.hpp"

namespace fastslm {
namespace {

constexpr std::uint64_t kMostGathered = 32U << 20U;
constexpr std::uint64_t kMostContent = 32U << 20U;
constexpr std::uint64_t kMostHeld = 256U << 20U;  // packed and plain bytes of all frames under way

// Zstandard seekable format 0.1: entries, then their number, a descriptor and a magic number, in a skippable
// frame.
constexpr std::uint32_t kTableFrame = 0x184D2A5E;
constexpr std::uint32_t kTableMagic = 0x8F92EAB1;
constexpr std::size_t kTableHead = 8;
constexpr std::size_t kTableFoot = 9;

}  // namespace

struct ZstdFrames::Frame {
  std::vector<std::byte> packed;
  std::uint64_t most_content = 0;
  bool exact = false;  // the header tells the size
  std::shared_ptr<Buffer> buffer;
  std::size_t content = 0;
  std::optional<Error> error;
  std::future<void> done;

  std::uint64_t held() const { return packed.size() + most_content; }
};

ZstdFrames::ZstdFrames(unsigned threads, Meter& meter, Stage& next)
    : threads_(threads), meter_(meter), next_(next) {}

ZstdFrames::~ZstdFrames() = default;

void ZstdFrames::push(const Block& block) {
  Bytes in = block.bytes;
  while (!in.empty()) {
    const std::size_t taken = scanner_.feed(in);
    any_ = true;
    packed_ += taken;
    take(in.first(taken));
    in = in.subspan(taken);
    if (scanner_.ended()) end_frame();
  }
}

void ZstdFrames::take(Bytes part) {
  if (stream_) return stream_->push({part});
  gathered_.insert(gathered_.end(), part.begin(), part.end());
  const bool large = gathered_.size() > kMostGathered || scanner_.most_content() > kMostContent;
  if (!large) return;
  if (scanner_.is_skippable()) {
    gathered_.resize(kTableHead);  // nobody needs it
  } else {
    begin_stream();
  }
}

void ZstdFrames::begin_stream() {
  while (!under_way_.empty()) hand_on_first();
  next_.bytes = 0;
  stream_ = std::make_unique<Decompress>(make_zstd_decoder(), meter_, next_);
  stream_->push({gathered_});
  gathered_.clear();
}

void ZstdFrames::end_frame() {
  if (stream_) {
    if (stream_->is_inside()) refuse_archive("is damaged: a zstd frame does not end where its blocks do");
    stream_->flush();
    stream_.reset();
    note(packed_, next_.bytes);
  } else if (!scanner_.is_skippable()) {
    auto frame = std::make_unique<Frame>();
    frame->packed = std::move(gathered_);
    frame->most_content = scanner_.most_content();
    frame->exact = scanner_.content_size().has_value();
    start(std::move(frame));
  } else if (gathered_.size() > kTableHead + kTableFoot &&
             Gather::little<std::uint32_t>(gathered_) == kTableFrame) {
    table_ = std::move(gathered_);
  }
  if (!spare_.empty() && gathered_.capacity() == 0) {
    gathered_ = std::move(spare_.back());
    spare_.pop_back();
  }
  gathered_.clear();
  packed_ = 0;
  scanner_ = {};
}

void ZstdFrames::start(std::unique_ptr<Frame> fresh) {
  const auto full = [&] { return under_way_.size() > threads_ || held_bytes_ + fresh->held() > kMostHeld; };
  while (!under_way_.empty() && full()) hand_on_first();
  Frame& frame = *under_way_.emplace_back(std::move(fresh));
  held_bytes_ += frame.held();
  if (threads_ > 1 && !workers_) workers_ = std::make_unique<Workers>(threads_);
  if (workers_) {
    frame.done = workers_->give([this, &frame] { decode(frame); });
  } else {
    decode(frame);
  }
}

// On any thread.
void ZstdFrames::decode(Frame& frame) noexcept {
  try {
    decode_whole(frame);
  } catch (const Error& error) {
    frame.error = error;
  } catch (const std::exception& error) {
    frame.error = Error(ErrorCode::internal, error.what());
  }
}

void ZstdFrames::decode_whole(Frame& frame) {
  ZstdContext context;
  {
    const std::lock_guard lock(contexts_mutex_);
    if (!contexts_.empty()) {
      context = std::move(contexts_.back());
      contexts_.pop_back();
    }
  }
  if (!context) context = new_zstd_context();
  frame.buffer = pool_.take(std::max<std::size_t>(1, static_cast<std::size_t>(frame.most_content)));
  frame.content = decode_zstd_frame(context.get(), frame.packed, frame.buffer->bytes());
  const std::lock_guard lock(contexts_mutex_);
  contexts_.push_back(std::move(context));
}

void ZstdFrames::hand_on_first() {
  const auto frame = std::move(under_way_.front());
  under_way_.pop_front();
  held_bytes_ -= frame->held();
  if (frame->done.valid()) frame->done.get();
  if (frame->error) throw Error(*frame->error);
  if (frame->exact && frame->content != frame->most_content) {
    refuse_archive("is damaged: a zstd frame holds `" + std::to_string(frame->content) +
                   "` bytes, expected `" + std::to_string(frame->most_content) + "`");
  }
  meter_.made(frame->content);
  note(frame->packed.size(), frame->content);
  spare_.push_back(std::move(frame->packed));
  if (frame->content > 0) next_.push({frame->buffer->bytes().first(frame->content), frame->buffer});
}

void ZstdFrames::note(std::uint64_t packed, std::uint64_t content) {
  if (content > 0) sizes_.emplace_back(packed, content);
}

void ZstdFrames::finish() {
  if (!any_ || packed_ > 0) refuse_archive("ends too early");
  while (!under_way_.empty()) hand_on_first();
  if (!table_.empty()) check_table();
  next_.next.finish();
}

void ZstdFrames::check_table() const {
  const auto number = [this](std::size_t at) {
    return Gather::little<std::uint32_t>(Bytes(table_).subspan(at));
  };
  const std::size_t foot = table_.size() - kTableFoot;
  if (number(foot + 5) != kTableMagic) return;  // a skippable frame of somebody else
  const bool sums = (std::to_integer<unsigned>(table_[foot + 4]) & 0x80U) != 0;
  const std::size_t entry = sums ? 12 : 8;
  const std::size_t count = number(foot);
  if (count != (foot - kTableHead) / entry || (foot - kTableHead) % entry != 0) {
    refuse_archive("is damaged: its seek table has another length than it says");
  }
  std::vector<Sizes> told;
  for (std::size_t at = kTableHead; at < foot; at += entry) {
    if (number(at + 4) > 0) told.emplace_back(number(at), number(at + 4));
  }
  if (told != sizes_) refuse_archive("is damaged: its seek table does not tell the frames that are there");
}

}  // namespace fastslm
