#include <string_view>

#include <fastslm/planes.hpp>

#include "bind.hpp"

namespace py = pybind11;

namespace fastslm::python {
namespace {

Bytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

py::bytes to_bytes(const std::vector<std::byte>& data) {
  return {static_cast<const char*>(static_cast<const void*>(data.data())), data.size()};
}

py::bytes pack(const py::bytes& raw, std::uint64_t offset, std::size_t width, std::size_t lead) {
  const std::string_view view = raw;
  std::vector<std::byte> frame;
  {
    const py::gil_scoped_release released;
    frame = planes::pack_frame(bytes_of(view), offset, {width, lead});
  }
  return to_bytes(frame);
}

py::bytes unpack(const py::bytes& frame, std::uint64_t offset) {
  const std::string_view view = frame;
  std::vector<std::byte> raw;
  {
    const py::gil_scoped_release released;
    raw = planes::unpack_frame(bytes_of(view), offset);
  }
  return to_bytes(raw);
}

}  // namespace

void bind_planes(py::module_& module) {
  module.attr("PLANES_ENCODING") = std::string(planes::kEncoding);
  module.attr("PLANES_FRAME_BYTES") = planes::kMostFrame;
  module.def("pack_frame", &pack, py::arg("raw"), py::kw_only(), py::arg("offset"), py::arg("width"),
             py::arg("lead"), "A frame of numbers, packed without loss.");
  module.def("unpack_frame", &unpack, py::arg("frame"), py::kw_only(), py::arg("offset"),
             "The bytes of one frame.");
}

}  // namespace fastslm::python
