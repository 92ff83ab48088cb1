#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <fastslm/cpu.hpp>
#include <fastslm/error.hpp>

#include "base/threads.hpp"

namespace fastslm {
namespace {

using Clock = std::chrono::steady_clock;

void check(std::size_t size_bytes, unsigned threads, double seconds) {
  if (size_bytes < (1U << 20)) {
    throw Error(ErrorCode::invalid_argument,
                "`size_bytes` is `" + std::to_string(size_bytes) + "`, expected at least 1048576",
                {.name = "size_bytes"});
  }
  if (threads == 0 || threads > 1024) {
    throw Error(ErrorCode::invalid_argument,
                "`threads` is `" + std::to_string(threads) + "`, expected 1 to 1024", {.name = "threads"});
  }
  if (!(seconds > 0 && seconds <= 60)) {
    throw Error(ErrorCode::invalid_argument,
                "`seconds` is `" + std::to_string(seconds) + "`, expected more than 0 and at most 60",
                {.name = "seconds"});
  }
}

// Independent partial sums let the compiler use wide loads, so that memory and not addition is the limit.
std::uint64_t sum(std::span<const std::uint64_t> words) {
  std::uint64_t parts[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= words.size(); i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) parts[lane] += words[i + lane];
  }
  for (; i < words.size(); ++i) parts[0] += words[i];
  std::uint64_t total = 0;
  for (const std::uint64_t part : parts) total += part;
  return total;
}

double read_equal_shares(std::span<const std::uint64_t> words, unsigned threads, double seconds) {
  const std::size_t share = words.size() / threads;
  std::atomic<std::uint64_t> checksum{0};
  std::atomic<bool> finished{false};
  std::size_t passes = 0;
  const auto start = Clock::now();
  const auto deadline = start + std::chrono::duration<double>(seconds);
  std::barrier step(threads, [&]() noexcept {
    ++passes;
    if (Clock::now() >= deadline) finished = true;
  });
  ThreadGroup readers;
  for (unsigned i = 0; i < threads; ++i) {
    try {
      readers.start([&, i] {
        do {
          checksum += sum(words.subspan(i * share, share));
          step.arrive_and_wait();
        } while (!finished);
      });
    } catch (const std::system_error&) {
      finished = true;
      for (; i < threads; ++i) step.arrive_and_drop();  // else those that started wait for ever
      throw;
    }
  }
  readers.join();
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  if (checksum == 0) throw Error(ErrorCode::internal, "the bandwidth test read nothing");
  return static_cast<double>(passes * share * threads * sizeof(std::uint64_t)) / elapsed;
}

}  // namespace

double read_bandwidth(std::size_t size_bytes, unsigned threads, double seconds) {
  check(size_bytes, threads, seconds);
  const std::vector<std::uint64_t> words(size_bytes / sizeof(std::uint64_t), 1);
  std::atomic<std::uint64_t> bytes_read{0};
  std::atomic<std::uint64_t> checksum{0};
  const auto start = Clock::now();
  const auto deadline = start + std::chrono::duration<double>(seconds);
  const auto read_slice = [&](std::span<const std::uint64_t> slice) {
    do {
      checksum += sum(slice);
      bytes_read += slice.size_bytes();
    } while (Clock::now() < deadline);
  };
  ThreadGroup readers;
  const std::size_t share = words.size() / threads;
  for (unsigned i = 0; i < threads; ++i) {
    readers.start([&, i] { read_slice(std::span(words).subspan(i * share, share)); });
  }
  readers.join();
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  if (checksum == 0) throw Error(ErrorCode::internal, "the bandwidth test read nothing");
  return static_cast<double>(bytes_read) / elapsed;
}

std::vector<double> read_in_step(std::size_t size_bytes, std::span<const unsigned> threads, double seconds) {
  constexpr std::size_t rounds = 2;  // the best counts: whatever disturbs makes slower
  if (threads.empty()) {
    throw Error(ErrorCode::invalid_argument, "`threads` is empty, expected numbers of threads",
                {.name = "threads"});
  }
  for (const unsigned count : threads) check(size_bytes, count, seconds);
  const std::vector<std::uint64_t> words(size_bytes / sizeof(std::uint64_t), 1);
  std::vector<double> rates(threads.size(), 0.0);
  const double each = seconds / static_cast<double>(rounds * threads.size());
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < threads.size(); ++i) {
      rates[i] = std::max(rates[i], read_equal_shares(words, threads[i], each));
    }
  }
  return rates;
}

}  // namespace fastslm
