// The seam between the download engine and the network: one HTTP GET at a time, pushed into a receiver.
//
// The engine knows only these classes; tests drive it with a scripted transport, real life with libcurl.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace fastslm {

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers;  // `Name: value`, sent as they are
  std::string range;                 // `bytes=first-last`, or empty for the whole file
};

struct ResponseHead {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
};

// Takes one response. An exception thrown here ends the transfer and reaches the caller of `get`.
class Receiver {
 public:
  virtual ~Receiver() = default;

  // The status and headers, once, before any byte of the body; false ends the transfer.
  virtual bool on_head(const ResponseHead& head) = 0;

  // The next bytes of the body; false ends the transfer.
  virtual bool on_body(std::span<const std::byte> data) = 0;

  // Asked several times a second, also while nothing arrives; false ends the transfer.
  virtual bool wanted() = 0;
};

enum class Ended { complete, stopped };  // the server's end, or the receiver's

// One connection, used by one thread. Follows no redirects.
class Connection {
 public:
  virtual ~Connection() = default;

  // Throws Error(connection_lost), Error(server_refused) for bad certificates, and what the receiver throws.
  virtual Ended get(const HttpRequest& request, Receiver& receiver) = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::unique_ptr<Connection> connect() = 0;
};

struct TransportOptions {
  double connect_timeout_s = 10;
  double stall_timeout_s = 15;  // longest time without a byte once connected
  std::string user_agent = "fastslm";
  std::string proxy;                // none when empty; the environment is not read
  std::string no_proxy;             // hosts that go without it, separated by commas
  std::string ca_file;              // the system's when empty
  std::uint64_t paced_bytes_s = 0;  // a reader that keeps to this rate: the system shall not read far ahead
};

// HTTP/1.1 and TLS by libcurl. Throws Error(invalid_argument) for times outside (0, 86400] and
// Error(internal) when libcurl cannot start.
std::shared_ptr<Transport> make_curl_transport(const TransportOptions& options);

}  // namespace fastslm
