// Redirects, followed by hand so that credentials stay with their origin.
#pragma once

#include <string>

#include <fastslm/transport.hpp>

namespace fastslm {

struct Followed {
  Ended ended;
  std::string url;  // where the body came from
};

// Get `start` (a place that `request.url` led to earlier, or that address itself), following at most ten
// redirects. `authorization` and `cookie` go to the origin of `request.url` only; https never leads to http.
// Throws Error(server_refused) for a loop, a downgrade or a bad target, and whatever `connection` throws.
Followed get_following(Connection& connection, const HttpRequest& request, const std::string& start,
                       Receiver& receiver);

}  // namespace fastslm
