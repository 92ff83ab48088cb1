// One way to refuse what a stranger sent. Names of members are shown cut short and without control
// characters, since a message ends up on a terminal.
#pragma once

#include <string>
#include <string_view>

namespace fastslm {

// Throws Error(bad_format): "`subject` why: found `found`, expected expected".
[[noreturn]] void refuse(std::string_view subject, const std::string& why, const std::string& found,
                         const std::string& expected);

// Throws Error(bad_format): "the archive why", for damage that belongs to no member.
[[noreturn]] void refuse_archive(const std::string& why);

}  // namespace fastslm
