#define FASTSLM_LANES 16
#include "quant/kernels/search.inl"
#include "quant/kernels/steps.inl"

namespace fastslm::quant {

const Kernels kAvx512{&four, &four_offsets, &four_steps, &eight};

}  // namespace fastslm::quant
