// Which names members of an archive may have. Law: an admitted name stays below the folder, on every
// operating system, and no two members mean the same file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace fastslm {

class Names {
 public:
  explicit Names(std::uint64_t most) : most_(most) {}

  // The clean relative path of one more member: no `.` parts, no slash at its end; empty for the folder
  // itself, which tar programs like to list. Throws Error(bad_format).
  std::string admit(std::string_view name, bool is_folder);

 private:
  void claim(const std::string& path, bool is_folder);

  struct Claim {
    std::string spelling;
    bool is_folder = false;
  };

  std::uint64_t most_;
  std::uint64_t count_ = 0;
  std::map<std::string, Claim> claims_;  // by the name in lower case
};

}  // namespace fastslm
