// One file on a fake server and a folder to fetch it to: what the download tests have in common.
#pragma once

#include <memory>
#include <string>

#include <fastslm/download.hpp>
#include <fastslm/files.hpp>

#include "check.hpp"
#include "fake_transport.hpp"
#include "samples.hpp"

struct Scene {
  static constexpr const char* url = "http://host/file?secret=1";

  explicit Scene(std::size_t size = 200'000) : content(random_text(size)) {
    server->contents[url] = content;
    options.piece_bytes = 1000;
    options.connections = 4;
    options.adaptive = false;
    options.backoff_s = 0.001;
    options.journal_interval_s = 0.01;
    fastslm::Hasher hasher(fastslm::HashAlgorithm::sha256, size);
    hasher.update(bytes_of(content));
    digest = hasher.finish();
  }

  fastslm::FileRequest request() const {
    fastslm::FileRequest file;
    file.url = url;
    file.partial_path = partial();
    file.journal_path = journal();
    file.size = content.size();
    file.algorithm = fastslm::HashAlgorithm::sha256;
    file.expected_hash = digest;
    return file;
  }

  std::string partial() const { return folder.file("file.partial"); }
  std::string journal() const { return folder.file("file.journal"); }

  fastslm::Progress fetch(const fastslm::FileRequest& file) {
    fastslm::Download download({file}, options, server);
    CHECK(download.wait(30));
    return download.progress();
  }

  // The right file, verified, and nothing else left behind.
  void expect_fetched() {
    const auto progress = fetch(request());
    expect_verified(progress.files.at(0));
  }

  void expect_verified(const fastslm::FileProgress& file) const {
    if (file.error) throw check::Failure(std::string("failed: ") + file.error->what());
    CHECK(file.state == fastslm::FileState::verified);
    CHECK_EQUAL(file.digest, digest);
    CHECK_EQUAL(file.done_bytes, content.size());
    CHECK(read_text(partial()) == content);
    CHECK(!fastslm::file_size(journal()));
    CHECK(!fastslm::file_size(journal() + ".tmp"));
  }

  fastslm::Error expect_failed() { return expect_failed(request()); }

  fastslm::Error expect_failed(const fastslm::FileRequest& file) {
    const auto progress = fetch(file);
    CHECK(progress.files.at(0).state == fastslm::FileState::failed);
    CHECK(progress.files.at(0).error.has_value());
    return *progress.files.at(0).error;
  }

  check::TemporaryFolder folder;
  std::string content;
  std::string digest;
  std::shared_ptr<FakeTransport> server = std::make_shared<FakeTransport>();
  fastslm::DownloadOptions options;
};
