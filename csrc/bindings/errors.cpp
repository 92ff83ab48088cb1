// The one table from C++ error codes to the classes of fastslm.errors.
#include <array>

#include "bind.hpp"

namespace py = pybind11;

namespace fastslm::python {
namespace {

using FactsToKeywords = py::dict (*)(const Facts&);

py::dict no_facts(const Facts&) { return {}; }

py::dict usage(const Facts& facts) { return py::dict(py::arg("name") = facts.name); }

py::dict network(const Facts& facts) {
  return py::dict(py::arg("url") = facts.url, py::arg("status") = facts.status,
                  py::arg("offset") = facts.offset);
}

py::dict busy(const Facts& facts) {
  py::dict keywords = network(facts);
  keywords["retry_after_s"] = facts.retry_after_s;
  return keywords;
}

py::dict integrity(const Facts& facts) {
  return py::dict(py::arg("subject") = facts.name, py::arg("expected") = facts.expected,
                  py::arg("found") = facts.found);
}

py::dict disk(const Facts& facts) {
  return py::dict(py::arg("resource") = "disk", py::arg("needed") = facts.needed,
                  py::arg("available") = facts.available);
}

py::dict file_system(const Facts& facts) {
  return py::dict(py::arg("path") = facts.path, py::arg("errno") = facts.system_error);
}

struct Row {
  ErrorCode code;
  const char* class_name;
  FactsToKeywords keywords;
};

constexpr std::array kTable{
    Row{ErrorCode::invalid_argument, "UsageError", usage},
    Row{ErrorCode::connection_lost, "ConnectionLost", network},
    Row{ErrorCode::server_busy, "ServerBusy", busy},
    Row{ErrorCode::range_mismatch, "RangeMismatch", network},
    Row{ErrorCode::link_expired, "LinkExpired", network},
    Row{ErrorCode::server_refused, "ServerRefused", network},
    Row{ErrorCode::checksum_mismatch, "ChecksumMismatch", integrity},
    Row{ErrorCode::size_mismatch, "SizeMismatch", integrity},
    Row{ErrorCode::bad_format, "FormatError", integrity},
    Row{ErrorCode::disk_full, "DiskFull", disk},
    Row{ErrorCode::file_system, "FileSystemError", file_system},
    Row{ErrorCode::cancelled, "Cancelled", no_facts},
    Row{ErrorCode::internal, "FastSLMError", no_facts},
};

const Row& row_of(ErrorCode code) {
  for (const Row& row : kTable) {
    if (row.code == code) return row;
  }
  throw py::key_error(std::string(error_name(code)));
}

py::object class_of(ErrorCode code) {
  return py::module_::import("fastslm.errors").attr(row_of(code).class_name);
}

py::object class_of_name(const std::string& name) {
  for (const ErrorCode code : error_codes()) {
    if (error_name(code) == name) return class_of(code);
  }
  throw Error(ErrorCode::invalid_argument, "`code` is `" + name + "`, expected a name of `error_codes()`",
              {.name = "code"});
}

std::vector<std::string> code_names() {
  std::vector<std::string> names;
  for (const ErrorCode code : error_codes()) names.emplace_back(error_name(code));
  return names;
}

void translate(std::exception_ptr pending) {
  try {
    std::rethrow_exception(std::move(pending));
  } catch (const Error& error) {
    PyErr_SetObject(class_of(error.code()).ptr(), to_python(error).ptr());
  }
}

}  // namespace

py::object to_python(const Error& error) {
  return class_of(error.code())(error.what(), **row_of(error.code()).keywords(error.facts()));
}

void bind_errors(py::module_& module) {
  py::register_local_exception_translator(&translate);
  module.def("error_codes", &code_names, "Name of every error code of the C++ core.");
  module.def("error_class", &class_of_name, py::arg("code"), "The class that a C++ error code becomes.");
}

}  // namespace fastslm::python
