#include "bind.hpp"

PYBIND11_MODULE(_native, module) {
  module.doc() =
      "The C++ core of fastslm: downloads, archives, hashes, files, packed weights and facts about the "
      "processor.";
  module.attr("__version__") = FASTSLM_VERSION;
  fastslm::python::bind_errors(module);
  fastslm::python::bind_cpu(module);
  fastslm::python::bind_files(module);
  fastslm::python::bind_unpack(module);
  fastslm::python::bind_download(module);
  fastslm::python::bind_planes(module);
  fastslm::python::bind_ops(module);
  fastslm::python::bind_quant(module);
}
