#include "ops/runtime/ort.hpp"

#include <cmath>

namespace fastslm::ops {
namespace {

using abi::Slot;

Tensor tensor_of(const Api& api, const abi::Value* value) {
  Tensor tensor;
  if (value == nullptr) return tensor;
  abi::ShapeInfo* info = nullptr;
  api.call(Slot::shape_info, value, &info);
  const auto release = api.get<void (*)(abi::ShapeInfo*)>(Slot::release_shape_info);
  try {
    const abi::ShapeInfo* view = info;
    api.call(Slot::element_type, view, &tensor.element);
    api.call(Slot::dimension_count, view, &tensor.rank);
    if (tensor.rank > kMostDimensions) throw OpError("an input has more than 8 dimensions");
    api.call(Slot::dimensions, view, tensor.dims.data(), tensor.rank);
  } catch (...) {
    release(info);
    throw;
  }
  release(info);
  api.call(Slot::tensor_data, const_cast<abi::Value*>(value), &tensor.data);
  return tensor;
}

std::string limits(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  return std::string("attribute `") + name + "` is " + std::to_string(value) + ", expected " +
         std::to_string(least) + " to " + std::to_string(most);
}

}  // namespace

abi::Status* Api::status(abi::ErrorCode code, const char* message) const noexcept {
  return get<abi::Status* (*)(abi::ErrorCode, const char*)>(Slot::create_status)(code, message);
}

std::size_t Tensor::count() const {
  std::size_t product = 1;
  for (std::size_t i = 0; i < rank; ++i) product *= static_cast<std::size_t>(dims[i]);
  return product;
}

std::string Tensor::shape() const {
  std::string text = "[";
  for (std::size_t i = 0; i < rank; ++i) text += (i == 0 ? "" : ", ") + std::to_string(dims[i]);
  return text + "]";
}

std::int64_t Info::integer(const char* name, std::int64_t least, std::int64_t most) const {
  std::int64_t value = 0;
  api_.call(Slot::attribute_int64, info_, name, &value);
  if (value < least || value > most) throw OpError(limits(name, value, least, most));
  return value;
}

std::int64_t Info::integer_or(const char* name, std::int64_t otherwise, std::int64_t least,
                              std::int64_t most) const {
  std::int64_t value = 0;
  if (!api_.try_call(Slot::attribute_int64, info_, name, &value)) return otherwise;
  if (value < least || value > most) throw OpError(limits(name, value, least, most));
  return value;
}

float Info::number_or(const char* name, float otherwise) const {
  float value = 0;
  if (!api_.try_call(Slot::attribute_float, info_, name, &value)) return otherwise;
  if (!std::isfinite(value)) throw OpError(std::string("attribute `") + name + "` is not a finite number");
  return value;
}

Tensor Info::constant_input(std::size_t index) const {
  int is_constant = 0;
  const abi::Value* value = nullptr;
  api_.call(Slot::constant_input, info_, index, &is_constant, &value);
  return is_constant != 0 ? tensor_of(api_, value) : Tensor{};
}

Context::Context(Api api, abi::KernelContext* context) : api_(api), context_(context) {
  api_.call(Slot::input_count, static_cast<const abi::KernelContext*>(context_), &inputs_);
}

Tensor Context::input(std::size_t index) const {
  if (index >= inputs_) return {};
  const abi::Value* value = nullptr;
  api_.call(Slot::input, static_cast<const abi::KernelContext*>(context_), index, &value);
  return tensor_of(api_, value);
}

Tensor Context::output(std::size_t index, std::span<const std::int64_t> dims) const {
  abi::Value* value = nullptr;
  api_.call(Slot::output, context_, index, dims.data(), dims.size(), &value);
  Tensor tensor;
  tensor.rank = dims.size();
  for (std::size_t i = 0; i < dims.size(); ++i) tensor.dims[i] = dims[i];
  if (value != nullptr) api_.call(Slot::tensor_data, value, &tensor.data);
  return tensor;
}

void Context::run_parallel(std::size_t count, Callback callback, void* state) const {
  constexpr std::size_t one_at_a_time = 0;
  api_.call(Slot::parallel_for, static_cast<const abi::KernelContext*>(context_), callback, count,
            one_at_a_time, state);
}

}  // namespace fastslm::ops
