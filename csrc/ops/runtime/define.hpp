// Turns a class into an operator that ONNX Runtime can call.
//
// The class has `kName`, `kInputs` and `kOutputs` (arrays of Port), a constructor from `const Setting&`, and
// `void compute(const Context&) const`. One object serves concurrent runs, so it does not change.
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <string>

#include "ops/kernels/kernels.hpp"
#include "ops/runtime/ort.hpp"

namespace fastslm::ops {

struct Port {
  abi::Element element;
  abi::Presence presence = abi::Presence::required;
};

struct Setting {
  Info info;
  const Kernels& kernels;
};

// The kernels of the instruction set chosen when the library was registered.
const Kernels& active_kernels();

// Run `body`; what it throws becomes a status with the operator's name in front.
template <class Body>
abi::Status* guarded(const Api& api, const char* name, const Body& body) noexcept {
  const auto refuse = [&](abi::ErrorCode code, const char* reason) noexcept {
    try {
      return api.status(code, (std::string(name) + ": " + reason).c_str());
    } catch (...) {
      return api.status(code, name);
    }
  };
  try {
    body();
    return nullptr;
  } catch (const RuntimeRefusal& refusal) {
    return refusal.status;
  } catch (const OpError& error) {
    return refuse(abi::ErrorCode::invalid_argument, error.what());
  } catch (const std::exception& error) {
    return refuse(abi::ErrorCode::failed, error.what());
  } catch (...) {
    return refuse(abi::ErrorCode::failed, "unknown error");
  }
}

template <class Op>
struct Definition {
  struct Kernel {
    Api api;
    Op op;
  };

  static abi::Status* create(const abi::CustomOp*, const void* table, const abi::KernelInfo* info,
                             void** kernel) {
    const Api api(table);
    return guarded(api, Op::kName,
                   [&] { *kernel = new Kernel{api, Op(Setting{Info(api, info), active_kernels()})}; });
  }
  static abi::Status* compute(void* kernel, abi::KernelContext* context) {
    const auto& self = *static_cast<const Kernel*>(kernel);
    return guarded(self.api, Op::kName, [&] { self.op.compute(Context(self.api, context)); });
  }

  // The runtime keeps the address, so there is one for the life of the process.
  static const abi::CustomOp& descriptor() {
    static const abi::CustomOp op = make();
    return op;
  }

  static abi::CustomOp make() {
    abi::CustomOp op{};
    op.version = abi::kVersion;
    op.name = [](const abi::CustomOp*) { return Op::kName; };
    op.execution_provider = [](const abi::CustomOp*) -> const char* { return nullptr; };
    op.input_type = [](const abi::CustomOp*, std::size_t i) { return Op::kInputs[i].element; };
    op.input_type_count = [](const abi::CustomOp*) { return std::size(Op::kInputs); };
    op.output_type = [](const abi::CustomOp*, std::size_t i) { return Op::kOutputs[i].element; };
    op.output_type_count = [](const abi::CustomOp*) { return std::size(Op::kOutputs); };
    op.input_presence = [](const abi::CustomOp*, std::size_t i) { return Op::kInputs[i].presence; };
    op.output_presence = [](const abi::CustomOp*, std::size_t i) { return Op::kOutputs[i].presence; };
    op.input_memory = [](const abi::CustomOp*, std::size_t) { return 0; };
    op.variadic_input_least = op.variadic_input_alike = [](const abi::CustomOp*) { return 1; };
    op.variadic_output_least = op.variadic_output_alike = [](const abi::CustomOp*) { return 1; };
    op.create = &create;
    op.compute = &compute;
    op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    op.first_version = [](const abi::CustomOp*) { return 1; };
    op.last_version = [](const abi::CustomOp*) { return 0x7fffffff; };
    op.may_inplace = op.aliases = [](int**, int**) { return std::size_t{0}; };
    op.release_may_inplace = op.release_aliases = [](int*, int*) {};
    return op;
  }
};

}  // namespace fastslm::ops
