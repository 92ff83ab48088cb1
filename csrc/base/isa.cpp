#include <algorithm>
#include <array>
#include <cstdlib>

#include <fastslm/cpu.hpp>
#include <fastslm/error.hpp>
#include <fastslm/isa.hpp>

namespace fastslm {
namespace {

#if defined(FASTSLM_AMX)
constexpr bool kAmxIsBuilt = true;
#else
constexpr bool kAmxIsBuilt = false;  // the compiler did not know it
#endif

struct Row {
  Isa isa;
  std::string_view name;
  std::vector<std::string_view> needs;
};

// Best first. The 256-bit kernels use float16 conversion as well.
const std::array<Row, 7>& table() {
  static const std::array<Row, 7> rows{
      Row{Isa::amx,
          "amx",
          {"amx_tile", "amx_int8", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx2",
           "fma", "f16c"}},
      Row{Isa::avx512_vnni,
          "avx512-vnni",
          {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx2", "fma", "f16c"}},
      Row{Isa::avx_vnni, "avx-vnni", {"avx_vnni", "avx2", "fma", "f16c"}},
      Row{Isa::avx2, "avx2", {"avx2", "fma", "f16c"}},
      Row{Isa::neon_i8mm, "neon-i8mm", {"asimd", "asimddp", "i8mm"}},
      Row{Isa::neon_dotprod, "neon-dotprod", {"asimd", "asimddp"}},
      Row{Isa::portable, "portable", {}},
  };
  return rows;
}

bool runs_here(const Row& row) {
  // Once: in a virtual machine every question to the processor takes microseconds.
  static const std::vector<std::string> has = cpu_info().features;
  const bool has_all = std::all_of(row.needs.begin(), row.needs.end(), [&](std::string_view need) {
    return std::find(has.begin(), has.end(), need) != has.end();
  });
  return has_all && (row.isa != Isa::amx || (kAmxIsBuilt && tiles_granted()));
}

std::string names_of(const std::vector<Isa>& isas) {
  std::string text;
  for (const Isa isa : isas) text += (text.empty() ? "" : ", ") + std::string(isa_name(isa));
  return text;
}

}  // namespace

std::string_view isa_name(Isa isa) noexcept {
  for (const Row& row : table()) {
    if (row.isa == isa) return row.name;
  }
  return "unknown";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Row& row : table()) {
    if (runs_here(row)) isas.push_back(row.isa);
  }
  return isas;
}

Isa isa_of(const std::string& name) {
  const std::vector<Isa> isas = available_isas();
  for (const Isa isa : isas) {
    if (isa_name(isa) == name) return isa;
  }
  throw Error(ErrorCode::invalid_argument,
              "FASTSLM_ISA is `" + name + "`, expected one that this processor has: " + names_of(isas),
              {.name = "FASTSLM_ISA"});
}

Isa active_isa() {
  const char* forced = std::getenv("FASTSLM_ISA");
  return forced == nullptr || *forced == '\0' ? available_isas().front() : isa_of(forced);
}

}  // namespace fastslm
