// What this machine's processor can do, and how fast its memory reads.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace fastslm {

struct CpuInfo {
  std::vector<std::string> features;  // names as in /proc/cpuinfo; only what the system enables as well
  unsigned threads = 1;               // hardware threads that this process may use
  std::string vendor;                 // `GenuineIntel`, `AuthenticAMD`, `arm`, ...
};

CpuInfo cpu_info();

// Bytes per second at which `threads` threads together read a buffer of `size_bytes` for about `seconds`.
// Throws Error(invalid_argument) for sizes below 1 MiB, no threads or times outside (0, 60].
double read_bandwidth(std::size_t size_bytes, unsigned threads, double seconds);

// The same for several numbers of threads in `seconds` together, and with equal shares after each of which
// all wait for the last, as the threads of an operator do: a slow core then shows. Throws as read_bandwidth,
// and for no numbers.
std::vector<double> read_in_step(std::size_t size_bytes, std::span<const unsigned> threads, double seconds);

}  // namespace fastslm
