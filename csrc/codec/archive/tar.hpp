// The stage that takes a tar stream apart: POSIX ustar and pax, GNU long names. Files and folders only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "codec/archive/files_out.hpp"
#include "codec/blocks.hpp"
#include "codec/gather.hpp"

namespace fastslm {

class TarReader : public Stage {
 public:
  explicit TarReader(FilesOut& files) : files_(files) {}

  void push(const Block& block) override;
  void finish() override;

 private:
  enum class Part { header, text, content, padding, end };

  void read_header();
  void begin_member(char type, std::string name);
  void begin_text(char type, std::uint64_t size);
  void end_text();
  void read_pax(std::string_view records, bool global);
  void set(std::string_view key, std::string_view value, bool global);
  std::size_t take_content(const Block& rest);
  void end_content();

  FilesOut& files_;
  Part part_ = Part::header;
  Gather header_;
  char text_type_ = 0;
  std::uint64_t left_ = 0;     // bytes of the content or text
  std::uint64_t padding_ = 0;  // behind it, up to the next block
  unsigned zero_blocks_ = 0;
  std::optional<std::string> next_name_;  // of the next member, instead of the header's
  std::optional<std::uint64_t> next_size_;
};

}  // namespace fastslm
