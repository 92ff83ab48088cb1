#include "codec/text.hpp"

#include <algorithm>

namespace fastslm {
namespace {

constexpr std::size_t kMostShown = 120;

std::size_t sequence_length(unsigned char lead) noexcept {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  return lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
}

// Shortest form, no surrogates, nothing beyond U+10FFFF (RFC 3629).
bool is_sequence(std::string_view bytes) noexcept {
  const auto at = [bytes](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  for (std::size_t i = 1; i < bytes.size(); ++i) {
    if ((at(i) & 0xc0U) != 0x80) return false;
  }
  if (at(0) == 0xe0) return at(1) >= 0xa0;
  if (at(0) == 0xed) return at(1) < 0xa0;
  if (at(0) == 0xf0) return at(1) >= 0x90;
  return at(0) != 0xf4 || at(1) < 0x90;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t length = sequence_length(static_cast<unsigned char>(text.front()));
    if (length == 0 || length > text.size() || !is_sequence(text.substr(0, length))) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string shown(std::string_view name) {
  std::string text(name.substr(0, kMostShown));
  const bool readable = is_utf8(name) && name.size() <= kMostShown;
  std::replace_if(
      text.begin(), text.end(),
      [readable](char letter) {
        const auto value = static_cast<unsigned char>(letter);
        return value < 0x20 || value == 0x7f || letter == '`' || (!readable && value >= 0x80);
      },
      '?');
  return name.size() > kMostShown ? text + "..." : text;
}

}  // namespace fastslm
