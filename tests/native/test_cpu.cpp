#include <algorithm>
#include <set>
#include <vector>

#include <fastslm/cpu.hpp>

#include "check.hpp"

namespace {

using fastslm::cpu_info;
using fastslm::read_bandwidth;
using fastslm::read_in_step;

void features_are_named_once() {
  const auto info = cpu_info();
  const std::set<std::string> names(info.features.begin(), info.features.end());
  CHECK_EQUAL(names.size(), info.features.size());
  CHECK(info.threads >= 1);
  CHECK(!info.vendor.empty());
}

void a_feature_comes_with_what_it_builds_on() {
  const auto features = cpu_info().features;
  const auto has = [&](const char* name) { return std::count(features.begin(), features.end(), name) == 1; };
  CHECK(!has("avx2") || has("avx"));
  CHECK(!has("avx512_vnni") || has("avx512f"));
  CHECK(!has("amx_int8") || has("amx_tile"));
}

void bandwidth_is_a_rate() { CHECK(read_bandwidth(1U << 22U, 2, 0.02) > 1e6); }

void every_number_of_threads_has_its_rate() {
  const std::vector<unsigned> threads{1, 3, 2};
  const auto rates = read_in_step(1U << 22U, threads, 0.05);
  CHECK_EQUAL(rates.size(), threads.size());
  for (const double rate : rates) CHECK(rate > 1e6);
}

void values_that_cannot_be_meant_are_refused() {
  CHECK_ERROR(invalid_argument, read_bandwidth(1024, 1, 0.1));
  CHECK_ERROR(invalid_argument, read_bandwidth(1U << 22U, 0, 0.1));
  CHECK_ERROR(invalid_argument, read_bandwidth(1U << 22U, 1, 0));
  CHECK_ERROR(invalid_argument, read_bandwidth(1U << 22U, 1, 61));
  const std::vector<unsigned> none, zero{1, 0};
  CHECK_ERROR(invalid_argument, read_in_step(1U << 22U, none, 0.1));
  CHECK_ERROR(invalid_argument, read_in_step(1U << 22U, zero, 0.1));
}

}  // namespace

int main() {
  return check::run({{"features are named once", features_are_named_once},
                     {"a feature comes with what it builds on", a_feature_comes_with_what_it_builds_on},
                     {"bandwidth is a rate", bandwidth_is_a_rate},
                     {"every number of threads has its rate", every_number_of_threads_has_its_rate},
                     {"values that cannot be meant are refused", values_that_cannot_be_meant_are_refused}});
}
