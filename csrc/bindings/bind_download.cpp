#include <array>

#include <fastslm/download.hpp>

#include "bind.hpp"
#include "cast.hpp"

namespace py = pybind11;

namespace fastslm::python {
namespace {

struct Options {
  DownloadOptions download;
  TransportOptions transport;
};

using Handle = Owned<Download>;

std::optional<std::uint64_t> size_of(std::int64_t size_bytes) {
  if (size_bytes < -1) {
    throw Error(ErrorCode::invalid_argument,
                "`size_bytes` is `" + std::to_string(size_bytes) + "`, expected at least -1",
                {.name = "size_bytes"});
  }
  if (size_bytes == -1) return std::nullopt;
  return static_cast<std::uint64_t>(size_bytes);
}

std::int64_t size_or_minus_one(const std::optional<std::uint64_t>& size) {
  return size ? static_cast<std::int64_t>(*size) : -1;
}

const char* name_of(FileState state) {
  constexpr std::array names{"waiting", "active", "verified", "failed", "cancelled"};
  return names.at(static_cast<std::size_t>(state));
}

using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
using Mirror = std::pair<std::string, std::vector<std::string>>;

std::vector<Address> addresses(std::vector<Mirror> mirrors) {
  std::vector<Address> result;
  for (auto& [url, headers] : mirrors) result.push_back({std::move(url), std::move(headers)});
  return result;
}

std::function<std::unique_ptr<Unpacker>()> unpacker(const std::optional<UnpackOptions>& options) {
  if (!options) return nullptr;
  return [options = *options] { return make_unpacker(options); };
}

void bind_request(py::module_& module) {
  const auto make = [](std::string url, std::string partial_path, std::string journal_path,
                       std::int64_t size_bytes, const std::string& algorithm, std::string expected_hash,
                       std::string identity, std::vector<std::string> headers, std::vector<Mirror> mirrors,
                       bool renewable, std::optional<std::uint64_t> first_limit,
                       const std::optional<UnpackOptions>& unpack) {
    return FileRequest{std::move(url),
                       std::move(partial_path),
                       std::move(journal_path),
                       size_of(size_bytes),
                       hash_algorithm(algorithm),
                       std::move(expected_hash),
                       std::move(identity),
                       std::move(headers),
                       addresses(std::move(mirrors)),
                       renewable,
                       first_limit,
                       unpacker(unpack)};
  };
  py::class_<FileRequest>(module, "FileRequest", py::is_final(), "One file to fetch.")
      .def(py::init(make), py::kw_only(), py::arg("url"), py::arg("partial_path"), py::arg("journal_path"),
           py::arg("size_bytes"), py::arg("hash_algorithm") = "none", py::arg("expected_hash") = "",
           py::arg("identity") = "", py::arg("headers") = std::vector<std::string>{},
           py::arg("mirrors") = std::vector<Mirror>{}, py::arg("renewable") = false,
           py::arg("first_limit") = py::none(), py::arg("unpack") = py::none())
      .def_readonly("url", &FileRequest::url)
      .def_readonly("partial_path", &FileRequest::partial_path)
      .def_property_readonly("size_bytes",
                             [](const FileRequest& file) { return size_or_minus_one(file.size); });
}

void bind_options(py::module_& module) {
  const auto make = [](unsigned connections, bool adaptive, std::uint64_t limit_rate_bytes_s,
                       std::uint64_t piece_bytes, double connect_timeout_s, double stall_timeout_s,
                       unsigned max_attempts, double backoff_s, double max_backoff_s,
                       double journal_interval_s, std::string user_agent, std::string proxy,
                       std::string no_proxy, std::string ca_file) {
    return Options{{connections, adaptive, limit_rate_bytes_s, piece_bytes, max_attempts, backoff_s,
                    max_backoff_s, journal_interval_s},
                   {connect_timeout_s, stall_timeout_s, std::move(user_agent), std::move(proxy),
                    std::move(no_proxy), std::move(ca_file), limit_rate_bytes_s}};
  };
  py::class_<Options>(module, "DownloadOptions", py::is_final(), "Settings of one download.")
      .def(py::init(make), py::kw_only(), py::arg("connections") = 16, py::arg("adaptive") = true,
           py::arg("limit_rate_bytes_s") = 0, py::arg("piece_bytes") = 1048576,
           py::arg("connect_timeout_s") = 10.0, py::arg("stall_timeout_s") = 15.0,
           py::arg("max_attempts") = 6, py::arg("backoff_s") = 0.5, py::arg("max_backoff_s") = 30.0,
           py::arg("journal_interval_s") = 0.5, py::arg("user_agent") = "fastslm", py::arg("proxy") = "",
           py::arg("no_proxy") = "", py::arg("ca_file") = "")
      .def_property_readonly("connections",
                             [](const Options& options) { return options.download.connections; });
}

void bind_progress(py::module_& module) {
  py::class_<FileProgress>(module, "FileProgress", py::is_final(), "Where one file stands.")
      .def_property_readonly("state", [](const FileProgress& file) { return name_of(file.state); })
      .def_property_readonly("size_bytes",
                             [](const FileProgress& file) { return size_or_minus_one(file.size); })
      .def_readonly("done_bytes", &FileProgress::done_bytes)
      .def_readonly("ready_bytes", &FileProgress::ready_bytes)
      .def_readonly("hashed_bytes", &FileProgress::hashed_bytes)
      .def_readonly("resumed_bytes", &FileProgress::resumed_bytes)
      .def_readonly("repaired_bytes", &FileProgress::repaired_bytes)
      .def_readonly("link_wanted", &FileProgress::link_wanted)
      .def_readonly("doubted", &FileProgress::doubted)
      .def_readonly("dropped_sources", &FileProgress::dropped_sources)
      .def_readonly("digest", &FileProgress::digest)
      .def_readonly("unpacked", &FileProgress::unpacked)
      .def_property_readonly("error", [](const FileProgress& file) -> py::object {
        return file.error ? to_python(*file.error) : py::none();
      });
  py::class_<Progress>(module, "Progress", py::is_final(), "One consistent look at a download.")
      .def_readonly("files", &Progress::files)
      .def_readonly("wire_bytes", &Progress::wire_bytes)
      .def_readonly("connections", &Progress::connections)
      .def_readonly("level", &Progress::level)
      .def_readonly("finished", &Progress::finished);
}

void bind_handle(py::module_& module) {
  const auto release = py::call_guard<py::gil_scoped_release>();
  const auto make = [](const std::vector<FileRequest>& files, const Options& options) {
    return std::make_unique<Handle>(files, options.download, make_curl_transport(options.transport));
  };
  py::class_<Handle>(module, "Download", py::is_final(), "A running download.")
      .def(py::init(make), py::arg("files"), py::arg("options"), release)
      .def(
          "wait", [](Handle& handle, double timeout_s) { return (*handle).wait(timeout_s); },
          py::arg("timeout_s"), release)
      .def(
          "progress", [](Handle& handle) { return (*handle).progress(); }, release)
      .def(
          "renew",
          [](Handle& handle, std::size_t file, std::string url, std::vector<std::string> headers) {
            (*handle).renew(file, {std::move(url), std::move(headers)});
          },
          py::arg("file"), py::arg("url"), py::arg("headers") = std::vector<std::string>{}, release)
      .def(
          "give_back",
          [](Handle& handle, std::size_t file, const Ranges& ranges, std::uint64_t limit) {
            (*handle).give_back(file, ranges, limit);
          },
          py::arg("file"), py::arg("ranges"), py::arg("limit"), release)
      .def("cancel", [](Handle& handle) { (*handle).cancel(); }, release);
}

}  // namespace

void bind_download(py::module_& module) {
  bind_request(module);
  bind_options(module);
  bind_progress(module);
  bind_handle(module);
  module.def(
      "unfinished_bytes",
      [](const std::string& partial_path,
         const std::string& journal_path) -> std::optional<std::pair<std::uint64_t, std::uint64_t>> {
        const auto found = find_unfinished(partial_path, journal_path);
        if (!found) return std::nullopt;
        return std::pair(found->size, found->done_bytes);
      },
      py::arg("partial_path"), py::arg("journal_path"), py::call_guard<py::gil_scoped_release>());
  module.def("given_back", &find_given, py::arg("partial_path"), py::arg("journal_path"),
             py::call_guard<py::gil_scoped_release>());
}

}  // namespace fastslm::python
