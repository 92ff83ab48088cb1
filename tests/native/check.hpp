// The smallest test kit that does: checks that say where and what, a runner, and a folder that goes away.
#pragma once

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

#include <fastslm/error.hpp>

namespace check {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class Value>
std::string shown(const Value& value) {
  std::ostringstream out;
  if constexpr (requires { out << value; }) {
    out << value;
  } else {
    out << "(a value)";
  }
  return out.str();
}

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

template <class Left, class Right>
void equal(const Left& left, const Right& right, const char* text, const char* file, int line) {
  if (!(left == right))
    fail(file, line, std::string(text) + ": `" + shown(left) + "` is not `" + shown(right) + "`");
}

template <class Step>
fastslm::Error error_of(Step step, const char* text, const char* file, int line) {
  try {
    step();
  } catch (const fastslm::Error& error) {
    return error;
  }
  fail(file, line, std::string(text) + " threw nothing");
}

using Test = std::pair<const char*, std::function<void()>>;

// Runs every test, also after a failure; the exit status of the program.
inline int run(const std::vector<Test>& tests) {
  int failures = 0;
  for (const auto& [story, test] : tests) {
    try {
      test();
      std::cout << "ok      " << story << std::endl;
    } catch (const std::exception& error) {
      std::cout << "FAILED  " << story << "\n        " << error.what() << std::endl;
      ++failures;
    }
  }
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "fastslm-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw Failure("no temporary folder");
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(std::string_view name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace check

#define CHECK(condition)                                           \
  do {                                                             \
    if (!(condition)) check::fail(__FILE__, __LINE__, #condition); \
  } while (false)
#define CHECK_EQUAL(left, right) check::equal((left), (right), #left, __FILE__, __LINE__)
// The fastslm::Error that the expression throws.
#define ERROR_OF(expression) \
  check::error_of([&] { static_cast<void>(expression); }, #expression, __FILE__, __LINE__)
#define CHECK_ERROR(expected_code, expression)                  \
  CHECK_EQUAL(fastslm::error_name(ERROR_OF(expression).code()), \
              fastslm::error_name(fastslm::ErrorCode::expected_code))
