// ONNX Runtime as C++: tensors, attributes, threads, and errors as exceptions that `define.hpp` turns back.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include "ops/runtime/ort_abi.hpp"

namespace fastslm::ops {

// A refusal with a sentence; becomes an error of the session.
struct OpError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The runtime itself refused something; its own status travels on.
struct RuntimeRefusal {
  abi::Status* status;
};

class Api {
 public:
  explicit Api(const void* table) : table_(static_cast<void* const*>(table)) {}

  // Call a function of the table that returns a status; throws RuntimeRefusal.
  template <class... Arguments>
  void call(abi::Slot slot, Arguments... arguments) const {
    using Function = abi::Status* (*)(Arguments...);
    if (abi::Status* status = get<Function>(slot)(arguments...)) throw RuntimeRefusal{status};
  }
  template <class Function>
  Function get(abi::Slot slot) const {
    return reinterpret_cast<Function>(table_[static_cast<std::size_t>(slot)]);
  }
  // The same, but only tells whether it worked.
  template <class... Arguments>
  bool try_call(abi::Slot slot, Arguments... arguments) const {
    using Function = abi::Status* (*)(Arguments...);
    abi::Status* status = get<Function>(slot)(arguments...);
    if (status != nullptr) get<void (*)(abi::Status*)>(abi::Slot::release_status)(status);
    return status == nullptr;
  }
  abi::Status* status(abi::ErrorCode code, const char* message) const noexcept;

 private:
  void* const* table_;
};

inline constexpr std::size_t kMostDimensions = 8;

// A tensor that somebody else owns.
struct Tensor {
  void* data = nullptr;
  abi::Element element = abi::Element::none;
  std::size_t rank = 0;
  std::array<std::int64_t, kMostDimensions> dims{};

  explicit operator bool() const { return data != nullptr || rank != 0; }
  std::size_t count() const;
  // As text, for messages: `[2, 3]`.
  std::string shape() const;
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// What an operator may ask while it is created.
class Info {
 public:
  Info(Api api, const abi::KernelInfo* info) : api_(api), info_(info) {}

  Api api() const { return api_; }
  // Throw OpError when the attribute is missing or outside the limits.
  std::int64_t integer(const char* name, std::int64_t least, std::int64_t most) const;
  std::int64_t integer_or(const char* name, std::int64_t otherwise, std::int64_t least,
                          std::int64_t most) const;
  float number_or(const char* name, float otherwise) const;
  // An input that is an initializer; without data when it is not.
  Tensor constant_input(std::size_t index) const;

 private:
  Api api_;
  const abi::KernelInfo* info_;
};

// How many tasks of this size a count needs.
inline std::size_t ceil_div(std::size_t count, std::size_t size) { return (count + size - 1) / size; }

// What it may ask while it runs.
class Context {
 public:
  Context(Api api, abi::KernelContext* context);

  // An input; an empty tensor when it is optional and absent.
  Tensor input(std::size_t index) const;
  Tensor output(std::size_t index, std::span<const std::int64_t> dims) const;
  // Run task(0) ... task(count - 1) on the session's threads; returns when all are done.
  template <class Task>
  void parallel_for(std::size_t count, const Task& task) const {
    if (count == 1) return task(std::size_t{0});
    Shared<Task> shared{task};
    if (count > 1) run_parallel(count, &Shared<Task>::run, &shared);
    if (shared.failed) throw OpError("no memory for a kernel's scratch buffers");
  }

 private:
  using Callback = void (*)(void* state, std::size_t index);
  // Exceptions must not pass through the runtime's threads; allocation is all that can fail in a task.
  template <class Task>
  struct Shared {
    const Task& task;
    std::atomic<bool> failed = false;
    static void run(void* state, std::size_t index) noexcept {
      auto& self = *static_cast<Shared*>(state);
      try {
        self.task(index);
      } catch (const std::bad_alloc&) {
        self.failed = true;
      }
    }
  };
  void run_parallel(std::size_t count, Callback callback, void* state) const;

  Api api_;
  abi::KernelContext* context_;
  std::size_t inputs_ = 0;
};

}  // namespace fastslm::ops
