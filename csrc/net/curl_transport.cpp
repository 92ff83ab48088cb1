// libcurl behind the transport seam: the only file that includes curl.
#include <algorithm>
#include <cctype>
#include <chrono>
#include <exception>
#include <mutex>
#include <string_view>

#include <curl/curl.h>
#include <sys/socket.h>

#include <fastslm/error.hpp>
#include <fastslm/transport.hpp>

#include "net/url.hpp"

namespace fastslm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPollMs = 100;  // how soon a stop is noticed
constexpr long kBufferBytes = 512L * 1024;
constexpr std::size_t kMostHeaders = 200;

struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, FreeList>;

void add(HeaderList& list, const std::string& line) {
  curl_slist* const longer = curl_slist_append(list.get(), line.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  static_cast<void>(list.release());
  list.reset(longer);
}

// One response on its way from libcurl's callbacks to the receiver. Exceptions must not cross C frames: they
// wait here until libcurl has returned.
class Exchange {
 public:
  explicit Exchange(Receiver& receiver) : receiver_(receiver) {}

  bool header(std::string_view line) {
    touch();
    return guarded([&] { return take_header(line); });
  }

  bool body(std::span<const std::byte> data) {
    const bool more = guarded([&] { return receiver_.on_body(data); });
    touch();  // afterwards, as the receiver may take its time
    return more;
  }

  bool wanted() {
    return guarded([&] { return receiver_.wanted(); });
  }

  void touch() { last_byte_ = Clock::now(); }

  double silent_s() const { return std::chrono::duration<double>(Clock::now() - last_byte_).count(); }
  bool stopped() const { return stopped_; }
  int status() const { return head_.status; }

  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  template <class Step>
  bool guarded(Step step) {
    try {
      if (step()) return true;
    } catch (...) {
      failure_ = std::current_exception();
    }
    stopped_ = true;
    return false;
  }

  bool take_header(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
    if (delivered_) return true;  // trailers
    if (line.starts_with("HTTP/")) {
      head_ = {status_of(line), {}};
      return true;
    }
    if (!line.empty()) {
      store(line);
      return true;
    }
    if (head_.status < 200) return true;  // an interim answer; the real one follows
    delivered_ = true;
    return receiver_.on_head(head_);
  }

  static int status_of(std::string_view line) {
    const auto space = line.find(' ');
    int status = 0;
    for (std::size_t i = space + 1; space != line.npos && i < std::min(space + 4, line.size()); ++i) {
      if (line[i] >= '0' && line[i] <= '9') status = status * 10 + (line[i] - '0');
    }
    return status;
  }

  // A header that comes twice is joined, as RFC 9110 says; two different lengths then fail their check.
  void store(std::string_view line) {
    const auto colon = line.find(':');
    if (colon == line.npos || head_.headers.size() >= kMostHeaders) return;
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    line.remove_prefix(std::min(line.find_first_not_of(" \t", colon + 1), line.size()));
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    std::string& value = head_.headers[name];
    if (!value.empty()) value += ", ";
    value += line;
  }

  Receiver& receiver_;
  ResponseHead head_;
  bool delivered_ = false;
  bool stopped_ = false;
  std::exception_ptr failure_;
  Clock::time_point last_byte_ = Clock::now();
};

// libcurl takes any other return value than the number of bytes given as "stop".
std::size_t on_header(char* data, std::size_t, std::size_t size, void* exchange) {
  return static_cast<Exchange*>(exchange)->header({data, size}) ? size : size + 1;
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* exchange) {
  const auto bytes = std::as_bytes(std::span(data, size));
  return static_cast<Exchange*>(exchange)->body(bytes) ? size : size + 1;
}

int on_connected(void* exchange, char*, char*, int, int) {
  static_cast<Exchange*>(exchange)->touch();  // the stall clock starts when the request goes out
  return CURL_PREREQFUNC_OK;
}

// About a tenth of a second of the rate, within what a socket can use.
int keep_window_small(void* options, curl_socket_t socket, curlsocktype) {
  const std::uint64_t paced = static_cast<const TransportOptions*>(options)->paced_bytes_s;
  const int window = static_cast<int>(std::clamp<std::uint64_t>(paced / 10, 32U << 10U, 1U << 20U));
  static_cast<void>(::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &window, sizeof window));
  return CURL_SOCKOPT_OK;
}

