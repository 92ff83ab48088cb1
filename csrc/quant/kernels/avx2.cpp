#define FASTSLM_LANES 8
#include "quant/kernels/search.inl"
#include "quant/kernels/steps.inl"

namespace fastslm::quant {

const Kernels kAvx2{&four, &four_offsets, &four_steps, &eight};

}  // namespace fastslm::quant
