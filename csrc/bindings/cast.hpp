// Names of the algorithms, as Python writes them.
#pragma once

#include <optional>
#include <string>

#include <fastslm/error.hpp>
#include <fastslm/hash.hpp>

namespace fastslm::python {

// `none` is no algorithm. Throws Error(invalid_argument) for other names.
inline std::optional<HashAlgorithm> hash_algorithm(const std::string& name) {
  if (name == "sha256") return HashAlgorithm::sha256;
  if (name == "git-sha1") return HashAlgorithm::git_sha1;
  if (name == "none") return std::nullopt;
  throw Error(ErrorCode::invalid_argument,
              "`algorithm` is `" + name + "`, expected `sha256`, `git-sha1` or `none`",
              {.name = "algorithm"});
}

}  // namespace fastslm::python
