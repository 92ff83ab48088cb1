#define FASTSLM_LANES 8
#include "quant/kernels/search.inl"

namespace fastslm::quant {

const Kernels kAvx2{&four, &four_offsets, &eight};

}  // namespace fastslm::quant
