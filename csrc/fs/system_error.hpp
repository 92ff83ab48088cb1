// From errno to Error; internal to fs.
#pragma once

#include <cstdint>
#include <string>

namespace fastslm {

// Throws disk_full for ENOSPC and EDQUOT, file_system for anything else. `action` reads like "cannot write".
[[noreturn]] void throw_system_error(const char* action, const std::string& path, int code,
                                     std::uint64_t needed_bytes = 0);

}  // namespace fastslm
