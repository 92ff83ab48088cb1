// Packing of weights, and which instruction sets the kernels may use.
#include <pybind11/numpy.h>

#include <fastslm/isa.hpp>
#include <fastslm/packed.hpp>

#include "bind.hpp"

namespace py = pybind11;

namespace fastslm::python {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <class T>
std::span<const T> values_of(const Array<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const Isa isa : available_isas()) names.emplace_back(isa_name(isa));
  return names;
}

Array<std::uint8_t> pack(const Array<std::uint8_t>& codes, const Array<float>& scales,
                         const std::optional<Array<float>>& offsets,
                         const std::optional<Array<std::uint8_t>>& steps,
                         const std::optional<Array<std::int8_t>>& bases, int bits) {
  if (codes.ndim() != 2 || scales.ndim() != 2 || scales.shape(1) == 0) {
    throw Error(ErrorCode::invalid_argument, "`codes` and `scales` are not both matrices", {.name = "codes"});
  }
  const auto rows = static_cast<std::size_t>(codes.shape(0));
  const auto inputs = static_cast<std::size_t>(codes.shape(1));
  const PackedFormat format{.bits = bits,
                            .group = static_cast<int>(codes.shape(1) / scales.shape(1)),
                            .has_offsets = offsets.has_value(),
                            .has_steps = steps.has_value()};
  const PlainView plain{rows,
                        inputs,
                        values_of(codes),
                        values_of(scales),
                        offsets ? values_of(*offsets) : std::span<const float>(),
                        steps ? values_of(*steps) : std::span<const std::uint8_t>(),
                        bases ? values_of(*bases) : std::span<const std::int8_t>()};
  Array<std::uint8_t> packed(static_cast<py::ssize_t>(format.packed_bytes(rows, inputs)));
  const std::span<std::uint8_t> to(packed.mutable_data(), static_cast<std::size_t>(packed.size()));
  const py::gil_scoped_release unlocked;
  pack_linear(plain, format, to);
  return packed;
}

std::size_t packed_bytes(std::pair<std::size_t, std::size_t> shape, int bits, int group, bool has_offsets,
                         bool has_steps) {
  if (group <= 0) {
    throw Error(ErrorCode::invalid_argument,
                "`group` is `" + std::to_string(group) + "`, expected more than 0", {.name = "group"});
  }
  const PackedFormat format{.bits = bits, .group = group, .has_offsets = has_offsets, .has_steps = has_steps};
  return format.packed_bytes(shape.first, shape.second);
}

template <class T>
Array<T> matrix_of(const std::vector<T>& values, std::size_t rows) {
  Array<T> array({rows, rows == 0 ? 0 : values.size() / rows});
  std::copy(values.begin(), values.end(), array.mutable_data());
  return array;
}

py::tuple unpack(const Array<std::uint8_t>& packed, std::pair<std::size_t, std::size_t> shape, int bits,
                 int group, bool has_offsets, bool has_steps) {
  const PackedFormat format{.bits = bits, .group = group, .has_offsets = has_offsets, .has_steps = has_steps};
  const PlainMatrix plain = unpack_linear(values_of(packed), format, shape.first, shape.second);
  const py::object offsets = has_offsets ? py::object(matrix_of(plain.offsets, plain.rows)) : py::none();
  const py::object steps = has_steps ? py::object(matrix_of(plain.steps, plain.rows)) : py::none();
  const py::object bases = has_steps ? py::object(matrix_of(plain.bases, plain.rows)) : py::none();
  return py::make_tuple(matrix_of(plain.codes, plain.rows), matrix_of(plain.scales, plain.rows), offsets,
                        steps, bases);
}

}  // namespace

void bind_ops(py::module_& module) {
  module.def("available_isas", &isa_names, "Instruction sets of the kernels that run here, best first.");
  module.def("active_isa", [] { return std::string(isa_name(active_isa())); }, "The one that is used.");
  module.def("packed_layout_version", [] { return kPackedLayoutVersion; }, "Version of the packed layout.");
  module.def("packed_bytes", &packed_bytes, py::arg("shape"), py::kw_only(), py::arg("bits"),
             py::arg("group"), py::arg("has_offsets") = false, py::arg("has_steps") = false,
             "Bytes of a packed matrix.");
  module.def("pack_linear", &pack, py::arg("codes"), py::arg("scales"), py::arg("offsets") = py::none(),
             py::arg("steps") = py::none(), py::arg("bases") = py::none(), py::kw_only(), py::arg("bits"),
             "Units of a packed matrix.");
  module.def("unpack_linear", &unpack, py::arg("packed"), py::arg("shape"), py::kw_only(), py::arg("bits"),
             py::arg("group"), py::arg("has_offsets") = false, py::arg("has_steps") = false,
             "Codes, scales, offsets, steps and bases of a packed matrix.");
}

}  // namespace fastslm::python
