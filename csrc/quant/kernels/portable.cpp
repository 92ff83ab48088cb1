#define FASTSLM_LANES 4
#include "quant/kernels/search.inl"

namespace fastslm::quant {

const Kernels kPortable{&four, &eight};

}  // namespace fastslm::quant
