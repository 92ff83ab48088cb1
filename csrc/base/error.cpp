#include <array>
#include <cstddef>
#include <utility>

#include <fastslm/error.hpp>

namespace fastslm {
namespace {

using Row = std::pair<ErrorCode, std::string_view>;

constexpr std::array kNames{
    Row{ErrorCode::invalid_argument, "invalid_argument"},
    Row{ErrorCode::connection_lost, "connection_lost"},
    Row{ErrorCode::server_busy, "server_busy"},
    Row{ErrorCode::range_mismatch, "range_mismatch"},
    Row{ErrorCode::link_expired, "link_expired"},
    Row{ErrorCode::server_refused, "server_refused"},
    Row{ErrorCode::checksum_mismatch, "checksum_mismatch"},
    Row{ErrorCode::size_mismatch, "size_mismatch"},
    Row{ErrorCode::bad_format, "bad_format"},
    Row{ErrorCode::disk_full, "disk_full"},
    Row{ErrorCode::file_system, "file_system"},
    Row{ErrorCode::cancelled, "cancelled"},
    Row{ErrorCode::internal, "internal"},
};

constexpr auto kCodes = [] {
  std::array<ErrorCode, kNames.size()> codes{};
  for (std::size_t i = 0; i < kNames.size(); ++i) codes[i] = kNames[i].first;
  return codes;
}();

}  // namespace

std::span<const ErrorCode> error_codes() noexcept { return kCodes; }

std::string_view error_name(ErrorCode code) noexcept {
  for (const auto& [known, name] : kNames) {
    if (known == code) return name;
  }
  return "unknown";
}

}  // namespace fastslm
