// Until when a signed address is good. Pure.
#pragma once

#include <optional>
#include <string_view>

namespace fastslm {

// Unix time at which the address ends: `Expires=<unix time>` (CloudFront, the old S3 form) or `X-Amz-Date`
// and `X-Amz-Expires`, in any case; nothing when the query says neither or nonsense.
std::optional<double> expiry_of(std::string_view url);

// Whether an address is to be renewed now: it has less than five minutes left, or less than a tenth of the
// time that it had when it came. An address that came expired says more about the clock than about itself.
bool is_ending(double expiry_s, double received_s, double now_s) noexcept;

}  // namespace fastslm
