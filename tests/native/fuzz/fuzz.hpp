// What every fuzz target has: the entry that libFuzzer calls too, and a property that must hold for any
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <span>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

inline std::span<const std::byte> fuzz_bytes(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

inline std::string_view fuzz_text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline void must_hold(bool property, const char* what) {
  if (property) return;
  std::cerr << "does not hold: " << what << std::endl;
  std::abort();
}
