// The remainder of the bit-reversed message times x^32 modulo 0x04C11DB7, by ISA-L (carry-less multiplication
// where the processor has it) or zlib.
#include <fastslm/hash.hpp>

#if defined(FASTSLM_ISAL)
#include <isa-l/crc.h>
#else
#include <zlib.h>
#endif

namespace fastslm {

std::uint32_t crc32(std::span<const std::byte> data, std::uint32_t before) noexcept {
  const auto* const bytes = reinterpret_cast<const unsigned char*>(data.data());
#if defined(FASTSLM_ISAL)
  return crc32_gzip_refl(before, bytes, data.size());
#else
  return static_cast<std::uint32_t>(::crc32_z(before, bytes, data.size()));
#endif
}

}  // namespace fastslm