ErrorCode code_for(CURLcode result) {
  switch (result) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_URL_MALFORMAT:
    case CURLE_BAD_CONTENT_ENCODING:
      return ErrorCode::server_refused;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
      return ErrorCode::internal;
    default:
      return ErrorCode::connection_lost;
  }
}

class CurlConnection : public Connection {
 public:
  explicit CurlConnection(const TransportOptions& options)
      : options_(options), multi_(curl_multi_init()), easy_(curl_easy_init()) {
    if (!multi_ || !easy_) throw Error(ErrorCode::internal, "libcurl could not make a handle");
  }

  Ended get(const HttpRequest& request, Receiver& receiver) override {
    static_cast<void>(parse_url(request.url));
    Exchange exchange(receiver);
    const HeaderList headers = header_list(request);
    configure(request, headers.get(), exchange);
    error_text_[0] = '\0';
    used_badly_ = true;
    const CURLcode result = perform(request, exchange);
    used_badly_ = result != CURLE_OK;
    exchange.rethrow();
    if (exchange.stopped()) return Ended::stopped;
    if (result != CURLE_OK) fail(request, exchange, result);
    return Ended::complete;
  }

 private:
  static HeaderList header_list(const HttpRequest& request) {
    HeaderList list;
    for (const std::string& line : request.headers) add(list, line);
    return list;
  }

  template <class Value>
  void set(CURLoption option, Value value) {
    const CURLcode result = curl_easy_setopt(easy_.get(), option, value);
    if (result != CURLE_OK && result != CURLE_UNKNOWN_OPTION) {
      throw Error(ErrorCode::internal,
                  std::string("libcurl refused an option: ") + curl_easy_strerror(result));
    }
  }

  // A handle whose transfer failed early keeps its buffer and then refuses another size for it.
  void renew_handle() {
    if (!used_badly_) {
      curl_easy_reset(easy_.get());
      return;
    }
    easy_.reset(curl_easy_init());
    if (!easy_) throw Error(ErrorCode::internal, "libcurl could not make a handle");
    used_badly_ = false;
  }

