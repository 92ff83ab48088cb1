// A loopback socket that answers each connection with bytes given beforehand: what libcurl really meets.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.hpp"

class RawServer {
 public:
  // `answer` is sent once the request's head is there; with `hold` the connection then stays open.
  explicit RawServer(std::string answer, bool hold = false) : answer_(std::move(answer)), hold_(hold) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const generic = static_cast<sockaddr*>(static_cast<void*>(&address));
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    const bool ready = listener_ >= 0 && ::bind(listener_, generic, length) == 0 &&
                       ::listen(listener_, 8) == 0 && ::getsockname(listener_, generic, &length) == 0;
    if (!ready) throw check::Failure("no loopback socket");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;
  ~RawServer() {
    done_ = true;
    thread_.join();
    ::close(listener_);
  }

  std::string url(const std::string& path = "/file") const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }

  std::string request() const {
    const std::lock_guard lock(mutex_);
    return request_;
  }

 private:
  bool readable(int socket) const {
    while (!done_) {
      pollfd event{.fd = socket, .events = POLLIN, .revents = 0};
      if (::poll(&event, 1, 20) > 0) return true;
    }
    return false;
  }

  void serve() {
    while (readable(listener_)) {
      const int client = ::accept(listener_, nullptr, nullptr);
      if (client < 0) return;
      answer(client);
      while (hold_ && !done_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      ::close(client);
    }
  }

  void answer(int client) {
    std::string head;
    char buffer[4096];
    while (head.find("\r\n\r\n") == std::string::npos && readable(client)) {
      const ssize_t got = ::recv(client, buffer, sizeof buffer, 0);
      if (got <= 0) return;
      head.append(buffer, static_cast<std::size_t>(got));
    }
    {
      const std::lock_guard lock(mutex_);
      request_ = head;
    }
    static_cast<void>(::send(client, answer_.data(), answer_.size(), MSG_NOSIGNAL));
  }

  std::string answer_;
  bool hold_;
  int listener_ = -1;
  unsigned port_ = 0;
  std::atomic<bool> done_{false};
  mutable std::mutex mutex_;
  std::string request_;
  std::thread thread_;
};
