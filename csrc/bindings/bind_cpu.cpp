#include <fastslm/cpu.hpp>

#include "bind.hpp"

namespace py = pybind11;

namespace fastslm::python {
namespace {

py::dict cpu_info_dict() {
  const CpuInfo info = cpu_info();
  return py::dict(py::arg("features") = info.features, py::arg("threads") = info.threads,
                  py::arg("vendor") = info.vendor);
}

}  // namespace

void bind_cpu(py::module_& module) {
  module.def("cpu_info", &cpu_info_dict, "Instruction sets that CPU and OS support, threads and vendor.");
  module.def("read_bandwidth", &read_bandwidth, py::arg("size_bytes"), py::arg("threads"), py::arg("seconds"),
             py::call_guard<py::gil_scoped_release>(), "Memory read rate in bytes per second.");
  module.def(
      "read_in_step",
      [](std::size_t size_bytes, const std::vector<unsigned>& threads, double seconds) {
        return read_in_step(size_bytes, threads, seconds);
      },
      py::arg("size_bytes"), py::arg("threads"), py::arg("seconds"), py::call_guard<py::gil_scoped_release>(),
      "Read rates of equal shares for each number of threads.");
}

}  // namespace fastslm::python
