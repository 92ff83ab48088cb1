#include "codec/archive/names.hpp"

#include <algorithm>
#include <vector>

#include "codec/refuse.hpp"
#include "codec/text.hpp"

namespace fastslm {
namespace {

constexpr std::size_t kLongestName = 1024;
constexpr std::size_t kLongestPart = 255;  // what common file systems take

// ASCII only: file systems that ignore case differ in what they do beyond it.
std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return result;
}

bool is_control(char c) {
  const auto value = static_cast<unsigned char>(c);
  return value < 0x20 || value == 0x7f;
}

void check_text(std::string_view name) {
  if (name.empty()) refuse(name, "cannot be a member's name", "nothing", "a relative path");
  if (name.size() > kLongestName) {
    refuse(name, "is too long a name", std::to_string(name.size()) + " bytes", "at most 1024");
  }
  if (!is_utf8(name)) refuse(name, "has a name of unknown encoding", std::string(name), "UTF-8");
  if (std::any_of(name.begin(), name.end(), is_control)) {
    refuse(name, "has a control character in its name", std::string(name), "a printable name");
  }
  if (name.front() == '/' || name.find_first_of("\\:") != name.npos) {
    refuse(name, "leaves its folder", std::string(name), "a relative path with forward slashes");
  }
}

std::vector<std::string_view> parts_of(std::string_view name) {
  std::vector<std::string_view> parts;
  while (!name.empty()) {
    const auto slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    name = slash == name.npos ? std::string_view() : name.substr(slash + 1);
    if (!part.empty() && part != ".") parts.push_back(part);
  }
  return parts;
}

}  // namespace

std::string Names::admit(std::string_view name, bool is_folder) {
  if (++count_ > most_) {
    refuse_archive("has more than " + std::to_string(most_) + " members");
  }
  check_text(name);
  if (!is_folder && name.back() == '/')
    refuse(name, "is no file's name", std::string(name), "no slash at the end");
  std::string path;
  const auto parts = parts_of(name);
  for (const std::string_view& part : parts) {
    if (part == "..") refuse(name, "leaves its folder", std::string(name), "a path without `..`");
    if (part.size() > kLongestPart) {
      refuse(name, "has too long a part", std::to_string(part.size()) + " bytes", "at most 255");
    }
    if (!path.empty()) path += '/';
    path += part;
    claim(path, is_folder || &part != &parts.back());
  }
  if (path.empty() && !is_folder) refuse(name, "is no file's name", std::string(name), "a relative path");
  return path;
}

void Names::claim(const std::string& path, bool is_folder) {
  const auto [found, fresh] = claims_.try_emplace(lower(path), Claim{path, is_folder});
  if (fresh) return;
  const Claim& claim = found->second;
  if (claim.spelling != path)
    refuse(path, "differs from another member only in case", claim.spelling, "one of them");
  if (!claim.is_folder || !is_folder) refuse(path, "is there twice", claim.spelling, "each name once");
}

}  // namespace fastslm
