#define FASTSLM_LANES 16
#include "quant/kernels/search.inl"

namespace fastslm::quant {

const Kernels kAvx512{&four, &four_offsets, &eight};

}  // namespace fastslm::quant
