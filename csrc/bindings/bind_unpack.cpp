#include <array>

#include <unistd.h>

#include <fastslm/unpack.hpp>

#include "bind.hpp"
#include "cast.hpp"

namespace py = pybind11;

namespace fastslm::python {
namespace {

constexpr std::array kFormats{"gzip", "zstd", "zip", "tar", "tar.gzip", "tar.zstd"};

ArchiveFormat format_named(const std::string& name) {
  for (std::size_t i = 0; i < kFormats.size(); ++i) {
    if (name == kFormats.at(i)) return static_cast<ArchiveFormat>(i);
  }
  throw Error(ErrorCode::invalid_argument,
              "`format` is `" + name + "`, expected `gzip`, `zstd`, `zip`, `tar`, `tar.gzip` or `tar.zstd`",
              {.name = "format"});
}

std::optional<std::string> format_of(const std::string& file_name) {
  const auto format = archive_format(file_name);
  if (!format) return std::nullopt;
  return kFormats.at(static_cast<std::size_t>(*format));
}

void bind_options(py::module_& module) {
  const auto make = [](const std::string& format, std::string folder, std::uint64_t total_bytes,
                       std::string name, std::uint64_t members, std::uint64_t ratio,
                       std::vector<std::string> only, bool digests, bool durable, unsigned threads) {
    return UnpackOptions{
        format_named(format), std::move(folder), std::move(name), {total_bytes, members, ratio},
        std::move(only),      digests,           durable,         threads};
  };
  py::class_<UnpackOptions>(module, "UnpackOptions", py::is_final(), "How to unpack one file.")
      .def(py::init(make), py::kw_only(), py::arg("format"), py::arg("folder"), py::arg("total_bytes"),
           py::arg("name") = "", py::arg("members") = 100000, py::arg("ratio") = 1000,
           py::arg("only") = std::vector<std::string>{}, py::arg("digests") = false,
           py::arg("durable") = true, py::arg("threads") = 0)
      .def_readonly("folder", &UnpackOptions::folder);
  py::class_<UnpackedFile>(module, "UnpackedFile", py::is_final(), "One file that came out.")
      .def_readonly("name", &UnpackedFile::name)
      .def_readonly("size_bytes", &UnpackedFile::size)
      .def_readonly("sha256", &UnpackedFile::sha256);
}

using Handle = Owned<Unpacking>;

void bind_handle(py::module_& module) {
  const auto release = py::call_guard<py::gil_scoped_release>();
  const auto make = [](const std::string& path, const UnpackOptions& options) {
    return std::make_unique<Handle>(path, options);
  };
  py::class_<Handle>(module, "Unpacking", py::is_final(), "A file being unpacked.")
      .def(py::init(make), py::arg("path"), py::arg("options"), release)
      .def(
          "wait", [](Handle& handle, double timeout_s) { return (*handle).wait(timeout_s); },
          py::arg("timeout_s"), release)
      .def_property_readonly("size_bytes", [](Handle& handle) { return (*handle).size(); })
      .def_property_readonly("done_bytes", [](Handle& handle) { return (*handle).done_bytes(); })
      .def(
          "files", [](Handle& handle) { return (*handle).files(); }, release)
      .def("cancel", [](Handle& handle) { (*handle).cancel(); }, release);
}

}  // namespace

void bind_unpack(py::module_& module) {
  bind_options(module);
  bind_handle(module);
  module.def("archive_format", &format_of, py::arg("file_name"), "How a file of this name is packed.");
}

}  // namespace fastslm::python
