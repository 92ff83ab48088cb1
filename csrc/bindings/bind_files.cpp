#include <fastslm/download.hpp>
#include <fastslm/files.hpp>

#include "bind.hpp"
#include "cast.hpp"

namespace py = pybind11;

namespace fastslm::python {
namespace {

std::string hash_file_named(const std::string& path, const std::string& algorithm) {
  const auto chosen = hash_algorithm(algorithm);
  if (!chosen) {
    throw Error(ErrorCode::invalid_argument, "`algorithm` is `none`, expected `sha256` or `git-sha1`",
                {.name = "algorithm"});
  }
  return hash_file(path, *chosen);
}

const char* copy_file_named(const std::string& source, const std::string& target) {
  return copy_file(source, target) == CopyMethod::reflink ? "reflink" : "copy";
}

}  // namespace

void bind_files(py::module_& module) {
  module.def("hash_file", &hash_file_named, py::arg("path"), py::arg("algorithm"),
             py::call_guard<py::gil_scoped_release>(), "Hex digest of a whole file.");
  module.def("can_punch", &can_punch, py::arg("folder"), py::call_guard<py::gil_scoped_release>(),
             "Whether parts of a file can be given back in this folder.");
  module.def("copy_file", &copy_file_named, py::arg("source"), py::arg("target"),
             py::call_guard<py::gil_scoped_release>(),
             "Copy without overwriting; returns the way it was done.");
}

}  // namespace fastslm::python
