#define FASTSLM_LANES 4
#include "quant/kernels/search.inl"
#include "quant/kernels/steps.inl"

namespace fastslm::quant {

const Kernels kPortable{&four, &four_offsets, &four_steps, &eight};

}  // namespace fastslm::quant
