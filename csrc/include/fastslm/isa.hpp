// The instruction sets that the kernels are written for, which of them run here, and which one is used.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fastslm {

enum class Isa { portable, avx2, avx_vnni, avx512_vnni, amx, neon_dotprod, neon_i8mm };

// The name that users read and write, for example `avx512-vnni`.
std::string_view isa_name(Isa isa) noexcept;

// What processor and system support, best first; `portable` is always the last.
std::vector<Isa> available_isas();

// The instruction set of this name. Throws Error(invalid_argument) when it is unknown or does not run here.
Isa isa_of(const std::string& name);

// The one that the environment variable FASTSLM_ISA names, else the best. Throws as `isa_of`.
Isa active_isa();

}  // namespace fastslm
