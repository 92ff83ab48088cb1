// Any bytes as a download's journal: refused, or read as what would be written so again.
#include <algorithm>
#include <cstring>
#include <vector>

#include <fastslm/hash.hpp>

#include "fetch/state/journal.hpp"
#include "fuzz.hpp"

namespace {

void check(std::span<const std::byte> bytes) {
  const auto journal = fastslm::decode(bytes);
  if (!journal) return;
  const auto again = fastslm::encode(*journal);
  must_hold(std::equal(bytes.begin(), bytes.end(), again.begin(), again.end()), "a journal has one form");
  for (const auto& span : journal->notes.spans) {
    must_hold(span.range.end <= journal->size, "spans are inside the file");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = fuzz_bytes(data, size);
  check(bytes);
  if (size < sizeof(std::uint32_t)) return 0;
  // The checksum would hide what is behind it from random changes.
  std::vector<std::byte> sealed(bytes.begin(), bytes.end());
  const std::size_t body = size - sizeof(std::uint32_t);
  const std::uint32_t sum = fastslm::crc32(bytes.first(body));
  std::memcpy(sealed.data() + body, &sum, sizeof sum);
  check(sealed);
  return 0;
}
