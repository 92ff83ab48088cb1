// What the tests of the kernels share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <fastslm/isa.hpp>

#include "check.hpp"
#include "ops/kernels/kernels.hpp"

inline const fastslm::ops::Kernels& kernels_of(fastslm::Isa isa) {
  using namespace fastslm;
  using namespace fastslm::ops;
#if defined(FASTSLM_AMX)
  if (isa == Isa::amx) return amx_kernels();
#endif
#if defined(__x86_64__)
  if (isa == Isa::avx512_vnni) return avx512_vnni_kernels();
  if (isa == Isa::avx_vnni) return avx_vnni_kernels();
  if (isa == Isa::avx2) return avx2_kernels();
#elif defined(__aarch64__)
  if (isa == Isa::neon_i8mm) return neon_i8mm_kernels();
  if (isa == Isa::neon_dotprod) return neon_dotprod_kernels();
#endif
  CHECK(isa == Isa::portable);
  return portable_kernels();
}

template <class T>
class Aligned {  // values at a multiple of 64 bytes
 public:
  explicit Aligned(std::size_t count) : memory_(count * sizeof(T) + 64), count_(count) {}
  T* data() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return reinterpret_cast<T*>(memory_.data() + (64 - address % 64) % 64);
  }
  std::span<T> span() { return {data(), count_}; }

 private:
  std::vector<unsigned char> memory_;
  std::size_t count_;
};
