// The stage that takes a zip archive apart from its front, member by member; the directory at its end must
// then tell the same members. Stored and deflated members, ZIP64, data descriptors.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "codec/archive/files_out.hpp"
#include "codec/archive/zip_records.hpp"
#include "codec/blocks.hpp"
#include "codec/gather.hpp"
#include "codec/meter.hpp"
#include "codec/stream/inflate.hpp"

namespace fastslm {

class ZipReader : public Stage {
 public:
  ZipReader(FilesOut& files, Meter& meter) : files_(files), meter_(meter) {}

  void push(const Block& block) override;
  void finish() override;

 private:
  enum class Part { signature, local, stored, deflated, descriptor, central, end64, locator64, end, over };

  void read_signature();
  void step(Bytes& in);
  bool fill_record(Bytes& in, std::size_t fixed, std::size_t (*rest)(const Gather&));
  void end_record(std::size_t size);
  void begin_member();
  std::size_t take_stored(const Block& rest);
  std::size_t take_deflated(Bytes in);
  void flush();
  void count(Bytes made);
  void end_content();
  void read_descriptor();
  void end_member();
  void match_central();
  void match_end(const zip::End& told, bool wide);

  FilesOut& files_;
  Meter& meter_;
  BufferPool pool_;
  Part part_ = Part::signature;
  Gather record_;
  std::uint64_t record_at_ = 0;  // offset of the record or content that arrives

  zip::Member member_;
  Inflater inflater_;
  std::shared_ptr<Buffer> buffer_;
  std::size_t filled_ = 0;
  std::uint32_t crc_ = 0;
  std::uint64_t packed_ = 0;
  std::uint64_t size_ = 0;

  std::map<std::uint64_t, zip::Member> unmatched_;  // by offset
  std::uint64_t members_ = 0;
  std::uint64_t matched_ = 0;
  std::optional<std::uint64_t> central_at_;
  std::uint64_t central_end_ = 0;
  std::optional<zip::End> end64_;
};

}  // namespace fastslm
