// The part of ONNX Runtime's C interface that a library of operators needs, as numbers.
//
// The runtime hands over a table of function pointers that is only ever appended to, and reads a struct of
// function pointers for each operator. Positions and offsets below are facts about that binary interface (64
// bit, version 18 of the table, ONNX Runtime 1.18 and later); no header of the runtime is needed to build,
// and none to run.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastslm::ops::abi {

inline constexpr std::uint32_t kVersion = 18;

struct Status;         // null means success; the runtime frees what an operator returns
struct KernelInfo;     // what an operator knows when it is created
struct KernelContext;  // what it knows when it runs
struct Value;          // a tensor
struct ShapeInfo;
struct Domain;
struct SessionOptions;

struct ApiBase {
  const void* (*get_api)(std::uint32_t version);  // null when the runtime is older
  const char* (*get_version_string)();
};

// Positions in the table.
enum class Slot : std::size_t {
  create_status = 0,
  create_domain = 26,
  domain_add = 27,
  add_domain = 28,
  tensor_data = 51,
  dimension_count = 61,
  dimensions = 62,
  shape_info = 65,
  element_type = 60,
  attribute_float = 85,
  attribute_int64 = 86,
  input_count = 88,
  input = 90,
  output = 91,
  release_status = 93,
  release_shape_info = 99,
  constant_input = 249,
  parallel_for = 274,
};

enum class ErrorCode : int { failed = 1, invalid_argument = 2 };

enum class Element : int { none = 0, float32 = 1, uint8 = 2, int32 = 6, int64 = 7 };

enum class Presence : int { required = 0, optional = 1 };

// One operator, as the runtime reads it: 208 bytes. The first pair of create and compute belongs to an older
// way that cannot report errors; with `version` from 16 on the runtime uses the second.
struct CustomOp {
  std::uint32_t version;
  void* (*create_old)(const CustomOp*, const void* api, const KernelInfo*);
  const char* (*name)(const CustomOp*);
  const char* (*execution_provider)(const CustomOp*);  // null: CPU
  Element (*input_type)(const CustomOp*, std::size_t);
  std::size_t (*input_type_count)(const CustomOp*);
  Element (*output_type)(const CustomOp*, std::size_t);
  std::size_t (*output_type_count)(const CustomOp*);
  void (*compute_old)(void* kernel, KernelContext*);
  void (*destroy)(void* kernel);
  Presence (*input_presence)(const CustomOp*, std::size_t);
  Presence (*output_presence)(const CustomOp*, std::size_t);
  int (*input_memory)(const CustomOp*, std::size_t);
  int (*variadic_input_least)(const CustomOp*);
  int (*variadic_input_alike)(const CustomOp*);
  int (*variadic_output_least)(const CustomOp*);
  int (*variadic_output_alike)(const CustomOp*);
  Status* (*create)(const CustomOp*, const void* api, const KernelInfo*, void** kernel);
  Status* (*compute)(void* kernel, KernelContext*);
  Status* (*infer_shapes)(const CustomOp*, void*);
  int (*first_version)(const CustomOp*);
  int (*last_version)(const CustomOp*);
  std::size_t (*may_inplace)(int** inputs, int** outputs);
  void (*release_may_inplace)(int* inputs, int* outputs);
  std::size_t (*aliases)(int** inputs, int** outputs);
  void (*release_aliases)(int* inputs, int* outputs);
};
static_assert(sizeof(void*) != 8 || sizeof(CustomOp) == 208);

}  // namespace fastslm::ops::abi
