// A server in memory behind the transport seam: right answers, and scripted wrong ones, one request at a
// time.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fastslm/error.hpp>
#include <fastslm/planes.hpp>
#include <fastslm/transport.hpp>

#include "samples.hpp"

// What is wrong with one answer; the defaults are a right one.
struct Fault {
  static constexpr std::size_t never = std::numeric_limits<std::size_t>::max();

  int status = 0;                                // this status and no file
  std::map<std::string, std::string> headers{};  // more headers, or other values for the usual ones
  bool ignore_range = false;                     // the whole file with status 200
  std::uint64_t shift = 0;                       // bytes this far behind, and a header that says so
  std::int64_t total = -1;                       // this total in Content-Range
  bool flip = false;                             // the first byte is inverted
  std::size_t cut_after = never;                 // the connection breaks after so many bytes
  std::size_t end_after = never;                 // the body ends, as if complete, after so many bytes
  std::size_t stall_after = never;               // nothing more comes after so many bytes, until the time-out
  std::string surplus{};                         // behind the body
  std::size_t frame_bytes = 0;                   // packed in frames of so many bytes of the file, if not 0
  std::uint64_t frame_shift = 0;                 // frames that say they are this far behind
  double block_seconds = 0;                      // before each block of 1000 bytes
};

struct SeenRequest {
  std::string url;
  std::string range;
  std::vector<std::string> headers;
};

class FakeTransport : public fastslm::Transport {
 public:
  std::map<std::string, std::string> contents;  // address to bytes
  Fault always;                                 // of every answer without a scripted one
  std::map<std::string, Fault> of_url;          // the same for one address
  double stall_timeout_s = 0.1;
  std::atomic<std::uint64_t> sent_bytes{0};
  std::atomic<std::uint64_t> hold_after{
      Fault::never};  // with so many bytes sent, all connections fall silent

  void script(const Fault& fault) { faults_.push_back(fault); }

  std::vector<SeenRequest> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

  std::unique_ptr<fastslm::Connection> connect() override;

  Fault note(const fastslm::HttpRequest& request) {
    const std::lock_guard lock(mutex_);
    seen_.push_back({request.url, request.range, request.headers});
    if (faults_.empty()) {
      const auto found = of_url.find(request.url);
      return found == of_url.end() ? always : found->second;
    }
    const Fault fault = faults_.front();
    faults_.pop_front();
    return fault;
  }

 private:
  mutable std::mutex mutex_;
  std::deque<Fault> faults_;
  std::vector<SeenRequest> seen_;
};

class FakeConnection : public fastslm::Connection {
 public:
  explicit FakeConnection(FakeTransport& server) : server_(server) {}

  fastslm::Ended get(const fastslm::HttpRequest& request, fastslm::Receiver& receiver) override {
    const Fault fault = server_.note(request);
    const auto found = server_.contents.find(request.url);
    fastslm::ResponseHead head{found == server_.contents.end() ? 404 : 200, {}};
    std::string body;
    if (fault.status != 0) {
      head.status = fault.status;
    } else if (head.status == 200) {
      body = select(found->second, request.range, fault, head);
    }
    for (const auto& [name, value] : fault.headers) head.headers[name] = value;
    if (!receiver.on_head(head)) return fastslm::Ended::stopped;
    return send(body, fault, receiver);
  }

 private:
  static std::string select(const std::string& content, const std::string& range, const Fault& fault,
                            fastslm::ResponseHead& head) {
    std::string body = content;
    std::uint64_t begin = 0;
    if (!range.empty() && !fault.ignore_range) {
      const auto dash = range.find('-');
      const std::uint64_t first = std::stoull(range.substr(6, dash - 6)) + fault.shift;
      const std::uint64_t last = std::stoull(range.substr(dash + 1)) + fault.shift;
      const auto total = fault.total >= 0 ? std::to_string(fault.total) : std::to_string(content.size());
      body = content.substr(first, last - first + 1);
      begin = first;
      head.status = 206;
      head.headers["content-range"] =
          "bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" + total;
    }
    if (fault.frame_bytes > 0) {
      head.headers["x-fastslm-encoding"] = "planes-1";
      body = packed(body, begin + fault.frame_shift, fault.frame_bytes);
    }
    if (fault.flip && !body.empty()) body[0] = static_cast<char>(~body[0]);
    const bool length_known = fault.surplus.empty() && fault.frame_bytes == 0;
    if (length_known) head.headers["content-length"] = std::to_string(body.size());
    return body + fault.surplus;
  }

  static std::string packed(const std::string& body, std::uint64_t offset, std::size_t frame_bytes) {
    std::string result;
    for (std::size_t at = 0; at < body.size(); at += frame_bytes) {
      const auto part = std::string_view(body).substr(at, frame_bytes);
      const auto frame = fastslm::planes::pack_frame(bytes_of(part), offset + at, {2, (offset + at) % 2});
      for (const std::byte byte : frame) result.push_back(static_cast<char>(byte));
    }
    return result;
  }

  fastslm::Ended send(const std::string& body, const Fault& fault, fastslm::Receiver& receiver) {
    constexpr std::size_t block = 1000;
    const std::size_t limit = std::min({body.size(), fault.cut_after, fault.end_after, fault.stall_after});
    for (std::size_t at = 0; at < limit; at += block) {
      do {
        if (!receiver.wanted()) return fastslm::Ended::stopped;
      } while (is_held());
      if (fault.block_seconds > 0)
        std::this_thread::sleep_for(std::chrono::duration<double>(fault.block_seconds));
      const auto part = std::string_view(body).substr(at, std::min(block, limit - at));
      server_.sent_bytes += part.size();
      if (!receiver.on_body(bytes_of(part))) return fastslm::Ended::stopped;
    }
    if (fault.stall_after != Fault::never) return stall(receiver);
    if (fault.cut_after != Fault::never) throw fastslm::Error(fastslm::ErrorCode::connection_lost, "cut");
    return fastslm::Ended::complete;
  }

  bool is_held() const {
    if (server_.sent_bytes < server_.hold_after) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return true;
  }

  fastslm::Ended stall(fastslm::Receiver& receiver) const {
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start <
           std::chrono::duration<double>(server_.stall_timeout_s)) {
      if (!receiver.wanted()) return fastslm::Ended::stopped;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    throw fastslm::Error(fastslm::ErrorCode::connection_lost, "stalled");
  }

  FakeTransport& server_;
};

inline std::unique_ptr<fastslm::Connection> FakeTransport::connect() {
  return std::make_unique<FakeConnection>(*this);
}
