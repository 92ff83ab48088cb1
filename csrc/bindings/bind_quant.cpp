// Quantisation of float rows.
#include <algorithm>

#include <pybind11/numpy.h>

#include <fastslm/packed.hpp>
#include <fastslm/quantize.hpp>

#include "bind.hpp"

namespace py = pybind11;

namespace fastslm::python {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <class T>
std::span<T> values_of(Array<T>& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

FloatRows float_rows(const Array<float>& rows, std::size_t group) {
  return {
      {rows.data(), static_cast<std::size_t>(rows.size())}, static_cast<std::size_t>(rows.shape(1)), group};
}

std::span<const float> weights_of(const std::optional<Array<float>>& importance) {
  if (!importance) return {};
  return {importance->data(), static_cast<std::size_t>(importance->size())};
}

py::ssize_t groups_of(const Array<float>& rows, std::size_t group) {
  return rows.shape(1) / static_cast<py::ssize_t>(std::max<std::size_t>(group, 1));
}

py::object quantize(const Array<float>& rows, int bits, std::size_t group,
                    const std::optional<Array<float>>& importance, bool thorough, bool offsets) {
  if (rows.ndim() != 2 || (bits != 4 && bits != 8)) {
    throw Error(ErrorCode::invalid_argument, "`rows` is not a matrix, or `bits` is neither 4 nor 8",
                {.name = "rows"});
  }
  const FloatRows from = float_rows(rows, group);
  const std::span<const float> weights = weights_of(importance);
  const py::ssize_t groups = groups_of(rows, group);
  Array<std::uint8_t> codes({rows.shape(0), rows.shape(1) * bits / 8});
  Array<float> scales({rows.shape(0), groups});
  Array<std::uint8_t> zeros({rows.shape(0), bits == 4 && !offsets ? groups : 0});
  Array<float> lines({rows.shape(0), bits == 4 && offsets ? groups : 0});
  const QuantizedRows to{values_of(codes), values_of(scales), values_of(zeros), values_of(lines)};
  bool finite = false;
  {
    const py::gil_scoped_release unlocked;
    const Effort effort = thorough ? Effort::thorough : Effort::quick;
    if (bits == 8) {
      finite = quantize8(from, to);
    } else {
      finite = offsets ? quantize4_offsets(from, weights, effort, to) : quantize4(from, weights, effort, to);
    }
  }
  if (!finite) return py::none();
  if (offsets) return py::make_tuple(codes, scales, lines);
  return py::make_tuple(codes, scales, zeros);
}

py::object quantize_steps(const Array<float>& rows, std::size_t group,
                          const std::optional<Array<float>>& importance, bool thorough) {
  if (rows.ndim() != 2) {
    throw Error(ErrorCode::invalid_argument, "`rows` is not a matrix", {.name = "rows"});
  }
  const py::ssize_t parts = groups_of(rows, kStepInputs);
  Array<std::uint8_t> codes({rows.shape(0), rows.shape(1) / 2});
  Array<float> scales({rows.shape(0), groups_of(rows, group)});
  Array<std::uint8_t> steps({rows.shape(0), parts});
  Array<std::int8_t> bases({rows.shape(0), parts});
  const SteppedRows to{values_of(codes), values_of(scales), values_of(steps), values_of(bases)};
  bool finite = false;
  {
    const py::gil_scoped_release unlocked;
    finite = quantize4_steps(float_rows(rows, group), weights_of(importance),
                             thorough ? Effort::thorough : Effort::quick, to);
  }
  if (!finite) return py::none();
  return py::make_tuple(codes, scales, steps, bases);
}

}  // namespace

void bind_quant(py::module_& module) {
  module.def("quantize", &quantize, py::arg("rows"), py::kw_only(), py::arg("bits"), py::arg("group") = 32,
             py::arg("importance") = py::none(), py::arg("thorough") = true, py::arg("offsets") = false,
             "Codes, scales and zero points of rows in groups.");
  module.def("quantize_steps", &quantize_steps, py::arg("rows"), py::kw_only(), py::arg("group") = 256,
             py::arg("importance") = py::none(), py::arg("thorough") = true,
             "Codes, scales, steps and bases of rows in groups.");
}

}  // namespace fastslm::python
