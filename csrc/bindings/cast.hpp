// What several bindings need: names as Python writes them, and owners of threads.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <pybind11/pybind11.h>
#include <unistd.h>

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

// Something whose threads are joined without the GIL. After a fork the child has no such threads; it forgets
// them.
template <class Thing>
class Owned {
 public:
  template <class... Arguments>
  explicit Owned(Arguments&&... arguments)
      : thing_(std::make_unique<Thing>(std::forward<Arguments>(arguments)...)) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  ~Owned() {
    if (getpid() != owner_) {
      static_cast<void>(thing_.release());
      return;
    }
    const pybind11::gil_scoped_release unlocked;
    thing_.reset();
  }

  Thing& operator*() { return *thing_; }

 private:
  pid_t owner_ = getpid();
  std::unique_ptr<Thing> thing_;
};

}  // namespace fastslm::python