  void configure(const HttpRequest& request, curl_slist* headers, Exchange& exchange) {
    renew_handle();
    set(CURLOPT_URL, request.url.c_str());
    set(CURLOPT_HTTPHEADER, headers);
    set(CURLOPT_ERRORBUFFER, error_text_);
    // A value here makes libcurl decode a body that is encoded all the same.
    set(CURLOPT_ACCEPT_ENCODING, "identity");
    if (!request.range.empty()) set(CURLOPT_RANGE, request.range.c_str() + request.range.find('=') + 1);
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, static_cast<void*>(&exchange));
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&exchange));
    set(CURLOPT_PREREQFUNCTION, &on_connected);
    set(CURLOPT_PREREQDATA, static_cast<void*>(&exchange));
    configure_connection();
  }

  void configure_connection() {
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    set(CURLOPT_BUFFERSIZE, kBufferBytes);
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout_s * 1000));
    set(CURLOPT_USERAGENT, options_.user_agent.c_str());
    set(CURLOPT_PROXY, options_.proxy.c_str());  // empty: none, and none from the environment
    set(CURLOPT_NOPROXY, options_.no_proxy.c_str());
    set(CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);  // a fresh connection may get a better server
    if (options_.paced_bytes_s > 0) {
      set(CURLOPT_SOCKOPTFUNCTION, &keep_window_small);
      set(CURLOPT_SOCKOPTDATA, static_cast<void*>(&options_));
    }
    if (!options_.ca_file.empty()) set(CURLOPT_CAINFO, options_.ca_file.c_str());
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    set(CURLOPT_QUICK_EXIT, 1L);  // do not wait for a name server when stopping
#endif
  }

  CURLcode perform(const HttpRequest& request, Exchange& exchange) {
    curl_multi_add_handle(multi_.get(), easy_.get());
    struct Detach {
      CURLM* multi;
      CURL* easy;
      ~Detach() { curl_multi_remove_handle(multi, easy); }
    } const detach{multi_.get(), easy_.get()};
    exchange.touch();
    for (;;) {
      int running = 0;
      const CURLMcode worked = curl_multi_perform(multi_.get(), &running);
      if (worked != CURLM_OK) throw Error(ErrorCode::internal, curl_multi_strerror(worked));
      if (running == 0) return result();
      if (!exchange.wanted()) return CURLE_ABORTED_BY_CALLBACK;
      check_stall(request, exchange);
      curl_multi_poll(multi_.get(), nullptr, 0, kPollMs, nullptr);
    }
  }

  CURLcode result() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg == CURLMSG_DONE) return message->data.result;
    }
    return CURLE_FAILED_INIT;
  }

  // Before the request is out, only the connect time-out may speak; it gets a moment to do so.
  void check_stall(const HttpRequest& request, const Exchange& exchange) const {
    curl_off_t sent_us = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_PRETRANSFER_TIME_T, &sent_us);
    const double limit = sent_us > 0 ? options_.stall_timeout_s : options_.connect_timeout_s + 1;
    if (exchange.silent_s() < limit) return;
    const std::string url = redacted(request.url);
    throw Error(ErrorCode::connection_lost,
                "`" + url + "` sent no byte for " +
                    std::to_string(static_cast<int>(exchange.silent_s() + 0.5)) + " seconds",
                {.url = url, .status = exchange.status()});
  }

  [[noreturn]] void fail(const HttpRequest& request, const Exchange& exchange, CURLcode result) const {
    const std::string url = redacted(request.url);
    const std::string reason = error_text_[0] != '\0' ? error_text_ : curl_easy_strerror(result);
    throw Error(code_for(result), "the transfer from `" + url + "` failed: " + reason,
                {.url = url, .status = exchange.status()});
  }

  TransportOptions options_;
  // The multi handle owns the connections, so it outlives the easy handle.
  std::unique_ptr<CURLM, FreeMulti> multi_;
  std::unique_ptr<CURL, FreeEasy> easy_;
  bool used_badly_ = false;
  char error_text_[CURL_ERROR_SIZE] = {};
};

void check_time(const std::string& name, double seconds) {
  if (seconds > 0 && seconds <= 86400) return;
  throw Error(ErrorCode::invalid_argument,
              "`" + name + "` is `" + std::to_string(seconds) + "`, expected more than 0 and at most 86400",
              {.name = name});
}

class CurlTransport : public Transport {
 public:
  explicit CurlTransport(TransportOptions options) : options_(std::move(options)) {}

  std::unique_ptr<Connection> connect() override { return std::make_unique<CurlConnection>(options_); }

 private:
  TransportOptions options_;
};

}  // namespace

std::shared_ptr<Transport> make_curl_transport(const TransportOptions& options) {
  check_time("connect_timeout_s", options.connect_timeout_s);
  check_time("stall_timeout_s", options.stall_timeout_s);
  static std::once_flag once;
  static CURLcode started = CURLE_FAILED_INIT;
  std::call_once(once, [] { started = curl_global_init(CURL_GLOBAL_DEFAULT); });
  if (started != CURLE_OK) throw Error(ErrorCode::internal, curl_easy_strerror(started));
  return std::make_shared<CurlTransport>(options);
}

}  // namespace fastslm
