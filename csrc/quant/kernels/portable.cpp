#define FASTSLM_LANES 4
#include "quant/kernels/search.inl"

namespace fastslm::quant {

const Kernels kPortable{&four, &four_offsets, &eight};

}  // namespace fastslm::quant
