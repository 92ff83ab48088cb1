// Text that a stranger wrote.
#pragma once

#include <string>
#include <string_view>

namespace fastslm {

bool is_utf8(std::string_view text) noexcept;

// As a message may show it: cut short, and without control characters, since it ends up on a terminal.
std::string shown(std::string_view text);

}  // namespace fastslm
