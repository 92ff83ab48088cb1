// The one function that this library exports: ONNX Runtime calls it for every SessionOptions the library is
// given to.
#include <exception>
#include <mutex>

#include <fastslm/isa.hpp>

#include "ops/attention/attention.hpp"
#include "ops/linear.hpp"
#include "ops/mixture.hpp"
#include "ops/rows.hpp"
#include "ops/runtime/define.hpp"
#include "ops/short_conv.hpp"

namespace fastslm::ops {
namespace {

const Kernels& kernels_of(Isa isa) {
#if defined(FASTSLM_AMX)
  if (isa == Isa::amx) return amx_kernels();
#endif
#if defined(FASTSLM_X86)
  if (isa == Isa::avx512_vnni) return avx512_vnni_kernels();
  if (isa == Isa::avx_vnni) return avx_vnni_kernels();
  if (isa == Isa::avx2) return avx2_kernels();
#elif defined(FASTSLM_ARM64)
  if (isa == Isa::neon_i8mm) return neon_i8mm_kernels();
  if (isa == Isa::neon_dotprod) return neon_dotprod_kernels();
#endif
  static_cast<void>(isa);
  return portable_kernels();
}

// Sessions keep the domain's address, so it is made once and lives as long as the process.
abi::Domain* make_domain(const Api& api) {
  abi::Domain* domain = nullptr;
  api.call(abi::Slot::create_domain, "fastslm", &domain);
  const abi::CustomOp* ops[] = {&Definition<QLinear>::descriptor(),     &Definition<QGateUp>::descriptor(),
                                &Definition<QEmbedding>::descriptor(),  &Definition<Attention>::descriptor(),
                                &Definition<SkipRmsNorm>::descriptor(), &Definition<QMoE>::descriptor(),
                                &Definition<ShortConv>::descriptor()};
  for (const abi::CustomOp* op : ops) api.call(abi::Slot::domain_add, domain, op);
  return domain;
}

abi::Domain* shared_domain(const Api& api) {
  static std::mutex mutex;
  static abi::Domain* domain = nullptr;
  const std::lock_guard lock(mutex);
  if (domain == nullptr) {
    static_cast<void>(active_kernels());  // an unknown FASTSLM_ISA is refused here
    domain = make_domain(api);
  }
  return domain;
}

}  // namespace

const Kernels& active_kernels() {
  static const Kernels& kernels = kernels_of(active_isa());
  return kernels;
}

}  // namespace fastslm::ops

// Version 18 of the table is older than every runtime that the package asks for, so it is never refused in
// practice.
extern "C" __attribute__((visibility("default"))) fastslm::ops::abi::Status* RegisterCustomOps(
    fastslm::ops::abi::SessionOptions* options, const fastslm::ops::abi::ApiBase* base) {
  using namespace fastslm::ops;
  const void* table = base->get_api(abi::kVersion);
  if (table == nullptr) {
    // Without a table no status can be made from this version; version 1 has the same first slot in every
    // runtime.
    const void* oldest = base->get_api(1);
    if (oldest == nullptr) return nullptr;
    return Api(oldest).status(abi::ErrorCode::failed,
                              "fastslm: ONNX Runtime is too old, expected 1.18 or later");
  }
  const Api api(table);
  return guarded(api, "fastslm", [&] { api.call(abi::Slot::add_domain, options, shared_domain(api)); });
}
