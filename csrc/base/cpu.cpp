// x86: Intel SDM volume 2, instruction CPUID, and volume 1 section 13.3 (XCR0 says what the system saves).
#include <array>
#include <cstdint>
#include <cstring>
#include <thread>

#include <fastslm/cpu.hpp>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace fastslm {
namespace {

#if defined(__x86_64__) || defined(__i386__)

enum Register { eax, ebx, ecx, edx };
enum State : std::uint64_t { none = 0, ymm = 0x6, zmm = 0xe6, tile = 0x60000 };

struct Feature {
  const char* name;
  unsigned leaf;
  unsigned subleaf;
  Register where;
  unsigned bit;
  State state;
};

constexpr Feature kFeatures[] = {
    {"ssse3", 1, 0, ecx, 9, none},        {"sse4_1", 1, 0, ecx, 19, none},
    {"sse4_2", 1, 0, ecx, 20, none},      {"popcnt", 1, 0, ecx, 23, none},
    {"fma", 1, 0, ecx, 12, ymm},          {"f16c", 1, 0, ecx, 29, ymm},
    {"avx", 1, 0, ecx, 28, ymm},          {"avx2", 7, 0, ebx, 5, ymm},
    {"bmi1", 7, 0, ebx, 3, none},         {"bmi2", 7, 0, ebx, 8, none},
    {"sha_ni", 7, 0, ebx, 29, none},      {"avx512f", 7, 0, ebx, 16, zmm},
    {"avx512dq", 7, 0, ebx, 17, zmm},     {"avx512cd", 7, 0, ebx, 28, zmm},
    {"avx512bw", 7, 0, ebx, 30, zmm},     {"avx512vl", 7, 0, ebx, 31, zmm},
    {"avx512vbmi", 7, 0, ecx, 1, zmm},    {"avx512_vbmi2", 7, 0, ecx, 6, zmm},
    {"avx512_vnni", 7, 0, ecx, 11, zmm},  {"avx512_fp16", 7, 0, edx, 23, zmm},
    {"avx512_bf16", 7, 1, eax, 5, zmm},   {"avx_vnni", 7, 1, eax, 4, ymm},
    {"avx_vnni_int8", 7, 1, edx, 4, ymm}, {"amx_bf16", 7, 0, edx, 22, tile},
    {"amx_tile", 7, 0, edx, 24, tile},    {"amx_int8", 7, 0, edx, 25, tile},
};

std::array<unsigned, 4> cpuid(unsigned leaf, unsigned subleaf) {
  std::array<unsigned, 4> regs{};
  __get_cpuid_count(leaf, subleaf, &regs[eax], &regs[ebx], &regs[ecx], &regs[edx]);
  return regs;
}

std::uint64_t enabled_state() {
  constexpr unsigned os_saves_state = 1U << 27;
  if ((cpuid(1, 0)[ecx] & os_saves_state) == 0) return 0;
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

std::vector<std::string> features() {
  const std::uint64_t state = enabled_state();
  std::vector<std::string> names;
  for (const Feature& feature : kFeatures) {
    const bool in_cpu = (cpuid(feature.leaf, feature.subleaf)[feature.where] >> feature.bit & 1U) != 0;
    if (in_cpu && (state & feature.state) == feature.state) names.emplace_back(feature.name);
  }
  return names;
}

std::string vendor() {
  const auto regs = cpuid(0, 0);
  const unsigned order[] = {regs[ebx], regs[edx], regs[ecx]};
  char text[sizeof order];
  std::memcpy(text, order, sizeof order);
  return {text, sizeof text};
}

#elif defined(__aarch64__) && defined(__linux__)

struct Feature {
  const char* name;
  unsigned long which;
  unsigned bit;
};

// Linux, arch/arm64/include/uapi/asm/hwcap.h: these bits are part of the kernel's stable interface.
constexpr Feature kFeatures[] = {
    {"asimd", AT_HWCAP, 1},    {"aes", AT_HWCAP, 3},      {"sha2", AT_HWCAP, 6},  {"crc32", AT_HWCAP, 7},
    {"asimdhp", AT_HWCAP, 10}, {"asimddp", AT_HWCAP, 20}, {"sve", AT_HWCAP, 22},  {"sve2", AT_HWCAP2, 1},
    {"i8mm", AT_HWCAP2, 13},   {"bf16", AT_HWCAP2, 14},   {"sme", AT_HWCAP2, 23},
};

std::vector<std::string> features() {
  std::vector<std::string> names;
  for (const Feature& feature : kFeatures) {
    if ((getauxval(feature.which) >> feature.bit & 1UL) != 0) names.emplace_back(feature.name);
  }
  return names;
}

std::string vendor() { return "arm"; }

#elif defined(__aarch64__)

std::vector<std::string> features() { return {"asimd"}; }

std::string vendor() { return "arm"; }

#else

std::vector<std::string> features() { return {}; }

std::string vendor() { return "unknown"; }

#endif

#if defined(__x86_64__) && defined(__linux__)

// Linux, Documentation/arch/x86/xstate.rst: ARCH_REQ_XCOMP_PERM of arch_prctl, for state component XTILEDATA.
bool ask_for_tiles() { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

#else

bool ask_for_tiles() { return false; }

#endif

}  // namespace

bool tiles_granted() {
  static const bool granted = ask_for_tiles();
  return granted;
}

CpuInfo cpu_info() {
  const unsigned threads = std::thread::hardware_concurrency();
  return {features(), threads == 0 ? 1 : threads, vendor()};
}

}  // namespace fastslm
