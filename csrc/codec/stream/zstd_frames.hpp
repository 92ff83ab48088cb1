// The stage for zstd: whole frames are decoded by all processors, in order and side by side; a frame that is
// too large to hold is decoded as it comes. A seek table, where there is one, must tell what was found.
#pragma once

#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "codec/blocks.hpp"
#include "codec/meter.hpp"
#include "codec/stream/decompress.hpp"
#include "codec/stream/workers.hpp"
#include "codec/stream/zstd.hpp"
#include "codec/stream/zstd_scan.hpp"

namespace fastslm {

class ZstdFrames : public Stage {
 public:
  ZstdFrames(unsigned threads, Meter& meter, Stage& next);
  ~ZstdFrames() override;

  void push(const Block& block) override;
  void finish() override;

 private:
  // Counts what the decoded stream makes, on the way to the next stage.
  struct Counter : Stage {
    explicit Counter(Stage& to) : next(to) {}
    void push(const Block& block) override {
      bytes += block.bytes.size();
      next.push(block);
    }
    void finish() override {}

    Stage& next;
    std::uint64_t bytes = 0;
  };

  struct Frame;
  using Sizes = std::pair<std::uint64_t, std::uint64_t>;  // of a frame: packed, content

  void take(Bytes part);
  void begin_stream();
  void end_frame();
  void start(std::unique_ptr<Frame> fresh);
  void decode(Frame& frame) noexcept;
  void decode_whole(Frame& frame);
  void hand_on_first();
  void note(std::uint64_t packed, std::uint64_t content);
  void check_table() const;

  const unsigned threads_;
  Meter& meter_;
  Counter next_;
  FrameScanner scanner_;
  std::vector<std::byte> gathered_;            // of the frame that is arriving
  std::vector<std::vector<std::byte>> spare_;  // memory of frames that are done
  std::uint64_t packed_ = 0;                   // its bytes so far
  bool any_ = false;
  std::unique_ptr<Decompress> stream_;  // for the frame that is arriving, when it is too large to gather
  BufferPool pool_;
  std::deque<std::unique_ptr<Frame>> under_way_;  // a frame stays where it is until its work is done
  std::uint64_t held_bytes_ = 0;                  // by these
  std::vector<Sizes> sizes_;
  std::vector<std::byte> table_;
  std::mutex contexts_mutex_;
  std::vector<ZstdContext> contexts_;
  std::unique_ptr<Workers> workers_;  // last: they use the rest
};

}  // namespace fastslm
