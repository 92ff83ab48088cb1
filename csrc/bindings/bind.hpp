// One function per subject; each adds its names to the module. Bindings translate, they hold no logic.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <fastslm/error.hpp>

namespace fastslm::python {

void bind_errors(pybind11::module_& module);
void bind_cpu(pybind11::module_& module);
void bind_files(pybind11::module_& module);
void bind_download(pybind11::module_& module);
void bind_planes(pybind11::module_& module);
void bind_unpack(pybind11::module_& module);
void bind_ops(pybind11::module_& module);
void bind_quant(pybind11::module_& module);

// An instance of the class of `fastslm.errors` that the code stands for, with its facts.
pybind11::object to_python(const Error& error);

}  // namespace fastslm::python
