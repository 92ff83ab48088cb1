#define FASTSLM_LANES 8
#include "quant/kernels/search.inl"

namespace fastslm::quant {

const Kernels kAvx2{&four, &eight};

}  // namespace fastslm::quant
